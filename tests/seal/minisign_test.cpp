#include "seal/minisign.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "support/support.h"

namespace shoehorn::seal {
namespace {

class MinisignTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_signing_key(key()).has_value());
    test::write_text(file(), "what is signed");
  }
  std::string key() const { return dir_ + "/key"; }
  std::string file() const { return dir_ + "/file"; }
  Status sign(const std::string& comment = "") {
    NoProgress progress;
    return sign_file(file(), key(), comment, progress);
  }
  Expected<Signed> verify(const std::string& public_key = "") {
    NoProgress progress;
    return verify_file(file(), public_key.empty() ? key() + ".pub" : public_key, "", progress);
  }
  void expect_refused(const Expected<Signed>& result, const char* reason) {
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
  }
  const std::string dir_ = test::temp_dir();
};

TEST_F(MinisignTest, ASignatureIsVerified) {
  ASSERT_TRUE(sign("Q4_K_M of the third of May").has_value());
  ASSERT_EXPECTED(const Signed found, verify());
  EXPECT_EQ(found.comment, "Q4_K_M of the third of May");
  EXPECT_EQ(found.key_id.size(), 16u);
  // The key itself in place of its file.
  std::string text = test::read_text(key() + ".pub");
  text = text.substr(text.find('\n') + 1);
  text.pop_back();
  EXPECT_TRUE(verify(text).has_value());
  struct stat status = {};
  ASSERT_EQ(stat(key().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(MinisignTest, WhatWasChangedIsRefused) {
  expect_refused(verify(), "no such file");
  ASSERT_TRUE(sign("mine").has_value());
  test::write_text(file(), "what is singed");
  expect_refused(verify(), "is not the file that was signed");
  test::write_text(file(), "what is signed");
  EXPECT_TRUE(verify().has_value());

  const std::string good = test::read_text(file() + ".minisig");
  std::string changed = good;
  changed.replace(changed.find("mine"), 4, "thei");
  test::write_text(file() + ".minisig", changed);
  expect_refused(verify(), "the signature or its comment was changed");
  for (size_t at = 0; at < good.size(); at += 3) {
    changed = good;
    changed[at] = changed[at] == 'A' ? 'B' : 'A';
    test::write_text(file() + ".minisig", changed);
    const bool in_untrusted_comment = at < good.find('\n');
    EXPECT_EQ(verify().has_value(), in_untrusted_comment) << at;
  }
  test::write_text(file() + ".minisig", good);
  ASSERT_TRUE(make_signing_key(dir_ + "/other").has_value());
  expect_refused(verify(dir_ + "/other.pub"), "signed it, not");
  expect_refused(verify(file()), "not a public key");
}

TEST_F(MinisignTest, KeysAreNotOverwrittenAndDamagedOnesRefused) {
  EXPECT_FALSE(make_signing_key(key()).has_value());
  std::string text = test::read_text(key());
  text[text.size() - 20] = text[text.size() - 20] == 'A' ? 'B' : 'A';
  test::write_text(key(), text);
  const Status signed_with = sign();
  ASSERT_FALSE(signed_with.has_value());
  EXPECT_NE(signed_with.error().message.find(key()), std::string::npos);
  EXPECT_NE(signed_with.error().message.find("is damaged"), std::string::npos) << signed_with.error().message;
  EXPECT_FALSE(std::filesystem::exists(file() + ".minisig"));
}

TEST_F(MinisignTest, EitherProgramVerifiesTheOthers) {
  if (std::system("command -v minisign >/dev/null") != 0) GTEST_SKIP() << "minisign is not installed";
  const auto minisign = [&](const std::string& arguments) {
    return std::system(("minisign " + arguments + " >/dev/null 2>&1").c_str());
  };
  ASSERT_TRUE(sign().has_value());
  EXPECT_EQ(minisign("-V -m " + file() + " -p " + key() + ".pub"), 0);
  ASSERT_EQ(minisign("-S -W -m " + file() + " -s " + key() + " -t theirs"), 0);
  ASSERT_EXPECTED(const Signed found, verify());
  EXPECT_EQ(found.comment, "theirs");
  ASSERT_EQ(minisign("-G -W -s " + dir_ + "/m -p " + dir_ + "/m.pub"), 0);
  NoProgress progress;
  ASSERT_TRUE(sign_file(file(), dir_ + "/m", "", progress).has_value());
  EXPECT_EQ(minisign("-V -m " + file() + " -p " + dir_ + "/m.pub"), 0);
  EXPECT_TRUE(verify(dir_ + "/m.pub").has_value());
}

}  // namespace
}  // namespace shoehorn::seal
