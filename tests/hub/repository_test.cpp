#include "hub/repository.h"

#include "support/support.h"

namespace shoehorn::hub {
namespace {

using Paths = std::vector<std::string>;

Reference wanting(const std::string& file = "") { return {"a/b", "main", file}; }

TEST(SelectFiles, OneFormatOfTheWeights) {
  ASSERT_EXPECTED(const Selection selection,
                  select_files({".gitattributes", "README.md", "config.json", "consolidated.safetensors",
                                "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                "model.safetensors.index.json", "original/consolidated.00.pth", "pytorch_model.bin",
                                "tokenizer.json", "tokenizer.model"},
                               wanting()));
  EXPECT_EQ(selection.gguf, "");
  EXPECT_EQ(selection.paths,
            (Paths{"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                   "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"}));
}

TEST(SelectFiles, AnOutlineHasNoWeights) {
  ASSERT_EXPECTED(const Selection selection,
                  select_files({"config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
                                "tokenizer.json", "README.md"},
                               wanting(), Extent::kOutline));
  EXPECT_EQ(selection.paths, (Paths{"config.json", "tokenizer.json"}));
  EXPECT_TRUE(select_files({"config.json", "tokenizer.json"}, wanting(), Extent::kOutline).has_value());
  // What has no configuration beside it has it inside.
  ASSERT_EXPECTED(const Selection gguf, select_files({"model.gguf"}, wanting(), Extent::kOutline));
  EXPECT_EQ(gguf.gguf, "model.gguf");
}

TEST(SelectFiles, PicklesWhereThereIsNothingElse) {
  ASSERT_EXPECTED(const Selection selection,
                  select_files({"config.json", "pytorch_model.bin", "training_args.bin", "merges.txt"}, wanting()));
  EXPECT_EQ(selection.paths, (Paths{"config.json", "merges.txt", "pytorch_model.bin"}));
}

TEST(SelectFiles, Gguf) {
  const Paths ggufs = {"README.md", "m-Q4_K.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "big/m.q8_0.gguf"};
  const auto chosen = [&](const Paths& paths, const std::string& file) {
    const auto selection = select_files(paths, wanting(file));
    return selection ? selection->gguf : selection.error().message;
  };
  EXPECT_EQ(chosen(ggufs, ""), "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen(ggufs, "q4_k_s"), "m-Q4_K_S.gguf");
  EXPECT_EQ(chosen(ggufs, "Q4_K"), "m-Q4_K.gguf");
  EXPECT_EQ(chosen(ggufs, "Q8_0"), "big/m.q8_0.gguf");
  EXPECT_EQ(chosen(ggufs, "big/m.q8_0.gguf"), "big/m.q8_0.gguf");
  EXPECT_EQ(chosen({"only-F16.gguf"}, ""), "only-F16.gguf");
  const Paths split = {"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0-00001-of-00001.gguf"};
  EXPECT_EQ(chosen(split, ""), split[0]);
  EXPECT_EQ(chosen(split, split[1]), split[0]);
  EXPECT_EQ(select_files(split, wanting("q4_k_m"))->paths, (Paths{split[0], split[1]}));
  // What there is, to choose from.
  EXPECT_NE(chosen(ggufs, "Q5_K").find("m-Q4_K_S.gguf"), std::string::npos);
  EXPECT_NE(chosen({"a-Q4_K_M.gguf", "b-Q4_K_M.gguf"}, "").find("several"), std::string::npos);
}

TEST(SelectFiles, NoModelSaysWhatThereIs) {
  const auto selection = select_files({"README.md", "data/train.jsonl"}, wanting());
  ASSERT_FALSE(selection.has_value());
  EXPECT_EQ(selection.error().code, ErrorCode::kNotFound);
  EXPECT_NE(selection.error().message.find("data/train.jsonl"), std::string::npos);
}

std::string listing_of(const std::string& sibling) {
  return R"({"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[)" + sibling + "]}";
}

TEST(ParseListing, Digests) {
  const std::string sha1(40, 'a'), sha256(64, 'b');
  ASSERT_EXPECTED(const Listing listing,
                  parse_listing(listing_of(R"({"rfilename":"x/config.json","size":3,"blobId":")" + sha1 +
                                           R"("},{"rfilename":"w","size":130,"blobId":"ignored","lfs":{"sha256":")" +
                                           sha256 + R"(","size":77}})"),
                                "a/b"));
  ASSERT_EQ(listing.files.size(), 2u);
  EXPECT_EQ(listing.files[0].digest, sha1);
  EXPECT_EQ(listing.files[0].kind, Digest::Kind::kGitBlob);
  EXPECT_EQ(listing.files[1].digest, sha256);
  EXPECT_EQ(listing.files[1].size, 77u);
}

TEST(ParseListing, WhatIsNoListingIsRefused) {
  const std::string sha1(40, 'a');
  const auto sibling = [&](const std::string& path, const std::string& digest, const std::string& size = "3") {
    return listing_of(R"({"rfilename":")" + path + R"(","size":)" + size + R"(,"blobId":")" + digest + R"("})");
  };
  EXPECT_TRUE(parse_listing(sibling("a/b", sha1), "a/b").has_value());
  for (const std::string& bad :
       {std::string("<html>"), std::string("[]"), std::string("null"), std::string(R"({"sha":"main","siblings":[]})"),
        std::string(R"({"sha":"0123456789abcdef0123456789abcdef01234567"})"), listing_of("3"), listing_of("{}"),
        sibling("../x", sha1), sibling("/etc/x", sha1), sibling("a/../../x", sha1), sibling("", sha1),
        sibling("x", "../../../x"), sibling("x", std::string(40, 'G')), sibling("x", ""), sibling("x", sha1, "1e300"),
        sibling("x", sha1, "-1"), sibling("x", sha1, "99999999999999999")}) {
    const auto listing = parse_listing(bad, "a/b");
    ASSERT_FALSE(listing.has_value()) << bad;
    EXPECT_EQ(listing.error().code, ErrorCode::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace shoehorn::hub
