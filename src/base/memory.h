// How much memory there is to use, and what this process took of the machine.
#pragma once

#include <cstdint>
#include <string>

namespace shoehorn {

/// Bytes that can be allocated without swapping: MemAvailable, and not more than what the cgroup of this process and those
/// above it have left, counting their page cache as free. Reads ROOT/proc and ROOT/sys; "" is this machine.
uint64_t available_memory(const std::string& root = "");

/// Bytes that this process may have at all: MemTotal, and not more than the limit of its cgroup and those above it.
uint64_t memory_limit(const std::string& root = "");

/// Does this system write memory to a disk when it is short?
bool has_swap(const std::string& root = "");

/// The peak resident set of this process so far, bytes, mapped files included (ru_maxrss).
uint64_t peak_resident_bytes();

/// Bytes that this process fetched from storage so far, by reading or through a mapping (/proc/self/io, read_bytes); what was in the
/// page cache already does not count. 0 where the system does not say.
uint64_t storage_bytes_read();

/// "3.99 GiB", "612 KiB".
std::string format_bytes(uint64_t bytes);

}  // namespace shoehorn
