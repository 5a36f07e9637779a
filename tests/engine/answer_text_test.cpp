#include "engine/answer_text.h"

#include "support/support.h"

namespace shoehorn::engine {
namespace {

TEST(AnswerText, GivesWholeCharactersOnly) {
  AnswerText text;
  EXPECT_TRUE(text.add("a\xC3"));
  EXPECT_EQ(text.take(), "a");
  EXPECT_EQ(text.take(), "");
  EXPECT_TRUE(text.add("\xA4\xF0\x9F"));
  EXPECT_EQ(text.take(), "\xC3\xA4");
  EXPECT_TRUE(text.add("\x98\x80!"));
  EXPECT_EQ(text.take(), "\xF0\x9F\x98\x80!");
  EXPECT_TRUE(text.add("\xE2\x82"));
  EXPECT_EQ(text.take(), "");
  EXPECT_EQ(text.rest(), "\xEF\xBF\xBD\xEF\xBF\xBD") << "what never became whole";
}

TEST(AnswerText, HoldsBackWhatCouldBeAStop) {
  AnswerText text({"</s>", "stop"});
  EXPECT_TRUE(text.add("it is </"));
  EXPECT_EQ(text.take(), "it is ");
  EXPECT_TRUE(text.add("b> st"));
  EXPECT_EQ(text.take(), "</b> ");
  EXPECT_TRUE(text.add("art"));
  EXPECT_EQ(text.take(), "start");
  EXPECT_FALSE(text.add(" <</s> and more"));
  EXPECT_EQ(text.rest(), " <");
  EXPECT_EQ(text.text(), "it is </b> start <");
}

TEST(AnswerText, TheFirstStopCounts) {
  AnswerText text({"bc", "abcd", ""});
  EXPECT_FALSE(text.add("xabcd"));
  EXPECT_EQ(text.text(), "x");
  EXPECT_EQ(text.rest(), "x");
}

TEST(AnswerText, BytesThatAreNoTextAreReplaced) {
  EXPECT_EQ(valid_utf8("a\xFFz\xC0\x80"), "a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD");
}

}  // namespace
}  // namespace shoehorn::engine
