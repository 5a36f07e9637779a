// A file system that is full when a test wants it to be.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace shoehorn::test {

/// A small file system of its own.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const char* size) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = ::mount("shoehorn-test", path.c_str(), "tmpfs", 0, fmt::format("size={}", size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  /// Takes all that is left of it, until empty().
  void fill() const {
    const int fd = ::open(filler().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    for (off_t end = 0, step = 1 << 20; step >= 4096;) {
      if (::posix_fallocate(fd, end, step) == 0) {
        end += step;
      } else {
        step /= 2;
      }
    }
    ::close(fd);
  }
  void empty() const { std::filesystem::remove(filler()); }

 private:
  std::string filler() const { return path_ + "/filler"; }
  const std::string path_;
  bool mounted_ = false;
};

}  // namespace shoehorn::test
