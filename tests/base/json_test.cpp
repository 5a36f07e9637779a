#include "base/json.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace shoehorn {
namespace {

TEST(Json, ParsesOrSaysWhyNot) {
  ASSERT_EXPECTED(const Json j, parse_json(R"({"a": [1, 2.5, "x", null, true]})"));
  EXPECT_EQ(j["a"][1], 2.5);
  for (const char* text :
       {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"\xff\"", "\"\\ud800\"", "1e999", "{'a': 1}"}) {
    const auto result = parse_json(text);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalid);
  }
}

TEST(Json, DepthIsCapped) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(64)).has_value());
  EXPECT_FALSE(parse_json(nested(65)).has_value());
  EXPECT_TRUE(parse_json(nested(3), 3).has_value());
  EXPECT_FALSE(parse_json(nested(4), 3).has_value());
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_FALSE(parse_json(objects + "1" + std::string(100, '}')).has_value());
  // Deep enough to overflow the stack of a recursive parser.
  EXPECT_FALSE(parse_json(std::string(5'000'000, '[')).has_value());
  EXPECT_FALSE(parse_json(nested(5'000'000)).has_value());
}

TEST(Json, OrderIsKeptWhereItIsAskedFor) {
  ASSERT_EXPECTED(const OrderedJson j, parse_ordered_json(R"({"b": {"z": 1, "a": 2}, "skip": {"x": [1]}, "a": [{"y": 1, "b": 2}]})", 64, 8, "skip"));
  EXPECT_EQ(j.dump(), R"({"b":{"z":1,"a":2},"a":[{"y":1,"b":2}]})");
  EXPECT_FALSE(parse_ordered_json("[[[[]]]]", 3).has_value());
  // Keys are counted for each object, whatever else is open.
  EXPECT_TRUE(parse_ordered_json(R"({"a": [{"x": 1, "y": 1}, {"x": 1, "y": {"x": 1, "y": 1}}], "b": 1})", 64, 2).has_value());
  const auto many = parse_ordered_json(R"({"a": [{"x": 1, "y": 1, "z": 1}]})", 64, 2);
  ASSERT_FALSE(many.has_value());
  EXPECT_EQ(many.error().message, "a JSON object of more than 2 keys");
}

TEST(Json, FilesAreCappedAndNamedInErrors) {
  const std::string path = test::temp_dir() + "/c.json";
  test::write_text(path, "[1, 2]");
  EXPECT_TRUE(read_json(path).has_value());
  EXPECT_TRUE(read_json(path, 6).has_value());
  auto result = read_json(path, 5);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(result.error().message.find(path), std::string::npos);
  test::write_text(path, "[1, ");
  result = read_json(path);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find(path), std::string::npos);
  result = read_json(path + "x");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(read_json(test::temp_dir()).has_value());
}

TEST(Json, LookUpsFallBackOnOtherTypes) {
  const Json j = {{"n", 3}, {"f", 2.5}, {"s", "x"}, {"b", true}, {"null", nullptr}, {"list", {1, 2}}};
  EXPECT_EQ(json_or<uint64_t>(j, "n", 9), 3u);
  EXPECT_EQ(json_or<double>(j, "n", 9), 3.0);
  EXPECT_EQ(json_or<uint64_t>(j, "s", 9), 9u);
  EXPECT_EQ(json_or<uint64_t>(j, "b", 9), 9u);
  EXPECT_EQ(json_or<uint64_t>(j, "null", 9), 9u);
  EXPECT_EQ(json_or<uint64_t>(j, "list", 9), 9u);
  EXPECT_EQ(json_or<bool>(j, "b", false), true);
  EXPECT_EQ(json_or<bool>(j, "n", false), false);
  EXPECT_EQ(json_or<std::string>(j, "s", "y"), "x");
  EXPECT_EQ(json_or<std::string>(j, "absent", "y"), "y");
  EXPECT_EQ(json_or<uint64_t>(Json::array(), "n", 9), 9u);
}

}  // namespace
}  // namespace shoehorn
