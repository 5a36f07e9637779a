// Python's methods of str, dict and list.
#include <algorithm>
#include <array>
#include <charconv>

#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer::jinja {
namespace {

Expected<Value> to_list(Context& context, const std::vector<std::string_view>& pieces) {
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    SHOEHORN_TRY(Value item, context.heap.text(std::string(piece)));
    items.push_back(std::move(item));
  }
  return context.heap.list(std::move(items));
}

Expected<Value> text_strip(Context& context, const std::string& self, std::string_view name,
                           const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"chars"}));
  SHOEHORN_TRY(const std::string set, bound.text(0, ""));
  std::string_view out = self;
  // A set of nothing but whitespace strips all whitespace. Python would strip that set alone; @huggingface/jinja, whose
  // prompts we reproduce, does this.
  const bool whitespace = !bound.has(0) || bound[0].is(Kind::kNone) || (!set.empty() && trim(set).empty());
  if (name != "rstrip") out = whitespace ? trim_left(out) : trim_left(out, set);
  if (name != "lstrip") out = whitespace ? trim_right(out) : trim_right(out, set);
  return context.heap.text(std::string(out));
}

Expected<Value> text_split(Context& context, std::string_view self, std::string_view name, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"sep", "maxsplit"}));
  SHOEHORN_TRY(const std::string separator, bound.text(0, ""));
  SHOEHORN_TRY(const int64_t limit, bound.integer(1, -1));
  const bool by_space = !bound.has(0) || bound[0].is(Kind::kNone);
  if (!by_space && separator.empty()) return fail(ErrorCode::kInvalid, "{}() with an empty separator", name);
  const bool from_right = name == "rsplit";
  const auto more = [&](size_t done) {
    return done <= limits::kPieces && (limit < 0 || done < static_cast<uint64_t>(limit));
  };
  std::vector<std::string_view> pieces;
  if (by_space) {
    std::string_view rest = from_right ? trim_right(self) : trim_left(self);
    while (!rest.empty()) {
      if (!more(pieces.size())) {
        pieces.push_back(rest);
        break;
      }
      // One word and the space behind (or before) it.
      size_t word = 0;
      if (from_right) {
        for (std::string_view left = rest; !left.empty() && !is_space(last_char(left));) {
          word += last_char(left).size();
          left.remove_suffix(last_char(left).size());
        }
        pieces.push_back(rest.substr(rest.size() - word));
        rest = trim_right(rest.substr(0, rest.size() - word));
      } else {
        while (word < rest.size() && !is_space(rest.substr(word, char_bytes(rest, word))))
          word += char_bytes(rest, word);
        pieces.push_back(rest.substr(0, word));
        rest = trim_left(rest.substr(word));
      }
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(1 + word / 64));
    }
  } else if (from_right) {
    // In the mirror image, so that the search takes linear time.
    const std::string mirror(self.rbegin(), self.rend());
    const std::string mirrored_separator(separator.rbegin(), separator.rend());
    size_t start = 0;
    while (more(pieces.size())) {
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(1));
      const size_t at = find_text(mirror, mirrored_separator, start);
      if (at == std::string::npos) break;
      pieces.push_back(self.substr(self.size() - at, at - start));
      start = at + separator.size();
    }
    pieces.push_back(self.substr(0, self.size() - start));
  } else {
    size_t start = 0;
    while (more(pieces.size())) {
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(1));
      const size_t at = find_text(self, separator, start);
      if (at == std::string_view::npos) break;
      pieces.push_back(self.substr(start, at - start));
      start = at + separator.size();
    }
    pieces.push_back(self.substr(start));
  }
  if (pieces.size() > limits::kPieces) {
    return fail(ErrorCode::kTooLarge, "{}() makes more than {} strings", name, limits::kPieces);
  }
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return to_list(context, pieces);
}

Expected<Value> text_splitlines(Context& context, std::string_view self, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind("splitlines", arguments, {"keepends"}));
  SHOEHORN_TRY(const bool keep, bound.flag(0, false));
  std::vector<std::string_view> lines;
  for (size_t start = 0; start < self.size();) {
    const size_t end = std::min(self.find_first_of("\r\n", start), self.size());
    size_t next = end + 1;
    if (end + 1 < self.size() && self[end] == '\r' && self[end + 1] == '\n') ++next;
    next = std::min(next, self.size());
    if (lines.size() >= limits::kPieces) {
      return fail(ErrorCode::kTooLarge, "splitlines() makes more than {} strings", limits::kPieces);
    }
    lines.push_back(self.substr(start, (keep ? next : end) - start));
    start = next;
  }
  return to_list(context, lines);
}

Expected<Value> text_affix(const std::string& self, std::string_view name, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"affix"}));
  const auto matches = [&](const Value& affix) {
    return name == "startswith" ? self.starts_with(affix.text()) : self.ends_with(affix.text());
  };
  if (bound[0].is(Kind::kText)) return Value(matches(bound[0]));
  if (bound[0].is(Kind::kList)) {
    for (const Value& affix : bound[0].list()->items) {
      if (!affix.is(Kind::kText))
        return fail(ErrorCode::kInvalid, "{}() needs strings, got {}", name, affix.type_name());
      if (matches(affix)) return Value(true);
    }
    return Value(false);
  }
  return fail(ErrorCode::kInvalid, "{}() needs a string, got {}", name, bound[0].type_name());
}

Expected<Value> text_replace(Context& context, const std::string& self, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind("replace", arguments, {"old", "new", "count"}));
  if (!bound[0].is(Kind::kText) || !bound[1].is(Kind::kText)) {
    return fail(ErrorCode::kInvalid, "replace() needs two strings, got {} and {}", bound[0].type_name(),
                bound[1].type_name());
  }
  const std::string& from = bound[0].text();
  const std::string& to = bound[1].text();
  SHOEHORN_TRY(int64_t left, bound.integer(2, -1));
  std::string out;
  size_t start = 0;
  while (left != 0) {
    const size_t at = find_text(self, from, start);
    if (at == std::string::npos) break;
    SHOEHORN_RETURN_IF_ERROR(context.heap.work(1));
    out.append(self, start, at - start);
    out += to;
    start = at + from.size();
    if (left > 0) --left;
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "replace() makes more than {} bytes", limits::kTextBytes);
    if (from.empty()) {  // between all characters
      if (at >= self.size()) {
        start = self.size();
        break;
      }
      const size_t n = char_bytes(self, at);
      out.append(self, at, n);
      start = at + n;
    }
  }
  out.append(self, std::min(start, self.size()));
  return context.heap.text(std::move(out));
}

Expected<Value> text_find(const std::string& self, std::string_view name, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"sub"}));
  SHOEHORN_TRY(const std::string sub, bound.text(0, ""));
  if (name == "count") {
    if (sub.empty()) return Value(static_cast<int64_t>(count_chars(self)) + 1);
    int64_t n = 0;
    for (size_t at = find_text(self, sub); at != std::string::npos; at = find_text(self, sub, at + sub.size())) ++n;
    return Value(n);
  }
  const size_t at = find_text(self, sub);
  if (at == std::string::npos) {
    if (name == "index") return fail(ErrorCode::kInvalid, "index(): the substring is not there");
    return Value(int64_t{-1});
  }
  return Value(static_cast<int64_t>(count_chars(std::string_view(self).substr(0, at))));
}

Expected<Value> text_join(Context& context, const std::string& self, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind("join", arguments, {"items"}));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is(Kind::kText))
      return fail(ErrorCode::kInvalid, "join() needs strings, got {}", items[i].type_name());
    if (i > 0) out += self;
    out += items[i].text();
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "join() makes more than {} bytes", limits::kTextBytes);
  }
  return context.heap.text(std::move(out));
}

Expected<Value> text_format(Context& context, const std::string& self, const Arguments& arguments) {
  std::string out;
  size_t automatic = 0;
  for (size_t i = 0; i < self.size(); ++i) {
    const char c = self[i];
    if ((c == '{' || c == '}') && i + 1 < self.size() && self[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    if (c == '}') return fail(ErrorCode::kInvalid, "format(): a single '}}'");
    if (c != '{') {
      out += c;
      continue;
    }
    const size_t close = self.find('}', i);
    if (close == std::string::npos) return fail(ErrorCode::kInvalid, "format(): a '{{' without '}}'");
    const std::string field = self.substr(i + 1, close - i - 1);
    const Value* value = nullptr;
    size_t index = 0;
    const auto parsed = std::from_chars(field.data(), field.data() + field.size(), index);
    const bool number = parsed.ec == std::errc() && parsed.ptr == field.data() + field.size();
    if (field.empty() || number) {
      if (field.empty()) index = automatic++;
      if (index < arguments.positional.size()) value = &arguments.positional[index];
    } else if (field.find_first_of(".[!:{") != std::string::npos) {
      // Attributes and format specifications would be a way around the sandbox.
      return fail(ErrorCode::kUnsupported, "format(): the field '{{{}}}'", field);
    } else {
      for (const auto& [name, v] : arguments.named) {
        if (name == field) value = &v;
      }
    }
    if (value == nullptr) return fail(ErrorCode::kInvalid, "format(): nothing is given for the field '{{{}}}'", field);
    SHOEHORN_TRY(const std::string piece, soft_text(context, *value));
    out += piece;
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "format() makes more than {} bytes", limits::kTextBytes);
    i = close;
  }
  return context.heap.text(std::move(out));
}

bool is_class(std::string_view text, std::string_view name) {
  const auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty()) return false;
  if (name == "isspace") return trim(text).empty();
  if (name == "islower") return text == to_lower(text) && text != to_upper(text);
  if (name == "isupper") return text == to_upper(text) && text != to_lower(text);
  return std::all_of(text.begin(), text.end(), [&](char c) {
    const bool letter = lower(c) || upper(c) || static_cast<unsigned char>(c) >= 0x80;
    return name == "isdigit" ? digit(c) : name == "isalpha" ? letter : letter || digit(c);
  });
}

constexpr std::array<std::string_view, 27> kTextMethods = {
    "upper",   "lower",   "strip",      "lstrip",       "rstrip",       "title",   "capitalize",
    "split",   "rsplit",  "splitlines", "startswith",   "endswith",     "replace", "find",
    "index",   "count",   "join",       "format",       "isdigit",      "isalpha", "isalnum",
    "isspace", "islower", "isupper",    "removeprefix", "removesuffix", "swapcase"};
constexpr std::array<std::string_view, 4> kDictMethods = {"get", "items", "keys", "values"};
constexpr std::array<std::string_view, 6> kListMethods = {"append", "pop", "extend", "insert", "index", "count"};

Expected<Value> call_text_method(Context& context, const std::string& self, std::string_view name,
                                 const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(context.heap.work(1 + self.size() / 64));
  if (name.ends_with("strip")) return text_strip(context, self, name, arguments);
  if (name == "split" || name == "rsplit") return text_split(context, self, name, arguments);
  if (name == "splitlines") return text_splitlines(context, self, arguments);
  if (name == "startswith" || name == "endswith") return text_affix(self, name, arguments);
  if (name == "replace") return text_replace(context, self, arguments);
  if (name == "find" || name == "index" || name == "count") return text_find(self, name, arguments);
  if (name == "join") return text_join(context, self, arguments);
  if (name == "format") return text_format(context, self, arguments);
  if (name == "removeprefix" || name == "removesuffix") {
    SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"affix"}));
    SHOEHORN_TRY(const std::string affix, bound.text(0, ""));
    if (name == "removeprefix" && self.starts_with(affix)) return context.heap.text(self.substr(affix.size()));
    if (name == "removesuffix" && self.ends_with(affix))
      return context.heap.text(self.substr(0, self.size() - affix.size()));
    return context.heap.text(self);
  }
  SHOEHORN_TRY(const Bound none, Bound::bind(name, arguments, {}));
  if (name == "upper") return context.heap.text(to_upper(self));
  if (name == "lower") return context.heap.text(to_lower(self));
  if (name == "title") return context.heap.text(title_case(self));
  if (name == "capitalize") return context.heap.text(capitalize(self));
  if (name == "swapcase") {
    std::string out;
    for (size_t pos = 0; pos < self.size(); pos += char_bytes(self, pos)) {
      const std::string_view c = std::string_view(self).substr(pos, char_bytes(self, pos));
      out += to_lower(c) == c ? to_upper(c) : to_lower(c);
    }
    return context.heap.text(std::move(out));
  }
  return Value(is_class(self, name));
}

Expected<Value> call_dict_method(Context& context, const Value& self, std::string_view name,
                                 const Arguments& arguments) {
  if (name == "get") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("get", arguments, {"key", "default"}));
    if (arguments.positional.empty()) return fail(ErrorCode::kInvalid, "get() needs a key");
    SHOEHORN_TRY(const bool there, contains(context, self, bound[0]));
    if (there) return get_item(context, self, bound[0]);
    return arguments.positional.size() > 1 || !arguments.named.empty() ? bound[1] : Value(None{});
  }
  SHOEHORN_TRY(const Bound none, Bound::bind(name, arguments, {}));
  return apply_filter(context, name, self, {});
}

Expected<Value> call_list_method(Context& context, const Value& self, std::string_view name,
                                 const Arguments& arguments) {
  const auto& list = self.list();
  if (name == "append") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("append", arguments, {"item"}));
    SHOEHORN_RETURN_IF_ERROR(context.heap.insert(list, list->items.size(), bound[0]));
    return Value(None{});
  }
  if (name == "extend") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("extend", arguments, {"items"}));
    SHOEHORN_TRY(const std::vector<Value> items, iterate(context, bound[0]));
    for (const Value& item : items) SHOEHORN_RETURN_IF_ERROR(context.heap.insert(list, list->items.size(), item));
    return Value(None{});
  }
  if (name == "insert" || name == "pop") {
    const bool insert = name == "insert";
    SHOEHORN_TRY(const Bound bound, insert ? Bound::bind("insert", arguments, {"index", "item"})
                                           : Bound::bind("pop", arguments, {"index"}));
    SHOEHORN_TRY(int64_t index, bound.integer(0, -1));
    const auto size = static_cast<int64_t>(list->items.size());
    if (index < 0) index += size;
    if (insert) {
      SHOEHORN_RETURN_IF_ERROR(
          context.heap.insert(list, static_cast<size_t>(std::clamp<int64_t>(index, 0, size)), bound[1]));
      return Value(None{});
    }
    if (list->read_only) return fail(ErrorCode::kInvalid, "a list of the inputs cannot be changed");
    if (index < 0 || index >= size) return fail(ErrorCode::kInvalid, "pop() from a list of {} items", size);
    SHOEHORN_RETURN_IF_ERROR(context.heap.work(static_cast<uint64_t>(size - index) / 8));
    Value item = std::move(list->items[static_cast<size_t>(index)]);
    list->items.erase(list->items.begin() + static_cast<std::ptrdiff_t>(index));
    return item;
  }
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"item"}));
  int64_t count = 0;
  for (size_t i = 0; i < list->items.size(); ++i) {
    SHOEHORN_TRY(const bool same, equal(context.heap, list->items[i], bound[0]));
    if (same && name == "index") return Value(static_cast<int64_t>(i));
    count += same ? 1 : 0;
  }
  if (name == "index") return fail(ErrorCode::kInvalid, "index(): the item is not in the list");
  return Value(count);
}

template <size_t N>
bool is_one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool has_method(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Kind::kText:
      return is_one_of(name, kTextMethods);
    case Kind::kDict:
      return is_one_of(name, kDictMethods);
    case Kind::kList:
      return is_one_of(name, kListMethods);
    case Kind::kLoop:
      return name == "cycle";
    default:
      return false;
  }
}

Expected<Value> call_method(Context& context, const Value& self, std::string_view name, const Arguments& arguments) {
  if (!has_method(self, name))
    return fail(ErrorCode::kUnsupported, "unknown method '{}' of {}", name, self.type_name());
  switch (self.kind()) {
    case Kind::kText:
      return call_text_method(context, self.text(), name, arguments);
    case Kind::kDict:
      return call_dict_method(context, self, name, arguments);
    case Kind::kList:
      return call_list_method(context, self, name, arguments);
    default:
      if (arguments.positional.empty()) return fail(ErrorCode::kInvalid, "cycle() needs items");
      return arguments.positional[self.loop().index % arguments.positional.size()];
  }
}

}  // namespace shoehorn::tokenizer::jinja
