// What a template can call.
#pragma once

#include <memory>
#include <string>

#include "tokenizer/jinja_value.h"

namespace shoehorn::tokenizer::jinja {

struct Statement;
struct Scope;

/// Where the body of a {% call %} block runs; dead once the block has ended.
struct CallerFrame {
  const Statement* block = nullptr;
  Scope* scope = nullptr;
  bool alive = true;
};

enum class CallableKind { kFunction, kMethod, kMacro, kCaller, kJoiner, kCycler };

struct Callable : Accounted {
  CallableKind kind = CallableKind::kFunction;
  std::string name;                    ///< of the function, method or macro
  Value self;                          ///< kMethod: the object; kJoiner: the separator; kCycler: the list
  const Statement* macro = nullptr;    ///< kMacro
  std::shared_ptr<CallerFrame> frame;  ///< kCaller
  size_t calls = 0;                    ///< kJoiner, kCycler: how often it was called
};

}  // namespace shoehorn::tokenizer::jinja
