// Activations that wait between blocks: in memory while there is room, else in a file that has no name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compress/torch.h"

namespace shoehorn::compress {

/// Not thread-safe. Tensors come back bit-equal, on the CPU.
class ActivationStore {
 public:
  using Slot = size_t;

  /// Tensors beyond `memory_bytes` go to a nameless file in `directory`.
  ActivationStore(std::string directory, uint64_t memory_bytes);
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

  /// Fails with kIo or kTooLarge (disk full) naming the directory.
  Expected<Slot> put(const at::Tensor& tensor);
  Expected<at::Tensor> get(Slot slot) const;
  void drop(Slot slot);

  uint64_t bytes_in_memory() const { return in_memory_; }
  uint64_t bytes_on_disk() const { return end_; }

 private:
  struct Entry {
    at::Tensor tensor;  // undefined: on disk
    std::vector<int64_t> sizes;
    at::ScalarType dtype = at::kFloat;
    uint64_t offset = 0, bytes = 0;
  };

  std::string directory_;
  uint64_t memory_bytes_, in_memory_ = 0, end_ = 0;
  int fd_ = -1;
  std::vector<Entry> entries_;
  std::vector<Slot> free_slots_;
  std::multimap<uint64_t, uint64_t> free_ranges_;  // bytes -> offset
};

}  // namespace shoehorn::compress
