// Figures over many items: what each item contributes, their intervals, and the paired comparison of two models.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/statistics.h"

namespace shoehorn::eval {

/// A figure that is a function of sums over items. Each item contributes a row of `n_sums` numbers.
struct Metric {
  enum class Kind {
    kProportion,  ///< rows {0 or 1, 1}: Wilson's interval, McNemar's test
    kRatio,       ///< any other function of the sums, a mean being {x, 1}: bootstrap over items
  };
  const char* name;
  const char* meaning;
  Kind kind;
  size_t n_sums;
  double (*value)(std::span<const double> sums);
  int digits = 4;  ///< behind the point, when it is shown
};

/// sums[0] / sums[1], 0 when there is nothing.
double mean_of_sums(std::span<const double> sums);

/// One item as it was answered. `record` is the line of the answers file: "id", "task", "prompt", what the task says of
/// the answer, and "sums", by metric the row that the item contributes.
struct ItemResult {
  std::string id;
  Json record;
};

/// Puts a metric's row into the record.
void put_row(Json& record, const Metric& metric, std::vector<double> row);

/// The rows of a metric over items, [n_items, metric.n_sums]. Fails, naming item and metric, when a record has no such
/// row.
Expected<std::vector<double>> rows_of(const Metric& metric, std::span<const ItemResult> items);

struct BootstrapOptions {
  size_t resamples = 1000;
  uint64_t seed = 0;
};

struct Estimate {
  double value = 0;
  Interval interval;  ///< 95 %
};

/// Of rows [n_items, metric.n_sums].
Estimate estimate(const Metric& metric, std::span<const double> rows, const BootstrapOptions& options);

/// The first model's figure minus the second's on the same items.
struct Difference {
  double value = 0;
  Interval interval;                ///< 95 %: Agresti and Min's for proportions, else the paired bootstrap's
  double p = 1;                     ///< two-sided: McNemar's exact test for proportions, else the paired bootstrap's
  uint64_t only_a = 0, only_b = 0;  ///< proportions: items that only the first, only the second has right
};

/// `a` and `b` are rows of the same items in the same order.
Difference compare(const Metric& metric, std::span<const double> a, std::span<const double> b,
                   const BootstrapOptions& options);

/// The items that both lists have, by id, in the order of the first. Fails when an id is twice in one list, when none
/// is common, or when a common item's prompts differ ("prompt" of the records).
struct PairedItems {
  std::vector<ItemResult> a, b;
};
Expected<PairedItems> pair_items(std::span<const ItemResult> a, std::span<const ItemResult> b);

}  // namespace shoehorn::eval
