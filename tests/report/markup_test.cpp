#include "report/markup.h"

#include <gtest/gtest.h>

#include "well_formed.h"

namespace shoehorn::report {
namespace {

TEST(Escape, LeavesNothingThatEndsTextOrAttribute) {
  EXPECT_EQ(escape("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&#39;");
  EXPECT_EQ(escape("</script><script>alert(1)</script>"), "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;");
}

TEST(Escape, ReplacesWhatIsNoTextOrTurnsItAround) {
  EXPECT_EQ(escape(std::string("a\0b\x1b[31m", 8)),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd[31m");
  EXPECT_EQ(escape("a\xff\xc3"), "a\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(escape("\xe2\x80\xae"
                   "fdp"),
            "\xef\xbf\xbd"
            "fdp");  // U+202E, right-to-left override
  EXPECT_EQ(escape("ä€😀\n"), "ä€😀\n");
}

TEST(Escape, CutsByCharactersNotBytes) {
  EXPECT_EQ(escape("äöü", 3), "äöü");
  EXPECT_EQ(escape("äöüß", 3), "äöü…");
  EXPECT_LT(escape(std::string(1 << 20, '<')).size(), 4 * kMaxText + 10);
}

TEST(Markup, NestsElementsAndEscapesTextAndAttributes) {
  Markup m;
  m.open("p", {{"title", "\"<"}}).text("1 < 2").element("b", "&").empty("br").close();
  EXPECT_EQ(m.str(), "<p title=\"&quot;&lt;\">1 &lt; 2<b>&amp;</b><br/></p>");
  EXPECT_EQ(test::what_is_malformed(m.str()), "");
}

TEST(WellFormed, SeesWhatIsBroken) {
  for (const char* bad : {"<p>", "<p></b>", "<p a=1></p>", "<p a=\"1\" a=\"2\"></p>", "<p>&nbsp;</p>", "<p>a & b</p>",
                          "<p a=\"<\"></p>", "<p>\x01</p>"}) {
    EXPECT_NE(test::what_is_malformed(bad), "") << bad;
  }
  EXPECT_EQ(test::what_is_malformed("<!DOCTYPE html>\n<p a=\"1\">x<br/>&amp;</p>\n"), "");
}

}  // namespace
}  // namespace shoehorn::report
