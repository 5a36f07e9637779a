#include "eval/csv.h"

#include <algorithm>

#include "base/output_file.h"

namespace shoehorn::eval {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

Expected<std::vector<CsvRow>> read_csv(const std::string& path) {
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxBytes));
  std::vector<CsvRow> rows;
  size_t at = std::string_view(text).substr(0, kByteOrderMark.size()) == kByteOrderMark ? kByteOrderMark.size() : 0;
  size_t line = 1;
  CsvRow row = {.line = line, .cells = {}};
  const auto end_row = [&] {
    if (row.cells.size() > 1 || !row.cells[0].empty()) rows.push_back(std::move(row));
    row = {.line = line, .cells = {}};
  };
  while (at < text.size()) {
    std::string cell;
    if (text[at] == '"') {
      const size_t opened = line;
      for (++at;; ++at) {
        if (at >= text.size())
          return fail(ErrorCode::kInvalid, "{}:{}: a quote is opened and never closed", path, opened);
        if (text[at] == '"' && (at + 1 >= text.size() || text[at + 1] != '"')) break;
        if (text[at] == '"') ++at;
        line += text[at] == '\n';
        cell += text[at];
      }
      ++at;
      if (text.compare(at, 2, "\r\n") == 0) ++at;
      if (at < text.size() && text[at] != ',' && text[at] != '\n') {
        return fail(ErrorCode::kInvalid, "{}:{}: text follows a closing quote", path, line);
      }
    } else {
      const size_t end = std::min(text.find_first_of(",\n", at), text.size());
      cell = text.substr(at, end - at);
      at = end;
      if ((at >= text.size() || text[at] == '\n') && !cell.empty() && cell.back() == '\r') cell.pop_back();
    }
    row.cells.push_back(std::move(cell));
    if (at >= text.size() || text[at] == '\n') {
      ++line;
      end_row();
      row.line = line;
    } else if (at + 1 == text.size()) {  // a comma at the very end: one more, empty cell
      row.cells.emplace_back();
      end_row();
    }
    ++at;
  }
  return rows;
}

}  // namespace shoehorn::eval
