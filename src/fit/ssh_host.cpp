#include "fit/ssh_host.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/digest.h"
#include "base/mapped_file.h"
#include "base/subprocess.h"

namespace shoehorn::fit {
namespace {
namespace fs = std::filesystem;

constexpr int kAttempts = 3;

std::string first_word(const std::string& text) { return text.substr(0, text.find_first_of(" \n")); }

}  // namespace

Expected<SshHost> SshHost::open(const std::string& host, const std::vector<std::string>& options) {
  if (host.empty() || host.front() == '-' || host.find_first_of(" \t\n") != host.npos)
    return fail(ErrorCode::kInvalid, "\"{}\" is no host: USER@HOST is expected", host);
  SshHost out;
  SHOEHORN_TRY(out.program_, find_program("ssh"));
  out.host_ = host;
  out.options_ = options;
  // Names of sockets are short.
  std::string folder = fs::temp_directory_path().string() + "/shoehorn-XXXXXX";
  if (mkdtemp(folder.data()) != nullptr) out.control_ = folder;
  return out;
}

SshHost::SshHost(SshHost&& other) noexcept
    : program_(std::move(other.program_)),
      host_(std::move(other.host_)),
      control_(std::exchange(other.control_, "")),
      options_(std::move(other.options_)) {}

SshHost::~SshHost() {
  if (control_.empty()) return;
  // Whether somebody was there to hear it does not matter.
  (void)run_program({program_, "-o", "ControlPath=" + control_ + "/s", "-O", "exit", host_}, std::chrono::seconds(5));
  std::error_code error;
  fs::remove_all(control_, error);
}

std::vector<std::string> SshHost::words(const std::string& script) const {
  std::vector<std::string> words = {program_};
  if (!control_.empty()) {
    words.insert(words.end(),
                 {"-o", "ControlMaster=auto", "-o", "ControlPath=" + control_ + "/s", "-o", "ControlPersist=60"});
  }
  words.insert(words.end(), options_.begin(), options_.end());
  words.insert(words.end(), {"--", host_, "exec sh -c " + shell_word(script)});
  return words;
}

Expected<std::string> SshHost::run(const std::string& script, Progress& progress) const {
  auto said = run_in_front(words(script), [&] { return progress.cancelled(); });
  if (!said) return annotate(std::move(said).error(), host_);
  return said;
}

Expected<SshHost::Copied> SshHost::copy(const std::string& file, const std::string& path, Progress& progress) const {
  SHOEHORN_TRY(const auto mapped, MappedFile::open(file));
  const std::span<const std::byte> bytes = mapped.bytes();
  Copied out = {.sha256 = sha256_of(bytes), .bytes = bytes.size()};
  const std::string final = shell_word(path), part = shell_word(path + ".part");
  SHOEHORN_TRY(const std::string there, run(fmt::format("[ -f {0} ] && sha256sum {0} || true", final), progress));
  if (first_word(there) == out.sha256) {
    out.resumed_at = bytes.size();
    return out;
  }
  bool resumed = false;
  for (int attempt = 1;; ++attempt) {
    // Bytes that are there, and what they are.
    SHOEHORN_TRY(
        const std::string state,
        run(fmt::format("if [ -f {0} ]; then stat -c %s {0}; sha256sum {0}; else echo 0; fi", part), progress));
    uint64_t begin = std::strtoull(state.c_str(), nullptr, 10);
    const size_t line = state.find('\n');
    const std::string digest = line == state.npos ? "" : first_word(state.substr(line + 1));
    if (begin > bytes.size() || digest != sha256_of(bytes.first(begin))) begin = 0;
    if (!resumed) out.resumed_at = begin;
    resumed = true;
    progress.begin("copying " + fs::path(file).filename().string(), bytes.size());
    progress.advance(begin);
    const auto sent = [&](size_t n) { progress.advance(n); };
    const Feed feed = {bytes.subspan(begin), sent};
    const auto copied = run_in_front(
        words(fmt::format("cat {} {}", begin == 0 ? ">" : ">>", part)), [&] { return progress.cancelled(); }, &feed);
    progress.end();
    if (copied) break;
    if (copied.error().code == ErrorCode::kCancelled || attempt == kAttempts) return annotate(copied.error(), host_);
    progress.note(fmt::format("the connection to {} broke: {}; going on", host_, copied.error().message));
  }
  SHOEHORN_TRY(const std::string arrived, run(fmt::format("sha256sum {0}", part), progress));
  if (first_word(arrived) != out.sha256) {
    SHOEHORN_TRY(const std::string removed, run("rm -f " + part, progress));
    return fail(ErrorCode::kInvalid,
                "{} arrived at {} as something else (SHA-256 {}, expected {}); it was removed there", file, host_,
                first_word(arrived), out.sha256);
  }
  SHOEHORN_TRY(const std::string moved, run(fmt::format("sync {0} 2>/dev/null; mv {0} {1}", part, final), progress));
  return out;
}

}  // namespace shoehorn::fit
