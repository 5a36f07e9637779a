// Several processes, on one host or many, that share a calibration or a healing: torch's c10d over Gloo (NCCL for tensors on CUDA
// where libtorch has it), launched with the usual RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
#pragma once

#include <memory>
#include <vector>

#include "compress/torch.h"

namespace shoehorn::compress {

class Peers {
 public:
  /// This process alone.
  Peers();
  /// As the environment says; alone when WORLD_SIZE is not set. Waits until all have come. Fails naming the variable that is missing or
  /// wrong, or the address that nobody answers at; kUnsupported when libtorch's headers had no Gloo (libgloo-dev) when this was built.
  /// From then on this process ignores SIGPIPE, as Gloo expects.
  static Expected<Peers> join(at::Device device);
  Peers(Peers&&) noexcept;
  Peers& operator=(Peers&&) noexcept;
  ~Peers();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }

  /// The micro-batches of `all` that this process computes: every size()-th.
  template <class T>
  std::vector<T> mine(const std::vector<T>& all) const {
    std::vector<T> out;
    for (size_t i = static_cast<size_t>(rank_); i < all.size(); i += static_cast<size_t>(size_)) out.push_back(all[i]);
    return out;
  }

  /// Replaces each tensor by its sum over all processes, the same bytes in each. Fails with kIo when a process has died or was not
  /// heard of for 30 s.
  Status sum(std::vector<at::Tensor> tensors) const;
  Status sum(double& value) const;
  Status sum(int64_t& value) const;
  /// The first process's bytes, in all.
  Status broadcast(std::vector<std::byte>& bytes) const;

 private:
  struct Group;
  int rank_ = 0, size_ = 1;
  std::unique_ptr<Group> group_;
};

}  // namespace shoehorn::compress
