// Tables of a report.
#pragma once

#include <string>
#include <vector>

#include "report/markup.h"

namespace shoehorn::report {

struct Cell {
  std::string text;
  bool number = false;       ///< aligned to the right
  std::string missing = {};  ///< why there is no value, in place of one; shown once below the table
  std::string detail = {};   ///< smaller, under the text
  bool wide = false;         ///< a sentence: it may break
};

/// A value that may be NaN: then the cell says "not measured" and why.
Cell number_cell(double value, const std::string& why_missing, int digits = 4);
/// `value` +- `error`, the error only where it is known.
Cell number_cell_with_error(double value, double error, const std::string& why_missing, int digits = 4);
/// A count with its digits in groups.
Cell count_cell(double value, const std::string& why_missing);
/// Bytes as GiB, MiB, KiB; `exact`: and in full.
Cell bytes_cell(double bytes, const std::string& why_missing, bool exact = true);
/// `value` of 1 as a percentage.
Cell percent_cell(double value, const std::string& why_missing);

struct Table {
  std::string title;  ///< "Table 3. Sizes"
  std::string description;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;  ///< the first cell names the row

  /// The table with its caption in a box that scrolls, and the reasons of missing values below.
  Markup draw() const;
};

}  // namespace shoehorn::report
