// The syntax tree of a chat template.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace shoehorn::tokenizer::jinja {

enum class ExprKind {
  kConstant,   // constant
  kName,       // name
  kList,       // operands
  kDict,       // operands: key, value, key, value ...
  kAttribute,  // operands[0].name
  kItem,       // operands[0][operands[1]]
  kSlice,      // operands[0][1:2:3]; 1 to 3 may be null
  kCall,       // operands[0](arguments)
  kFilter,     // operands[0] | name(arguments)
  kTest,       // operands[0] is name(arguments); negated
  kNot,        // not operands[0]
  kNegate,     // -operands[0]
  kPlus,       // +operands[0]
  kBinary,     // operands[0] name operands[1], arithmetic
  kAnd,
  kOr,
  kCompare,      // operands[0] comparisons[0] operands[1] comparisons[1] ...
  kConditional,  // operands[0] if operands[1] else operands[2]; 2 may be null
  kCaptured,     // the text of the block that a filter is applied to
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Argument {
  enum class Kind { kPositional, kNamed, kSpread, kSpreadNamed } kind = Kind::kPositional;
  std::string name;
  ExprPtr value;
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  int line = 0;
  int height = 1;
  bool negated = false;
  Value constant;
  std::string name;
  std::vector<ExprPtr> operands;
  std::vector<Argument> arguments;
  std::vector<std::string> comparisons;  // "==", "in", "not in", ...
};

/// What is assigned to: a name, an attribute of a namespace, or several targets.
struct Target {
  std::string name;
  std::string attribute;
  std::vector<Target> parts;
};

struct Parameter {
  std::string name;
  ExprPtr fallback;  // null: none
};

enum class StatementKind {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kBreak,
  kContinue
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Branch {
  ExprPtr condition;
  Block body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 0;
  std::string text;   // kText; kMacro: its name
  ExprPtr value;      // kPrint, kSet; kFor: what is iterated; kCallBlock: the call; kSetBlock, kFilterBlock: filters
  ExprPtr condition;  // kFor: `if`; may be null
  Target target;      // kFor, kSet, kSetBlock
  std::vector<Branch> branches;       // kIf: if and elif
  std::vector<Parameter> parameters;  // kMacro, kCallBlock; kWith: its variables
  bool takes_kwargs = false;          // kMacro, kCallBlock: the body reads `kwargs`, `varargs`
  bool takes_varargs = false;
  Block body;
  Block otherwise;  // kIf, kFor: else
};

struct Program {
  Block body;
};

}  // namespace shoehorn::tokenizer::jinja
