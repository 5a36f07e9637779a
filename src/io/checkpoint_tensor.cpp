#include "io/checkpoint_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace shoehorn::io {

uint64_t CheckpointTensor::n_elements() const {
  uint64_t n = 1;
  for (const uint64_t dim : shape) n *= dim;
  return n;
}

CheckpointTensor CheckpointTensor::rows(uint64_t first, uint64_t n, uint64_t run, uint64_t stride) const {
  CheckpointTensor out = *this;
  const uint64_t row_bytes = data.size() / shape.front();
  out.shape.front() = n;
  const bool whole = run == 0 || n <= run;
  const uint64_t reach = whole ? n : (n / run - 1) * stride + run;
  out.data = data.subspan(first * row_bytes, reach * row_bytes);
  if (!whole) {
    out.run_bytes = run * row_bytes;
    out.stride_bytes = stride * row_bytes;
  }
  return out;
}

namespace {

/// Calls visit(pointer, bytes) for bytes [begin, end) of the elements one behind the other, piece by piece.
template <class Visit>
void for_each_run(const CheckpointTensor& tensor, uint64_t begin, uint64_t end, const Visit& visit) {
  if (tensor.run_bytes == 0) return visit(tensor.data.data() + begin, end - begin);
  while (begin < end) {
    const uint64_t run = begin / tensor.run_bytes, within = begin % tensor.run_bytes, n = std::min(end - begin, tensor.run_bytes - within);
    visit(tensor.data.data() + run * tensor.stride_bytes + within, n);
    begin += n;
  }
}

}  // namespace

std::span<const std::byte> CheckpointTensor::bytes_of(uint64_t first, uint64_t n) const {
  if (n == 0) return {};
  const uint64_t row_bytes = n_elements() / shape.front() * dtype_info(dtype).bytes;
  const auto place = [&](uint64_t at) { return run_bytes == 0 ? at : at / run_bytes * stride_bytes + at % run_bytes; };
  const uint64_t begin = place(first * row_bytes);
  return data.subspan(begin, place((first + n - 1) * row_bytes) + row_bytes - begin);
}

void copy_rows(const CheckpointTensor& tensor, uint64_t first, uint64_t n, std::byte* out) {
  const uint64_t row_bytes = tensor.n_elements() / tensor.shape.front() * dtype_info(tensor.dtype).bytes;
  for_each_run(tensor, first * row_bytes, (first + n) * row_bytes, [&](const std::byte* from, uint64_t bytes) {
    std::memcpy(out, from, bytes);
    out += bytes;
  });
}

void read_floats(const CheckpointTensor& tensor, uint64_t first, uint64_t count, float* out) {
  const uint64_t bytes = dtype_info(tensor.dtype).bytes;
  for_each_run(tensor, first * bytes, (first + count) * bytes, [&](const std::byte* from, uint64_t n) {
    decode_floats(tensor.dtype, from, n / bytes, out);
    out += n / bytes;
  });
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
