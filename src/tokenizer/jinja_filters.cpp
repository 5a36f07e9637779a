// The filters: `value | name(arguments)`.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer::jinja {
namespace {

using Filter = Expected<Value> (*)(Context& context, std::string_view name, const Value& value,
                                   const Arguments& arguments);

Status no_arguments(std::string_view name, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound none, Bound::bind(name, arguments, {}));
  return {};
}

// --- text

Expected<Value> filter_case(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  SHOEHORN_TRY(const std::string text, soft_text(context, value));
  if (name == "upper") return context.heap.text(to_upper(text));
  if (name == "lower") return context.heap.text(to_lower(text));
  if (name == "title") return context.heap.text(title_case(text));
  return context.heap.text(capitalize(text));
}

Expected<Value> filter_trim(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"chars"}));
  SHOEHORN_TRY(const std::string set, bound.text(0, ""));
  SHOEHORN_TRY(const std::string text, soft_text(context, value));
  return context.heap.text(std::string(set.empty() ? trim(text) : trim_left(trim_right(text, set), set)));
}

Expected<Value> filter_string(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  if (value.is(Kind::kText)) return value;
  SHOEHORN_TRY(std::string text, soft_text(context, value));
  return context.heap.text(std::move(text));
}

Expected<Value> filter_escape(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  SHOEHORN_TRY(const std::string text, soft_text(context, value));
  return context.heap.text(html_escape(text));
}

// Nothing escapes by itself here, so nothing needs to be marked safe.
Expected<Value> filter_safe(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  return value;
}

Expected<Value> filter_replace(Context& context, std::string_view, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(std::string text, soft_text(context, value));
  SHOEHORN_TRY(const Value subject, context.heap.text(std::move(text)));
  return call_method(context, subject, "replace", arguments);
}

Expected<Value> filter_indent(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"width", "first", "blank"}));
  SHOEHORN_TRY(const bool first, bound.flag(1, false));
  SHOEHORN_TRY(const bool blank, bound.flag(2, false));
  std::string indent;
  if (bound[0].is(Kind::kText)) {
    indent = bound[0].text();
  } else {
    SHOEHORN_TRY(const int64_t width, bound.integer(0, 4));
    constexpr int64_t kMaxWidth = 10000;
    if (width > kMaxWidth)
      return fail(ErrorCode::kTooLarge, "indent: a width of {}; the limit is {}", width, kMaxWidth);
    indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  SHOEHORN_TRY(const std::string text, soft_text(context, value));
  std::string out;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const bool skipped = (start == 0 && !first) || (start == end && !blank);
    if (!skipped) out += indent;
    out.append(text, start, end - start);
    if (end < text.size()) out += '\n';
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "indent makes more than {} bytes", limits::kTextBytes);
    start = end + 1;
  }
  return context.heap.text(std::move(out));
}

Expected<Value> filter_format(Context& context, std::string_view, const Value& value, const Arguments& arguments) {
  if (!arguments.named.empty()) return fail(ErrorCode::kUnsupported, "format with named arguments");
  SHOEHORN_TRY(const std::string format, soft_text(context, value));
  return format_printf(context, format, arguments.positional);
}

Expected<Value> filter_wordcount(Context& context, std::string_view name, const Value& value,
                                 const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  SHOEHORN_TRY(const std::string text, soft_text(context, value));
  SHOEHORN_TRY(const Value subject, context.heap.text(text));
  SHOEHORN_TRY(const Value words, call_method(context, subject, "split", {}));
  return Value(static_cast<int64_t>(words.list()->items.size()));
}

// --- JSON

Expected<Value> filter_tojson(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"indent", "ensure_ascii", "separators", "sort_keys"}));
  JsonStyle style;
  SHOEHORN_TRY(const int64_t indent, bound.integer(0, 0));
  constexpr int64_t kMaxIndent = 100;
  if (indent > kMaxIndent)
    return fail(ErrorCode::kTooLarge, "tojson: an indent of {}; the limit is {}", indent, kMaxIndent);
  style.indent = static_cast<int>(std::max<int64_t>(indent, 0));
  SHOEHORN_TRY(style.ensure_ascii, bound.flag(1, false));
  SHOEHORN_TRY(style.sort_keys, bound.flag(3, false));
  if (style.indent > 0) style.item_separator = ",";
  if (bound.has(2) && !bound[2].is(Kind::kNone)) {
    const bool pair = bound[2].is(Kind::kList) && bound[2].list()->items.size() == 2;
    if (!pair || !bound[2].list()->items[0].is(Kind::kText) || !bound[2].list()->items[1].is(Kind::kText)) {
      return fail(ErrorCode::kInvalid, "tojson: 'separators' must be two strings");
    }
    style.item_separator = bound[2].list()->items[0].text();
    style.key_separator = bound[2].list()->items[1].text();
  }
  SHOEHORN_TRY(std::string text, to_json(context.heap, value, style));
  return context.heap.text(std::move(text));
}

// Not one of Jinja's: templates written for servers expect it.
Expected<Value> filter_from_json(Context& context, std::string_view name, const Value& value,
                                 const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  if (!value.is(Kind::kText)) return fail(ErrorCode::kInvalid, "{} needs a string, got {}", name, value.type_name());
  // The depth is checked first: the parser's own recursion must not meet a hostile text.
  int depth = 0;
  bool in_string = false;
  const std::string& text = value.text();
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        in_string = false;
    } else if (text[i] == '"') {
      in_string = true;
    } else if (text[i] == '[' || text[i] == '{') {
      if (++depth > limits::kValueDepth)
        return fail(ErrorCode::kTooLarge, "{}: JSON nests deeper than {}", name, limits::kValueDepth);
    } else if (text[i] == ']' || text[i] == '}') {
      --depth;
    }
  }
  SHOEHORN_RETURN_IF_ERROR(context.heap.work(text.size() / 8));
  const OrderedJson json = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return fail(ErrorCode::kInvalid, "{}: the string is no JSON", name);
  return context.heap.from_json(json);
}

// --- numbers

// Python's int(text) or int(float(text)).
Value parse_int(std::string_view text, int base, const Value& fallback) {
  text = trim(text);
  std::string_view digits = text;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  int64_t integer = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), integer, base);
  if (result.ec == std::errc() && result.ptr == digits.data() + digits.size()) return Value(integer);
  double real = 0;
  const auto real_result = std::from_chars(digits.data(), digits.data() + digits.size(), real);
  if (base == 10 && real_result.ec == std::errc() && real_result.ptr == digits.data() + digits.size() &&
      std::fabs(real) < 9.2e18) {
    return Value(static_cast<int64_t>(real));
  }
  return fallback;
}

Expected<Value> filter_int(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"default", "base"}));
  SHOEHORN_TRY(const int64_t base, bound.integer(1, 10));
  if (base < 2 || base > 36) return fail(ErrorCode::kInvalid, "int: a base of {}", base);
  const Value fallback = bound.has(0) ? bound[0] : Value(int64_t{0});
  if (value.is(Kind::kText)) return parse_int(value.text(), static_cast<int>(base), fallback);
  if (value.is(Kind::kInt)) return value;
  if (value.is_numeric() && std::fabs(value.number()) < 9.2e18) return Value(static_cast<int64_t>(value.number()));
  return fallback;
}

Expected<Value> filter_float(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"default"}));
  const Value fallback = bound.has(0) ? bound[0] : Value(0.0);
  if (value.is_numeric()) return Value(value.number());
  if (!value.is(Kind::kText)) return fallback;
  std::string_view text = trim(value.text());
  if (text.starts_with('+')) text.remove_prefix(1);
  double real = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), real);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() ? Value(real) : fallback;
}

Expected<Value> filter_bool(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  return Value(value.truthy());
}

Expected<Value> filter_abs(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  if (value.is(Kind::kInt) && value.integer() != INT64_MIN) return Value(std::abs(value.integer()));
  if (value.is(Kind::kFloat)) return Value(std::fabs(value.real()));
  return fail(ErrorCode::kInvalid, "abs of {}", value.type_name());
}

Expected<Value> filter_round(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"precision", "method"}));
  SHOEHORN_TRY(const int64_t precision, bound.integer(0, 0));
  SHOEHORN_TRY(const std::string method, bound.text(1, "common"));
  if (!value.is_numeric()) return fail(ErrorCode::kInvalid, "round of {}", value.type_name());
  const double scale = std::pow(10.0, static_cast<double>(std::clamp<int64_t>(precision, -300, 300)));
  const double scaled = value.number() * scale;
  if (method == "ceil") return Value(std::ceil(scaled) / scale);
  if (method == "floor") return Value(std::floor(scaled) / scale);
  if (method != "common") return fail(ErrorCode::kInvalid, "round: the method '{}'", method);
  return Value(std::nearbyint(scaled) / scale);
}

// --- containers

Expected<Value> filter_length(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  switch (value.kind()) {
    case Kind::kUndefined:
      return Value(int64_t{0});
    case Kind::kText:
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(value.text().size() / 64));
      return Value(static_cast<int64_t>(count_chars(value.text())));
    case Kind::kList:
      return Value(static_cast<int64_t>(value.list()->items.size()));
    case Kind::kDict:
      return Value(static_cast<int64_t>(value.dict().table.entries().size()));
    default:
      return fail(ErrorCode::kInvalid, "{} has no length", value.type_name());
  }
}

Expected<Value> filter_list(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  SHOEHORN_TRY(std::vector<Value> items, iterate(context, value));
  return context.heap.list(std::move(items));
}

Expected<Value> make_pair(Context& context, const Table::Entry& entry) {
  SHOEHORN_TRY(Value key, context.heap.key(entry));
  return context.heap.list({std::move(key), entry.value});
}

// items, keys and values of a mapping.
Expected<Value> filter_view(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  if (value.is(Kind::kUndefined)) return context.heap.list({});
  if (!value.is(Kind::kDict)) return fail(ErrorCode::kInvalid, "'{}' needs a mapping, got {}", name, value.type_name());
  std::vector<Value> out;
  for (const auto& entry : value.dict().table.entries()) {
    if (name == "values") {
      out.push_back(entry.value);
      continue;
    }
    SHOEHORN_TRY(Value item, name == "items" ? make_pair(context, entry) : context.heap.key(entry));
    out.push_back(std::move(item));
  }
  return context.heap.list(std::move(out));
}

Expected<Value> filter_end(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  if (items.empty()) return Value();
  return name == "first" ? items.front() : items.back();
}

Expected<Value> filter_reverse(Context& context, std::string_view name, const Value& value,
                               const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(no_arguments(name, arguments));
  if (value.is(Kind::kText)) {
    std::string out;
    for (std::string_view rest = value.text(); !rest.empty(); rest.remove_suffix(last_char(rest).size()))
      out += last_char(rest);
    return context.heap.text(std::move(out));
  }
  SHOEHORN_TRY(std::vector<Value> items, iterate(context, value));
  std::reverse(items.begin(), items.end());
  return context.heap.list(std::move(items));
}

// The value at a dotted path: "function.name", "0.type".
Expected<Value> attribute_at(Context& context, const Value& value, const Value& path) {
  if (path.is(Kind::kInt)) return get_item(context, value, path);
  if (!path.is(Kind::kText))
    return fail(ErrorCode::kInvalid, "an attribute must be a string, got {}", path.type_name());
  Value current = value;
  std::string_view rest = path.text();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    int64_t index = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), index);
    if (!part.empty() && result.ec == std::errc() && result.ptr == part.data() + part.size()) {
      SHOEHORN_TRY(current, get_item(context, current, Value(index)));
    } else if (current.is(Kind::kDict) || current.is(Kind::kNamespace)) {
      SHOEHORN_TRY(current, get_attribute(context, current, part));
    } else {
      return Value();
    }
    if (dot == std::string_view::npos) return current;
    rest.remove_prefix(dot + 1);
  }
}

Expected<Value> filter_join(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"d", "attribute"}));
  SHOEHORN_TRY(const std::string separator, bound.text(0, ""));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (bound.has(1)) {
      SHOEHORN_TRY(item, attribute_at(context, items[i], bound[1]));
    }
    SHOEHORN_TRY(const std::string piece, to_text(context.heap, item));
    if (i > 0) out += separator;
    out += piece;
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "join makes more than {} bytes", limits::kTextBytes);
  }
  return context.heap.text(std::move(out));
}

Arguments without_first(const Arguments& arguments, size_t n) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(std::min(n, rest.positional.size())));
  return rest;
}

Expected<Value> filter_map(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  std::vector<Value> out;
  if (value.is(Kind::kNone)) return context.heap.list({});
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  if (arguments.positional.empty()) {
    SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"attribute", "default"}));
    if (!bound.has(0)) return fail(ErrorCode::kInvalid, "map needs a filter or an attribute");
    for (const Value& item : items) {
      SHOEHORN_TRY(Value found, attribute_at(context, item, bound[0]));
      out.push_back(found.is(Kind::kUndefined) ? bound[1] : std::move(found));
    }
    return context.heap.list(std::move(out));
  }
  if (!arguments.positional[0].is(Kind::kText)) return fail(ErrorCode::kInvalid, "map needs the name of a filter");
  const Arguments rest = without_first(arguments, 1);
  for (const Value& item : items) {
    SHOEHORN_TRY(Value mapped, apply_filter(context, arguments.positional[0].text(), item, rest));
    out.push_back(std::move(mapped));
  }
  return context.heap.list(std::move(out));
}

// select, reject, selectattr, rejectattr
Expected<Value> filter_select(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  const bool by_attribute = name.ends_with("attr");
  const bool wanted = name.starts_with("select");
  const size_t test_at = by_attribute ? 1 : 0;
  if (by_attribute && arguments.positional.empty()) return fail(ErrorCode::kInvalid, "{} needs an attribute", name);
  const bool has_test = arguments.positional.size() > test_at;
  if (has_test && !arguments.positional[test_at].is(Kind::kText)) {
    return fail(ErrorCode::kInvalid, "{} needs the name of a test", name);
  }
  if (!value.truthy()) return context.heap.list({});
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  const Arguments rest = without_first(arguments, test_at + 1);
  std::vector<Value> out;
  for (const Value& item : items) {
    SHOEHORN_RETURN_IF_ERROR(context.heap.work(1));
    Value subject = item;
    if (by_attribute) {
      SHOEHORN_TRY(subject, attribute_at(context, item, arguments.positional[0]));
    }
    bool passes = subject.truthy();
    if (has_test) {
      SHOEHORN_TRY(passes, apply_test(context, arguments.positional[test_at].text(), subject, rest));
    }
    if (passes == wanted) out.push_back(item);
  }
  return context.heap.list(std::move(out));
}

struct Keyed {
  Value key;
  Value item;
};

// Sorts by key, stably. Strings are compared without regard to case unless `case_sensitive`.
Status sort_keyed(Context& context, std::vector<Keyed>& keyed, bool case_sensitive, bool reverse) {
  SHOEHORN_RETURN_IF_ERROR(context.heap.work(keyed.size() * 16));
  for (Keyed& k : keyed) {
    if (k.key.is(Kind::kText) && !case_sensitive) {
      SHOEHORN_TRY(k.key, context.heap.text(to_lower(k.key.text())));
    }
    // All keys must compare with each other: with the first is enough, numbers and strings being two classes.
    SHOEHORN_TRY(const bool ignored, less(keyed.front().key, k.key));
    static_cast<void>(ignored);
  }
  const auto before = [](const Keyed& a, const Keyed& b) { return less(a.key, b.key).value_or(false); };
  if (reverse) {
    std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) { return before(b, a); });
  } else {
    std::stable_sort(keyed.begin(), keyed.end(), before);
  }
  return {};
}

Expected<Value> items_of(Context& context, std::vector<Keyed> keyed) {
  std::vector<Value> out;
  out.reserve(keyed.size());
  for (Keyed& k : keyed) out.push_back(std::move(k.item));
  return context.heap.list(std::move(out));
}

Expected<Value> filter_sort(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"reverse", "case_sensitive", "attribute"}));
  SHOEHORN_TRY(const bool reverse, bound.flag(0, false));
  SHOEHORN_TRY(const bool case_sensitive, bound.flag(1, false));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    Value key = item;
    if (bound.has(2) && !bound[2].is(Kind::kNone)) {
      SHOEHORN_TRY(key, attribute_at(context, item, bound[2]));
    }
    keyed.push_back({std::move(key), item});
  }
  SHOEHORN_RETURN_IF_ERROR(sort_keyed(context, keyed, case_sensitive, reverse));
  return items_of(context, std::move(keyed));
}

Expected<Value> filter_dictsort(Context& context, std::string_view name, const Value& value,
                                const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"case_sensitive", "by", "reverse"}));
  SHOEHORN_TRY(const bool case_sensitive, bound.flag(0, false));
  SHOEHORN_TRY(const std::string by, bound.text(1, "key"));
  SHOEHORN_TRY(const bool reverse, bound.flag(2, false));
  if (by != "key" && by != "value")
    return fail(ErrorCode::kInvalid, "dictsort: 'by' must be 'key' or 'value', got '{}'", by);
  if (!value.is(Kind::kDict)) return fail(ErrorCode::kInvalid, "dictsort needs a mapping, got {}", value.type_name());
  std::vector<Keyed> keyed;
  for (const auto& entry : value.dict().table.entries()) {
    SHOEHORN_TRY(Value pair, make_pair(context, entry));
    Value key = pair.list()->items[by == "key" ? 0 : 1];
    keyed.push_back({std::move(key), std::move(pair)});
  }
  SHOEHORN_RETURN_IF_ERROR(sort_keyed(context, keyed, case_sensitive, reverse));
  return items_of(context, std::move(keyed));
}

// min and max
Expected<Value> filter_extreme(Context& context, std::string_view name, const Value& value,
                               const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"case_sensitive", "attribute"}));
  Arguments sort_arguments;
  sort_arguments.positional = {Value(name == "max"), bound[0], bound[1]};
  SHOEHORN_TRY(const Value sorted, filter_sort(context, name, value, sort_arguments));
  const auto& items = sorted.list()->items;
  return items.empty() ? Value() : items.front();
}

Expected<Value> filter_sum(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"attribute", "start"}));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  Value start = bound.has(1) ? bound[1] : Value(int64_t{0});
  if (!start.is_numeric()) return fail(ErrorCode::kInvalid, "sum needs numbers, got {}", start.type_name());
  int64_t whole = start.is(Kind::kInt) ? start.integer() : 0;
  double real = start.number();
  bool is_whole = !start.is(Kind::kFloat);
  for (const Value& item : items) {
    Value term = item;
    if (bound.has(0) && !bound[0].is(Kind::kNone)) {
      SHOEHORN_TRY(term, attribute_at(context, item, bound[0]));
    }
    if (!term.is_numeric()) return fail(ErrorCode::kInvalid, "sum needs numbers, got {}", term.type_name());
    is_whole = is_whole && !term.is(Kind::kFloat);
    const int64_t step = term.is(Kind::kInt) ? term.integer() : term.is(Kind::kBool) ? int64_t{term.boolean()} : 0;
    if (__builtin_add_overflow(whole, step, &whole)) return fail(ErrorCode::kTooLarge, "sum passes 64 bits");
    real += term.number();
  }
  return is_whole ? Value(whole) : Value(real);
}

Expected<Value> filter_unique(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"case_sensitive", "attribute"}));
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  std::vector<Value> out;
  std::vector<Value> seen;
  for (const Value& item : items) {
    Value key = item;
    if (bound.has(1) && !bound[1].is(Kind::kNone)) {
      SHOEHORN_TRY(key, attribute_at(context, item, bound[1]));
    }
    bool known = false;
    for (size_t i = 0; i < seen.size() && !known; ++i) {
      SHOEHORN_TRY(known, equal(context.heap, seen[i], key));
    }
    if (known) continue;
    seen.push_back(std::move(key));
    out.push_back(item);
  }
  return context.heap.list(std::move(out));
}

Expected<Value> filter_batch(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"linecount", "fill_with"}));
  SHOEHORN_TRY(const int64_t size, bound.integer(0, 0));
  if (size < 1 || size > limits::kRange) return fail(ErrorCode::kInvalid, "batch: a size of {}", size);
  SHOEHORN_TRY(const std::vector<Value> items, iterate(context, value));
  std::vector<Value> out;
  for (size_t start = 0; start < items.size(); start += static_cast<size_t>(size)) {
    const size_t end = std::min(items.size(), start + static_cast<size_t>(size));
    std::vector<Value> row(items.begin() + static_cast<std::ptrdiff_t>(start),
                           items.begin() + static_cast<std::ptrdiff_t>(end));
    if (bound.has(1) && !bound[1].is(Kind::kNone)) row.resize(static_cast<size_t>(size), bound[1]);
    SHOEHORN_TRY(Value made, context.heap.list(std::move(row)));
    out.push_back(std::move(made));
  }
  return context.heap.list(std::move(out));
}

Expected<Value> filter_default(Context&, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"default_value", "boolean"}));
  SHOEHORN_TRY(const bool boolean, bound.flag(1, false));
  if (!value.is(Kind::kUndefined) && !(boolean && !value.truthy())) return value;
  return arguments.positional.empty() && !bound.has(0) ? Value::literal("") : bound[0];
}

Expected<Value> filter_attr(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"name"}));
  SHOEHORN_TRY(const std::string attribute, bound.text(0, ""));
  return get_attribute(context, value, attribute);
}

Expected<Value> filter_get(Context& context, std::string_view, const Value& value, const Arguments& arguments) {
  return call_method(context, value, "get", arguments);
}

struct Row {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters = {
    Row{"abs", filter_abs},
    Row{"attr", filter_attr},
    Row{"batch", filter_batch},
    Row{"bool", filter_bool},
    Row{"capitalize", filter_case},
    Row{"count", filter_length},
    Row{"d", filter_default},
    Row{"default", filter_default},
    Row{"dictsort", filter_dictsort},
    Row{"e", filter_escape},
    Row{"escape", filter_escape},
    Row{"first", filter_end},
    Row{"float", filter_float},
    Row{"format", filter_format},
    Row{"from_json", filter_from_json},
    Row{"fromjson", filter_from_json},
    Row{"get", filter_get},
    Row{"indent", filter_indent},
    Row{"int", filter_int},
    Row{"items", filter_view},
    Row{"join", filter_join},
    Row{"keys", filter_view},
    Row{"last", filter_end},
    Row{"length", filter_length},
    Row{"list", filter_list},
    Row{"lower", filter_case},
    Row{"map", filter_map},
    Row{"max", filter_extreme},
    Row{"min", filter_extreme},
    Row{"reject", filter_select},
    Row{"rejectattr", filter_select},
    Row{"replace", filter_replace},
    Row{"reverse", filter_reverse},
    Row{"round", filter_round},
    Row{"safe", filter_safe},
    Row{"select", filter_select},
    Row{"selectattr", filter_select},
    Row{"sort", filter_sort},
    Row{"string", filter_string},
    Row{"sum", filter_sum},
    Row{"title", filter_case},
    Row{"tojson", filter_tojson},
    Row{"trim", filter_trim},
    Row{"unique", filter_unique},
    Row{"upper", filter_case},
    Row{"values", filter_view},
    Row{"wordcount", filter_wordcount},
};

}  // namespace

Expected<Value> apply_filter(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  SHOEHORN_RETURN_IF_ERROR(context.heap.work(1));
  for (const Row& row : kFilters) {
    if (row.name != name) continue;
    constexpr int kMaxDepth = 20;
    if (context.filter_depth >= kMaxDepth)
      return fail(ErrorCode::kTooLarge, "filters run one another deeper than {}", kMaxDepth);
    ++context.filter_depth;
    auto result = row.filter(context, name, value, arguments);
    --context.filter_depth;
    if (!result && value.is(Kind::kUndefined)) return annotate(std::move(result).error(), "applied to undefined");
    return result;
  }
  return fail(ErrorCode::kUnsupported, "unknown filter '{}'", name);
}

}  // namespace shoehorn::tokenizer::jinja
