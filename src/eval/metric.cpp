#include "eval/metric.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace shoehorn::eval {
namespace {

size_t n_items(const Metric& metric, std::span<const double> rows) { return rows.size() / metric.n_sums; }

std::vector<double> sums_of(const Metric& metric, std::span<const double> rows) {
  std::vector<double> sums(metric.n_sums);
  for (size_t i = 0; i < rows.size(); ++i) sums[i % metric.n_sums] += rows[i];
  return sums;
}

double resampled(const Metric& metric, std::span<const double> rows, const std::vector<uint32_t>& counts,
                 std::vector<double>& sums) {
  sums.assign(metric.n_sums, 0);
  for (size_t item = 0; item < counts.size(); ++item) {
    if (counts[item] == 0) continue;
    for (size_t i = 0; i < metric.n_sums; ++i) sums[i] += counts[item] * rows[item * metric.n_sums + i];
  }
  return metric.value(sums);
}

}  // namespace

double mean_of_sums(std::span<const double> sums) { return sums[1] > 0 ? sums[0] / sums[1] : 0; }

void put_row(Json& record, const Metric& metric, std::vector<double> row) {
  record["sums"][metric.name] = std::move(row);
}

Expected<std::vector<double>> rows_of(const Metric& metric, std::span<const ItemResult> items) {
  std::vector<double> rows;
  rows.reserve(items.size() * metric.n_sums);
  for (const ItemResult& item : items) {
    const auto sums = item.record.find("sums");
    const Json* row = nullptr;
    if (sums != item.record.end() && sums->is_object()) {
      const auto found = sums->find(metric.name);
      if (found != sums->end()) row = &*found;
    }
    if (row == nullptr || !row->is_array() || row->size() != metric.n_sums ||
        !std::all_of(row->begin(), row->end(), [](const Json& x) { return x.is_number(); })) {
      return fail(ErrorCode::kInvalid, "item {}: \"sums\" has no row of {} numbers for {}", item.id, metric.n_sums,
                  metric.name);
    }
    for (const Json& x : *row) rows.push_back(x.get<double>());
  }
  return rows;
}

Estimate estimate(const Metric& metric, std::span<const double> rows, const BootstrapOptions& options) {
  const std::vector<double> sums = sums_of(metric, rows);
  Estimate out;
  out.value = metric.value(sums);
  if (metric.kind == Metric::Kind::kProportion) {
    out.interval = wilson_interval(static_cast<uint64_t>(sums[0]), static_cast<uint64_t>(sums[1]));
    return out;
  }
  Resampler resampler(n_items(metric, rows), options.seed);
  std::vector<double> values(std::max<size_t>(1, options.resamples)), scratch;
  for (double& value : values) value = resampled(metric, rows, resampler.draw(), scratch);
  out.interval = percentile_interval(values);
  return out;
}

Difference compare(const Metric& metric, std::span<const double> a, std::span<const double> b,
                   const BootstrapOptions& options) {
  Difference out;
  out.value = metric.value(sums_of(metric, a)) - metric.value(sums_of(metric, b));
  const size_t n = n_items(metric, a);
  if (metric.kind == Metric::Kind::kProportion) {
    for (size_t item = 0; item < n; ++item) {
      out.only_a += a[2 * item] > b[2 * item];
      out.only_b += b[2 * item] > a[2 * item];
    }
    out.interval = paired_proportion_interval(out.only_a, out.only_b, n);
    out.p = mcnemar_exact(out.only_a, out.only_b);
    return out;
  }
  Resampler resampler(n, options.seed);
  std::vector<double> values(std::max<size_t>(1, options.resamples)), scratch;
  size_t above = 0, below = 0;
  for (double& value : values) {
    const std::vector<uint32_t>& counts = resampler.draw();
    value = resampled(metric, a, counts, scratch) - resampled(metric, b, counts, scratch);
    above += value >= 0;
    below += value <= 0;
  }
  // One is added to both so that a finite number of draws never says "impossible" (Davison and Hinkley 1997,
  // section 4.2).
  out.p = std::min(1.0, 2 * static_cast<double>(std::min(above, below) + 1) / static_cast<double>(values.size() + 1));
  out.interval = percentile_interval(values);
  return out;
}

Expected<PairedItems> pair_items(std::span<const ItemResult> a, std::span<const ItemResult> b) {
  std::unordered_map<std::string_view, const ItemResult*> second, first;
  for (const ItemResult& item : b) {
    if (!second.emplace(item.id, &item).second) return fail(ErrorCode::kInvalid, "item {} is there twice", item.id);
  }
  PairedItems out;
  for (const ItemResult& item : a) {
    if (!first.emplace(item.id, &item).second) return fail(ErrorCode::kInvalid, "item {} is there twice", item.id);
    const auto found = second.find(item.id);
    if (found == second.end()) continue;
    const ItemResult& other = *found->second;
    if (json_or(item.record, "prompt", std::string()) != json_or(other.record, "prompt", std::string())) {
      return fail(ErrorCode::kInvalid,
                  "item {} was asked with different prompts; only answers to the same questions can be compared",
                  item.id);
    }
    out.a.push_back(item);
    out.b.push_back(other);
  }
  if (out.a.empty()) return fail(ErrorCode::kInvalid, "the two have no item in common");
  return out;
}

}  // namespace shoehorn::eval
