#include "well_formed.h"

#include <cctype>
#include <set>

namespace shoehorn::test {
namespace {

std::string check_text(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 && c != '\n' && c != '\t') return "control character " + std::to_string(c);
    if (c != '&') continue;
    bool known = false;
    for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
      known |= text.substr(i).starts_with(entity);
    if (!known) return "stray & before " + std::string(text.substr(i, 20));
  }
  return "";
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

}  // namespace

std::string what_is_malformed(std::string_view document) {
  constexpr std::string_view kDoctype = "<!DOCTYPE html>\n";
  if (document.starts_with(kDoctype)) document.remove_prefix(kDoctype.size());
  std::vector<std::string> open;
  size_t at = 0;
  while (at < document.size()) {
    const size_t tag = document.find('<', at);
    if (const std::string bad = check_text(document.substr(at, tag - at));
        !bad.empty() && (open.empty() || open.back() != "style"))
      return bad;
    if (tag == std::string_view::npos) break;
    size_t end = tag + 1;
    bool quoted = false;
    while (end < document.size() && (quoted || document[end] != '>')) {
      if (document[end] == '"') quoted = !quoted;
      if (document[end] == '<') return "< inside a tag: " + std::string(document.substr(tag, 60));
      ++end;
    }
    if (end == document.size()) return "a tag does not end: " + std::string(document.substr(tag, 60));
    std::string_view inside = document.substr(tag + 1, end - tag - 1);
    at = end + 1;
    if (inside.starts_with("/")) {
      if (open.empty() || open.back() != inside.substr(1))
        return "</" + std::string(inside.substr(1)) + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
      continue;
    }
    const bool empty = inside.ends_with("/");
    if (empty) inside.remove_suffix(1);
    const size_t name_end = std::min(inside.find(' '), inside.size());
    const std::string name(inside.substr(0, name_end));
    for (const char c : name) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0) return "tag named " + name;
    }
    std::set<std::string> seen;
    for (size_t i = name_end; i < inside.size();) {
      if (inside[i] == ' ') {
        ++i;
        continue;
      }
      const size_t equals = inside.find("=\"", i);
      if (equals == std::string_view::npos) return "attribute without a value in <" + std::string(inside) + ">";
      const std::string attribute(inside.substr(i, equals - i));
      const size_t close = inside.find('"', equals + 2);
      if (close == std::string_view::npos) return "attribute without an end in <" + std::string(inside) + ">";
      if (!seen.insert(attribute).second) return attribute + " twice in <" + std::string(inside) + ">";
      if (const std::string bad = check_text(inside.substr(equals + 2, close - equals - 2)); !bad.empty()) return bad;
      i = close + 1;
    }
    if (!empty) open.push_back(name);
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

std::vector<std::string> attribute_values(std::string_view document, std::string_view name) {
  std::vector<std::string> out;
  const std::string key = " " + std::string(name) + "=\"";
  for (size_t at = 0; (at = document.find(key, at)) != std::string_view::npos;) {
    at += key.size();
    out.emplace_back(document.substr(at, document.find('"', at) - at));
  }
  return out;
}

std::string plain_text(std::string_view markup) {
  std::string out;
  bool tag = false;
  for (const char c : markup) {
    if (c == '<') tag = true;
    if (!tag) out += c;
    if (c == '>') tag = false;
  }
  replace_all(out, "&lt;", "<");
  replace_all(out, "&gt;", ">");
  replace_all(out, "&quot;", "\"");
  replace_all(out, "&#39;", "'");
  replace_all(out, "&amp;", "&");
  return out;
}

std::vector<std::string> table_row(std::string_view document, std::string_view title, std::string_view first) {
  const size_t caption = document.find("<figcaption><strong>" + std::string(title));
  if (caption == std::string_view::npos) return {};
  const size_t body = document.find("<tbody>", caption);
  const std::string_view table = document.substr(body, document.find("</tbody>", body) - body);
  for (size_t at = 0; (at = table.find("<tr>", at)) != std::string_view::npos;) {
    const size_t end = table.find("</tr>", at);
    std::vector<std::string> cells;
    for (size_t cell = at; cell < end;) {
      const size_t th = table.find("<th", cell + 1), td = table.find("<td", cell + 1);
      cell = std::min(th, td);
      if (cell >= end) break;
      const size_t close = std::min(table.find("</th>", cell), table.find("</td>", cell));
      std::string_view content = table.substr(cell, close - cell);
      content = content.substr(0, content.find("<small>"));
      content = content.substr(0, content.find("<sup>"));
      cells.push_back(plain_text(content));
    }
    if (!cells.empty() && cells[0] == first) return cells;
    at = end;
  }
  return {};
}

}  // namespace shoehorn::test
