// A table with a row for each weight that a block may have.
#pragma once

#include <array>
#include <vector>

#include "models/model.h"

namespace shoehorn::models {

/// Something for each weight of one block, or of those outside of all blocks; a T{} where nothing was put.
template <typename T>
class PerWeight {
 public:
  const T& operator[](WeightId id) const {
    static const T nothing{};
    if (id.expert >= static_cast<int>(n_experts())) return nothing;
    return set(id.expert)[static_cast<size_t>(id.role)];
  }
  T& operator[](WeightId id) {
    if (id.expert >= static_cast<int>(n_experts())) of_experts_.resize(static_cast<size_t>(id.expert) + 1);
    return const_cast<Set&>(set(id.expert))[static_cast<size_t>(id.role)];
  }

  /// Of which there may be something.
  size_t n_experts() const { return of_experts_.size(); }

  /// Calls visit(id, something) for all, those of experts last.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (int expert = -1; expert < static_cast<int>(n_experts()); ++expert) {
      for (size_t i = 0; i < kRoleCount; ++i) visit(WeightId(static_cast<Role>(i), expert), set(expert)[i]);
    }
  }

 private:
  using Set = std::array<T, kRoleCount>;
  const Set& set(int expert) const { return expert < 0 ? of_all_ : of_experts_[static_cast<size_t>(expert)]; }

  Set of_all_{};
  std::vector<Set> of_experts_;
};

}  // namespace shoehorn::models
