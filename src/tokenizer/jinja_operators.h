// The operators of template expressions.
#pragma once

#include <optional>
#include <string_view>

#include "tokenizer/jinja_builtins.h"

namespace shoehorn::tokenizer::jinja {

/// left op right, for + - * / // % ** ~. Integers have 64 bits: kTooLarge beyond. kInvalid with an empty message for
/// operands that do not go together: the caller knows what they are called.
Expected<Value> arithmetic(Context& context, std::string_view op, const Value& left, const Value& right);

/// left op right, for == != < <= > >= in, not in.
Expected<bool> compare(Context& context, std::string_view op, const Value& left, const Value& right);

/// object[start:stop:step] of a list or a string, as in Python.
Expected<Value> slice(Context& context, const Value& object, std::optional<int64_t> start, std::optional<int64_t> stop,
                      std::optional<int64_t> step);

}  // namespace shoehorn::tokenizer::jinja
