#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/memory.h"
#include "report/axis.h"

namespace shoehorn::report {

Cell number_cell(double value, const std::string& why_missing, int digits) {
  if (std::isnan(value)) return {"", true, why_missing};
  return {format_number(value, digits), true};
}

Cell number_cell_with_error(double value, double error, const std::string& why_missing, int digits) {
  Cell cell = number_cell(value, why_missing, digits);
  if (!std::isnan(value) && std::isfinite(error)) cell.text += " ± " + format_number(error, 2);
  return cell;
}

Cell count_cell(double value, const std::string& why_missing) {
  if (!(value >= 0 && value < 1e18)) return {"", true, why_missing};
  return {format_count(static_cast<uint64_t>(value)), true};
}

Cell bytes_cell(double bytes, const std::string& why_missing, bool exact) {
  if (!(bytes >= 0 && bytes < 1e18)) return {"", true, why_missing};
  const auto whole = static_cast<uint64_t>(bytes);
  return {format_bytes(whole), true, {}, whole < 1024 || !exact ? "" : format_count(whole) + " bytes"};
}

Cell percent_cell(double value, const std::string& why_missing) {
  if (std::isnan(value)) return {"", true, why_missing};
  return {fmt::format("{:.2f} %", value * 100), true};
}

Markup Table::draw() const {
  std::vector<std::string> reasons;
  const auto number_of = [&](const std::string& reason) {
    const auto known = std::ranges::find(reasons, reason);
    if (known != reasons.end()) return known - reasons.begin() + 1;
    reasons.push_back(reason);
    return static_cast<std::ptrdiff_t>(reasons.size());
  };
  Markup out;
  out.open("figure").open("figcaption").element("strong", title);
  if (!description.empty()) out.text(" ").element("span", description);
  out.close().open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", title}});
  out.open("table", {{"aria-label", title}}).open("thead").open("tr");
  for (size_t c = 0; c < columns.size(); ++c) {
    const bool number = std::ranges::any_of(rows, [&](const auto& row) { return c < row.size() && row[c].number; });
    out.element("th", columns[c], {{"scope", "col"}, {"class", number ? "number" : ""}});
  }
  out.close().close().open("tbody");
  for (const auto& row : rows) {
    out.open("tr");
    for (size_t c = 0; c < row.size(); ++c) {
      const Cell& cell = row[c];
      const std::string style = fmt::format("{}{}{}", cell.number ? "number " : "", cell.wide ? "sentence " : "",
                                            cell.missing.empty() ? "" : "missing");
      if (c == 0) {
        out.open("th", {{"scope", "row"}});
      } else {
        out.open("td", {{"class", style}});
      }
      if (!cell.missing.empty()) {
        out.text("not measured").element("sup", std::to_string(number_of(cell.missing)));
      } else {
        out.text(cell.text);
        if (!cell.detail.empty()) out.element("small", cell.detail);
      }
      out.close();
    }
    out.close();
  }
  out.close().close().close();
  if (!reasons.empty()) {
    out.open("ol", {{"class", "reasons"}});
    for (const std::string& reason : reasons) out.element("li", reason);
    out.close();
  }
  return std::move(out.close());
}

}  // namespace shoehorn::report
