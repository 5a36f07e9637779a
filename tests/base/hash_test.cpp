// The hash against the published values.
#include "base/hash.h"

#include <gtest/gtest.h>

#include <string_view>

namespace shoehorn {
namespace {

uint64_t hash(std::string_view text) {
  Fnv1a hash;
  hash.add(std::as_bytes(std::span(text)));
  return hash.value();
}

TEST(Fnv1a, PublishedValues) {
  EXPECT_EQ(hash(""), 0xcbf29ce484222325);
  EXPECT_EQ(hash("a"), 0xaf63dc4c8601ec8c);
  EXPECT_EQ(hash("foobar"), 0x85944171f73967e8);
}

TEST(Fnv1a, PiecesAreTheWhole) {
  Fnv1a pieces;
  for (const std::string_view part : {"foo", "", "bar"}) pieces.add(std::as_bytes(std::span(part)));
  EXPECT_EQ(pieces.value(), hash("foobar"));
}

}  // namespace
}  // namespace shoehorn
