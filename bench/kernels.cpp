// Every row of the kernel table, timed on one thread: kernels [FORMAT...]
//
// decode, cache   one token times a matrix of 1 MiB: what the instructions allow, in GB of weights a second
// few             8 tokens times the matrix of 1 MiB, by the kernel of few tokens and by that of many
// decode, memory  one token times a matrix of 256 MiB, beside the plain reading of as many bytes
// batch           512 tokens times 2048 columns, expanding included, in GMAC/s and as a share of the peak that the same
//                 instruction reaches on registers alone
// SHOEHORN_ISA chooses the instruction set, COLS=2048 the columns.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/kernel.h"

namespace shoehorn::kernels {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, Free>;
Buffer buffer(size_t n) { return Buffer(static_cast<std::byte*>(std::aligned_alloc(4096, (n + 4095) / 4096 * 4096))); }

/// Median seconds of a call, over at least 5 calls and 0.2 s.
template <class Body>
double seconds(const Body& body) {
  using Clock = std::chrono::steady_clock;
  body();
  std::vector<double> times;
  double total = 0;
  while (times.size() < 5 || (total < 0.2 && times.size() < 1000)) {
    const auto start = Clock::now();
    body();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += times.back();
  }
  std::ranges::nth_element(times, times.begin() + static_cast<ptrdiff_t>(times.size() / 2));
  return times[times.size() / 2];
}

/// Rows of a format: a few random ones, encoded, over and over.
Buffer rows_of(const quant::Format& format, size_t n_cols, size_t n_rows) {
  constexpr size_t kDistinct = 8;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> row(n_cols);
  const size_t row_bytes = quant::row_bytes(format, n_cols);
  Buffer out = buffer(n_rows * row_bytes);
  for (size_t r = 0; r < std::min(kDistinct, n_rows); ++r) {
    for (float& w : row) w = normal(random);
    format.encode(row.data(), nullptr, out.get() + r * row_bytes, n_cols);
  }
  for (size_t r = kDistinct; r < n_rows; ++r) std::copy_n(out.get() + r % kDistinct * row_bytes, row_bytes, out.get() + r * row_bytes);
  return out;
}

double read_gbs(const std::byte* data, size_t n) {
  typedef uint64_t V __attribute__((vector_size(64)));
  V sums[4] = {};
  const double s = seconds([&] {
    for (size_t i = 0; i + 256 <= n; i += 256) {
      for (size_t k = 0; k < 4; ++k) sums[k] += *reinterpret_cast<const V*>(data + i + 64 * k);
    }
    asm volatile("" : : "m"(sums));
  });
  return static_cast<double>(n) / s / 1e9;
}

void measure(const KernelSet& set, const std::vector<std::string_view>& wanted) {
  const KernelTable& table = set.table();
  const char* columns = std::getenv("COLS");
  const size_t n_cols = columns != nullptr ? std::strtoul(columns, nullptr, 10) : 2048;
  constexpr size_t kTokens = 512, kFew = 8, kCacheBytes = 1 << 20, kMemoryBytes = 256 << 20;
  uint64_t macs = 0;
  const double spin = seconds([&] { macs = table.spin(1'000'000); });
  const double peak = static_cast<double>(macs) / spin / 1e9;
  fmt::print("instruction set {}, peak {:.0f} GMAC/s\n\n", set.isa, peak);
  fmt::print("| format | decode, cache GB/s | GMAC/s | decode, memory GB/s | plain read GB/s | few, decode GMAC/s | few, batch GMAC/s | batch GMAC/s | of peak |\n");
  fmt::print("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> x(kTokens * n_cols);
  for (float& v : x) v = normal(random);
  for (const Kernels& kernels : table.formats) {
    const quant::Format& format = quant::format(kernels.type);
    if (!wanted.empty() && std::ranges::find(wanted, std::string_view(format.name)) == wanted.end()) continue;
    const size_t row_bytes = quant::row_bytes(format, n_cols);
    const size_t n_rows = kMemoryBytes / row_bytes, cached = kCacheBytes / row_bytes;
    const Buffer rows = rows_of(format, n_cols, n_rows);
    const auto packed = [&](Layout layout, size_t n_tokens) {
      Buffer out = buffer(layout_bytes(table, layout, n_tokens, n_cols));
      table.pack[static_cast<size_t>(layout)]({x.data(), n_cols, n_tokens, n_cols, 0, n_tokens, out.get()});
      return out;
    };
    const Buffer one = packed(kernels.decode_layout, 1), few = packed(kernels.decode_layout, kFew);
    const Buffer few_of_many = packed(kernels.batch_layout, kFew), many = packed(kernels.batch_layout, kTokens);
    std::vector<float> y(kFew * n_rows);
    const auto decode = [&](const Buffer& activations, size_t n_tokens, size_t n) {
      return seconds([&] { kernels.decode({rows.get(), row_bytes, n, n_cols, activations.get(), n_tokens, y.data(), n_rows}); });
    };
    const double in_cache = decode(one, 1, cached), in_memory = decode(one, 1, n_rows), with_few = decode(few, kFew, cached);
    const double plain = read_gbs(rows.get(), n_rows * row_bytes);
    Buffer scratch = buffer((kTokens + table.granule) * table.panel_rows * sizeof(float));
    const auto in_panels = [&](const Buffer& activations, size_t n_tokens, size_t n_panels) {
      return seconds([&] {
        for (size_t p = 0; p < n_panels; ++p) {
          kernels.batch({rows.get() + p * table.panel_rows * row_bytes, row_bytes, table.panel_rows, n_cols, activations.get(), n_tokens,
                         reinterpret_cast<float*>(scratch.get()), table.panel_rows});
        }
      });
    };
    const size_t panels = 4, cached_panels = cached / table.panel_rows;
    const double batch = in_panels(many, kTokens, panels), few_batch = in_panels(few_of_many, kFew, cached_panels);
    const double batch_macs = static_cast<double>(panels * table.panel_rows * n_cols * kTokens) / batch / 1e9;
    const double cached_macs = static_cast<double>(cached * n_cols) / 1e9;
    const double few_macs = kFew * cached_macs / with_few;
    const double few_batch_macs = static_cast<double>(kFew * cached_panels * table.panel_rows * n_cols) / few_batch / 1e9;
    fmt::print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.0f} | {:.0f} | {:.0f} | {:.0f} % |\n", format.name,
               static_cast<double>(cached * row_bytes) / in_cache / 1e9, cached_macs / in_cache,
               static_cast<double>(n_rows * row_bytes) / in_memory / 1e9, plain, few_macs, few_batch_macs, batch_macs,
               100 * batch_macs / peak);
  }
}

}  // namespace
}  // namespace shoehorn::kernels

int main(int argc, char** argv) {
  const auto set = shoehorn::kernels::select_kernel_set();
  if (!set) {
    fmt::print(stderr, "{}\n", set.error().message);
    return 1;
  }
  shoehorn::kernels::measure(**set, {argv + 1, argv + argc});
}
