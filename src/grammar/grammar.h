// A context-free grammar over bytes, as the matcher walks it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::grammar {

struct Element {
  enum class Kind : uint8_t { kBytes, kRule, kEnd };
  Kind kind = Kind::kEnd;
  uint8_t low = 0, high = 0;  ///< kBytes: one byte of this range, both ends included
  uint32_t rule = 0;          ///< kRule
};

struct Rule {
  std::string name;
  std::vector<uint32_t> alternatives;  ///< where each begins in Grammar::elements
};

/// Rules over bytes: characters beyond ASCII are sequences of byte ranges, so that a token which is part of a character
/// is nothing special. Made by parse_gbnf(); immutable after.
struct Grammar {
  std::vector<Element> elements;  ///< alternatives one after another, each with kEnd behind it
  std::vector<Rule> rules;
  uint32_t root = 0;
};

/// The most elements of a grammar, its repetitions written out.
inline constexpr size_t kMaxElements = 500'000;

/// Every rule is defined and none begins with itself (directly or behind what can be empty), which no walk from left to
/// right could end. kInvalid, naming the rule.
Status check(const Grammar& grammar);

}  // namespace shoehorn::grammar
