// Comma-separated values (RFC 4180).
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::eval {

struct CsvRow {
  size_t line = 0;  ///< of the file, from 1, where the row begins
  std::vector<std::string> cells;
};

/// The rows of a file; a byte order mark and empty lines are passed over. Quoted cells may hold commas, line breaks and
/// doubled quotes. Fails with "PATH:LINE: ..." for a quote that is not closed or is followed by more text.
Expected<std::vector<CsvRow>> read_csv(const std::string& path);

}  // namespace shoehorn::eval
