#include "io/checkpoint_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "io/packed.h"

namespace shoehorn::io {

uint64_t CheckpointTensor::n_elements() const {
  uint64_t n = 1;
  for (const uint64_t dim : shape) n *= dim;
  return n;
}

CheckpointTensor CheckpointTensor::rows(uint64_t first, uint64_t n, uint64_t new_run, uint64_t new_stride) const {
  CheckpointTensor out = *this;
  out.shape.front() = n;
  if (new_run > 0 && n > new_run) {
    out.run = new_run;
    out.stride = new_stride;
  }
  out.packed_row = packed_row + first;
  if (packed == nullptr) {
    const uint64_t row_bytes = data.size() / shape.front();
    out.data = data.subspan(first * row_bytes, (out.place_of(n - 1) + 1) * row_bytes);
  }
  return out;
}

namespace {

uint64_t elements_of_row(const CheckpointTensor& tensor) { return tensor.n_elements() / tensor.shape.front(); }

/// Calls visit(first row where it lies, rows) for rows [first, first + n), run by run.
template <class Visit>
void for_each_run(const CheckpointTensor& tensor, uint64_t first, uint64_t n, const Visit& visit) {
  for (uint64_t row = first; row < first + n;) {
    const uint64_t left = tensor.run == 0 ? n : tensor.run - row % tensor.run, some = std::min(left, first + n - row);
    visit(tensor.place_of(row), some);
    row += some;
  }
}

void read_rows(const CheckpointTensor& tensor, uint64_t first, uint64_t n, float* out) {
  const uint64_t width = elements_of_row(tensor), row_bytes = width * dtype_info(tensor.dtype).bytes;
  for_each_run(tensor, first, n, [&](uint64_t place, uint64_t count) {
    if (tensor.packed != nullptr) {
      tensor.packed->read(tensor.packed_row + place, count, out);
    } else {
      decode_floats(tensor.dtype, tensor.data.data() + place * row_bytes, count * width, out);
    }
    out += count * width;
  });
}

}  // namespace

std::span<const std::byte> CheckpointTensor::bytes_of(uint64_t first, uint64_t n) const {
  if (n == 0 || packed != nullptr) return {};
  const uint64_t row_bytes = elements_of_row(*this) * dtype_info(dtype).bytes;
  return data.subspan(place_of(first) * row_bytes, (place_of(first + n - 1) + 1 - place_of(first)) * row_bytes);
}

void CheckpointTensor::expect() const {
  if (packed != nullptr) return packed->expect();
  if (file != nullptr) file->expect(data);
}

void CheckpointTensor::release() const {
  if (packed != nullptr) return packed->release();
  if (file != nullptr) file->release(data);
}

void copy_rows(const CheckpointTensor& tensor, uint64_t first, uint64_t n, std::byte* out) {
  const uint64_t width = elements_of_row(tensor), row_bytes = width * dtype_info(tensor.dtype).bytes;
  if (tensor.packed != nullptr) {
    std::vector<float> values(n * width);
    read_rows(tensor, first, n, values.data());
    return encode_floats(tensor.dtype, values.data(), values.size(), out);
  }
  for_each_run(tensor, first, n, [&](uint64_t place, uint64_t count) {
    std::memcpy(out, tensor.data.data() + place * row_bytes, count * row_bytes);
    out += count * row_bytes;
  });
}

void read_floats(const CheckpointTensor& tensor, uint64_t first, uint64_t count, float* out) {
  const uint64_t width = elements_of_row(tensor);
  // Whole rows, which is what most ask for, or elements of some.
  if (first % width == 0 && count % width == 0) return read_rows(tensor, first / width, count / width, out);
  std::vector<float> row(width);
  for (const uint64_t end = first + count; first < end;) {
    read_rows(tensor, first / width, 1, row.data());
    const uint64_t within = first % width, n = std::min(end - first, width - within);
    out = std::copy_n(row.begin() + static_cast<std::ptrdiff_t>(within), n, out);
    first += n;
  }
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
