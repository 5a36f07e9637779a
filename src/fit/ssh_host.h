// Another machine, by ssh.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "base/status.h"

namespace shoehorn::fit {

/// Runs scripts of a POSIX shell on a host, with the user's own ssh and its configuration; all of an object's share one
/// connection, so that a password is asked for once.
class SshHost {
 public:
  /// `host`: as ssh takes it; `options`: further words for ssh. Fails with kNotFound without ssh, kInvalid for a host
  /// that would be an option.
  static Expected<SshHost> open(const std::string& host, const std::vector<std::string>& options);
  SshHost(SshHost&&) noexcept;
  SshHost& operator=(SshHost&&) = delete;
  ~SshHost();

  /// What a script writes to stdout; its stderr is ours. Fails with kIo when it exits with another code than 0,
  /// kCancelled.
  Expected<std::string> run(const std::string& script, Progress& progress) const;

  /// Makes `path` there a copy of a file here: what an interrupted copy left in PATH.part is gone on from, when it is
  /// the file's beginning; the name appears when the whole has the file's SHA-256. The connection may break twice.
  /// `resumed_at`: the bytes that were there. Fails as run does, and with kInvalid when what arrives is something else.
  struct Copied {
    std::string sha256;
    uint64_t bytes = 0, resumed_at = 0;
  };
  Expected<Copied> copy(const std::string& file, const std::string& path, Progress& progress) const;

  const std::string& name() const { return host_; }

 private:
  SshHost() = default;
  std::vector<std::string> words(const std::string& script) const;

  std::string program_, host_, control_;  // control_: folder of the shared connection's socket
  std::vector<std::string> options_;
};

}  // namespace shoehorn::fit
