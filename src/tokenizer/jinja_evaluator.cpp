#include "tokenizer/jinja_evaluator.h"

#include <algorithm>
#include <optional>

#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_operators.h"

namespace shoehorn::tokenizer::jinja {

struct Scope {
  Scope* parent = nullptr;
  std::unordered_map<std::string, Value> variables;
};

namespace {

enum class Flow { kNext, kBreak, kContinue };

// Text as it is printed; its bytes count as live.
class Output {
 public:
  explicit Output(Heap& heap) : heap_(heap) {}
  ~Output() { heap_.release(charged_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  Status append(std::string_view text) {
    if (text.size() > limits::kTextBytes - text_.size()) {
      return fail(ErrorCode::kTooLarge, "the output passes {} bytes", limits::kTextBytes);
    }
    SHOEHORN_RETURN_IF_ERROR(heap_.work(text.size() / 64));
    SHOEHORN_RETURN_IF_ERROR(heap_.charge(text.size()));
    charged_ += text.size();
    text_ += text;
    return {};
  }
  std::string take() { return std::move(text_); }

 private:
  Heap& heap_;
  size_t charged_ = 0;
  std::string text_;
};

// How an expression looks in the source, for messages.
std::string describe(const Expr& e) {
  switch (e.kind) {
    case ExprKind::kName:
      return e.name;
    case ExprKind::kAttribute:
      return describe(*e.operands[0]) + "." + e.name;
    case ExprKind::kItem: {
      const Expr& key = *e.operands[1];
      std::string index = "...";
      if (key.kind == ExprKind::kConstant && key.constant.is(Kind::kText))
        index = "'" + key.constant.text().substr(0, 40) + "'";
      if (key.kind == ExprKind::kConstant && key.constant.is(Kind::kInt))
        index = std::to_string(key.constant.integer());
      if (key.kind == ExprKind::kName) index = key.name;
      return describe(*e.operands[0]) + "[" + index + "]";
    }
    case ExprKind::kCall:
      return describe(*e.operands[0]) + "(...)";
    case ExprKind::kFilter:
      return describe(*e.operands[0]) + " | " + e.name;
    default:
      return "(...)";
  }
}

// "'message.content' is undefined", "(...) is a list".
std::string what_it_is(const Expr& e, const Value& value) {
  const std::string source = describe(e);
  constexpr size_t kLongest = 100;
  if (source == "(...)" || source.size() > kLongest) return fmt::format("(...) is {}", value.type_name());
  return fmt::format("'{}' is {}", source, value.type_name());
}

bool may_be_none(const Value& value) { return value.is(Kind::kNone) || value.is(Kind::kUndefined); }

class Evaluator {
 public:
  Evaluator(Heap& heap, const std::tm& now) : heap_(heap), context_{heap, now} {}

  Expected<std::string> run(const Program& program, std::vector<std::pair<std::string, Value>> globals) {
    Scope global;
    for (auto& [name, value] : globals) global.variables[name] = std::move(value);
    scope_ = &global;
    Output output(heap_);
    out_ = &output;
    const auto flow = exec_block(program.body);
    if (!flow) return fail(flow.error().code, "line {}: {}", failed_line_, flow.error().message);
    return output.take();
  }

 private:
  template <class T>
  class Swap {
   public:
    Swap(T& variable, T value) : variable_(variable), old_(std::exchange(variable, value)) {}
    ~Swap() { variable_ = old_; }
    Swap(const Swap&) = delete;
    Swap& operator=(const Swap&) = delete;

   private:
    T& variable_;
    T old_;
  };

  Status enter() {
    if (depth_ > limits::kDepth)
      return fail(ErrorCode::kTooLarge, "blocks, calls and expressions nest deeper than {}", limits::kDepth);
    return heap_.work(1);
  }

  // The line of the innermost node that failed.
  void failed_at(int line) {
    if (failed_line_ == 0) failed_line_ = line;
  }

  // --- statements

  Expected<Flow> exec_block(const Block& block) {
    for (const auto& statement : block) {
      const Swap<int> deeper(depth_, depth_ + 1);
      Expected<Flow> flow = Flow::kNext;
      if (auto entered = enter(); !entered) {
        flow = tl::unexpected<Error>(std::move(entered).error());
      } else {
        flow = exec(*statement);
      }
      if (!flow) failed_at(statement->line);
      if (!flow || *flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Expected<Flow> exec(const Statement& s) {
    switch (s.kind) {
      case StatementKind::kText:
        SHOEHORN_RETURN_IF_ERROR(out_->append(s.text));
        return Flow::kNext;
      case StatementKind::kPrint:
        SHOEHORN_RETURN_IF_ERROR(exec_print(s));
        return Flow::kNext;
      case StatementKind::kIf:
        return exec_if(s);
      case StatementKind::kFor:
        return exec_for(s);
      case StatementKind::kSet: {
        SHOEHORN_TRY(Value value, eval(*s.value));
        SHOEHORN_RETURN_IF_ERROR(assign(s.target, std::move(value)));
        return Flow::kNext;
      }
      case StatementKind::kSetBlock:
        return exec_captured(s, true);
      case StatementKind::kFilterBlock:
        return exec_captured(s, false);
      case StatementKind::kMacro: {
        SHOEHORN_TRY(auto callable, heap_.make_callable());
        callable->kind = CallableKind::kMacro;
        callable->name = s.text;
        callable->macro = &s;
        scope_->variables[s.text] = Value(std::move(callable));
        return Flow::kNext;
      }
      case StatementKind::kCallBlock:
        SHOEHORN_RETURN_IF_ERROR(exec_call_block(s));
        return Flow::kNext;
      case StatementKind::kWith:
        return exec_with(s);
      case StatementKind::kBreak:
        return Flow::kBreak;
      case StatementKind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  Status print(const Value& value) {
    if (value.is(Kind::kText)) return out_->append(value.text());
    SHOEHORN_TRY(const std::string text, to_text(heap_, value));
    return out_->append(text);
  }

  Status exec_print(const Statement& s) {
    SHOEHORN_TRY(const Value value, eval(*s.value));
    if (value.is(Kind::kCallable))
      return fail(ErrorCode::kInvalid, "{}, which cannot be printed", what_it_is(*s.value, value));
    return print(value);
  }

  Expected<Flow> exec_if(const Statement& s) {
    for (const Branch& branch : s.branches) {
      SHOEHORN_TRY(const Value condition, eval(*branch.condition));
      if (condition.truthy()) return exec_block(branch.body);
    }
    return exec_block(s.otherwise);
  }

  // As in @huggingface/jinja, one scope for all turns of a loop: what a turn sets, the next one sees. In Jinja it does
  // not.
  Expected<Flow> exec_for(const Statement& s) {
    Scope scope;
    scope.parent = scope_;
    const Swap<Scope*> inner(scope_, &scope);
    SHOEHORN_TRY(const Value iterated, eval(*s.value));
    SHOEHORN_TRY(const auto loop, heap_.make_loop());
    loop->depth = loop_depth_ + 1;
    if (iterated.is(Kind::kList) && s.condition == nullptr) {
      loop->items = iterated.list();
    } else {
      // Jinja refuses none. Templates that only Hugging Face's tool users meet loop over `tools` without a look at it.
      auto items = iterate(context_, iterated.is(Kind::kNone) ? Value() : iterated);
      if (!items) return fail(items.error().code, "{}: {}", items.error().message, what_it_is(*s.value, iterated));
      if (s.condition != nullptr) SHOEHORN_RETURN_IF_ERROR(keep_matching(s, *items));
      SHOEHORN_TRY(const Value list, heap_.list(std::move(*items)));
      loop->items = list.list();
    }
    if (loop->items->items.empty()) return exec_block(s.otherwise);
    scope.variables["loop"] = Value(loop);
    const Swap<int> depth(loop_depth_, loop_depth_ + 1);
    for (; loop->index < loop->items->items.size(); ++loop->index) {
      SHOEHORN_RETURN_IF_ERROR(count_iteration());
      SHOEHORN_RETURN_IF_ERROR(assign(s.target, Value(loop->items->items[loop->index])));
      SHOEHORN_TRY(const Flow flow, exec_block(s.body));
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  Status count_iteration() {
    if (++iterations_ > limits::kIterations) {
      return fail(ErrorCode::kTooLarge, "the template's loops turn more than {} times", limits::kIterations);
    }
    return {};
  }

  Status keep_matching(const Statement& s, std::vector<Value>& items) {
    Scope scope;
    scope.parent = scope_;
    const Swap<Scope*> inner(scope_, &scope);
    std::vector<Value> kept;
    for (Value& item : items) {
      SHOEHORN_RETURN_IF_ERROR(count_iteration());
      SHOEHORN_RETURN_IF_ERROR(assign(s.target, item));
      SHOEHORN_TRY(const Value condition, eval(*s.condition));
      if (condition.truthy()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
    return {};
  }

  // Runs a block with its output going to a string.
  Expected<Value> capture(const Block& body) {
    Output output(heap_);
    const Swap<Output*> captured(out_, &output);
    SHOEHORN_TRY(const Flow flow, exec_block(body));
    static_cast<void>(flow);  // a macro's body has no break of its own; a set block's ends the block
    return heap_.text(output.take());
  }

  Expected<Flow> exec_captured(const Statement& s, bool set) {
    SHOEHORN_TRY(const Value text, capture(s.body));
    const Swap<Value> captured(captured_, text);
    SHOEHORN_TRY(Value value, eval(*s.value));
    if (set) {
      SHOEHORN_RETURN_IF_ERROR(assign(s.target, std::move(value)));
    } else {
      SHOEHORN_RETURN_IF_ERROR(print(value));
    }
    return Flow::kNext;
  }

  Expected<Flow> exec_with(const Statement& s) {
    Scope scope;
    scope.parent = scope_;
    for (const Parameter& variable : s.parameters) {
      SHOEHORN_TRY(scope.variables[variable.name], eval(*variable.fallback));
    }
    const Swap<Scope*> inner(scope_, &scope);
    return exec_block(s.body);
  }

  Status exec_call_block(const Statement& s) {
    SHOEHORN_TRY(const Arguments arguments, eval_arguments(*s.value));
    SHOEHORN_TRY(const Value callee, eval(*s.value->operands[0]));
    SHOEHORN_TRY(auto callable, heap_.make_callable());
    callable->kind = CallableKind::kCaller;
    callable->name = "caller";
    callable->frame = std::make_shared<CallerFrame>();
    callable->frame->block = &s;
    callable->frame->scope = scope_;
    struct Death {
      CallerFrame& frame;
      ~Death() { frame.alive = false; }
    } const death{*callable->frame};
    Scope scope;
    scope.parent = scope_;
    scope.variables["caller"] = Value(callable);
    Value result;
    {
      const Swap<Scope*> inner(scope_, &scope);
      SHOEHORN_TRY(result, call_value(*s.value, callee, arguments));
    }
    return print(result);
  }

  Status assign(const Target& target, Value value) {
    if (!target.parts.empty()) {
      SHOEHORN_TRY(const std::vector<Value> items, iterate(context_, value));
      if (items.size() != target.parts.size()) {
        return fail(ErrorCode::kInvalid, "{} values for {} names", items.size(), target.parts.size());
      }
      for (size_t i = 0; i < items.size(); ++i) SHOEHORN_RETURN_IF_ERROR(assign(target.parts[i], items[i]));
      return {};
    }
    if (target.attribute.empty()) {
      scope_->variables[target.name] = std::move(value);
      return {};
    }
    SHOEHORN_TRY(const Value ns, lookup(target.name));
    if (!ns.is(Kind::kNamespace)) {
      return fail(ErrorCode::kInvalid, "cannot set '{}.{}': only a namespace can be changed, and '{}' is {}",
                  target.name, target.attribute, target.name, ns.type_name());
    }
    return heap_.assign(ns.ns(), target.attribute, std::move(value));
  }

  // --- expressions

  Expected<Value> lookup(const std::string& name) {
    for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
      if (const auto it = scope->variables.find(name); it != scope->variables.end()) return it->second;
    }
    if (!is_function(name)) return Value();
    SHOEHORN_TRY(auto callable, heap_.make_callable());
    callable->name = name;
    return Value(std::move(callable));
  }

  Expected<Value> eval(const Expr& e) {
    const Swap<int> deeper(depth_, depth_ + 1);
    Expected<Value> value = Value();
    if (auto entered = enter(); !entered) {
      value = tl::unexpected<Error>(std::move(entered).error());
    } else {
      value = eval_node(e);
    }
    if (!value) failed_at(e.line);
    return value;
  }

  Expected<Value> eval_node(const Expr& e) {
    switch (e.kind) {
      case ExprKind::kConstant:
        return e.constant;
      case ExprKind::kCaptured:
        return captured_;
      case ExprKind::kName:
        return lookup(e.name);
      case ExprKind::kList:
        return eval_list(e);
      case ExprKind::kDict:
        return eval_dict(e);
      case ExprKind::kAttribute: {
        SHOEHORN_TRY(const Value object, eval(*e.operands[0]));
        return get_attribute(context_, object, e.name);
      }
      case ExprKind::kItem: {
        SHOEHORN_TRY(const Value object, eval(*e.operands[0]));
        SHOEHORN_TRY(const Value key, eval(*e.operands[1]));
        return get_item(context_, object, key);
      }
      case ExprKind::kSlice:
        return eval_slice(e);
      case ExprKind::kCall:
        return eval_call(e);
      case ExprKind::kFilter: {
        SHOEHORN_TRY(const Value value, eval(*e.operands[0]));
        SHOEHORN_TRY(const Arguments arguments, eval_arguments(e));
        return apply_filter(context_, e.name, value, arguments);
      }
      case ExprKind::kTest: {
        SHOEHORN_TRY(const Value value, eval(*e.operands[0]));
        SHOEHORN_TRY(const Arguments arguments, eval_arguments(e));
        SHOEHORN_TRY(const bool result, apply_test(context_, e.name, value, arguments));
        return Value(result != e.negated);
      }
      case ExprKind::kNot: {
        SHOEHORN_TRY(const Value value, eval(*e.operands[0]));
        return Value(!value.truthy());
      }
      case ExprKind::kNegate:
      case ExprKind::kPlus:
        return eval_sign(e);
      case ExprKind::kBinary:
        return eval_binary(e);
      case ExprKind::kAnd:
      case ExprKind::kOr: {
        SHOEHORN_TRY(Value left, eval(*e.operands[0]));
        if (left.truthy() == (e.kind == ExprKind::kOr)) return left;
        return eval(*e.operands[1]);
      }
      case ExprKind::kCompare:
        return eval_comparison(e);
      case ExprKind::kConditional: {
        SHOEHORN_TRY(const Value condition, eval(*e.operands[1]));
        if (condition.truthy()) return eval(*e.operands[0]);
        return e.operands[2] == nullptr ? Value() : eval(*e.operands[2]);
      }
    }
    return Value();
  }

  Expected<Value> eval_list(const Expr& e) {
    std::vector<Value> items;
    items.reserve(e.operands.size());
    for (const auto& operand : e.operands) {
      SHOEHORN_TRY(Value item, eval(*operand));
      items.push_back(std::move(item));
    }
    return heap_.list(std::move(items));
  }

  Expected<Value> eval_dict(const Expr& e) {
    Table table;
    for (size_t i = 0; i + 1 < e.operands.size(); i += 2) {
      SHOEHORN_TRY(const Value key, eval(*e.operands[i]));
      SHOEHORN_TRY(Value value, eval(*e.operands[i + 1]));
      if (!key.is(Kind::kText) && !key.is(Kind::kInt)) {
        return fail(ErrorCode::kUnsupported, "a key of a mapping must be a string or an integer, got {}",
                    key.type_name());
      }
      const bool is_text = key.is(Kind::kText);
      table.set(is_text ? key.text() : std::to_string(key.integer()), std::move(value), !is_text);
    }
    return heap_.dict(std::move(table));
  }

  Expected<std::optional<int64_t>> eval_bound(const ExprPtr& e) {
    if (e == nullptr) return std::nullopt;
    SHOEHORN_TRY(const Value value, eval(*e));
    if (may_be_none(value)) return std::nullopt;
    if (!value.is(Kind::kInt)) return fail(ErrorCode::kInvalid, "a slice needs integers: {}", what_it_is(*e, value));
    return std::clamp<int64_t>(value.integer(), -(int64_t{1} << 40), int64_t{1} << 40);
  }

  Expected<Value> eval_slice(const Expr& e) {
    SHOEHORN_TRY(const Value object, eval(*e.operands[0]));
    SHOEHORN_TRY(const std::optional<int64_t> start, eval_bound(e.operands[1]));
    SHOEHORN_TRY(const std::optional<int64_t> stop, eval_bound(e.operands[2]));
    SHOEHORN_TRY(const std::optional<int64_t> step, eval_bound(e.operands[3]));
    if (!object.is(Kind::kText) && !object.is(Kind::kList)) {
      return fail(ErrorCode::kInvalid, "only lists and strings have slices: {}", what_it_is(*e.operands[0], object));
    }
    return slice(context_, object, start, stop, step);
  }

  Expected<Value> eval_sign(const Expr& e) {
    SHOEHORN_TRY(const Value value, eval(*e.operands[0]));
    if (!value.is_numeric())
      return fail(ErrorCode::kInvalid, "a sign needs a number: {}", what_it_is(*e.operands[0], value));
    const bool negate = e.kind == ExprKind::kNegate;
    if (value.is(Kind::kFloat)) return Value(negate ? -value.real() : value.real());
    const int64_t integer = value.is(Kind::kBool) ? int64_t{value.boolean()} : value.integer();
    if (negate && integer == INT64_MIN) return fail(ErrorCode::kTooLarge, "the number passes 64 bits");
    return Value(negate ? -integer : integer);
  }

  Expected<Value> eval_comparison(const Expr& e) {
    SHOEHORN_TRY(Value left, eval(*e.operands[0]));
    for (size_t i = 0; i < e.comparisons.size(); ++i) {
      SHOEHORN_TRY(Value right, eval(*e.operands[i + 1]));
      auto holds = compare(context_, e.comparisons[i], left, right);
      if (!holds) {
        return fail(holds.error().code, "{} ({}; {})", holds.error().message, what_it_is(*e.operands[i], left),
                    what_it_is(*e.operands[i + 1], right));
      }
      if (!*holds) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  Expected<Value> eval_binary(const Expr& e) {
    SHOEHORN_TRY(const Value left, eval(*e.operands[0]));
    SHOEHORN_TRY(const Value right, eval(*e.operands[1]));
    auto result = arithmetic(context_, e.name, left, right);
    if (!result && result.error().code == ErrorCode::kInvalid && result.error().message.empty()) {
      return fail(ErrorCode::kInvalid, "cannot compute {} {} {} ({}; {})", left.type_name(), e.name, right.type_name(),
                  what_it_is(*e.operands[0], left), what_it_is(*e.operands[1], right));
    }
    return result;
  }

  // --- calls

  Expected<Arguments> eval_arguments(const Expr& e) {
    Arguments arguments;
    for (const Argument& argument : e.arguments) {
      SHOEHORN_TRY(Value value, eval(*argument.value));
      switch (argument.kind) {
        case Argument::Kind::kPositional:
          arguments.positional.push_back(std::move(value));
          break;
        case Argument::Kind::kNamed:
          arguments.named.emplace_back(argument.name, std::move(value));
          break;
        case Argument::Kind::kSpread: {
          SHOEHORN_TRY(const std::vector<Value> items, iterate(context_, value));
          arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
          break;
        }
        case Argument::Kind::kSpreadNamed:
          if (!value.is(Kind::kDict))
            return fail(ErrorCode::kInvalid, "** needs a mapping: {}", what_it_is(*argument.value, value));
          for (const auto& entry : value.dict().table.entries()) arguments.named.emplace_back(entry.key, entry.value);
          break;
      }
    }
    return arguments;
  }

  Expected<Value> eval_call(const Expr& e) {
    const Expr& callee = *e.operands[0];
    if (callee.kind != ExprKind::kAttribute) {
      SHOEHORN_TRY(const Value value, eval(callee));
      SHOEHORN_TRY(const Arguments arguments, eval_arguments(e));
      return call_value(e, value, arguments);
    }
    // A method hides a key of the same name: {"items": ...}.items() is the method.
    SHOEHORN_TRY(const Value object, eval(*callee.operands[0]));
    SHOEHORN_TRY(const Arguments arguments, eval_arguments(e));
    SHOEHORN_TRY(const Value found, get_attribute(context_, object, callee.name));
    if (found.is(Kind::kCallable) || !has_method(object, callee.name)) {
      if (found.is(Kind::kUndefined) && !may_be_none(object)) {
        return fail(ErrorCode::kUnsupported, "unknown method '{}' of {}: {}", callee.name, object.type_name(),
                    what_it_is(*callee.operands[0], object));
      }
      if (found.is(Kind::kUndefined)) {
        return fail(ErrorCode::kInvalid, "cannot call '{}': {}", callee.name, what_it_is(*callee.operands[0], object));
      }
      return call_value(e, found, arguments);
    }
    return call_method(context_, object, callee.name, arguments);
  }

  Expected<Value> call_value(const Expr& call, const Value& callee, const Arguments& arguments) {
    if (callee.is(Kind::kUndefined) && call.operands[0]->kind == ExprKind::kName) {
      return fail(ErrorCode::kUnsupported, "unknown function '{}'", call.operands[0]->name);
    }
    if (!callee.is(Kind::kCallable))
      return fail(ErrorCode::kInvalid, "{}, not a function", what_it_is(*call.operands[0], callee));
    Callable& callable = *callee.callable();
    switch (callable.kind) {
      case CallableKind::kFunction:
        return call_function(context_, callable.name, arguments);
      case CallableKind::kMethod:
        return call_method(context_, callable.self, callable.name, arguments);
      case CallableKind::kMacro:
        return call_body(*callable.macro, callable.name, scope_, arguments);
      case CallableKind::kCaller:
        if (!callable.frame->alive) return fail(ErrorCode::kInvalid, "caller() outside of its call block");
        return call_body(*callable.frame->block, "caller", callable.frame->scope, arguments);
      case CallableKind::kJoiner:
        if (callable.calls++ == 0) return heap_.text("");
        return callable.self;
      case CallableKind::kCycler: {
        const auto& items = callable.self.list()->items;
        return items[callable.calls++ % items.size()];
      }
    }
    return Value();
  }

  // As in @huggingface/jinja, the body of a macro sees the variables of the place that calls it.
  Expected<Value> call_body(const Statement& s, const std::string& name, Scope* parent, const Arguments& arguments) {
    if (calls_ >= limits::kCalls)
      return fail(ErrorCode::kTooLarge, "macros call one another deeper than {}", limits::kCalls);
    const Swap<int> calls(calls_, calls_ + 1);
    Scope scope;
    scope.parent = parent;
    const Swap<Scope*> inner(scope_, &scope);
    SHOEHORN_RETURN_IF_ERROR(bind(s, name, scope, arguments));
    return capture(s.body);
  }

  Status bind(const Statement& s, const std::string& name, Scope& scope, const Arguments& arguments) {
    const size_t count = s.parameters.size();
    for (size_t i = 0; i < count; ++i) {
      scope.variables[s.parameters[i].name] = i < arguments.positional.size() ? arguments.positional[i] : Value();
    }
    if (s.takes_varargs) {
      const auto skipped = static_cast<std::ptrdiff_t>(std::min(count, arguments.positional.size()));
      SHOEHORN_TRY(scope.variables["varargs"],
                   heap_.list({arguments.positional.begin() + skipped, arguments.positional.end()}));
    } else if (arguments.positional.size() > count) {
      return fail(ErrorCode::kInvalid, "{}() takes {} arguments, got {}", name, count, arguments.positional.size());
    }
    std::vector<bool> given(count, false);
    for (size_t i = 0; i < std::min(count, arguments.positional.size()); ++i) given[i] = true;
    Table kwargs;
    for (const auto& [key, value] : arguments.named) {
      const auto it = std::ranges::find(s.parameters, key, &Parameter::name);
      if (it == s.parameters.end()) {
        if (!s.takes_kwargs) return fail(ErrorCode::kInvalid, "{}() has no argument '{}'", name, key);
        kwargs.set(key, value);
        continue;
      }
      const auto i = static_cast<size_t>(it - s.parameters.begin());
      if (given[i]) return fail(ErrorCode::kInvalid, "{}(): the argument '{}' is given twice", name, key);
      given[i] = true;
      scope.variables[key] = value;
    }
    if (s.takes_kwargs) {
      SHOEHORN_TRY(scope.variables["kwargs"], heap_.dict(std::move(kwargs)));
    }
    for (size_t i = 0; i < count; ++i) {
      if (given[i] || s.parameters[i].fallback == nullptr) continue;
      SHOEHORN_TRY(scope.variables[s.parameters[i].name], eval(*s.parameters[i].fallback));
    }
    return {};
  }

  Heap& heap_;
  Context context_;
  Scope* scope_ = nullptr;
  Output* out_ = nullptr;
  Value captured_;
  int depth_ = 0;
  int calls_ = 0;
  int loop_depth_ = 0;
  int failed_line_ = 0;
  uint64_t iterations_ = 0;
};

}  // namespace

Expected<std::string> evaluate(const Program& program, Heap& heap, const std::tm& now,
                               std::vector<std::pair<std::string, Value>> globals) {
  return Evaluator(heap, now).run(program, std::move(globals));
}

}  // namespace shoehorn::tokenizer::jinja
