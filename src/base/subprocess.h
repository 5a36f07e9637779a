// What another program says.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"

namespace shoehorn {

/// Runs a program, found by PATH, and returns what it writes to stdout; its stdin and stderr are /dev/null. Fails with
/// kNotFound when there is no such program, with kIo when it exits with another code than 0, takes longer than
/// `timeout` or writes more than max_bytes. In the last two cases nobody reads what it goes on to write, which ends
/// most programs.
Expected<std::string> run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds timeout,
                                  size_t max_bytes = 1 << 20);

/// Bytes that a program reads from its stdin.
struct Feed {
  std::span<const std::byte> bytes;
  FunctionRef<void(size_t n)> sent;  ///< called for every part that is on its way
};

/// Runs a program, named by its path, for as long as it takes and returns what it writes to stdout; its stderr is ours,
/// its stdin what `feed` has, or /dev/null. It is asked to end (SIGTERM) when `cancelled` says so, and when this process
/// dies. Fails with kNotFound when there is no such program, kCancelled, kIo when it exits with another code than 0 or
/// writes more than max_bytes.
Expected<std::string> run_in_front(const std::vector<std::string>& arguments, FunctionRef<bool()> cancelled,
                                   const Feed* feed = nullptr, size_t max_bytes = size_t{64} << 20);

/// Where PATH has a program. Fails with kNotFound.
Expected<std::string> find_program(const std::string& name);

/// A word as one would type it for a shell: quoted where it must be.
std::string shell_word(const std::string& word);

}  // namespace shoehorn
