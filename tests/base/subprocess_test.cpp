#include "base/subprocess.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace shoehorn {
namespace {

using std::chrono::milliseconds;

TEST(RunProgram, ReturnsWhatItWrites) {
  ASSERT_EXPECTED(
      const std::string text,
      run_program({"sh", "-c", "echo \"$1 $2\"; echo noise >&2", "x", "two words", ""}, milliseconds(5000)));
  EXPECT_EQ(text, "two words \n");
  EXPECT_EQ(run_program({"cat"}, milliseconds(5000)).value_or("?"), "") << "stdin is not empty";
}

TEST(RunProgram, TellsAbsenceFromFailure) {
  const auto absent = run_program({"no-such-program-anywhere"}, milliseconds(5000));
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  const auto failed = run_program({"sh", "-c", "echo half; exit 3"}, milliseconds(5000));
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_NE(failed.error().message.find("exits with 3"), std::string::npos) << failed.error().message;
}

TEST(RunProgram, GivesUpOnWhatTakesTooLongOrSaysTooMuch) {
  const auto begin = std::chrono::steady_clock::now();
  const auto slow = run_program({"sleep", "8"}, milliseconds(100));
  ASSERT_FALSE(slow.has_value());
  EXPECT_NE(slow.error().message.find("in time"), std::string::npos);
  const auto endless = run_program({"yes"}, milliseconds(30000), 100'000);
  ASSERT_FALSE(endless.has_value());
  EXPECT_NE(endless.error().message.find("more than 100000 bytes"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(7));
}

}  // namespace
}  // namespace shoehorn
