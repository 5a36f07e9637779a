#include "io/dtype.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/float16.h"

namespace shoehorn::io {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are mapped, not byte-swapped");

constexpr std::array<DTypeInfo, 15> kDTypes = {{
    {DType::F64, "F64", 8, true},
    {DType::F32, "F32", 4, true},
    {DType::F16, "F16", 2, true},
    {DType::BF16, "BF16", 2, true},
    {DType::F8_E4M3, "F8_E4M3", 1, true},
    {DType::F8_E5M2, "F8_E5M2", 1, true},
    {DType::I64, "I64", 8, false},
    {DType::I32, "I32", 4, false},
    {DType::I16, "I16", 2, false},
    {DType::I8, "I8", 1, false},
    {DType::U64, "U64", 8, false},
    {DType::U32, "U32", 4, false},
    {DType::U16, "U16", 2, false},
    {DType::U8, "U8", 1, false},
    {DType::BOOL, "BOOL", 1, false},
}};

constexpr double power_of_two(int exponent) {
  double result = 1;
  for (int i = 0; i < exponent; ++i) result *= 2;
  for (int i = 0; i > exponent; --i) result /= 2;
  return result;
}

/// The value of an 8-bit float with `mantissa_bits` of mantissa (Micikevicius et al., "FP8 Formats for Deep Learning").
/// `ieee`: the highest exponent means Inf/NaN (E5M2); otherwise only all ones is NaN (E4M3FN).
constexpr float fp8_value(unsigned bits, int mantissa_bits, int bias, bool ieee) {
  const unsigned mantissa_mask = (1u << mantissa_bits) - 1;
  const unsigned mantissa = bits & mantissa_mask;
  const unsigned exponent = (bits & 0x7fu) >> mantissa_bits;
  const unsigned exponent_max = 0x7fu >> mantissa_bits;
  const double sign = (bits & 0x80u) != 0 ? -1.0 : 1.0;
  if (exponent == exponent_max) {
    if (ieee && mantissa == 0) return static_cast<float>(sign) * std::numeric_limits<float>::infinity();
    if (ieee || mantissa == mantissa_mask) return std::numeric_limits<float>::quiet_NaN();
  }
  const double fraction = static_cast<double>(mantissa) / static_cast<double>(1u << mantissa_bits);
  const double magnitude = exponent == 0 ? fraction * power_of_two(1 - bias)
                                         : (1.0 + fraction) * power_of_two(static_cast<int>(exponent) - bias);
  return static_cast<float>(sign * magnitude);
}

constexpr std::array<float, 256> fp8_table(int mantissa_bits, int bias, bool ieee) {
  std::array<float, 256> table{};
  for (unsigned i = 0; i < 256; ++i) table[i] = fp8_value(i, mantissa_bits, bias, ieee);
  return table;
}

constexpr std::array<float, 256> kE4M3 = fp8_table(3, 7, false);
constexpr std::array<float, 256> kE5M2 = fp8_table(2, 15, true);

template <class T>
T load(const std::byte* src, uint64_t i) {
  T value;
  std::memcpy(&value, src + i * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

const DTypeInfo& dtype_info(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (name == info.name) return info.dtype;
  }
  return std::nullopt;
}

void decode_floats(DType dtype, const std::byte* src, uint64_t count, float* out) {
  switch (dtype) {
    case DType::F32:
      if (count != 0) std::memcpy(out, src, count * sizeof(float));
      break;
    case DType::F64:
      for (uint64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(src, i));
      break;
    case DType::F16:
      for (uint64_t i = 0; i < count; ++i) out[i] = fp16_to_fp32(load<uint16_t>(src, i));
      break;
    case DType::BF16:
      for (uint64_t i = 0; i < count; ++i) out[i] = bf16_to_fp32(load<uint16_t>(src, i));
      break;
    case DType::F8_E4M3:
      for (uint64_t i = 0; i < count; ++i) out[i] = kE4M3[std::to_integer<size_t>(src[i])];
      break;
    case DType::F8_E5M2:
      for (uint64_t i = 0; i < count; ++i) out[i] = kE5M2[std::to_integer<size_t>(src[i])];
      break;
    default:
      break;  // not floating: the caller's contract
  }
}

void encode_floats(DType dtype, const float* src, uint64_t count, std::byte* out) {
  const auto store16 = [&](uint64_t i, uint16_t bits) { std::memcpy(out + i * 2, &bits, 2); };
  switch (dtype) {
    case DType::F32:
      if (count != 0) std::memcpy(out, src, count * sizeof(float));
      break;
    case DType::F16:
      for (uint64_t i = 0; i < count; ++i) store16(i, fp32_to_fp16(src[i]));
      break;
    case DType::BF16:
      for (uint64_t i = 0; i < count; ++i) store16(i, fp32_to_bf16(src[i]));
      break;
    default:
      break;  // not a type that is written: the caller's contract
  }
}

}  // namespace shoehorn::io
