#include "base/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/cleanup.h"

namespace shoehorn {
namespace fs = std::filesystem;

OutputFile::OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(named_, other.named_);
  return *this;
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  if (!named_) return;
  unlink(temporary_.c_str());
  unregister_temporary(temporary_);
}

Expected<OutputFile> OutputFile::create(const std::string& path, uint64_t expected_bytes) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return fail(ErrorCode::kIo, "{}: is a directory", path);
  const fs::path parent = fs::absolute(path, ignored).parent_path();
  if (struct statvfs info; expected_bytes > 0 && statvfs(parent.c_str(), &info) == 0) {
    const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
    if (expected_bytes > free_bytes) {
      return fail(ErrorCode::kTooLarge, "{}: needs {} bytes of disk, {} has {} free", path, expected_bytes,
                  parent.string(), free_bytes);
    }
  }
  OutputFile file;
  file.path_ = path;
  file.temporary_ = path + ".partial";
  file.fd_ = ::open(parent.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  if (file.fd_ >= 0) return file;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
    return fail(ErrorCode::kIo, "{}: cannot create: {}", path, std::strerror(errno));
  }
  // The lock tells a leftover of a killed run, which is overwritten, from the file of a run that is still going.
  file.fd_ = ::open(file.temporary_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file.fd_ < 0) return fail(ErrorCode::kIo, "{}: cannot create: {}", path, std::strerror(errno));
  if (flock(file.fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(std::exchange(file.fd_, -1));
    return fail(ErrorCode::kIo, "{}: another process is writing {}", path, file.temporary_);
  }
  file.named_ = true;
  register_temporary(file.temporary_);
  if (ftruncate(file.fd_, 0) != 0) return fail(ErrorCode::kIo, "{}: {}", file.temporary_, std::strerror(errno));
  return file;
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  SHOEHORN_RETURN_IF_ERROR(write_at(size_, bytes));
  size_ += bytes.size();
  return {};
}

Status OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return fail(ErrorCode::kIo, "{}: writing at byte {} failed: {}", path_, offset, std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

std::string OutputFile::readable_path() const { return named_ ? temporary_ : "/proc/self/fd/" + std::to_string(fd_); }

Status OutputFile::commit() {
  if (fsync(fd_) != 0) return fail(ErrorCode::kIo, "{}: sync failed: {}", path_, std::strerror(errno));
  if (!named_) {
    // A link cannot replace an existing file, a rename can.
    unlink(temporary_.c_str());
    if (linkat(AT_FDCWD, readable_path().c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      return fail(ErrorCode::kIo, "{}: cannot name the finished file: {}", path_, std::strerror(errno));
    }
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    return fail(ErrorCode::kIo, "{}: rename failed: {}", path_, std::strerror(error));
  }
  if (named_) unregister_temporary(temporary_);
  ::close(std::exchange(fd_, -1));
  // The new name survives a power cut only when the directory is synced too.
  std::error_code ignored;
  if (const int directory = ::open(fs::absolute(path_, ignored).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      directory >= 0) {
    fsync(directory);
    ::close(directory);
  }
  return {};
}

Status write_file(const std::string& path, std::string_view text) {
  SHOEHORN_TRY(auto file, OutputFile::create(path, text.size()));
  SHOEHORN_RETURN_IF_ERROR(file.write(std::as_bytes(std::span(text.data(), text.size()))));
  return file.commit();
}

Expected<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  std::ifstream in(path, std::ios::binary);
  std::error_code error;
  if (!in || fs::is_directory(path, error)) {
    const bool missing = !fs::exists(path, error);
    return fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", path,
                missing ? "no such file" : "cannot be read");
  }
  const auto too_large = [&] {
    return fail(ErrorCode::kTooLarge, "{}: larger than the {} bytes allowed here", path, max_bytes);
  };
  if (const auto size = fs::file_size(path, error); !error && size > max_bytes) return too_large();
  // Read in steps: the size of a pipe is not known beforehand, and a size that is known may lie.
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer), in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > max_bytes) return too_large();
  }
  if (in.bad()) return fail(ErrorCode::kIo, "{}: reading it failed", path);
  return text;
}

}  // namespace shoehorn
