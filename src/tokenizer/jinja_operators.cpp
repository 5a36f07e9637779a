#include "tokenizer/jinja_operators.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer::jinja {
namespace {

Expected<Value> concatenate(Context& context, const Value& left, const Value& right) {
  SHOEHORN_TRY(std::string text, soft_text(context, left));
  SHOEHORN_TRY(const std::string tail, soft_text(context, right));
  text += tail;
  return context.heap.text(std::move(text));
}

Expected<Value> real_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) return fail(ErrorCode::kInvalid, "division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  const double remainder = std::fmod(a, b);
  return Value(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder);
}

Expected<int64_t> integer_power(int64_t base, int64_t exponent) {
  if (base == 1 || (base == 0 && exponent > 0)) return base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) {  // 63 turns at most, then it overflows
    if (__builtin_mul_overflow(result, base, &result)) return fail(ErrorCode::kTooLarge, "the number passes 64 bits");
  }
  return result;
}

Expected<Value> integer_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0 && a == 0) return fail(ErrorCode::kInvalid, "division by zero");
    if (b < 0) return real_arithmetic(op, static_cast<double>(a), static_cast<double>(b));
    SHOEHORN_TRY(result, integer_power(a, b));
  } else {
    if (b == 0) return fail(ErrorCode::kInvalid, "division by zero");
    overflow = a == INT64_MIN && b == -1;
    if (!overflow) {
      const int64_t remainder = a % b;
      const bool below = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds towards minus infinity
      result = op == "//" ? a / b - (below ? 1 : 0) : remainder + (below ? b : 0);
    }
  }
  if (overflow) return fail(ErrorCode::kTooLarge, "the number passes 64 bits");
  return Value(result);
}

// Characters start, start + step, ... before stop; all within [-1, size].
std::string slice_text(std::string_view text, int64_t size, int64_t start, int64_t stop, int64_t step) {
  std::string out;
  int64_t i = step > 0 ? 0 : size - 1;
  int64_t wanted = start;
  while (!text.empty() && (step > 0 ? wanted < stop : wanted > stop)) {
    const std::string_view c = step > 0 ? text.substr(0, char_bytes(text, 0)) : last_char(text);
    if (i == wanted) {
      out += c;
      wanted += step;
    }
    i += step > 0 ? 1 : -1;
    if (step > 0) {
      text.remove_prefix(c.size());
    } else {
      text.remove_suffix(c.size());
    }
  }
  return out;
}

}  // namespace

Expected<Value> arithmetic(Context& context, std::string_view op, const Value& left, const Value& right) {
  if (op == "~") return concatenate(context, left, right);
  if (op == "+" && (left.is(Kind::kText) || right.is(Kind::kText))) {
    // Python refuses all but two strings. Numbers and booleans go through in @huggingface/jinja, and a mapping is a
    // tool call's arguments where the template expects them as JSON text.
    const auto joins = [](const Value& v) { return v.is(Kind::kText) || v.is_numeric() || v.is(Kind::kDict); };
    if (joins(left) && joins(right)) return concatenate(context, left, right);
    return fail(ErrorCode::kInvalid, "");
  }
  if (op == "+" && left.is(Kind::kList) && right.is(Kind::kList)) {
    std::vector<Value> items = left.list()->items;
    items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
    return context.heap.list(std::move(items));
  }
  const auto repeatable = [](const Value& v) { return v.is(Kind::kText) || v.is(Kind::kList); };
  if (op == "*" && repeatable(left) && right.is(Kind::kInt)) return repeat(context, left, right.integer());
  if (op == "*" && left.is(Kind::kInt) && repeatable(right)) return repeat(context, right, left.integer());
  if (op == "%" && left.is(Kind::kText)) {
    const std::vector<Value> one = {right};
    return format_printf(context, left.text(), right.is(Kind::kList) ? right.list()->items : one);
  }
  if (!left.is_numeric() || !right.is_numeric()) return fail(ErrorCode::kInvalid, "");
  if (left.is(Kind::kFloat) || right.is(Kind::kFloat) || op == "/")
    return real_arithmetic(op, left.number(), right.number());
  const auto whole = [](const Value& v) { return v.is(Kind::kBool) ? int64_t{v.boolean()} : v.integer(); };
  return integer_arithmetic(op, whole(left), whole(right));
}

Expected<bool> compare(Context& context, std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return equal(context.heap, left, right);
  if (op == "in") return contains(context, right, left);
  bool result = false;
  if (op == "!=") {
    SHOEHORN_TRY(result, equal(context.heap, left, right));
  } else if (op == "not in") {
    SHOEHORN_TRY(result, contains(context, right, left));
  } else if (op == "<" || op == ">") {
    return op == "<" ? less(left, right) : less(right, left);
  } else {
    SHOEHORN_TRY(result, op == "<=" ? less(right, left) : less(left, right));
  }
  return !result;
}

// The bounds are what slice.indices() makes of them.
Expected<Value> slice(Context& context, const Value& object, std::optional<int64_t> start_bound,
                      std::optional<int64_t> stop_bound, std::optional<int64_t> step_bound) {
  const int64_t step = step_bound.value_or(1);
  if (step == 0) return fail(ErrorCode::kInvalid, "a slice with a step of 0");
  const bool is_text = object.is(Kind::kText);
  const auto size = static_cast<int64_t>(is_text ? count_chars(object.text()) : object.list()->items.size());
  SHOEHORN_RETURN_IF_ERROR(context.heap.work(static_cast<uint64_t>(size) / 8));
  const int64_t lowest = step > 0 ? 0 : -1;
  const int64_t highest = step > 0 ? size : size - 1;
  const auto place = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? *bound + size : *bound, lowest, highest);
  };
  const int64_t start = place(start_bound, step > 0 ? 0 : size - 1);
  const int64_t stop = place(stop_bound, step > 0 ? size : -1);
  if (is_text) return context.heap.text(slice_text(object.text(), size, start, stop, step));
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
    items.push_back(object.list()->items[static_cast<size_t>(i)]);
  }
  return context.heap.list(std::move(items));
}

}  // namespace shoehorn::tokenizer::jinja
