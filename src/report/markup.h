// HTML and SVG as text. What comes from outside gets in through text() and attribute values only, which escape it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoehorn::report {

/// Longest text, in characters, that is shown of one value from outside.
inline constexpr size_t kMaxText = 400;

/// `text` for use between tags and in quoted attributes: & < > " ' as entities; control characters, bidirectional
/// overrides and bytes that are no UTF-8 as U+FFFD; what is longer than `max_chars` characters is cut and ends in an
/// ellipsis. Newlines and tabs stay.
std::string escape(std::string_view text, size_t max_chars = kMaxText);

/// Builds a document of nested elements, all of which are closed: HTML that is well-formed XML too.
class Markup {
 public:
  struct Attribute {
    std::string_view name;
    std::string value;
  };
  using Attributes = std::initializer_list<Attribute>;

  /// <tag name="value" ...>; close() ends the innermost open element.
  Markup& open(std::string_view tag, Attributes attributes = {});
  Markup& close();
  /// An element with nothing in it: <tag .../>.
  Markup& empty(std::string_view tag, Attributes attributes = {});
  /// An element with a text in it.
  Markup& element(std::string_view tag, std::string_view text, Attributes attributes = {});
  Markup& text(std::string_view text, size_t max_chars = kMaxText);
  /// What another one built.
  Markup& add(const Markup& other);
  /// Text that goes in as it is: for what this program itself wrote, as the style sheet.
  Markup& verbatim(std::string_view text);

  bool is_empty() const { return out_.empty(); }
  /// The document. Everything that was opened must be closed.
  const std::string& str() const;

 private:
  void start(std::string_view tag, Attributes attributes);
  std::string out_;
  std::vector<std::string> open_;
};

}  // namespace shoehorn::report
