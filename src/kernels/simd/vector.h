// Vectors of one register, for every instruction set: types, plain operations and the loops that the compiler must unroll.
// An instruction set's vector.h defines SHOEHORN_VECTOR_BYTES, includes this file, and adds what has no operator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/float16.h"
#include "quant/unpacked.h"

// What an instruction set may say before it includes this file. What it brings itself in place of a part of simd/*.inl it says by
// SHOEHORN_OWN_INT8_SUPER (before), SHOEHORN_OWN_TERNARY_PRODUCTS and SHOEHORN_OWN_PANEL_PRODUCT.
#if !defined(SHOEHORN_UNIT_BYTES)
#define SHOEHORN_UNIT_BYTES 4
#endif
#if !defined(SHOEHORN_CENTRED_CODES)
#define SHOEHORN_CENTRED_CODES false
#endif
#if !defined(SHOEHORN_ROW_BY_ROW)
#define SHOEHORN_ROW_BY_ROW false
#endif

namespace shoehorn::kernels {
namespace {

typedef float F32 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef int32_t I32 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef uint32_t U32 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef int16_t I16 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef uint16_t U16 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef uint8_t U8 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef int8_t I8 __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));

constexpr size_t kBytes = SHOEHORN_VECTOR_BYTES;
constexpr size_t kLanes = kBytes / 4;                             // floats in a register
constexpr size_t kSuper = 256;                                    // weights that kernels take from a row at a time
constexpr size_t kGroups = kSuper / quant::kGroup;                // (scale, min) pairs of them
constexpr size_t kCodeVectors = kSuper / kBytes;                  // registers that hold their codes
constexpr size_t kGroupVectors = kGroups / kLanes;                // registers that hold their scales
constexpr size_t kUnit = SHOEHORN_UNIT_BYTES;                     // columns of a row that lie together in tiles and panels
constexpr bool kCentredCodes = SHOEHORN_CENTRED_CODES;            // codes of 3 and 5 bits are unpacked to -4 ... 3 and -16 ... 15

template <class V>
SHOEHORN_INLINE V load(const void* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

template <class V>
SHOEHORN_INLINE void store(void* to, const V& value) {
  __builtin_memcpy(to, &value, sizeof value);
}

SHOEHORN_INLINE F32 splat(float value) { return value - F32{}; }  // not +: -0 + 0 is not -0
SHOEHORN_INLINE I32 splat(int32_t value) { return I32{} + value; }

/// f(0), f(1), ... f(n - 1) with the index a constant.
template <size_t n, class Body>
SHOEHORN_INLINE void unroll(const Body& body) {
  [&]<size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
    (body(std::integral_constant<size_t, i>()), ...);
  }(std::make_index_sequence<n>());
}
#define SHOEHORN_LAMBDA __attribute__((always_inline))

/// 256 weights: w = scale * code - min, codes in the order of the weights, a (scale, min) per 16.
struct Codes {
  U8 q[kCodeVectors];
  F32 scale[kGroupVectors];
  F32 min[kGroupVectors];
#if defined(SHOEHORN_OWN_INT8_SUPER)
  // The same as decode reads it, one per scale of the format: scale = step * step_factor, min = offset * offset_factor.
  F32 step[kGroupVectors], offset[kGroupVectors];
  float step_factor, offset_factor;
#endif
};

}  // namespace
}  // namespace shoehorn::kernels
