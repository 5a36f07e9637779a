#include "plain_decode.h"

#include <cmath>
#include <cstring>

#include "quant/codebooks.h"

namespace shoehorn::quant {
namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float half(const uint8_t* p) { return static_cast<float>(half_value(u16(p))); }
int nibble(uint8_t byte, bool high) { return high ? byte >> 4 : byte & 15; }
int bit(const uint8_t* bytes, size_t n) { return (bytes[n / 8] >> (n % 8)) & 1; }
/// Field n of two bits, lowest first.
int pair(uint8_t byte, size_t n) { return (byte >> (2 * n)) & 3; }

/// 6-bit scale (or min, with `min`) s of the 12 bytes of Q4_K and Q5_K.
int k_scale(const uint8_t* p, size_t s, bool min) {
  const uint8_t* own = p + (min ? 4 : 0);
  if (s < 4) return own[s] & 63;
  return nibble(p[8 + s - 4], min) + 16 * (own[s - 4] >> 6);
}

int iq4_level(int code) {
  static const int levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return levels[code];
}

/// Trit k (of five, the first the most significant) of a TQ1_0 byte: the byte is ceil(256 v / 243) of the number v.
int trit(uint8_t byte, size_t k) {
  const int v = byte * 243 / 256;
  return v / static_cast<int>(std::pow(3, 4 - static_cast<int>(k))) % 3;
}

/// Level of weight i of an entry of eight of IQ2.
int level_of_8(uint16_t entry, size_t i) {
  static const int levels[4] = {8, 25, 43, 0};
  return levels[(entry >> (2 * i)) & 3];
}

/// Weight i of an entry of IQ1.
float trit_of(size_t entry, size_t i) { return static_cast<float>((kIq1Codebook.levels[entry] >> (2 * i)) & 3) - 1; }

/// Sign of weight i of eight of which seven signs are stored, and the eighth makes the number of negative ones even.
float sign7(uint32_t seven, size_t i) {
  int negative = 0;
  for (size_t k = 0; k < 7; ++k) negative += (seven >> k) & 1;
  return (i < 7 ? (seven >> i) & 1 : negative % 2) != 0 ? -1.0f : 1.0f;
}

}  // namespace

double half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0    ? std::ldexp(fraction, -24)
                           : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                            : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

float plain_weight(Type type, const uint8_t* b, size_t i) {
  const bool upper16 = i % 32 >= 16, upper32 = i % 64 >= 32;
  const auto f = [](int v) { return static_cast<float>(v); };
  switch (type) {
    case Type::F32: {
      float x;
      std::memcpy(&x, b, 4);
      return x;
    }
    case Type::F16:
      return half(b);
    case Type::BF16: {
      const uint32_t bits = static_cast<uint32_t>(u16(b)) << 16;
      float x;
      std::memcpy(&x, &bits, 4);
      return x;
    }
    case Type::Q4_0:
      return half(b) * f(nibble(b[2 + i % 16], upper16) - 8);
    case Type::Q4_1:
      return half(b) * f(nibble(b[4 + i % 16], upper16)) + half(b + 2);
    case Type::Q5_0:
      return half(b) * f(nibble(b[6 + i % 16], upper16) + 16 * bit(b + 2, i) - 16);
    case Type::Q5_1:
      return half(b) * f(nibble(b[8 + i % 16], upper16) + 16 * bit(b + 4, i)) + half(b + 2);
    case Type::Q8_0:
      return half(b) * f(static_cast<int8_t>(b[2 + i]));
    case Type::Q2_K: {
      const uint8_t s = b[i / 16];
      const int q = pair(b[16 + 32 * (i / 128) + i % 32], i % 128 / 32);
      return half(b + 80) * f(s & 15) * f(q) - half(b + 82) * f(s >> 4);
    }
    case Type::Q3_K: {
      const size_t s = i / 16;
      const int low = nibble(b[96 + s % 8], s >= 8), high = pair(b[104 + s % 4], s / 4);
      const int q = pair(b[32 + 32 * (i / 128) + i % 32], i % 128 / 32) + 4 * ((b[i % 32] >> (i / 32)) & 1) - 4;
      return half(b + 108) * f(low + 16 * high - 32) * f(q);
    }
    case Type::Q4_K: {
      const int q = nibble(b[16 + 32 * (i / 64) + i % 32], upper32);
      return half(b) * f(k_scale(b + 4, i / 32, false)) * f(q) - half(b + 2) * f(k_scale(b + 4, i / 32, true));
    }
    case Type::Q5_K: {
      const int q = nibble(b[48 + 32 * (i / 64) + i % 32], upper32) + 16 * ((b[16 + i % 32] >> (i / 32)) & 1);
      return half(b) * f(k_scale(b + 4, i / 32, false)) * f(q) - half(b + 2) * f(k_scale(b + 4, i / 32, true));
    }
    case Type::Q6_K: {
      const size_t in_half = i % 128;
      const int low = nibble(b[64 * (i / 128) + in_half % 64], in_half >= 64);
      const int high = pair(b[128 + 32 * (i / 128) + i % 32], in_half / 32);
      return half(b + 208) * f(static_cast<int8_t>(b[192 + i / 16])) * f(low + 16 * high - 32);
    }
    case Type::IQ4_NL:
      return half(b) * f(iq4_level(nibble(b[2 + i % 16], upper16)));
    case Type::IQ4_XS: {
      const size_t s = i / 32;
      const int scale = nibble(b[4 + s / 2], s % 2 == 1) + 16 * ((u16(b + 2) >> (2 * s)) & 3) - 32;
      return half(b) * f(scale) * f(iq4_level(nibble(b[8 + 16 * s + i % 16], upper16)));
    }
    case Type::IQ1_S: {
      const uint16_t h = u16(b + 34 + 2 * (i / 32));
      const size_t entry = b[2 + i / 8] + 256u * ((h >> (3 * (i % 32 / 8))) & 7);
      return half(b) * f(2 * ((h >> 12) & 7) + 1) * (trit_of(entry, i % 8) + ((h & 0x8000) != 0 ? -0.125f : 0.125f));
    }
    case Type::IQ1_M: {
      const auto scales = [&](size_t k) { return u16(b + 48 + 2 * k); };
      const uint8_t d[2] = {static_cast<uint8_t>(scales(0) >> 12 | scales(1) >> 12 << 4),
                            static_cast<uint8_t>(scales(2) >> 12 | scales(3) >> 12 << 4)};
      const int h = nibble(b[32 + i / 16], i % 16 >= 8);
      const size_t entry = b[i / 8] + 256u * static_cast<size_t>(h & 7);
      return half(d) * f(2 * ((scales(i / 64) >> (3 * (i % 64 / 16))) & 7) + 1) *
             (trit_of(entry, i % 8) + ((h & 8) != 0 ? -0.125f : 0.125f));
    }
    case Type::IQ2_XXS: {
      const uint8_t* sub = b + 2 + 8 * (i / 32);
      const uint32_t packed = u16(sub + 4) + 65536u * u16(sub + 6);
      const float q = f(level_of_8(kIq2XxsCodebook.levels[sub[i % 32 / 8]], i % 8));
      return half(b) * (0.5f + f(static_cast<int>(packed >> 28))) * 0.25f * q *
             sign7(packed >> (7 * (i % 32 / 8)), i % 8);
    }
    case Type::IQ2_XS: {
      const uint16_t packed = u16(b + 2 + 2 * (i / 8));
      const float q = f(level_of_8(kIq2XsCodebook.levels[packed & 511], i % 8));
      return half(b) * (0.5f + f(nibble(b[66 + i / 32], upper16))) * 0.25f * q * sign7(packed >> 9, i % 8);
    }
    case Type::IQ2_S: {
      const size_t entry = b[2 + i / 8] + 256u * static_cast<size_t>(pair(b[66 + i / 32], i % 32 / 8));
      const float q = f(level_of_8(kIq2SCodebook.levels[entry], i % 8)) * (bit(b + 34, i) != 0 ? -1.0f : 1.0f);
      return half(b) * (0.5f + f(nibble(b[74 + i / 32], upper16))) * 0.25f * q;
    }
    case Type::IQ3_XXS: {
      const uint8_t* sub = b + 66 + 4 * (i / 32);
      const uint32_t packed = u16(sub) + 65536u * u16(sub + 2);
      static const int levels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
      const float q = f(levels[(kIq3XxsCodebook.levels[b[2 + i / 4]] >> (3 * (i % 4))) & 7]);
      return half(b) * (0.5f + f(static_cast<int>(packed >> 28))) * 0.5f * q *
             sign7(packed >> (7 * (i % 32 / 8)), i % 8);
    }
    case Type::IQ3_S: {
      const size_t entry = b[2 + i / 4] + 256u * static_cast<size_t>(bit(b + 66, i / 4));
      const float q =
          f(1 + 2 * ((kIq3SCodebook.levels[entry] >> (3 * (i % 4))) & 7)) * (bit(b + 74, i) != 0 ? -1.0f : 1.0f);
      return half(b) * f(1 + 2 * nibble(b[106 + i / 64], upper32)) * q;
    }
    case Type::MXFP4: {
      const int code = nibble(b[1 + i % 16], upper16), exponent = code >> 1 & 3;
      const double level = exponent == 0 ? 0.5 * (code & 1) : std::ldexp(1 + 0.5 * (code & 1), exponent - 1);
      return static_cast<float>(std::ldexp(code >= 8 ? -level : level, b[0] - 127));
    }
    case Type::TQ1_0: {
      const int t = i < 160   ? trit(b[i % 32], i / 32)
                    : i < 240 ? trit(b[32 + (i - 160) % 16], (i - 160) / 16)
                              : trit(b[48 + (i - 240) % 4], (i - 240) / 4);
      return half(b + 52) * f(t - 1);
    }
    case Type::TQ2_0:
      return half(b + 64) * f(pair(b[32 * (i / 128) + i % 32], i % 128 / 32) - 1);
  }
  return NAN;
}

}  // namespace shoehorn::quant
