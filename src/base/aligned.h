// Uninitialized memory on a cache line.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace shoehorn {

/// n objects of a trivial type at a multiple of 64 bytes. Pages come into being as they are written.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t n) : size_(n), memory_(new (std::align_val_t{64}) std::byte[n * sizeof(T) + 64]) {}

  /// Grows to at least n; the content is lost when it does.
  void reserve(size_t n) {
    if (n > size_) *this = AlignedBuffer(n);
  }

  T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  size_t size_ = 0;
  std::unique_ptr<std::byte[], Free> memory_;
};

}  // namespace shoehorn
