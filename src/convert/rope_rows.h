// How the rows of q and k lie in a file with NORM rope.
#pragma once

#include <cstdint>

namespace shoehorn::convert {

/// Row `row` of a NORM-rope matrix as a row of Hugging Face's: within each head, NORM's (2i, 2i + 1) are NEOX's (i, i + n_rot / 2);
/// rows past n_rot stay where they are.
inline uint64_t hf_row(uint64_t row, uint64_t head_dim, uint64_t n_rot) {
  const uint64_t head = row / head_dim, i = row % head_dim;
  if (i >= n_rot) return row;
  return head * head_dim + i / 2 + (i % 2) * (n_rot / 2);
}

}  // namespace shoehorn::convert
