// The log of an external power meter: a table of text with a header.
#pragma once

#include <string>

#include "eval/energy_series.h"

namespace shoehorn::eval {

struct MeterLogOptions {
  double offset = 0;        ///< seconds to add to the log's times, to come to this machine's Unix time
  bool has_offset = false;  ///< needed for times that count from the log's begin
  double max_gap = 5;       ///< seconds between two samples up to which power is interpolated
};

/// Reads a table with commas, semicolons or tabs between columns (then decimal commas are understood). The header is
/// the first line that names a time and either power or voltage and current; what stands before it is passed over.
/// Units come from the names, in brackets or behind _: s, ms, us; W, mW, uW; V, mV; A, mA, uA. Times are numbers (Unix
/// or from the log's begin; without a unit seconds, or ms and us by their size) or ISO 8601 ("2026-05-01T12:00:00.5Z",
/// "2026-05-01 14:00:00+02:00"; without a zone this machine's local time). Rows without a value are passed over.
/// Samples of the same time are averaged. Fails with kInvalid, file, line and reason; kNotFound; kTooLarge beyond 256
/// MiB.
Expected<EnergySeries> read_meter_log(const std::string& path, const MeterLogOptions& options);

}  // namespace shoehorn::eval
