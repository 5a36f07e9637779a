// A checkpoint with outliers that computes the same: small models have few of their own, large ones are hard to quantize for theirs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "io/dtype.h"

namespace shoehorn::tools {

struct OutlierOptions {
  std::string from, to;        ///< checkpoint directories
  double sigma = 1;            ///< of the logarithm of the factors
  uint64_t seed = 1;
  std::optional<io::DType> dtype;  ///< F32, F16 or BF16; as stored when there is none
  uint64_t max_shard_bytes = 0;
};

/// Writes `to` with log-normal factors c: row j of up_proj times c_j and column j of down_proj divided by it; row i of every KV head's
/// v_proj times c_i and the columns of o_proj that its query heads fill with it divided by it. What the model computes changes by the
/// rounding of the products only. Returns the number of parameters. Fails when `to` holds something.
Expected<uint64_t> write_outliers(const OutlierOptions& options);

}  // namespace shoehorn::tools
