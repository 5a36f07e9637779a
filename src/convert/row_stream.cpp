#include "convert/row_stream.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

namespace shoehorn::convert {
namespace {

constexpr uint64_t kChunkWeights = uint64_t{16} << 20;

bool all_finite(const float* values, size_t n) {
  // All exponent bits are set in NaN and Inf alone. In integers, and without a branch, the compiler vectorizes it.
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (size_t i = 0; i < n; ++i) bad |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent ? 1u : 0u;
  return bad == 0;
}

}  // namespace

Status visit_rows(const SourceTensor& tensor, uint64_t first, uint64_t count, ThreadPool& pool,
                  const std::function<void(uint64_t, const float*)>& visit) {
  const uint64_t n_cols = tensor.n_cols();
  const uint64_t grain = std::max<uint64_t>(1, std::min<uint64_t>(65536 / std::max<uint64_t>(1, n_cols), count / 8 + 1));
  constexpr uint64_t kNone = UINT64_MAX;
  std::atomic<uint64_t> bad_row{kNone};
  pool.parallel_for(count, grain, [&](size_t begin, size_t end, int) {
    std::vector<float> values(n_cols);
    for (uint64_t row = first + begin; row < first + end; ++row) {
      tensor.read(row, 1, values.data());
      if (!all_finite(values.data(), n_cols)) {
        uint64_t seen = bad_row.load();
        while (row < seen && !bad_row.compare_exchange_weak(seen, row)) {
        }
        return;
      }
      visit(row, values.data());
    }
  });
  if (bad_row != kNone) {
    return fail(ErrorCode::kInvalid, "tensor {}: row {} holds NaN or Inf", tensor.source_name, bad_row.load());
  }
  return {};
}

Status for_each_chunk(const SourceTensor& tensor, Progress& progress,
                      const std::function<Status(uint64_t, uint64_t)>& chunk) {
  const uint64_t rows_per_chunk = std::max<uint64_t>(1, kChunkWeights / tensor.n_cols());
  for (uint64_t first = 0; first < tensor.n_rows(); first += rows_per_chunk) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const uint64_t count = std::min(rows_per_chunk, tensor.n_rows() - first), next = first + count;
    if (first == 0) tensor.expect(first, count);
    if (next < tensor.n_rows()) tensor.expect(next, std::min(rows_per_chunk, tensor.n_rows() - next));
    SHOEHORN_RETURN_IF_ERROR(chunk(first, count));
    tensor.release(first, count);
    progress.advance(count * tensor.n_cols());
  }
  return {};
}

}  // namespace shoehorn::convert
