// A second decoder, written weight by weight from docs/formats.md, to hold the real one against.
#pragma once

#include <cstdint>

#include "quant/format.h"

namespace shoehorn::quant {

/// binary16 bits -> value, by the definition.
double half_value(uint16_t bits);

/// Weight i of the block that starts at b, in the order of float operations that the format prescribes.
float plain_weight(Type type, const uint8_t* b, size_t i);

}  // namespace shoehorn::quant
