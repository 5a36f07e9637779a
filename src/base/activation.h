// What stands between the matrix products of an MLP.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoehorn {

/// A function of each element of what the first product gives: of the gate's where there is one.
enum class Activation : uint8_t {
  kSilu,      ///< x / (1 + exp(-x)): SwiGLU (Shazeer 2020, arXiv:2002.05202)
  kGeluTanh,  ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GeGLU with the approximation of Hendrycks & Gimpel
              ///< 2016, arXiv:1606.08415
  kGelu,      ///< x/2 (1 + erf(x / sqrt(2))): the same paper's function itself
  kRelu2,     ///< max(x, 0)^2 (So et al. 2021, arXiv:2109.08668)
};
inline constexpr size_t kActivations = 4;

}  // namespace shoehorn
