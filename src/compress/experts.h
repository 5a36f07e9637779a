// Which experts of a block are worked on together.
#pragma once

#include <algorithm>
#include <vector>

#include "compress/torch_model.h"

namespace shoehorn::compress {

/// Experts 0 ... in groups, so that what is gathered of one group at a time, `bytes_each` of each expert, is at most a gigabyte where that is
/// more than one expert's. Without experts the only group is {-1}.
inline std::vector<std::vector<int>> expert_groups(const models::Hparams& h, uint64_t bytes_each) {
  if (h.n_expert == 0) return {{-1}};
  const auto at_once = static_cast<int>(std::clamp<uint64_t>((uint64_t{1} << 30) / std::max<uint64_t>(1, bytes_each), 1, h.n_expert));
  std::vector<std::vector<int>> groups;
  for (int expert = 0; expert < static_cast<int>(h.n_expert); ++expert) {
    if (expert % at_once == 0) groups.emplace_back();
    groups.back().push_back(expert);
  }
  return groups;
}

/// A block's weights without the experts that are not among these; with {-1} without any. What one reads does not depend on what the others give.
inline TensorSet with_experts(const TensorSet& weights, const std::vector<int>& experts) {
  TensorSet part;
  part.attention = weights.attention;
  weights.for_each([&](models::WeightId id, const at::Tensor& tensor) {
    const bool wanted = std::ranges::find(experts, id.expert) != experts.end();
    // A shared expert is told by its down_proj.
    const bool of_all = id.expert < 0 && (id.role != models::Role::kFfnDown || experts.front() < 0);
    if (tensor.defined() && (wanted || of_all)) part[id] = tensor;
  });
  return part;
}

}  // namespace shoehorn::compress
