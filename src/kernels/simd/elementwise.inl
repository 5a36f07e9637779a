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

void layer_norm(const float* x, const float* gain, const float* bias, size_t n, float eps, float* out) {
  F32 sums[2] = {}, squares[2] = {};
  size_t turn = 0;
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA { sums[turn ^= 1] += load_some(x + i, count); });
  const float mean = sum(sums[0] + sums[1]) / static_cast<float>(n);
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    F32 v = load_some(x + i, count) - mean;
    if (count < kLanes) {  // what was padded with zeros is none
      float lanes[kLanes] = {};
      store_some(lanes, v, count);
      v = load<F32>(lanes);
    }
    squares[turn ^= 1] += v * v;
  });
  const float scale = 1 / __builtin_sqrtf(sum(squares[0] + squares[1]) / static_cast<float>(n) + eps);
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    F32 value = (load_some(x + i, count) - mean) * scale * load_some(gain + i, count);
    if (bias != nullptr) value += load_some(bias + i, count);
    store_some(out + i, value, count);
  });
}

/// function(gate) * up, or function(gate) where up is nullptr.
template <class Function>
SHOEHORN_INLINE void activate(float* gate, const float* up, size_t n, const Function& function) {
  if (up == nullptr) {
    for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA { store_some(gate + i, function(load_some(gate + i, count)), count); });
    return;
  }
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    store_some(gate + i, function(load_some(gate + i, count)) * load_some(up + i, count), count);
  });
}

void silu(float* gate, const float* up, size_t n) {
  activate(gate, up, n, [](F32 x) SHOEHORN_LAMBDA { return times_sigmoid(x, x); });
}

/// (1 + tanh(y)) / 2 = 1 / (1 + exp(-2 y))
void gelu_tanh(float* gate, const float* up, size_t n) {
  activate(gate, up, n, [](F32 x) SHOEHORN_LAMBDA { return times_sigmoid(x, x * (x * x * 0.0713548162726f + 1.5957691216057f)); });
}

/// x/2 erfc(-x / sqrt(2)), erfc(|z|) = p(t) exp(-z^2) with t = 1 / (1 + 0.3275911 |z|) to 1.5e-7 (Abramowitz & Stegun 7.1.26).
void gelu(float* gate, const float* up, size_t n) {
  activate(gate, up, n, [](F32 x) SHOEHORN_LAMBDA {
    const F32 size = larger(x, -x), z = size * 0.707106781f;
    const F32 t = 1.0f / (z * 0.3275911f + 1.0f);
    F32 p = splat(1.061405429f);
    p = multiply_add(p, t, splat(-1.453152027f));
    p = multiply_add(p, t, splat(1.421413741f));
    p = multiply_add(p, t, splat(-0.284496736f));
    p = multiply_add(p, t, splat(0.254829592f));
    const F32 tail = p * t * exponential(-(z * z));  // erfc(|z|)
    // x/2 erfc(-z): for x > 0 it is x - x/2 erfc(z), for x < 0 x/2 erfc(|z|).
    return larger(x, splat(0.0f)) - size * tail * 0.5f;
  });
}

void relu2(float* gate, const float* up, size_t n) {
  activate(gate, up, n, [](F32 x) SHOEHORN_LAMBDA {
    const F32 positive = larger(x, splat(0.0f));
    return positive * positive;
  });
}

void add(float* x, const float* y, size_t n) {
  for_registers(n, [&](size_t i, size_t count) SHOEHORN_LAMBDA {
    store_some(x + i, load_some(x + i, count) + load_some(y + i, count), count);
  });
}

}  // namespace
}  // namespace shoehorn::kernels
