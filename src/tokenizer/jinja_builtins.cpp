#include "tokenizer/jinja_builtins.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer::jinja {

Expected<Bound> Bound::bind(std::string_view callee, const Arguments& arguments,
                            std::initializer_list<std::string_view> names) {
  Bound bound;
  bound.callee_ = callee;
  bound.names_ = names;
  bound.values_.resize(names.size());
  if (arguments.positional.size() > names.size()) {
    return fail(ErrorCode::kInvalid, "{} takes at most {} arguments, got {}", callee, names.size(),
                arguments.positional.size());
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), bound.values_.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) return fail(ErrorCode::kUnsupported, "{} has no argument '{}'", callee, name);
    const auto i = static_cast<size_t>(it - names.begin());
    if (i < arguments.positional.size())
      return fail(ErrorCode::kInvalid, "{}: the argument '{}' is given twice", callee, name);
    bound.values_[i] = value;
  }
  return bound;
}

Expected<bool> Bound::flag(size_t i, bool fallback) const { return has(i) ? values_[i].truthy() : fallback; }

Expected<int64_t> Bound::integer(size_t i, int64_t fallback) const {
  const Value& v = values_[i];
  if (!has(i) || v.is(Kind::kNone)) return fallback;
  if (v.is(Kind::kInt)) return v.integer();
  if (v.is(Kind::kBool)) return v.boolean() ? 1 : 0;
  return fail(ErrorCode::kInvalid, "{}: '{}' must be an integer, got {}", callee_, names_[i], v.type_name());
}

Expected<std::string> Bound::text(size_t i, std::string fallback) const {
  const Value& v = values_[i];
  if (!has(i) || v.is(Kind::kNone)) return fallback;
  if (v.is(Kind::kText)) return v.text();
  return fail(ErrorCode::kInvalid, "{}: '{}' must be a string, got {}", callee_, names_[i], v.type_name());
}

Expected<std::string> soft_text(Context& context, const Value& value) {
  if (value.is(Kind::kNone)) return std::string("None");
  return to_text(context.heap, value);
}

Expected<std::vector<Value>> iterate(Context& context, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kList:
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(value.list()->items.size() / 8));
      return value.list()->items;
    case Kind::kDict:
      for (const auto& entry : value.dict().table.entries()) {
        SHOEHORN_TRY(Value key, context.heap.key(entry));
        items.push_back(std::move(key));
      }
      return items;
    case Kind::kText:
      for (std::string_view rest = value.text(); !rest.empty(); rest.remove_prefix(char_bytes(rest, 0))) {
        SHOEHORN_TRY(Value character, context.heap.text(std::string(rest.substr(0, char_bytes(rest, 0)))));
        items.push_back(std::move(character));
      }
      return items;
    default:
      return fail(ErrorCode::kInvalid, "cannot iterate over {}", value.type_name());
  }
}

Expected<bool> contains(Context& context, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kText:
      if (!item.is(Kind::kText)) {
        return fail(ErrorCode::kInvalid, "cannot look for {} in a string", item.type_name());
      }
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(container.text().size() / 64));
      return find_text(container.text(), item.text()) != std::string_view::npos;
    case Kind::kDict: {
      if (item.is(Kind::kInt)) return container.dict().table.find(std::to_string(item.integer())) != nullptr;
      return item.is(Kind::kText) && container.dict().table.find(item.text()) != nullptr;
    }
    case Kind::kList:
      for (const Value& other : container.list()->items) {
        SHOEHORN_TRY(const bool same, equal(context.heap, other, item));
        if (same) return true;
      }
      return false;
    default:
      return fail(ErrorCode::kInvalid, "cannot look for something in {}", container.type_name());
  }
}

Expected<Value> repeat(Context& context, const Value& value, int64_t times) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  if (value.is(Kind::kText)) {
    const std::string& text = value.text();
    if (n == 0 || text.empty()) return context.heap.text("");
    if (n > limits::kTextBytes / text.size()) {
      return fail(ErrorCode::kTooLarge, "a string of {} bytes times {}; the limit is {} bytes", text.size(), times,
                  limits::kTextBytes);
    }
    std::string out;
    out.reserve(text.size() * n);
    for (uint64_t i = 0; i < n; ++i) out += text;
    SHOEHORN_RETURN_IF_ERROR(context.heap.work(n / 8));
    return context.heap.text(std::move(out));
  }
  const auto& items = value.list()->items;
  std::vector<Value> out;
  if (!items.empty() && n > static_cast<uint64_t>(limits::kRange) / items.size()) {
    return fail(ErrorCode::kTooLarge, "a list of {} items times {}; the limit is {} items", items.size(), times,
                limits::kRange);
  }
  for (uint64_t i = 0; i < n; ++i) out.insert(out.end(), items.begin(), items.end());
  return context.heap.list(std::move(out));
}

Expected<Value> format_printf(Context& context, std::string_view format, const std::vector<Value>& arguments) {
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const size_t start = i++;
    std::string flags;
    while (i < format.size() && std::string_view("-+ 0#").find(format[i]) != std::string_view::npos)
      flags += format[i++];
    const auto number = [&](int fallback) {
      int n = fallback;
      for (; i < format.size() && format[i] >= '0' && format[i] <= '9'; ++i)
        n = std::min((n < 0 ? 0 : n) * 10 + (format[i] - '0'), 10000);
      return n;
    };
    const int width = number(0);
    int precision = -1;
    if (i < format.size() && format[i] == '.') {
      ++i;
      precision = number(0);
    }
    if (i >= format.size()) return fail(ErrorCode::kInvalid, "the format ends inside '{}'", format.substr(start));
    if (format[i] == '%') {
      out += '%';
      continue;
    }
    if (used >= arguments.size())
      return fail(ErrorCode::kInvalid, "the format needs more than {} arguments", arguments.size());
    const Value& value = arguments[used++];
    std::string piece;
    switch (format[i]) {
      case 's':
      case 'r': {
        SHOEHORN_TRY(piece, soft_text(context, value));
        if (precision >= 0) {
          size_t end = 0;
          for (int n = 0; n < precision && end < piece.size(); ++n) end += char_bytes(piece, end);
          piece.resize(end);
        }
        break;
      }
      case 'd':
      case 'i':
      case 'x':
      case 'f': {
        if (!value.is_numeric())
          return fail(ErrorCode::kInvalid, "%{} needs a number, got {}", format[i], value.type_name());
        if (format[i] == 'f') {
          piece = fmt::format("{:.{}f}", value.number(), precision < 0 ? 6 : precision);
        } else {
          const double truncated = std::trunc(value.number());
          if (!(std::fabs(truncated) < 9.2e18))
            return fail(ErrorCode::kTooLarge, "%{} of {}", format[i], value.number());
          const int64_t integer = value.is(Kind::kInt) ? value.integer() : static_cast<int64_t>(truncated);
          piece = format[i] == 'x' ? fmt::format("{:x}", integer) : fmt::format("{}", integer);
        }
        const bool negative = piece.front() == '-';
        if (!negative && flags.find('+') != std::string::npos)
          piece.insert(0, "+");
        else if (!negative && flags.find(' ') != std::string::npos)
          piece.insert(0, " ");
        if (flags.find('0') != std::string::npos && flags.find('-') == std::string::npos &&
            piece.size() < static_cast<size_t>(width)) {
          const size_t sign = piece[0] == '-' || piece[0] == '+' || piece[0] == ' ' ? 1 : 0;
          piece.insert(sign, static_cast<size_t>(width) - piece.size(), '0');
        }
        break;
      }
      default:
        return fail(ErrorCode::kUnsupported, "the conversion '{}' in a format", format.substr(start, i - start + 1));
    }
    const size_t length = count_chars(piece);
    const size_t padding = length < static_cast<size_t>(width) ? static_cast<size_t>(width) - length : 0;
    if (flags.find('-') == std::string::npos) out.append(padding, ' ');
    out += piece;
    if (flags.find('-') != std::string::npos) out.append(padding, ' ');
    if (out.size() > limits::kTextBytes)
      return fail(ErrorCode::kTooLarge, "a formatted string of more than {} bytes", limits::kTextBytes);
  }
  if (used < arguments.size())
    return fail(ErrorCode::kInvalid, "the format uses {} of {} arguments", used, arguments.size());
  return context.heap.text(std::move(out));
}

namespace {

Expected<Value> bound_method(Context& context, const Value& self, std::string_view name) {
  SHOEHORN_TRY(auto callable, context.heap.make_callable());
  callable->kind = CallableKind::kMethod;
  callable->name = name;
  callable->self = self;
  return Value(std::move(callable));
}

Value loop_field(const Loop& loop, std::string_view name) {
  const auto& items = loop.items->items;
  const auto count = static_cast<int64_t>(items.size());
  const auto index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(count - index);
  if (name == "revindex0") return Value(count - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == count);
  if (name == "length") return Value(count);
  if (name == "depth") return Value(int64_t{loop.depth});
  if (name == "depth0") return Value(int64_t{loop.depth} - 1);
  if (name == "previtem") return index > 0 && index <= count ? items[loop.index - 1] : Value();
  if (name == "nextitem") return index + 1 < count ? items[loop.index + 1] : Value();
  return Value();
}

}  // namespace

Expected<Value> get_attribute(Context& context, const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kDict:
    case Kind::kNamespace: {
      const Table& table = value.is(Kind::kDict) ? value.dict().table : value.ns().table;
      if (const Value* found = table.find(name)) return *found;
      break;
    }
    case Kind::kLoop: {
      Value field = loop_field(value.loop(), name);
      if (!field.is(Kind::kUndefined)) return field;
      break;
    }
    case Kind::kText:
      if (name == "length") return Value(static_cast<int64_t>(count_chars(value.text())));
      break;
    case Kind::kList:
      if (name == "length") return Value(static_cast<int64_t>(value.list()->items.size()));
      break;
    default:
      break;
  }
  if (!has_method(value, name)) return Value();
  return bound_method(context, value, name);
}

Expected<Value> get_item(Context& context, const Value& value, const Value& key) {
  if (key.is(Kind::kText)) return get_attribute(context, value, key.text());
  if (key.is(Kind::kInt) || key.is(Kind::kBool)) {
    int64_t index = key.is(Kind::kBool) ? int64_t{key.boolean()} : key.integer();
    if (value.is(Kind::kList)) {
      const auto& items = value.list()->items;
      if (index < 0) index += static_cast<int64_t>(items.size());
      return index >= 0 && static_cast<uint64_t>(index) < items.size() ? items[static_cast<size_t>(index)] : Value();
    }
    if (value.is(Kind::kText)) {
      const std::string& text = value.text();
      SHOEHORN_RETURN_IF_ERROR(context.heap.work(text.size() / 64));
      if (index < 0) index += static_cast<int64_t>(count_chars(text));
      size_t pos = 0;
      for (int64_t i = 0; i < index && pos < text.size(); ++i) pos += char_bytes(text, pos);
      if (index < 0 || pos >= text.size()) return Value();
      return context.heap.text(text.substr(pos, char_bytes(text, pos)));
    }
    if (value.is(Kind::kDict)) {
      const Value* found = value.dict().table.find(std::to_string(index));
      return found == nullptr ? Value() : *found;
    }
    return Value();
  }
  if (key.is(Kind::kUndefined) || key.is(Kind::kNone)) return Value();
  return fail(ErrorCode::kInvalid, "{} cannot be an index", key.type_name());
}

// --- tests

namespace {

Expected<bool> compare_test(Context& context, std::string_view name, const Value& a, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind(name, arguments, {"other"}));
  const Value& b = bound[0];
  if (name == "in") return contains(context, b, a);
  if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") return equal(context.heap, a, b);
  if (name == "ne" || name == "!=") {
    SHOEHORN_TRY(const bool same, equal(context.heap, a, b));
    return !same;
  }
  if (name == "divisibleby") {
    if (!a.is(Kind::kInt) || !b.is(Kind::kInt) || b.integer() == 0) {
      return fail(ErrorCode::kInvalid, "divisibleby needs two integers, the second not 0");
    }
    return b.integer() == -1 || a.integer() % b.integer() == 0;
  }
  const bool swapped = name == "gt" || name == ">" || name == "greaterthan" || name == "le" || name == "<=";
  SHOEHORN_TRY(const bool is_less, swapped ? less(b, a) : less(a, b));
  const bool negated = name == "le" || name == "<=" || name == "ge" || name == ">=";
  return is_less != negated;
}

}  // namespace

Expected<bool> apply_test(Context& context, std::string_view name, const Value& value, const Arguments& arguments) {
  static constexpr std::array<std::string_view, 19> kComparisons = {
      "in",       "equalto", "eq", "==",          "sameas", "ne", "!=", "divisibleby", "lt",  "<",
      "lessthan", "gt",      ">",  "greaterthan", "le",     "<=", "ge", ">=",          "less"};
  if (std::find(kComparisons.begin(), kComparisons.end(), name) != kComparisons.end()) {
    return compare_test(context, name, value, arguments);
  }
  if (!arguments.positional.empty() || !arguments.named.empty()) {
    return fail(ErrorCode::kUnsupported, "unknown test '{}' with arguments", name);
  }
  if (name == "defined") return !value.is(Kind::kUndefined);
  if (name == "undefined") return value.is(Kind::kUndefined);
  if (name == "none") return value.is(Kind::kNone);
  if (name == "boolean") return value.is(Kind::kBool);
  if (name == "true") return value.is(Kind::kBool) && value.boolean();
  if (name == "false") return value.is(Kind::kBool) && !value.boolean();
  if (name == "integer") return value.is(Kind::kInt);
  if (name == "float") return value.is(Kind::kFloat);
  if (name == "number") return value.is(Kind::kInt) || value.is(Kind::kFloat);
  if (name == "string") return value.is(Kind::kText);
  if (name == "mapping") return value.is(Kind::kDict);
  // A mapping is iterable in Python; templates say `is iterable` for "a list of content parts".
  if (name == "iterable") return value.is(Kind::kList) || value.is(Kind::kText);
  if (name == "sequence") return value.is(Kind::kList) || value.is(Kind::kText) || value.is(Kind::kDict);
  if (name == "callable") return value.is(Kind::kCallable);
  if (name == "lower") return value.is(Kind::kText) && value.text() == to_lower(value.text());
  if (name == "upper") return value.is(Kind::kText) && value.text() == to_upper(value.text());
  if (name == "odd" || name == "even") {
    if (!value.is(Kind::kInt))
      return fail(ErrorCode::kInvalid, "the test '{}' needs an integer, got {}", name, value.type_name());
    return (value.integer() % 2 != 0) == (name == "odd");
  }
  return fail(ErrorCode::kUnsupported, "unknown test '{}'", name);
}

// --- functions

bool is_function(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kNames = {
      "range", "dict", "namespace", "joiner", "cycler", "raise_exception", "strftime_now"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

namespace {

Expected<Value> call_range(Context& context, const Arguments& arguments) {
  SHOEHORN_TRY(const Bound bound, Bound::bind("range()", arguments, {"start", "stop", "step"}));
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    if (!bound[i].is(Kind::kInt))
      return fail(ErrorCode::kInvalid, "range() needs integers, got {}", bound[i].type_name());
  }
  if (!bound.has(0)) return fail(ErrorCode::kInvalid, "range() needs an argument");
  SHOEHORN_TRY(const int64_t first, bound.integer(0, 0));
  SHOEHORN_TRY(const int64_t stop, bound.integer(1, first));
  SHOEHORN_TRY(const int64_t step, bound.integer(2, 1));
  const int64_t start = bound.has(1) ? first : 0;
  if (step == 0) return fail(ErrorCode::kInvalid, "range() with a step of 0");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) >= limits::kRange) {
      return fail(ErrorCode::kTooLarge, "range({}, {}, {}) has more than {} items", start, stop, step, limits::kRange);
    }
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return context.heap.list(std::move(items));
}

// What dict() and namespace() take: a mapping or a list of pairs, and named arguments.
Expected<Table> make_table(std::string_view callee, const Arguments& arguments) {
  Table table;
  if (arguments.positional.size() > 1) return fail(ErrorCode::kInvalid, "{} takes one positional argument", callee);
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::kDict)) {
      for (const Table::Entry& e : source.dict().table.entries()) table.set(e.key, e.value, e.integer_key);
    } else if (source.is(Kind::kList)) {
      for (const Value& pair : source.list()->items) {
        if (!pair.is(Kind::kList) || pair.list()->items.size() != 2 || !pair.list()->items[0].is(Kind::kText)) {
          return fail(ErrorCode::kInvalid, "{} needs pairs of a string and a value", callee);
        }
        table.set(pair.list()->items[0].text(), pair.list()->items[1]);
      }
    } else {
      return fail(ErrorCode::kInvalid, "{} needs a mapping or pairs, got {}", callee, source.type_name());
    }
  }
  for (const auto& [name, value] : arguments.named) table.set(name, value);
  return table;
}

}  // namespace

Expected<Value> call_function(Context& context, std::string_view name, const Arguments& arguments) {
  if (name == "range") return call_range(context, arguments);
  if (name == "dict") {
    SHOEHORN_TRY(Table table, make_table("dict()", arguments));
    return context.heap.dict(std::move(table));
  }
  if (name == "namespace") {
    SHOEHORN_TRY(Table table, make_table("namespace()", arguments));
    return context.heap.make_namespace(std::move(table));
  }
  if (name == "joiner") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("joiner()", arguments, {"sep"}));
    SHOEHORN_TRY(auto callable, context.heap.make_callable());
    callable->kind = CallableKind::kJoiner;
    callable->name = "joiner";
    callable->self = bound.has(0) ? bound[0] : Value::literal(", ");
    return Value(std::move(callable));
  }
  if (name == "cycler") {
    if (arguments.positional.empty() || !arguments.named.empty())
      return fail(ErrorCode::kInvalid, "cycler() needs items");
    SHOEHORN_TRY(auto callable, context.heap.make_callable());
    callable->kind = CallableKind::kCycler;
    callable->name = "cycler";
    SHOEHORN_TRY(callable->self, context.heap.list(arguments.positional));
    return Value(std::move(callable));
  }
  if (name == "raise_exception") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("raise_exception()", arguments, {"message"}));
    SHOEHORN_TRY(const std::string message, soft_text(context, bound[0]));
    return fail(ErrorCode::kInvalid, "{}", message);
  }
  if (name == "strftime_now") {
    SHOEHORN_TRY(const Bound bound, Bound::bind("strftime_now()", arguments, {"format"}));
    SHOEHORN_TRY(const std::string format, bound.text(0, ""));
    return context.heap.text(format_time(format, context.now));
  }
  return fail(ErrorCode::kUnsupported, "unknown function '{}'", name);
}

}  // namespace shoehorn::tokenizer::jinja
