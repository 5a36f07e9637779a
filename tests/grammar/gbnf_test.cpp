#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <regex>

#include "grammar/code_points.h"
#include "matching.h"
#include "support/support.h"

namespace shoehorn::grammar {
namespace {

std::string message_of(std::string_view gbnf) {
  const auto grammar = parse_gbnf(gbnf);
  return grammar ? "" : grammar.error().message;
}

TEST(Gbnf, LiteralsAndEscapes) {
  EXPECT_TRUE(matches(R"(root ::= "a\"\\\n\x41\u00e9")", "a\"\\\nA\xC3\xA9"));
  EXPECT_FALSE(matches(R"(root ::= "ab")", "a"));
  EXPECT_FALSE(matches(R"(root ::= "ab")", "abc"));
  EXPECT_TRUE(matches("root ::= \"\"", ""));
  EXPECT_TRUE(matches("root ::= \"é\" [ä-ü]", "éö"));
}

TEST(Gbnf, Classes) {
  const char* gbnf = R"(root ::= [a-c_\-\]] [^0-9x] .)";
  EXPECT_TRUE(matches(gbnf, "b-\n"));
  EXPECT_TRUE(matches(gbnf, "]\xE2\x82\xAC\xF0\x9F\x98\x80"));
  EXPECT_FALSE(matches(gbnf, "bx!"));
  EXPECT_FALSE(matches(gbnf, "d-!"));
  // Parts of characters are none.
  EXPECT_FALSE(matches("root ::= .", "\xC3"));
  EXPECT_FALSE(matches("root ::= .", "\xA9"));
  EXPECT_FALSE(matches("root ::= .", "\xED\xA0\x80")) << "a surrogate";
  EXPECT_FALSE(matches("root ::= .", "\xC0\x80")) << "two bytes for one";
}

TEST(Gbnf, RepetitionsGroupsAndAlternatives) {
  EXPECT_TRUE(matches("root ::= (\"ab\" | \"c\")* \"d\"?", "abcabd"));
  EXPECT_TRUE(matches("root ::= \"ab\"*", "abab")) << "of the whole literal";
  EXPECT_FALSE(matches("root ::= \"ab\"+", ""));
  for (int n = 0; n < 8; ++n) {
    const std::string text(static_cast<size_t>(n), 'a');
    EXPECT_EQ(matches("root ::= \"a\"{2,5}", text), n >= 2 && n <= 5) << n;
    EXPECT_EQ(matches("root ::= \"a\"{3}", text), n == 3) << n;
    EXPECT_EQ(matches("root ::= \"a\"{2,}", text), n >= 2) << n;
    EXPECT_EQ(matches("root ::= (\"a\"?){2,5}", text), n <= 5) << n;
    EXPECT_EQ(matches("root ::= (\"a\"*)*", text), true) << n;
  }
  EXPECT_FALSE(matches("root ::= \"a\"{0}", "a"));
}

TEST(Gbnf, LinesCommentsAndNames) {
  const char* gbnf =
      "# a comment\nroot ::= item-1 |\n   (\"x\"\n  # inside\n \"y\")\nitem-1 ::=\n  [0-9]+ # behind\n\n";
  EXPECT_TRUE(matches(gbnf, "12"));
  EXPECT_TRUE(matches(gbnf, "xy"));
  EXPECT_FALSE(matches(gbnf, "x"));
}

TEST(Gbnf, RecursionAtTheEndAndInTheMiddle) {
  const char* gbnf = "root ::= \"(\" root \")\" root | \"\"";
  EXPECT_TRUE(matches(gbnf, "(()())()"));
  EXPECT_FALSE(matches(gbnf, "(()"));
  const std::string deep = std::string(3000, '(') + std::string(3000, ')');
  EXPECT_TRUE(matches(gbnf, deep));
}

TEST(Gbnf, ErrorsNameTheLine) {
  EXPECT_EQ(message_of("root ::= \"a\"\n\nb ::= ["), "grammar: line 3: a literal or class does not end");
  EXPECT_EQ(message_of("root ::= \"a"), "grammar: line 1: a literal or class does not end");
  EXPECT_EQ(message_of("root ::= (\"a\""), "grammar: line 1: ) is expected, not the end");
  EXPECT_EQ(message_of("root := \"a\""), "grammar: line 1: ::= is expected behind the name root, not \":= \"a\"\"");
  EXPECT_EQ(message_of("root ::= [z-a]"), "grammar: line 1: a range of characters that ends before it begins");
  EXPECT_EQ(message_of("root ::= \"a\"{3,1}"), "grammar: line 1: at least 3 and at most 1 repetitions");
  EXPECT_EQ(message_of("root ::= \"\\ud800\""), "grammar: line 1: U+D800 is no character");
  EXPECT_EQ(message_of("root ::= \"\\q\""), "grammar: line 1: \\ before a character that it means nothing for");
  EXPECT_EQ(message_of("root ::= \"\xFF\""), "grammar: line 1: no UTF-8");
  EXPECT_EQ(message_of("root ::= other"), "grammar: the rule other is used, not defined");
  EXPECT_EQ(message_of("a ::= \"a\""), "grammar: there is no rule named root");
  EXPECT_EQ(message_of("root ::= \"a\"\nroot ::= \"b\""), "grammar: line 2: the rule root is defined twice");
  EXPECT_EQ(message_of("root ::= \"a\" )"), "grammar: line 1: the end of the line is expected, not \")\"");
  EXPECT_NE(message_of(""), "");
}

TEST(Gbnf, WhatNoWalkCouldEndIsRefused) {
  EXPECT_EQ(message_of("root ::= root \"a\" | \"b\""),
            "grammar: the rule root begins with itself; put the recursion at the end");
  EXPECT_NE(message_of("root ::= a\na ::= b \"x\" | \"y\"\nb ::= \"z\"? a \"w\""), "");
  EXPECT_NE(message_of("root ::= (\"a\"?)* root \"b\" | \"c\""), "") << "behind what can be empty";
}

TEST(Gbnf, SizesAreCapped) {
  EXPECT_NE(message_of("root ::= \"a\"{70000}").find("65536"), std::string::npos);
  EXPECT_NE(message_of("root ::= a{65536} a{65536} a{65536} a{65536} a{65536} a{65536} a{65536} a{65536}\na ::= \"a\"")
                .find("500000"),
            std::string::npos);
  EXPECT_NE(message_of("root ::= " + std::string(100, '(')).find("64"), std::string::npos);
  EXPECT_NE(message_of(std::string((1 << 20) + 1, ' ')).find("bytes"), std::string::npos);
}

// Many rules, each empty by the next: linear work.
TEST(Gbnf, ChainsOfEmptyRules) {
  std::string gbnf = "root ::= a0 \"x\"\n";
  constexpr int kRules = 40'000;
  for (int i = 0; i < kRules; ++i) gbnf += fmt::format("a{} ::= a{} \n", i, i + 1);
  gbnf += fmt::format("a{} ::= \"\"\n", kRules);
  ASSERT_EXPECTED(Grammar grammar, parse_gbnf(gbnf));
  EXPECT_EQ(grammar.rules.size(), size_t{kRules} + 2);
}

// Every character in and out of random sets, as UTF-8.
TEST(CodePoints, AreTheirBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 6; ++round) {
    std::vector<CodePoints> set;
    for (int i = 0; i < 5; ++i) {
      const uint32_t scale = i % 2 == 0 ? 0x3000 : kLastCodePoint + 1;
      auto a = static_cast<uint32_t>(random() % scale), b = static_cast<uint32_t>(random() % scale);
      if (a > b) std::swap(a, b);
      set.push_back({a, std::min(b, a + static_cast<uint32_t>(random() % 5000))});
    }
    std::string gbnf = "root ::= [";
    for (const CodePoints& range : set) {
      for (const uint32_t c : {range.first, range.last})
        gbnf += fmt::format("\\U{:08X}", c >= 0xD800 && c <= 0xDFFF ? 0xD7FF : c) +
                (c == range.first && range.first != range.last ? "-" : "");
      if (range.first == range.last) gbnf.resize(gbnf.size() - 10);
    }
    ASSERT_EXPECTED(Grammar grammar, parse_gbnf(gbnf + "]"));
    ASSERT_EXPECTED(Grammar negated, parse_gbnf("root ::= [^" + gbnf.substr(10) + "]"));
    Automaton inside(std::make_shared<const Grammar>(std::move(grammar))),
        outside(std::make_shared<const Grammar>(std::move(negated)));
    for (uint32_t c = 0; c <= kLastCodePoint; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      const bool is_in =
          std::ranges::any_of(set, [&](const CodePoints& range) { return c >= range.first && c <= range.last; });
      std::string text;
      append_utf8(text, c);
      ASSERT_EQ(matches(inside, text), is_in) << c;
      ASSERT_EQ(matches(outside, text), !is_in) << c;
    }
  }
}

// std::regex is the oracle of what is regular.
TEST(Automaton, AgreesWithRegularExpressions) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"(a|b)*abb", R"(root ::= ("a" | "b")* "abb")"},
      {"(a|ab)(c|bcd)(d*)", R"(root ::= ("a" | "ab") ("c" | "bcd") "d"*)"},
      {"((ab?)*c){1,3}", R"(root ::= (("a" "b"?)* "c"){1,3})"},
      {"[a-c]{2,4}d?", R"(root ::= [a-c]{2,4} "d"?)"},
      {"(a*)*b", R"(root ::= ("a"*)* "b")"}};
  std::mt19937 random(7);
  for (const auto& [expression, gbnf] : cases) {
    ASSERT_EXPECTED(Grammar grammar, parse_gbnf(gbnf));
    Automaton automaton(std::make_shared<const Grammar>(std::move(grammar)));
    const std::regex regex(expression);
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      for (auto n = random() % 9; n > 0; --n) text += static_cast<char>('a' + random() % 4);
      ASSERT_EQ(matches(automaton, text), std::regex_match(text, regex)) << expression << " " << text;
    }
  }
}

TEST(Automaton, ForgettingChangesNothing) {
  ASSERT_EXPECTED(Grammar grammar, parse_gbnf("root ::= \"[\" (root (\",\" root)*)? \"]\""));
  Automaton automaton(std::make_shared<const Grammar>(std::move(grammar)));
  Automaton::State state = automaton.start();
  std::mt19937 random(3);
  int depth = 0;
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    const char byte = depth > 0 && text.back() != ',' && random() % 3 == 0 ? ']'
                      : !text.empty() && text.back() == ']'                ? ','
                                                                           : '[';
    if (byte == ']' && depth == 1) continue;
    depth += byte == '[' ? 1 : byte == ']' ? -1 : 0;
    text += byte;
    state = automaton.next(state, static_cast<uint8_t>(byte));
    ASSERT_NE(state, Automaton::kDead) << text;
    if (i % 50 == 0) state = automaton.forget_others(state);
  }
  if (text.back() == ',') {
    state = automaton.next(automaton.next(state, '['), ']');
  }
  for (; depth > 0; --depth) state = automaton.next(state, ']');
  EXPECT_TRUE(automaton.accepts(state));
  EXPECT_FALSE(automaton.goes_on(state));
  EXPECT_LT(automaton.n_states(), 2000u);
}

TEST(Automaton, TooManyReadingsAreAnError) {
  // Each a may begin a nesting that is never closed: more and more places at once.
  ASSERT_EXPECTED(Grammar grammar,
                  parse_gbnf("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root \"d\" | \"\""));
  Automaton automaton(std::make_shared<const Grammar>(std::move(grammar)));
  Automaton::State state = automaton.start();
  int n = 0;
  for (; n < 100 && state != Automaton::kDead; ++n) state = automaton.next(state, 'a');
  EXPECT_LT(n, 100);
  ASSERT_FALSE(automaton.status().has_value());
  EXPECT_EQ(automaton.status().error().code, ErrorCode::kTooLarge);
}

}  // namespace
}  // namespace shoehorn::grammar
