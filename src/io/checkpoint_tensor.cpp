#include "io/checkpoint_tensor.h"

#include <fmt/format.h>

#include "base/checked.h"

namespace shoehorn::io {

uint64_t CheckpointTensor::n_elements() const {
  uint64_t n = 1;
  for (const uint64_t dim : shape) n *= dim;
  return n;
}

void read_floats(const CheckpointTensor& tensor, uint64_t first, uint64_t count, float* out) {
  decode_floats(tensor.dtype, tensor.data.data() + first * dtype_info(tensor.dtype).bytes, count, out);
}

std::optional<uint64_t> element_count(std::span<const uint64_t> shape) {
  uint64_t n = 1;
  for (const uint64_t dim : shape) {
    const auto product = checked_mul(n, dim);
    if (!product) return std::nullopt;
    n = *product;
  }
  return n;
}

std::string printable(std::string_view text) {
  constexpr size_t kMax = 120;
  std::string out;
  for (const char c : text.substr(0, kMax)) {
    if (c >= 0x20 && c <= 0x7e) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > kMax) out += "...";
  return out;
}

}  // namespace shoehorn::io
