#include <cstdlib>

#include "base/cpu.h"
#include "kernels/kernel.h"

namespace shoehorn::kernels {

#define SHOEHORN_KERNEL_SET(isa, needed, wanted) \
  namespace isa {                                \
  const KernelTable& table();                    \
  }
#include "kernels/kernels.inc"
#undef SHOEHORN_KERNEL_SET

namespace {

constexpr KernelSet kSets[] = {
#define SHOEHORN_KERNEL_SET(isa, needed, wanted) {#isa, needed, wanted, isa::table},
#include "kernels/kernels.inc"
#undef SHOEHORN_KERNEL_SET
};

}  // namespace

std::span<const KernelSet> kernel_sets() { return kSets; }

Expected<const KernelSet*> select_kernel_set() {
  const uint32_t available = cpu_features();
  const char* forced = std::getenv("SHOEHORN_ISA");
  const KernelSet* best = nullptr;
  std::string names;
  for (const KernelSet& set : kSets) {
    names += (names.empty() ? "" : ", ") + std::string(set.isa);
    const bool runs = (set.cpu_features & ~available) == 0;
    if (forced != nullptr && std::string_view(forced) == set.isa) {
      if (!runs) return fail(ErrorCode::kUnsupported, "SHOEHORN_ISA={}: this CPU cannot run it", forced);
      return &set;
    }
    if (runs && (set.wanted_features & ~available) == 0) best = &set;
  }
  if (forced != nullptr && *forced != '\0') {
    return fail(ErrorCode::kInvalid, "SHOEHORN_ISA={} is not known; this build has {}", forced, names);
  }
  return best;
}

const Kernels& kernels_for(const KernelTable& table, quant::Type type) {
  for (const Kernels& row : table.formats) {
    if (row.type == type) return row;
  }
  __builtin_unreachable();  // every set has a row per format
}

size_t layout_bytes(const KernelTable& table, Layout layout, size_t n_tokens, size_t n_cols) {
  const size_t tokens = (n_tokens + table.granule - 1) / table.granule * table.granule;
  const auto groups = [&](size_t group) { return (n_cols + group - 1) / group; };
  switch (layout) {
    case Layout::kFloatRows:
    case Layout::kFloatTiles: return tokens * n_cols * sizeof(float);
    case Layout::kBf16Tiles: return tokens * (n_cols + 1) / 2 * 4;
    case Layout::kInt8Rows: return tokens * groups(256) * (256 + 3 * 16 * sizeof(float));
    case Layout::kInt8Rows256: return tokens * groups(256) * (256 + 64);
    case Layout::kInt8Tiles32: return tokens * (n_cols + groups(32) * 8);
    case Layout::kInt8Tiles256: return tokens * (n_cols + groups(256) * 8);
  }
  return 0;
}

}  // namespace shoehorn::kernels
