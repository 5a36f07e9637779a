#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include <random>

#include "grammar/number_range.h"
#include "grammar/string_pattern.h"
#include "matching.h"
#include "support/support.h"

namespace shoehorn::grammar {
namespace {

using Json = nlohmann::ordered_json;

struct Case {
  const char* schema;
  std::vector<const char*> valid, invalid;
};

class SchemaTexts : public ::testing::TestWithParam<Case> {};

TEST_P(SchemaTexts, LetsItsTextsThroughAndNoOthers) {
  const Case& c = GetParam();
  ASSERT_EXPECTED(const std::string gbnf, gbnf_of_schema(Json::parse(c.schema)));
  for (const char* text : c.valid) EXPECT_TRUE(matches(gbnf, text)) << text << "\n" << gbnf;
  for (const char* text : c.invalid) EXPECT_FALSE(matches(gbnf, text)) << text << "\n" << gbnf;
}

INSTANTIATE_TEST_SUITE_P(
    Of, SchemaTexts,
    ::testing::Values(
        Case{"{}",
             {"1", "[1, \"a\", null]", "{\"a\": {}}", "{\n  \"a\": -1.5e-3\n}", "true"},
             {"", "tru", "[1,]", "01", "{\"a\" 1}", "\"\\ud800\""}},
        Case{"true", {"\"\\ud83d\\ude00\"", "\"\\u0041\""}, {"\"\\x\"", "\"a\nb\""}},
        Case{
            R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"], "additionalProperties": false})",
            {R"({"a":1,"b":"x"})", "{\n    \"a\": -7,\n    \"b\": \"\"\n}"},
            {R"({"b":"x","a":1})", R"({"a":1})", R"({"a":1.5,"b":""})", R"({"a":1,"b":"","c":1})", "{}"}},
        Case{
            R"({"properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"type": "number"}}, "required": ["b"]})",
            {R"({"b":true})", R"({"a":null,"b":false})", R"({"b":true,"c":1e5})", R"({"a":null,"b":true,"c":-0.5})"},
            {"{}", R"({"a":null})", R"({"c":1,"b":true})", R"({"b":true,})", R"({,"b":true})", R"({"b":true,"d":1})"}},
        Case{R"({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}})",
             {"{}", "{ }", R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
             {R"({"b":null,"a":null})"}},
        Case{
            R"({"type": "object", "properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "string"}})",
            {R"({"ab":1})", R"({"ab":1,"c":"x"})", R"({"c":"x","d":"y"})", R"({"a":"x"})", R"({"abc":"x"})",
             R"({"":"x"})", R"({"b\"":"x"})", "{}"},
            {R"({"c":1})", R"({"ab":"x"})", R"({"c":"x","ab":"y"})"}},
        Case{R"({"type": "object", "additionalProperties": {"type": "integer"}, "required": ["k"]})",
             {R"({"k":1})", R"({"k":1,"z":2})"},
             {"{}", R"({"z":2})"}},
        Case{R"({"type": "object"})", {"{}", R"({"x":[1]})"}, {"[]"}},
        Case{R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
             {"[1]", "[1, 2,3]"},
             {"[]", "[1,2,3,4]", "[\"a\"]", "[1,]"}},
        Case{R"({"type": "array", "items": {"enum": ["a", 1, null]}})",
             {"[]", "[\"a\", 1, null]", "[\n 1\n]"},
             {"[\"b\"]"}},
        Case{R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"}},
        Case{R"({"type": "array", "minItems": 2, "maxItems": 2})", {"[1,\"a\"]"}, {"[1]", "[1,2,3]"}},
        Case{R"({"prefixItems": [{"type": "integer"}, {"type": "string"}]})",
             {"[1,\"a\"]"},
             {"[1]", "[1,\"a\",2]", "[]"}},
        Case{R"({"prefixItems": [{"type": "integer"}], "items": {"type": "boolean"}, "maxItems": 3})",
             {"[1]", "[1,true,false]"},
             {"[true]", "[1,true,true,true]"}},
        Case{R"({"const": {"a": [1, "x"]}})", {R"({"a":[1,"x"]})"}, {"{}"}},
        Case{R"({"enum": ["red", "gr\"een", "blau é"], "type": "string"})",
             {"\"red\"", R"("gr\"een")", "\"blau é\""},
             {"\"re\"", "red"}},
        Case{R"({"type": ["string", "null"], "maxLength": 2})", {"null", "\"ab\"", "\"\""}, {"\"abc\"", "1"}},
        Case{R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]})",
             {"1", "[1,2]"},
             {"\"1\"", "[[1]]"}},
        Case{
            R"({"type": "object", "required": ["a"], "anyOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}, "b": {"type": "null"}}}]})",
            {R"({"a":1})", R"({"a":2})", R"({"a":2,"b":null})"},
            {R"({"a":1,"b":null})", R"({"a":3})"}},
        Case{
            R"({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"$ref": "#/$defs/b"}], "$defs": {"b": {"properties": {"b": {"type": "integer"}}, "required": ["b"]}}})",
            {R"({"a":1,"b":2})"},
            {R"({"a":1})", R"({"b":2})"}},
        Case{
            R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "required": ["v", "next"]}}})",
            {R"({"v":1,"next":[]})", R"({"v":1,"next":[{"v":2,"next":[]},{"v":3,"next":[{"v":4,"next":[]}]}]})"},
            {R"({"v":1})", R"({"v":1,"next":[1]})"}},
        Case{
            R"({"type": "object", "properties": {"child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["child"]})",
            {R"({"child":{"child":null}})"},
            {R"({"child":{}})"}},
        Case{R"({"type": "string", "minLength": 2, "maxLength": 3})",
             {"\"ab\"", "\"é😀x\"", R"("\n\"")"},
             {"\"a\"", "\"abcd\""}},
        Case{R"({"type": "string", "pattern": "^[a-z]{2,3}-\\d+$"})",
             {"\"ab-1\"", "\"abc-123\""},
             {"\"a-1\"", "\"ab-\"", "\"wxyz-1\"", "\"ab-1x\""}},
        Case{R"({"type": "string", "pattern": "\\d"})", {"\"a1b\"", "\"1\""}, {"\"ab\""}},
        Case{R"({"type": "string", "pattern": "^(?:a|b\\.)+?$|^\"\\\\$"})",
             {"\"ab.a\"", R"("\"\\")"},
             {"\"bx\"", "\"\""}},
        Case{R"({"type": "string", "pattern": "^[^a\\s]$"})",
             {"\"b\"", "\"é\"", R"("\"")"},
             {"\"a\"", "\" \"", R"("\n")"}},
        Case{R"({"type": "string", "format": "date-time"})",
             {"\"2026-11-29T01:02:03Z\"", "\"2026-11-29T01:02:03.5+01:00\""},
             {"\"2026-13-29T01:02:03Z\"", "\"2026-11-29\""}},
        Case{R"({"type": "string", "format": "uuid"})", {"\"01234567-89ab-cdef-0123-456789abcdef\""}, {"\"0\""}},
        Case{R"({"type": "string", "format": "email"})", {"\"anything\""}, {"1"}},
        Case{R"({"type": "integer", "minimum": -5, "exclusiveMaximum": 12})",
             {"-5", "-1", "0", "9", "11"},
             {"-6", "12", "-0", "01", "5.0"}},
        Case{R"({"type": "number", "minimum": 0, "maximum": 1})",
             {"0", "1", "0.25", "1.00", "0.0"},
             {"1.5", "-0.5", "2", "1.01"}},
        Case{
            R"({"type": "number", "minimum": -2, "maximum": -1})", {"-2", "-1", "-1.5", "-2.0"}, {"-0.5", "-2.5", "0"}},
        Case{
            R"({"title": "T", "description": "d", "type": "boolean", "default": true})", {"true", "false"}, {"null"}}));

TEST(Schema, WhatAGrammarCannotDoIsRefusedByName) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"not": {"type": "string"}})", "\"not\""},
      {R"({"type": "array", "uniqueItems": true})", "uniqueItems"},
      {R"({"type": "number", "multipleOf": 3})", "multipleOf"},
      {R"({"type": "number", "minimum": 0.5})", "minimum"},
      {R"({"patternProperties": {"a": {}}})", "patternProperties"},
      {R"({"type": "object", "properties": {"x": {"if": {}}}})", "\"if\""},
      {R"({"$ref": "https://example.com/a.json"})", "$ref"},
      {R"({"$ref": "#/$defs/none"})", "#/$defs/none"},
      {R"({"type": "string", "pattern": "^(?=a)b$"})", "look around"},
      {R"({"type": "string", "pattern": "(a)\\1"})", "\\1"},
      {R"({"type": "string", "pattern": "a", "minLength": 1})", "minLength"},
      {R"({"type": "text"})", "\"text\" is no type"},
      {R"({"type": "array", "minItems": 3, "maxItems": 2})", "maxItems"},
      {R"({"type": "array", "minItems": 70000})", "70000"},
      {R"({"enum": [1], "type": "string"})", "enum"},
      {R"([1])", "object is expected"},
      {R"({"properties": {"a": {}}, "required": ["b"], "additionalProperties": false})", "requires \"b\""},
      {R"({"allOf": [{"minimum": 1}, {"minimum": 2}]})", "minimum"}};
  for (const auto& [schema, part] : cases) {
    const auto gbnf = gbnf_of_schema(Json::parse(schema));
    ASSERT_FALSE(gbnf.has_value()) << schema;
    EXPECT_NE(gbnf.error().message.find(part), std::string::npos) << schema << ": " << gbnf.error().message;
  }
}

TEST(Schema, WhatRefersToItselfEndsInTime) {
  for (const char* schema : {R"({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})", R"({"$ref": "#", "minimum": 1})"})
    EXPECT_FALSE(gbnf_of_schema(Json::parse(schema)).has_value()) << schema;
  // A reference to nothing but itself is a grammar without a text.
  ASSERT_EXPECTED(const std::string gbnf, gbnf_of_schema(Json::parse(R"({"$ref": "#"})")));
  EXPECT_FALSE(matches(gbnf, "1"));
  // Types of types of types.
  std::string nested = "{}";
  for (int i = 0; i < 25; ++i) nested = R"({"type": ["array", "array", "array"], "items": )" + nested + "}";
  const auto many = gbnf_of_schema(Json::parse(nested));
  ASSERT_FALSE(many.has_value());
  EXPECT_EQ(many.error().code, ErrorCode::kTooLarge);
}

TEST(Schema, AnyObject) {
  EXPECT_TRUE(matches(gbnf_of_any_object(), "{\"a\": [1, {}]}"));
  EXPECT_FALSE(matches(gbnf_of_any_object(), "[1]"));
}

TEST(NumberRange, HasEveryNumberAndNoOther) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    int64_t low = static_cast<int64_t>(random() % 2500) - 1200, high = low + static_cast<int64_t>(random() % 1300);
    ASSERT_EXPECTED(Grammar grammar, parse_gbnf("root ::= " + gbnf_of_whole_numbers(low, high)));
    Automaton automaton(std::make_shared<const Grammar>(std::move(grammar)));
    for (int64_t n = -1500; n <= 3000; ++n)
      ASSERT_EQ(matches(automaton, std::to_string(n)), n >= low && n <= high) << low << ".." << high << " " << n;
    ASSERT_EXPECTED(Grammar numbers, parse_gbnf("root ::= " + gbnf_of_numbers(low, high, "\".\" [0-9]{1,16}")));
    Automaton fractions(std::make_shared<const Grammar>(std::move(numbers)));
    for (int64_t n = -15000; n <= 30000; n += 7) {
      const double value = static_cast<double>(n) / 10;
      ASSERT_EQ(matches(fractions, fmt::format("{:.1f}", value)),
                value >= static_cast<double>(low) && value <= static_cast<double>(high))
          << low << ".." << high << " " << value;
    }
  }
  ASSERT_EXPECTED(Grammar open, parse_gbnf("root ::= " + gbnf_of_whole_numbers(7, std::nullopt)));
  Automaton automaton(std::make_shared<const Grammar>(std::move(open)));
  for (const char* text : {"7", "10", "123456789", "9999999999999999"}) EXPECT_TRUE(matches(automaton, text)) << text;
  for (const char* text : {"6", "-7", "0", "07"}) EXPECT_FALSE(matches(automaton, text)) << text;
}

// Texts drawn from the grammar of a schema are JSON, and what the schema says.
TEST(Schema, WhatIsDrawnIsValid) {
  const Json schema = Json::parse(R"({"type": "object", "properties": {
      "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
      "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3}, "more": {}}, "required": ["name", "age"]})");
  ASSERT_EXPECTED(const std::string gbnf, gbnf_of_schema(schema));
  ASSERT_EXPECTED(Grammar grammar, parse_gbnf(gbnf));
  Automaton automaton(std::make_shared<const Grammar>(std::move(grammar)));
  std::mt19937 random(11);
  int whole = 0;
  for (int round = 0; round < 200; ++round) {
    std::string text;
    Automaton::State state = automaton.start();
    while (text.size() < 600 && (!automaton.accepts(state) || automaton.goes_on(state))) {
      std::vector<uint8_t> ways;
      for (int byte = 0; byte < 256; ++byte) {
        if (automaton.next(state, static_cast<uint8_t>(byte)) != Automaton::kDead)
          ways.push_back(static_cast<uint8_t>(byte));
      }
      ASSERT_FALSE(ways.empty()) << text;
      // What closes is preferred, or nothing would ever end.
      uint8_t byte = ways[random() % ways.size()];
      for (const char closes : {'}', ']', '"'}) {
        if (random() % 2 == 0 && std::ranges::find(ways, static_cast<uint8_t>(closes)) != ways.end())
          byte = static_cast<uint8_t>(closes);
      }
      text += static_cast<char>(byte);
      state = automaton.next(state, byte);
    }
    if (!automaton.accepts(state)) continue;
    ++whole;
    const Json json = Json::parse(text, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << text;
    EXPECT_TRUE(json["name"].is_string()) << text;
    EXPECT_LE(json["age"].get<int>(), 150) << text;
    EXPECT_LE(json.value("tags", Json::array()).size(), 3u) << text;
  }
  EXPECT_GT(whole, 100);
}

}  // namespace
}  // namespace shoehorn::grammar
