// A checkpoint whose attention has heads of another size: a start for healing, where a model with such heads is wanted.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace shoehorn::tools {

/// Writes `from` to `to` with heads of head_dim: the rows of q_proj, k_proj and v_proj are cut anew, those of k_proj and
/// v_proj repeated where they do not fill a head. What the model computes is another thing until it is healed. Fails when
/// `to` holds something, or when the rows of q_proj are no whole heads. Returns the number of parameters.
Expected<uint64_t> recut_heads(const std::string& from, const std::string& to, uint32_t head_dim);

}  // namespace shoehorn::tools
