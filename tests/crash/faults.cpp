// Loaded before libc (LD_PRELOAD): faults at a chosen one of a program's system calls.
//   SHOEHORN_FAULT   kill:N       SIGKILL at the Nth call of any of the functions below
//                    eio-read:N   the Nth read of a file fails with EIO, and all that follow
//                    eio-write:N  the same of writes and syncs
//                    enospc:N     the same of writes, with ENOSPC
//                    short:N      the Nth write takes half of what it is given (at least a byte); so does every third
//                    that follows
//   SHOEHORN_FAULT_PROGRAM   the program that is meant, where one starts another
//   SHOEHORN_COUNT   a file that gets the numbers of calls, reads and writes when the program ends
// Reads and writes count where the file lies below SHOEHORN_FAULT_UNDER.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

enum class Kind { kNone, kKill, kReadError, kWriteError, kFull, kShort };

/// Of programs that start one another, the one that is meant.
bool is_the_program() {
  const char* const wanted = std::getenv("SHOEHORN_FAULT_PROGRAM");
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  return wanted == nullptr || (n > 0 && std::string(path, static_cast<size_t>(n)).ends_with("/" + std::string(wanted)));
}

struct Plan {
  Kind kind = Kind::kNone;
  long at = 0;
  std::string under, count_file;

  Plan() {
    const char* const fault = std::getenv("SHOEHORN_FAULT");
    if (const char* const directory = std::getenv("SHOEHORN_FAULT_UNDER")) under = directory;
    if (const char* const file = std::getenv("SHOEHORN_COUNT")) count_file = file;
    if (fault == nullptr || !is_the_program()) {
      count_file.clear();
      return;
    }
    const char* const colon = std::strchr(fault, ':');
    if (colon == nullptr) return;
    at = std::atol(colon + 1);
    const std::string name(fault, colon);
    kind = name == "kill"        ? Kind::kKill
           : name == "eio-read"  ? Kind::kReadError
           : name == "eio-write" ? Kind::kWriteError
           : name == "enospc"    ? Kind::kFull
           : name == "short"     ? Kind::kShort
                                 : Kind::kNone;
  }
};

Plan& plan() {
  static Plan* const made = new Plan;  // outlives what runs at the program's end
  return *made;
}
std::atomic<long> calls{0}, reads{0}, writes{0};

template <class F>
F next(F, const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

void call() {
  const long n = ++calls;
  if (plan().kind == Kind::kKill && n == plan().at) {
    kill(getpid(), SIGKILL);
    pause();
  }
}

bool is_below(int fd) {
  if (plan().under.empty()) return false;
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  return n > 0 && std::string(path, static_cast<size_t>(n)).starts_with(plan().under);
}

/// Must this read fail?
bool read_fails(int fd) {
  call();
  if (!is_below(fd)) return false;
  const long n = ++reads;
  if (plan().kind != Kind::kReadError || n < plan().at) return false;
  errno = EIO;
  return true;
}

/// Must this write fail, or take less?
bool write_fails(int fd, size_t* size) {
  call();
  if (!is_below(fd)) return false;
  const long n = ++writes;
  if (n < plan().at) return false;
  if (plan().kind == Kind::kWriteError) errno = EIO;
  if (plan().kind == Kind::kFull) errno = ENOSPC;
  if (plan().kind == Kind::kShort && size != nullptr && *size > 1 && (n - plan().at) % 3 == 0) *size /= 2;
  return plan().kind == Kind::kWriteError || plan().kind == Kind::kFull;
}

struct AtEnd {
  ~AtEnd() {
    if (plan().count_file.empty()) return;
    const std::string text = std::to_string(calls) + " " + std::to_string(reads) + " " + std::to_string(writes) + "\n";
    const int fd = next(static_cast<int (*)(const char*, int, ...)>(nullptr), "open")(
        plan().count_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) return;
    if (next(static_cast<ssize_t (*)(int, const void*, size_t)>(nullptr), "write")(fd, text.data(), text.size()) < 0)
      return;
    next(static_cast<int (*)(int)>(nullptr), "close")(fd);
  }
} at_end;

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name, ...)                                  \
  {                                                      \
    call();                                              \
    va_list arguments;                                   \
    va_start(arguments, flags);                          \
    const mode_t mode = mode_of(flags, arguments);       \
    va_end(arguments);                                   \
    return next(&name, #name)(__VA_ARGS__, flags, mode); \
  }
int open(const char* path, int flags, ...) OPEN(open, path) int open64(const char* path, int flags, ...)
    OPEN(open64, path) int openat(int directory, const char* path, int flags, ...)
        OPEN(openat, directory, path) int openat64(int directory, const char* path, int flags, ...)
            OPEN(openat64, directory, path)
#undef OPEN

                ssize_t read(int fd, void* out, size_t size) {
  return read_fails(fd) ? -1 : next(&read, "read")(fd, out, size);
}
ssize_t pread(int fd, void* out, size_t size, off_t at) {
  return read_fails(fd) ? -1 : next(&pread, "pread")(fd, out, size, at);
}
ssize_t pread64(int fd, void* out, size_t size, off64_t at) {
  return read_fails(fd) ? -1 : next(&pread64, "pread64")(fd, out, size, at);
}
ssize_t write(int fd, const void* bytes, size_t size) {
  return write_fails(fd, &size) ? -1 : next(&write, "write")(fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  return write_fails(fd, &size) ? -1 : next(&pwrite, "pwrite")(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
  return write_fails(fd, &size) ? -1 : next(&pwrite64, "pwrite64")(fd, bytes, size, at);
}
ssize_t writev(int fd, const struct iovec* pieces, int n) {
  return write_fails(fd, nullptr) ? -1 : next(&writev, "writev")(fd, pieces, n);
}
int fsync(int fd) { return write_fails(fd, nullptr) ? -1 : next(&fsync, "fsync")(fd); }
int fdatasync(int fd) { return write_fails(fd, nullptr) ? -1 : next(&fdatasync, "fdatasync")(fd); }

#define COUNTED(result, name, parameters, arguments) \
  result name parameters {                           \
    call();                                          \
    return next(&name, #name) arguments;             \
  }
COUNTED(int, close, (int fd), (fd))
COUNTED(int, rename, (const char* from, const char* to), (from, to))
COUNTED(int, unlink, (const char* path), (path))
COUNTED(int, rmdir, (const char* path), (path))
COUNTED(int, mkdir, (const char* path, mode_t mode), (path, mode))
COUNTED(int, linkat, (int a, const char* from, int b, const char* to, int flags), (a, from, b, to, flags))
COUNTED(int, unlinkat, (int directory, const char* path, int flags), (directory, path, flags))
COUNTED(int, ftruncate, (int fd, off_t size), (fd, size))
COUNTED(int, ftruncate64, (int fd, off64_t size), (fd, size))
COUNTED(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
COUNTED(int, symlink, (const char* to, const char* path), (to, path))
#undef COUNTED
}
