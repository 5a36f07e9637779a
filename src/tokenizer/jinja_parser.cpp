#include "tokenizer/jinja_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <set>

#include "tokenizer/jinja_lexer.h"

namespace shoehorn::tokenizer::jinja {
namespace {

using Words = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Expected<Program> run() {
    Program program;
    SHOEHORN_TRY(program.body, parse_block({}));
    return program;
  }

 private:
  // Counts how deep blocks and brackets nest, since each level is a recursion here and in the evaluator.
  class Nesting {
   public:
    explicit Nesting(int* depth) : depth_(depth) { ++*depth_; }
    ~Nesting() { --*depth_; }

   private:
    int* depth_;
  };

  const Token& current() const { return tokens_[pos_]; }
  const Token& next() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void skip() { pos_ = std::min(pos_ + 1, tokens_.size() - 1); }
  bool at(std::string_view op) const { return current().kind == TokenKind::kOperator && current().text == op; }
  bool at_name(std::string_view name) const { return current().kind == TokenKind::kName && current().text == name; }
  bool take(std::string_view op) {
    if (!at(op)) return false;
    skip();
    return true;
  }
  bool take_name(std::string_view name) {
    if (!at_name(name)) return false;
    skip();
    return true;
  }

  template <class... Args>
  tl::unexpected<Error> error(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kInvalid, "line {}: {}", current().line, fmt::format(format, std::forward<Args>(args)...));
  }
  tl::unexpected<Error> unexpected(std::string_view wanted) const {
    const Token& token = current();
    if (token.kind == TokenKind::kEnd) return error("{} expected, but the template ends", wanted);
    if (token.kind == TokenKind::kText) return error("{} expected, got text", wanted);
    constexpr size_t kShown = 40;
    return error("{} expected, got '{}'", wanted, std::string_view(token.text).substr(0, kShown));
  }

  Status expect(std::string_view op) {
    if (!take(op)) return unexpected(fmt::format("'{}'", op));
    return {};
  }
  Status expect_block_end() {
    if (current().kind != TokenKind::kBlockEnd) return unexpected("'%}'");
    skip();
    return {};
  }
  Expected<std::string> expect_name() {
    static const std::set<std::string_view> kKeywords = {"and", "or", "not", "if", "else", "in", "is"};
    if (current().kind != TokenKind::kName || kKeywords.contains(current().text)) return unexpected("a name");
    std::string name = current().text;
    skip();
    return name;
  }

  Status check_nesting() const {
    if (nesting_ > limits::kNesting) {
      return fail(ErrorCode::kTooLarge, "line {}: blocks and brackets nest deeper than {}", current().line,
                  limits::kNesting);
    }
    return {};
  }

  // --- statements

  bool at_block(Words names) const {
    if (current().kind != TokenKind::kBlockBegin || next().kind != TokenKind::kName) return false;
    return std::find(names.begin(), names.end(), next().text) != names.end();
  }

  // Statements up to one of the block tags in `ends`, which is left where it is; up to the end of the template if
  // empty.
  Expected<Block> parse_block(Words ends) {
    const Nesting nesting(&nesting_);
    SHOEHORN_RETURN_IF_ERROR(check_nesting());
    Block block;
    const int begin_line = current().line;
    while (true) {
      const Token& token = current();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size() == 0) return block;
        return fail(ErrorCode::kInvalid, "line {}: the block that starts here has no {{% {} %}}", begin_line,
                    *(ends.end() - 1));
      }
      if (at_block(ends)) return block;
      if (token.kind == TokenKind::kText) {
        auto statement = make(StatementKind::kText);
        statement->text = token.text;
        skip();
        block.push_back(std::move(statement));
      } else if (token.kind == TokenKind::kPrintBegin) {
        skip();
        auto statement = make(StatementKind::kPrint);
        SHOEHORN_TRY(statement->value, parse_tuple());
        if (current().kind != TokenKind::kPrintEnd) return unexpected("'}}'");
        skip();
        block.push_back(std::move(statement));
      } else {
        SHOEHORN_TRY(auto statement, parse_statement());
        if (statement != nullptr) block.push_back(std::move(statement));
      }
    }
  }

  std::unique_ptr<Statement> make(StatementKind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = current().line;
    return statement;
  }

  Status end_block(std::string_view name) {
    skip();  // {%
    if (!take_name(name)) return unexpected(fmt::format("'{}'", name));
    return expect_block_end();
  }

  // Null for tags that do nothing.
  Expected<std::unique_ptr<Statement>> parse_statement() {
    skip();  // {%
    if (current().kind != TokenKind::kName) return unexpected("the name of a tag");
    const std::string name = current().text;
    if (name == "if") return parse_if();
    if (name == "for") return parse_for();
    if (name == "set") return parse_set();
    if (name == "macro") return parse_macro();
    if (name == "call") return parse_call_block();
    if (name == "filter") return parse_filter_block();
    if (name == "with") return parse_with();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return error("'{}' outside of a loop", name);
      auto statement = make(name == "break" ? StatementKind::kBreak : StatementKind::kContinue);
      skip();
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      return statement;
    }
    // Hugging Face marks with them what the assistant said, for training.
    if (name == "generation" || name == "endgeneration") {
      skip();
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      return nullptr;
    }
    if (name.starts_with("end") || name == "else" || name == "elif") return error("'{}' closes nothing", name);
    return fail(ErrorCode::kUnsupported, "line {}: the tag '{}' is not supported", current().line, name);
  }

  Expected<std::unique_ptr<Statement>> parse_if() {
    auto statement = make(StatementKind::kIf);
    do {
      skip();  // if, elif
      Branch branch;
      SHOEHORN_TRY(branch.condition, parse_tuple());
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      SHOEHORN_TRY(branch.body, parse_block({"elif", "else", "endif"}));
      statement->branches.push_back(std::move(branch));
      if (next().text != "elif") break;
      skip();  // {%
    } while (true);
    if (next().text == "else") {
      skip();
      skip();
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      SHOEHORN_TRY(statement->otherwise, parse_block({"endif"}));
    }
    SHOEHORN_RETURN_IF_ERROR(end_block("endif"));
    return statement;
  }

  Expected<std::unique_ptr<Statement>> parse_for() {
    auto statement = make(StatementKind::kFor);
    skip();
    SHOEHORN_TRY(statement->target, parse_targets(false));
    if (!take_name("in")) return unexpected("'in'");
    SHOEHORN_TRY(statement->value, parse_tuple_without_condition());
    if (take_name("if")) {
      SHOEHORN_TRY(statement->condition, parse_expression());
    }
    if (at_name("recursive")) {
      return fail(ErrorCode::kUnsupported, "line {}: recursive loops are not supported", current().line);
    }
    SHOEHORN_RETURN_IF_ERROR(expect_block_end());
    ++loops_;
    auto body = parse_block({"else", "endfor"});
    --loops_;
    SHOEHORN_TRY(statement->body, std::move(body));
    if (next().text == "else") {
      skip();
      skip();
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      SHOEHORN_TRY(statement->otherwise, parse_block({"endfor"}));
    }
    SHOEHORN_RETURN_IF_ERROR(end_block("endfor"));
    return statement;
  }

  Expected<Target> parse_target(bool attributes) {
    const Nesting nesting(&nesting_);
    SHOEHORN_RETURN_IF_ERROR(check_nesting());
    if (take("(")) {
      SHOEHORN_TRY(Target target, parse_targets(attributes));
      SHOEHORN_RETURN_IF_ERROR(expect(")"));
      return target;
    }
    Target target;
    SHOEHORN_TRY(target.name, expect_name());
    static const std::set<std::string_view> kConstants = {"true", "false", "none", "True", "False", "None"};
    if (kConstants.contains(target.name)) return error("cannot assign to '{}'", target.name);
    if (attributes && take(".")) {
      SHOEHORN_TRY(target.attribute, expect_name());
    }
    return target;
  }

  Expected<Target> parse_targets(bool attributes) {
    SHOEHORN_TRY(Target first, parse_target(attributes));
    if (!at(",")) return first;
    Target tuple;
    tuple.parts.push_back(std::move(first));
    while (take(",")) {
      if (at_name("in") || at("=") || at(")") || current().kind == TokenKind::kBlockEnd) break;
      SHOEHORN_TRY(Target part, parse_target(attributes));
      tuple.parts.push_back(std::move(part));
    }
    return tuple;
  }

  Expected<std::unique_ptr<Statement>> parse_set() {
    auto statement = make(StatementKind::kSet);
    skip();
    SHOEHORN_TRY(statement->target, parse_targets(true));
    if (take("=")) {
      SHOEHORN_TRY(statement->value, parse_tuple());
      SHOEHORN_RETURN_IF_ERROR(expect_block_end());
      return statement;
    }
    statement->kind = StatementKind::kSetBlock;
    statement->value = expr(ExprKind::kCaptured);
    SHOEHORN_TRY(statement->value, parse_filters(std::move(statement->value)));
    SHOEHORN_RETURN_IF_ERROR(expect_block_end());
    SHOEHORN_TRY(statement->body, parse_block({"endset"}));
    SHOEHORN_RETURN_IF_ERROR(end_block("endset"));
    return statement;
  }

  Expected<std::vector<Parameter>> parse_parameters() {
    std::vector<Parameter> parameters;
    std::set<std::string> names;
    SHOEHORN_RETURN_IF_ERROR(expect("("));
    while (!at(")")) {
      Parameter parameter;
      SHOEHORN_TRY(parameter.name, expect_name());
      if (!names.insert(parameter.name).second) return error("two parameters are called '{}'", parameter.name);
      if (take("=")) {
        SHOEHORN_TRY(parameter.fallback, parse_expression());
      } else if (!parameters.empty() && parameters.back().fallback != nullptr) {
        return error("the parameter '{}' needs a default, as the one before it has one", parameter.name);
      }
      parameters.push_back(std::move(parameter));
      if (!take(",") && !at(")")) return unexpected("',' or ')'");
    }
    skip();
    return parameters;
  }

  // The body of a macro or call block, with what it reads of its special variables.
  Status parse_callable_body(Statement& statement, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    const bool kwargs = std::exchange(reads_kwargs_, false);
    const bool varargs = std::exchange(reads_varargs_, false);
    auto body = parse_block({end});
    statement.takes_kwargs = reads_kwargs_;
    statement.takes_varargs = reads_varargs_;
    loops_ = loops;
    reads_kwargs_ |= kwargs;
    reads_varargs_ |= varargs;
    SHOEHORN_TRY(statement.body, std::move(body));
    return end_block(end);
  }

  Expected<std::unique_ptr<Statement>> parse_macro() {
    auto statement = make(StatementKind::kMacro);
    skip();
    SHOEHORN_TRY(statement->text, expect_name());
    SHOEHORN_TRY(statement->parameters, parse_parameters());
    SHOEHORN_RETURN_IF_ERROR(expect_block_end());
    SHOEHORN_RETURN_IF_ERROR(parse_callable_body(*statement, "endmacro"));
    return statement;
  }

  Expected<std::unique_ptr<Statement>> parse_call_block() {
    auto statement = make(StatementKind::kCallBlock);
    skip();
    if (at("(")) {
      SHOEHORN_TRY(statement->parameters, parse_parameters());
    }
    SHOEHORN_TRY(statement->value, parse_expression());
    if (statement->value->kind != ExprKind::kCall) return error("a call expected after 'call'");
    SHOEHORN_RETURN_IF_ERROR(expect_block_end());
    SHOEHORN_RETURN_IF_ERROR(parse_callable_body(*statement, "endcall"));
    return statement;
  }

  Expected<std::unique_ptr<Statement>> parse_filter_block() {
    auto statement = make(StatementKind::kFilterBlock);
    skip();
    SHOEHORN_TRY(ExprPtr first, parse_filter(expr(ExprKind::kCaptured)));
    SHOEHORN_TRY(statement->value, parse_filters(std::move(first)));
    SHOEHORN_RETURN_IF_ERROR(expect_block_end());
    SHOEHORN_TRY(statement->body, parse_block({"endfilter"}));
    SHOEHORN_RETURN_IF_ERROR(end_block("endfilter"));
    return statement;
  }

  Expected<std::unique_ptr<Statement>> parse_with() {
    auto statement = make(StatementKind::kWith);
    skip();
    while (current().kind != TokenKind::kBlockEnd) {
      Parameter variable;
      SHOEHORN_TRY(variable.name, expect_name());
      SHOEHORN_RETURN_IF_ERROR(expect("="));
      SHOEHORN_TRY(variable.fallback, parse_expression());
      statement->parameters.push_back(std::move(variable));
      if (!take(",") && current().kind != TokenKind::kBlockEnd) return unexpected("',' or '%}'");
    }
    skip();
    SHOEHORN_TRY(statement->body, parse_block({"endwith"}));
    SHOEHORN_RETURN_IF_ERROR(end_block("endwith"));
    return statement;
  }

  // --- expressions, from the loosest binding to the tightest

  ExprPtr expr(ExprKind kind) const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = current().line;
    return e;
  }

  Status adopt(Expr& parent, ExprPtr child) {
    if (child != nullptr) parent.height = std::max(parent.height, child->height + 1);
    parent.operands.push_back(std::move(child));
    return check_height(parent);
  }

  Status check_height(const Expr& e) const {
    if (e.height > limits::kHeight) {
      return fail(ErrorCode::kTooLarge, "line {}: the expression has more than {} operations in a row", e.line,
                  limits::kHeight);
    }
    return {};
  }

  Expected<ExprPtr> parse_tuple() { return parse_tuple_of(&Parser::parse_expression); }
  // The iterable of a for: an `if` behind it is the loop's.
  Expected<ExprPtr> parse_tuple_without_condition() { return parse_tuple_of(&Parser::parse_or); }

  Expected<ExprPtr> parse_tuple_of(Expected<ExprPtr> (Parser::*parse_one)()) {
    SHOEHORN_TRY(ExprPtr first, (this->*parse_one)());
    if (!at(",")) return first;
    ExprPtr tuple = expr(ExprKind::kList);
    SHOEHORN_RETURN_IF_ERROR(adopt(*tuple, std::move(first)));
    while (take(",")) {
      if (at(")") || current().kind == TokenKind::kBlockEnd || current().kind == TokenKind::kPrintEnd) break;
      SHOEHORN_TRY(ExprPtr item, (this->*parse_one)());
      SHOEHORN_RETURN_IF_ERROR(adopt(*tuple, std::move(item)));
    }
    return tuple;
  }

  Expected<ExprPtr> parse_expression() {
    const Nesting nesting(&nesting_);
    SHOEHORN_RETURN_IF_ERROR(check_nesting());
    SHOEHORN_TRY(ExprPtr value, parse_or());
    while (at_name("if")) {
      ExprPtr conditional = expr(ExprKind::kConditional);
      skip();
      SHOEHORN_TRY(ExprPtr condition, parse_or());
      ExprPtr otherwise;
      if (take_name("else")) {
        SHOEHORN_TRY(otherwise, parse_expression());
      }
      SHOEHORN_RETURN_IF_ERROR(adopt(*conditional, std::move(value)));
      SHOEHORN_RETURN_IF_ERROR(adopt(*conditional, std::move(condition)));
      SHOEHORN_RETURN_IF_ERROR(adopt(*conditional, std::move(otherwise)));
      value = std::move(conditional);
    }
    return value;
  }

  Expected<ExprPtr> parse_or() {
    SHOEHORN_TRY(ExprPtr left, parse_and());
    while (at_name("or")) {
      ExprPtr e = expr(ExprKind::kOr);
      skip();
      SHOEHORN_TRY(ExprPtr right, parse_and());
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(left)));
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(right)));
      left = std::move(e);
    }
    return left;
  }

  Expected<ExprPtr> parse_and() {
    SHOEHORN_TRY(ExprPtr left, parse_not());
    while (at_name("and")) {
      ExprPtr e = expr(ExprKind::kAnd);
      skip();
      SHOEHORN_TRY(ExprPtr right, parse_not());
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(left)));
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(right)));
      left = std::move(e);
    }
    return left;
  }

  Expected<ExprPtr> parse_not() {
    if (!at_name("not")) return parse_comparison();
    const Nesting nesting(&nesting_);
    SHOEHORN_RETURN_IF_ERROR(check_nesting());
    ExprPtr e = expr(ExprKind::kNot);
    skip();
    SHOEHORN_TRY(ExprPtr operand, parse_not());
    SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(operand)));
    return e;
  }

  // "" when no comparison follows.
  std::string take_comparison() {
    for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (take(op)) return std::string(op);
    }
    if (take_name("in")) return "in";
    if (at_name("not") && next().kind == TokenKind::kName && next().text == "in") {
      skip();
      skip();
      return "not in";
    }
    return "";
  }

  Expected<ExprPtr> parse_comparison() {
    SHOEHORN_TRY(ExprPtr first, parse_sum());
    ExprPtr e = expr(ExprKind::kCompare);
    for (std::string op = take_comparison(); !op.empty(); op = take_comparison()) {
      if (first != nullptr) SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(first)));
      e->comparisons.push_back(std::move(op));
      SHOEHORN_TRY(ExprPtr right, parse_sum());
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(right)));
    }
    if (first != nullptr) return first;
    return e;
  }

  Expected<ExprPtr> parse_left_associative(Words operators, Expected<ExprPtr> (Parser::*parse_operand)()) {
    SHOEHORN_TRY(ExprPtr left, (this->*parse_operand)());
    while (current().kind == TokenKind::kOperator &&
           std::find(operators.begin(), operators.end(), current().text) != operators.end()) {
      ExprPtr e = expr(ExprKind::kBinary);
      e->name = current().text;
      skip();
      SHOEHORN_TRY(ExprPtr right, (this->*parse_operand)());
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(left)));
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(right)));
      left = std::move(e);
    }
    return left;
  }

  // In Jinja ~ binds tighter than + and -; with both on one level everything it can compute has the same result, and
  // `n + 1 ~ "x"` has one too.
  Expected<ExprPtr> parse_sum() { return parse_left_associative({"+", "-", "~"}, &Parser::parse_product); }
  Expected<ExprPtr> parse_product() { return parse_left_associative({"*", "/", "//", "%"}, &Parser::parse_power); }
  Expected<ExprPtr> parse_power() { return parse_left_associative({"**"}, &Parser::parse_filtered); }

  Expected<ExprPtr> parse_filtered() {
    SHOEHORN_TRY(ExprPtr value, parse_sign());
    while (true) {
      if (at("|")) {
        SHOEHORN_TRY(value, parse_filters(std::move(value)));
      } else if (at_name("is")) {
        SHOEHORN_TRY(value, parse_test(std::move(value)));
      } else {
        return value;
      }
    }
  }

  Expected<ExprPtr> parse_sign() {
    if (!at("-") && !at("+")) return parse_postfix();
    const Nesting nesting(&nesting_);
    SHOEHORN_RETURN_IF_ERROR(check_nesting());
    ExprPtr e = expr(at("-") ? ExprKind::kNegate : ExprKind::kPlus);
    skip();
    SHOEHORN_TRY(ExprPtr operand, parse_sign());
    SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(operand)));
    return e;
  }

  Expected<ExprPtr> parse_filters(ExprPtr value) {
    while (take("|")) {
      SHOEHORN_TRY(value, parse_filter(std::move(value)));
    }
    return value;
  }

  Expected<ExprPtr> parse_filter(ExprPtr value) {
    ExprPtr e = expr(ExprKind::kFilter);
    SHOEHORN_TRY(e->name, expect_name());
    if (at("(")) {
      SHOEHORN_RETURN_IF_ERROR(parse_arguments(*e));
    }
    SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
    return e;
  }

  Expected<ExprPtr> parse_test(ExprPtr value) {
    ExprPtr e = expr(ExprKind::kTest);
    skip();  // is
    e->negated = take_name("not");
    if (current().kind != TokenKind::kName) return unexpected("the name of a test");
    e->name = current().text;
    skip();
    // Only these take an argument without parentheses, so that `x is none and ...` stays unambiguous.
    static const std::set<std::string_view> kWithArgument = {
        "divisibleby", "equalto", "eq", "ne", "lt", "le", "gt", "ge", "lessthan", "greaterthan", "in", "sameas"};
    if (at("(")) {
      SHOEHORN_RETURN_IF_ERROR(parse_arguments(*e));
    } else if (kWithArgument.contains(e->name)) {
      Argument argument;
      SHOEHORN_TRY(argument.value, parse_postfix());
      e->height = std::max(e->height, argument.value->height + 1);
      e->arguments.push_back(std::move(argument));
    }
    SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
    return e;
  }

  Expected<ExprPtr> parse_postfix() {
    SHOEHORN_TRY(ExprPtr value, parse_primary());
    while (true) {
      if (at(".")) {
        ExprPtr e = expr(ExprKind::kAttribute);
        skip();
        if (current().kind == TokenKind::kInt) {
          e->kind = ExprKind::kItem;
          SHOEHORN_TRY(ExprPtr index, parse_number());
          SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
          SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(index)));
        } else if (current().kind == TokenKind::kName) {
          e->name = current().text;
          skip();
          SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
        } else {
          return unexpected("a name or an index");
        }
        value = std::move(e);
      } else if (at("[")) {
        SHOEHORN_TRY(value, parse_subscript(std::move(value)));
      } else if (at("(")) {
        ExprPtr e = expr(ExprKind::kCall);
        SHOEHORN_RETURN_IF_ERROR(parse_arguments(*e));
        SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
        value = std::move(e);
      } else {
        return value;
      }
    }
  }

  Expected<ExprPtr> parse_subscript(ExprPtr value) {
    ExprPtr e = expr(ExprKind::kItem);
    skip();  // [
    SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(value)));
    if (at("]")) return unexpected("an index");
    for (int part = 0; part < 3; ++part) {
      ExprPtr bound;
      if (!at(":") && !at("]")) {
        SHOEHORN_TRY(bound, parse_expression());
      }
      SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(bound)));
      if (!take(":")) break;
      e->kind = ExprKind::kSlice;
    }
    if (e->kind == ExprKind::kSlice) e->operands.resize(4);
    SHOEHORN_RETURN_IF_ERROR(expect("]"));
    return e;
  }

  Status parse_arguments(Expr& e) {
    skip();  // (
    bool named = false;
    while (!at(")")) {
      Argument argument;
      if (take("**")) {
        argument.kind = Argument::Kind::kSpreadNamed;
        named = true;
      } else if (take("*")) {
        argument.kind = Argument::Kind::kSpread;
      } else if (current().kind == TokenKind::kName && next().kind == TokenKind::kOperator && next().text == "=") {
        argument.kind = Argument::Kind::kNamed;
        argument.name = current().text;
        for (const Argument& other : e.arguments) {
          if (other.kind == Argument::Kind::kNamed && other.name == argument.name) {
            return error("the argument '{}' is given twice", argument.name);
          }
        }
        skip();
        skip();
        named = true;
      } else if (named) {
        return error("a positional argument after a named one");
      }
      SHOEHORN_TRY(argument.value, parse_expression());
      e.height = std::max(e.height, argument.value->height + 1);
      e.arguments.push_back(std::move(argument));
      if (!take(",") && !at(")")) return unexpected("',' or ')'");
    }
    skip();
    return check_height(e);
  }

  Expected<ExprPtr> parse_number() {
    ExprPtr e = expr(ExprKind::kConstant);
    const std::string& text = current().text;
    int64_t integer = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), integer);
    if (current().kind == TokenKind::kInt && result.ec == std::errc()) {
      e->constant = Value(integer);
    } else {
      e->constant = Value(std::strtod(text.c_str(), nullptr));
    }
    skip();
    return e;
  }

  Expected<ExprPtr> parse_primary() {
    const Token& token = current();
    switch (token.kind) {
      case TokenKind::kInt:
      case TokenKind::kFloat:
        return parse_number();
      case TokenKind::kString: {
        ExprPtr e = expr(ExprKind::kConstant);
        std::string text;
        for (; current().kind == TokenKind::kString; skip()) text += current().text;
        e->constant = Value::literal(std::move(text));
        return e;
      }
      case TokenKind::kName:
        return parse_name();
      default:
        break;
    }
    if (at("(")) {
      skip();
      if (at(")")) {
        ExprPtr e = expr(ExprKind::kList);
        skip();
        return e;
      }
      SHOEHORN_TRY(ExprPtr e, parse_tuple());
      SHOEHORN_RETURN_IF_ERROR(expect(")"));
      return e;
    }
    if (at("[")) {
      ExprPtr e = expr(ExprKind::kList);
      skip();
      while (!at("]")) {
        SHOEHORN_TRY(ExprPtr item, parse_expression());
        SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(item)));
        if (!take(",") && !at("]")) return unexpected("',' or ']'");
      }
      skip();
      return e;
    }
    if (at("{")) {
      ExprPtr e = expr(ExprKind::kDict);
      skip();
      while (!at("}")) {
        SHOEHORN_TRY(ExprPtr key, parse_expression());
        SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(key)));
        SHOEHORN_RETURN_IF_ERROR(expect(":"));
        SHOEHORN_TRY(ExprPtr item, parse_expression());
        SHOEHORN_RETURN_IF_ERROR(adopt(*e, std::move(item)));
        if (!take(",") && !at("}")) return unexpected("',' or '}'");
      }
      skip();
      return e;
    }
    return unexpected("an expression");
  }

  Expected<ExprPtr> parse_name() {
    const std::string& name = current().text;
    ExprPtr e = expr(ExprKind::kConstant);
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      e->constant = Value(name == "true" || name == "True");
      skip();
      return e;
    }
    if (name == "none" || name == "None") {
      e->constant = Value(None{});
      skip();
      return e;
    }
    e->kind = ExprKind::kName;
    SHOEHORN_TRY(e->name, expect_name());
    reads_kwargs_ |= e->name == "kwargs";
    reads_varargs_ |= e->name == "varargs";
    return e;
  }

  const std::vector<Token> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
  int loops_ = 0;
  bool reads_kwargs_ = false;
  bool reads_varargs_ = false;
};

}  // namespace

Expected<Program> parse_program(std::string_view source) {
  SHOEHORN_TRY(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace shoehorn::tokenizer::jinja
