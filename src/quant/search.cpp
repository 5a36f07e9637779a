#include "quant/search.h"

#include <atomic>
#include <cstdlib>
#include <string_view>

#include "base/cpu.h"

namespace shoehorn::quant {

#define SHOEHORN_SEARCH_SET(isa, features)                                                             \
  namespace isa {                                                                                      \
  void search_symmetric(const float*, const float*, size_t, const SymmetricFormat&, SymmetricResult*); \
  void search_affine(const float*, const float*, size_t, const AffineFormat&, AffineResult*);          \
  void search_codebook(const float*, const float*, size_t, const CodebookFormat&, CodebookResult*);    \
  void round_panel(const Grid&, const float*, size_t, float*, Panel&, float*);                         \
  void descend_panel(const Grid&, const float*, size_t, int, float*, Panel&);                          \
  }
#include "quant/search_sets.inc"
#undef SHOEHORN_SEARCH_SET

namespace {

constexpr SearchSet kSets[] = {
#define SHOEHORN_SEARCH_SET(isa, features)                                                          \
  {#isa, features, isa::search_symmetric, isa::search_affine, isa::search_codebook, isa::round_panel, \
   isa::descend_panel},
#include "quant/search_sets.inc"
#undef SHOEHORN_SEARCH_SET
};

const SearchSet* best_set() {
  const char* forced = std::getenv("SHOEHORN_ISA");
  const SearchSet* best = nullptr;
  for (const SearchSet& set : kSets) {
    if ((set.cpu_features & ~cpu_features()) != 0) continue;
    best = &set;
    if (forced != nullptr && std::string_view(forced) == set.isa) break;
  }
  return best;
}

std::atomic<const SearchSet*>& current_set() {
  static std::atomic<const SearchSet*> current{best_set()};
  return current;
}

}  // namespace

std::span<const SearchSet> search_sets() { return kSets; }

const SearchSet& search_set() { return *current_set().load(std::memory_order_relaxed); }

void use_search_set(const SearchSet& set) { current_set().store(&set, std::memory_order_relaxed); }

}  // namespace shoehorn::quant
