#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/descriptor.h"
#include "base/memory.h"

namespace shoehorn {
namespace {

size_t page_size() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

constexpr size_t kHugePage = size_t{2} << 20;
// Several reads at a time keep the queue of a fast disk filled.
constexpr int kReaders = 4;
constexpr size_t kReadBytes = size_t{4} << 20;

/// `size` bytes that start on a huge page. nullptr when there is no room.
std::byte* allocate(size_t size) {
  void* const data = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  auto* const bytes = static_cast<std::byte*>(data);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(bytes) % kHugePage) % kHugePage;
  const size_t page = page_size();
  const size_t end = round_up(before + size, page);
  if (before > 0) munmap(bytes, before);
  if (end < size + kHugePage) munmap(bytes + end, size + kHugePage - end);
  madvise(bytes + before, size, MADV_HUGEPAGE);
  return bytes + before;
}

/// Fills `out` from `offset` on. 0, an errno, or -1 at the end of the file.
int read_fully(int fd, std::span<std::byte> out, size_t offset) {
  while (!out.empty()) {
    const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0 ? -1 : errno;
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<size_t>(n);
  }
  return 0;
}

Expected<const std::byte*> copy(int fd, size_t size, const std::string& path) {
  const uint64_t available = available_memory();
  std::byte* const data = size <= available ? allocate(size) : nullptr;
  if (data == nullptr) {
    return fail(ErrorCode::kTooLarge, "{}: a copy takes {} of memory, {} are available; map the file instead (no --no-mmap)",
                path, format_bytes(size), format_bytes(available));
  }
  // Several readers of one descriptor look like random access, which upsets the kernel's own reading ahead (3 times slower):
  // each request as it is, in long pieces.
  posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  std::atomic<size_t> next{0};
  std::atomic<int> error{0};
  const auto read_pieces = [&] {
    while (error.load() == 0) {
      const size_t begin = next.fetch_add(kReadBytes);
      if (begin >= size) return;
      if (const int failed = read_fully(fd, {data + begin, std::min(kReadBytes, size - begin)}, begin)) error.store(failed);
    }
  };
  {
    std::vector<std::jthread> readers;
    for (int i = 1; i < kReaders && static_cast<size_t>(i) * kReadBytes < size; ++i) readers.emplace_back(read_pieces);
    read_pieces();
  }
  if (error.load() != 0) {
    munmap(data, size);
    return fail(ErrorCode::kIo, "{}: {}", path, error.load() < 0 ? "became shorter while it was read" : std::strerror(error.load()));
  }
  mprotect(data, size, PROT_READ);
  return data;
}

// Fixed storage: a signal's handler may neither lock nor allocate.
struct Region {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<char*> path{nullptr};
};
std::array<Region, 256> regions;

void register_region(const std::byte* begin, size_t size, const std::string& path) {
  for (Region& region : regions) {
    const std::byte* none = nullptr;
    if (!region.begin.compare_exchange_strong(none, begin)) continue;
    region.path.store(strdup(path.c_str()));
    region.size.store(size);
    return;
  }
}

void unregister_region(const std::byte* begin) {
  for (Region& region : regions) {
    if (region.begin.load() != begin) continue;
    region.size.store(0);
    free(region.path.exchange(nullptr));
    region.begin.store(nullptr);
    return;
  }
}

}  // namespace

const char* mapped_path_at(const void* address) {
  const auto* const at = static_cast<const std::byte*>(address);
  for (const Region& region : regions) {
    const std::byte* const begin = region.begin.load();
    if (begin != nullptr && at >= begin && at < begin + region.size.load()) return region.path.load();
  }
  return nullptr;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mode_, other.mode_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  if (mode_ == FileMode::kMap) unregister_region(data_);
  munmap(const_cast<std::byte*>(data_), size_);
}

Expected<MappedFile> MappedFile::open(const std::string& path, FileMode mode) {
  const Descriptor fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (fd.value < 0) {
    const auto code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return fail(code, "{}: {}", path, std::strerror(errno));
  }
  struct stat info;
  if (fstat(fd.value, &info) != 0 || !S_ISREG(info.st_mode)) return fail(ErrorCode::kIo, "{}: not a regular file", path);
  MappedFile file;
  file.path_ = path;
  file.mode_ = mode;
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return file;
  if (mode == FileMode::kCopy) {
    SHOEHORN_TRY(file.data_, copy(fd.value, size, path));
  } else {
    void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.value, 0);
    if (data == MAP_FAILED) return fail(ErrorCode::kIo, "{}: cannot map {} bytes: {}", path, size, std::strerror(errno));
    file.data_ = static_cast<const std::byte*>(data);
    register_region(file.data_, size, path);
  }
  file.size_ = size;
  return file;
}

Expected<MappedFile> MappedFile::made(const std::string& path, size_t size, const std::function<Status(std::span<std::byte>)>& fill) {
  MappedFile file;
  file.path_ = path;
  file.mode_ = FileMode::kCopy;
  if (size == 0) {
    SHOEHORN_RETURN_IF_ERROR(fill({}));
    return file;
  }
  const uint64_t available = available_memory();
  std::byte* const data = size <= available ? allocate(size) : nullptr;
  if (data == nullptr) {
    return fail(ErrorCode::kTooLarge, "{}: takes {} of memory, {} are available", path, format_bytes(size), format_bytes(available));
  }
  file.data_ = data;
  file.size_ = size;
  madvise(data, size, MADV_DONTDUMP);
  if (const Status locked = file.lock(); !locked && has_swap()) {
    return fail(ErrorCode::kIo, "{}, and without that it could be written to swap; \"swapoff -a\" would do too", locked.error().message);
  }
  SHOEHORN_RETURN_IF_ERROR(fill({data, size}));
  mprotect(data, size, PROT_READ);
  return file;
}

Status MappedFile::lock() const {
  if (data_ == nullptr || mlock(data_, size_) == 0) return {};
  const int error = errno;
  munlock(data_, size_);
  struct rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < size_) {
    return fail(ErrorCode::kIo,
                "{}: cannot lock {} in memory, the limit is {}; raise it with \"ulimit -l unlimited\", a memlock line in "
                "/etc/security/limits.conf or LimitMEMLOCK= in the systemd unit",
                path_, format_bytes(size_), format_bytes(limit.rlim_cur));
  }
  return fail(ErrorCode::kIo, "{}: cannot lock {} in memory: {}", path_, format_bytes(size_), std::strerror(error));
}

void MappedFile::expect(std::span<const std::byte> range) const {
  if (data_ == nullptr || range.empty() || mode_ == FileMode::kCopy) return;
  const auto begin = static_cast<size_t>(range.data() - data_), first = begin / page_size() * page_size();
  madvise(const_cast<std::byte*>(data_) + first, begin + range.size() - first, MADV_WILLNEED);
}

void MappedFile::release(std::span<const std::byte> range) const {
  if (data_ == nullptr || range.empty() || mode_ == FileMode::kCopy) return;
  const size_t page = page_size();
  // Only pages that lie wholly inside the range: a neighbour may still be in use.
  const auto begin = static_cast<size_t>(range.data() - data_);
  const size_t first = (begin + page - 1) / page * page;
  size_t last = begin + range.size();
  if (last < size_) last = last / page * page;
  if (last > first) madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace shoehorn
