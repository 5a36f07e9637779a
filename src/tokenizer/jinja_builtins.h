// The filters, tests, functions and methods that templates may use. There are no others: what is not named here cannot
// be reached from a template, whatever attributes it asks for.
#pragma once

#include <ctime>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/jinja_callable.h"

namespace shoehorn::tokenizer::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Context {
  Heap& heap;
  const std::tm& now;    ///< local time, for strftime_now
  int filter_depth = 0;  ///< filters that run filters: map("map", "map", ...)
};

/// Arguments matched with parameter names. Missing ones read as undefined.
class Bound {
 public:
  /// kInvalid for too many arguments, unknown names and arguments given twice; `callee` is for the message.
  static Expected<Bound> bind(std::string_view callee, const Arguments& arguments,
                              std::initializer_list<std::string_view> names);

  bool has(size_t i) const { return !values_[i].is(Kind::kUndefined); }
  const Value& operator[](size_t i) const { return values_[i]; }
  Expected<bool> flag(size_t i, bool fallback) const;
  Expected<int64_t> integer(size_t i, int64_t fallback) const;
  Expected<std::string> text(size_t i, std::string fallback) const;

 private:
  std::string callee_;
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
};

/// `value | name(arguments)`; kUnsupported for an unknown filter.
Expected<Value> apply_filter(Context& context, std::string_view name, const Value& value, const Arguments& arguments);

/// `value is name(arguments)`; kUnsupported for an unknown test.
Expected<bool> apply_test(Context& context, std::string_view name, const Value& value, const Arguments& arguments);

bool is_function(std::string_view name);
/// range, dict, namespace, joiner, cycler, raise_exception, strftime_now.
Expected<Value> call_function(Context& context, std::string_view name, const Arguments& arguments);

bool has_method(const Value& self, std::string_view name);
/// Python's methods of str, dict and list; kUnsupported for an unknown one.
Expected<Value> call_method(Context& context, const Value& self, std::string_view name, const Arguments& arguments);

/// value.name: a key of a mapping, a field of a namespace or of `loop`, a method; else undefined.
Expected<Value> get_attribute(Context& context, const Value& value, std::string_view name);
/// value[key]
Expected<Value> get_item(Context& context, const Value& value, const Value& key);

/// What `for` and the list filters go through: items of a list, keys of a mapping, characters of a string, nothing for
/// undefined; kInvalid for anything else.
Expected<std::vector<Value>> iterate(Context& context, const Value& value);

/// `item in container`.
Expected<bool> contains(Context& context, const Value& container, const Value& item);

/// Python's str(): to_text, but "None" for none.
Expected<std::string> soft_text(Context& context, const Value& value);

/// text * n and list * n.
Expected<Value> repeat(Context& context, const Value& value, int64_t times);

/// Python's printf-style format % arguments: %s %d %i %f %x %r with flags, width and precision.
Expected<Value> format_printf(Context& context, std::string_view format, const std::vector<Value>& arguments);

}  // namespace shoehorn::tokenizer::jinja
