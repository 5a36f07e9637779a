// Operations between matrix products, on rows of floats.

namespace shoehorn::kernels {
namespace {

/// e^x for x <= 88, to 1e-7 relative; below -87, e^-87. Range reduction to |r| <= ln(2) / 2, then a polynomial (Cephes expf).
SHOEHORN_INLINE F32 exponential(F32 x) {
  const F32 bounded = larger(x, splat(-87.0f));
  const F32 n = round_to_whole(bounded * 1.44269504f);
  const F32 r = multiply_add(n, splat(-1.42860677e-6f), multiply_add(n, splat(-0.693145752f), bounded));
  F32 p = splat(1.9875691500e-4f);
  p = multiply_add(p, r, splat(1.3981999507e-3f));
  p = multiply_add(p, r, splat(8.3334519073e-3f));
  p = multiply_add(p, r, splat(4.1665795894e-2f));
  p = multiply_add(p, r, splat(1.6666665459e-1f));
  p = multiply_add(p, r, splat(5.0000001201e-1f));
  p = multiply_add(p, r * r, r + 1.0f);
  return times_power_of_two(p, n);
}

/// body(i, F32 of x[i ...], how many of it count) over n floats; the last register is padded with zeros.
template <class Body>
SHOEHORN_INLINE void for_registers(size_t n, const Body& body) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}
SHOEHORN_INLINE F32 load_some(const float* from, size_t n) {
  if (n == kLanes) return load<F32>(from);
  F32 value = {};
  __builtin_memcpy(&value, from, n * sizeof(float));
  return value;
}
SHOEHORN_INLINE void store_some(float* to, F32 value, size_t n) {
  if (n == kLanes) {
    store(to, value);
  } else {
    __builtin_memcpy(to, &value, n * sizeof(float));
  }
}

void rms_norm(const float* x, const float* gain, size_t n, float eps, float* out) {
  F32 squares[2] = {};
  size_t turn = 0;
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    const F32 v = load_some(x + i, count);
    squares[turn ^= 1] += v * v;
  });
  const float mean = sum(squares[0] + squares[1]) / static_cast<float>(n);
  const float scale = 1 / __builtin_sqrtf(mean + eps);
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    store_some(out + i, load_some(x + i, count) * scale * load_some(gain + i, count), count);
  });
}

/// x / (1 + exp(-y)). For y below -87 it is 0 to float precision whatever the bound, for x of the size of y.
SHOEHORN_INLINE F32 times_sigmoid(F32 x, F32 y) { return x / (exponential(-larger(y, splat(-87.0f))) + 1.0f); }

void silu(float* gate, const float* up, size_t n) {
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    const F32 g = load_some(gate + i, count);
    store_some(gate + i, times_sigmoid(g, g) * load_some(up + i, count), count);
  });
}

/// (1 + tanh(y)) / 2 = 1 / (1 + exp(-2 y))
void gelu_tanh(float* gate, const float* up, size_t n) {
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    const F32 g = load_some(gate + i, count);
    const F32 twice_y = g * (g * g * 0.0713548162726f + 1.5957691216057f);
    store_some(gate + i, times_sigmoid(g, twice_y) * load_some(up + i, count), count);
  });
}

void add(float* x, const float* y, size_t n) {
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    store_some(x + i, load_some(x + i, count) + load_some(y + i, count), count);
  });
}

}  // namespace
}  // namespace shoehorn::kernels
