#include "plain_decode.h"

#include <cmath>
#include <cstring>

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
