#include "compress/activation_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace shoehorn::compress {
namespace {

/// A file that is gone when the process is.
Expected<int> open_nameless(const std::string& directory) {
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    std::string path = directory + "/.activations-XXXXXX";
    fd = ::mkostemp(path.data(), O_CLOEXEC);
    if (fd >= 0) ::unlink(path.c_str());
  }
  if (fd < 0) return fail(ErrorCode::kIo, "{}: cannot create a file for activations: {}", directory, std::strerror(errno));
  return fd;
}

}  // namespace

ActivationStore::ActivationStore(std::string directory, uint64_t memory_bytes)
    : directory_(std::move(directory)), memory_bytes_(memory_bytes) {}

ActivationStore::~ActivationStore() {
  if (fd_ >= 0) ::close(fd_);
}

Expected<ActivationStore::Slot> ActivationStore::put(const at::Tensor& tensor) {
  Entry entry;
  const at::Tensor kept = tensor.detach().to(at::kCPU).contiguous();
  entry.sizes = kept.sizes().vec();
  entry.dtype = kept.scalar_type();
  entry.bytes = static_cast<uint64_t>(kept.numel()) * kept.element_size();
  if (in_memory_ + entry.bytes <= memory_bytes_) {
    entry.tensor = kept;
    in_memory_ += entry.bytes;
  } else {
    if (fd_ < 0) {
      SHOEHORN_TRY(fd_, open_nameless(directory_));
    }
    if (const auto range = free_ranges_.find(entry.bytes); range != free_ranges_.end()) {
      entry.offset = range->second;
      free_ranges_.erase(range);
    } else {
      entry.offset = end_;
      end_ += entry.bytes;
    }
    const auto* from = static_cast<const char*>(kept.data_ptr());
    for (uint64_t done = 0; done < entry.bytes;) {
      const ssize_t n = ::pwrite(fd_, from + done, entry.bytes - done, static_cast<off_t>(entry.offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        return fail(errno == ENOSPC ? ErrorCode::kTooLarge : ErrorCode::kIo,
                    "{}: writing activations after {} bytes: {}; a larger --ram keeps more of them in memory", directory_,
                    entry.offset + done, std::strerror(errno));
      }
      done += static_cast<uint64_t>(n);
    }
    // Written pages leave the cache: it counts as this process's memory in a container.
    ::sync_file_range(fd_, static_cast<off_t>(entry.offset), static_cast<off_t>(entry.bytes), SYNC_FILE_RANGE_WRITE);
  }
  if (free_slots_.empty()) {
    entries_.push_back(std::move(entry));
    return entries_.size() - 1;
  }
  const Slot slot = free_slots_.back();
  free_slots_.pop_back();
  entries_[slot] = std::move(entry);
  return slot;
}

Expected<at::Tensor> ActivationStore::get(Slot slot) const {
  const Entry& entry = entries_[slot];
  if (entry.tensor.defined()) return entry.tensor;
  at::Tensor out = at::empty(entry.sizes, entry.dtype);
  auto* to = static_cast<char*>(out.data_ptr());
  for (uint64_t done = 0; done < entry.bytes;) {
    const ssize_t n = ::pread(fd_, to + done, entry.bytes - done, static_cast<off_t>(entry.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ErrorCode::kIo, "{}: reading activations back: {}", directory_, n == 0 ? "short file" : std::strerror(errno));
    done += static_cast<uint64_t>(n);
  }
  ::posix_fadvise(fd_, static_cast<off_t>(entry.offset), static_cast<off_t>(entry.bytes), POSIX_FADV_DONTNEED);
  return out;
}

void ActivationStore::drop(Slot slot) {
  Entry& entry = entries_[slot];
  if (entry.tensor.defined()) {
    in_memory_ -= entry.bytes;
  } else {
    free_ranges_.emplace(entry.bytes, entry.offset);
  }
  entry = {};
  free_slots_.push_back(slot);
}

}  // namespace shoehorn::compress
