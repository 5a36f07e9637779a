// What stands between the matrix products of an MLP.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoehorn {

/// A function of each element of what the first product (the gate) gives.
enum class Activation : uint8_t {
  kSilu,      ///< x / (1 + exp(-x)): SwiGLU (Shazeer 2020, arXiv:2002.05202)
  kGeluTanh,  ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GeGLU with the approximation of Hendrycks & Gimpel
              ///< 2016, arXiv:1606.08415
};
inline constexpr size_t kActivations = 2;

}  // namespace shoehorn
