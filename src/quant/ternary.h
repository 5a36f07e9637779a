// What TQ1_0 and TQ2_0 share: models of this kind are ternary already, so that the largest magnitude is the scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoehorn::quant {

/// trits[i] = 1 + the nearest of -1, 0, 1 to in[i] / max |in|. Returns the scale as a (finite) binary16.
uint16_t encode_ternary(const float* in, size_t n, uint8_t* trits);

}  // namespace shoehorn::quant
