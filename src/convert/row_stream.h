// Reading a tensor chunk by chunk, rows shared out over threads, pages let go behind.
#pragma once

#include <functional>
#include <optional>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "convert/model_source.h"

namespace shoehorn::convert {

/// Calls visit(row, values[n_cols]) for each row of [first, first + count), from several threads. Stops early and fails with
/// kInvalid naming tensor and row when a value is NaN or Inf.
Status visit_rows(const SourceTensor& tensor, uint64_t first, uint64_t count, ThreadPool& pool,
                  const std::function<void(uint64_t row, const float* values)>& visit);

/// Calls chunk(first, count) over all rows in order, chunks of about 16 Mi weights, fetching the pages of the next and
/// letting go of those behind. Fails with
/// kCancelled when the user stops it.
Status for_each_chunk(const SourceTensor& tensor, Progress& progress,
                      const std::function<Status(uint64_t first, uint64_t count)>& chunk);

}  // namespace shoehorn::convert
