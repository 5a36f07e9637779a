#include "tokenizer/self_test.h"

#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

Tokenizer small(const std::string& chat_template = "") {
  const std::string directory = directory_with({});
  write_text(directory + "/tokenizer.json", small_tokenizer_json());
  auto vocab = vocab_from_directory(directory, 0);
  EXPECT_TRUE(vocab.has_value()) << vocab.error().message;
  vocab->chat_template = chat_template;
  auto tokenizer = Tokenizer::create(std::move(*vocab));
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

class SelfTest : public testing::TestWithParam<size_t> {};

TEST_P(SelfTest, RealTokenizersAndTheirTemplatesPass) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  const Source& source = sources()[GetParam()];
  ASSERT_EXPECTED(auto vocab, source.load());
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  const Status passed = test_tokenizer(tokenizer);
  EXPECT_TRUE(passed.has_value()) << passed.error().message;
  const auto chat = test_template(tokenizer);
  EXPECT_TRUE(chat.has_value()) << chat.error().message;
}

INSTANTIATE_TEST_SUITE_P(Sources, SelfTest, testing::Range<size_t>(0, 15), [](const auto& test) {
  std::string name = sources()[test.param].name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST(SelfTest, TemplatesAreToldApart) {
  ASSERT_EXPECTED(const auto none, test_template(small()));
  EXPECT_FALSE(none.any);
  ASSERT_EXPECTED(
      const auto all,
      test_template(small("{{ tools | tojson if tools else '' }}{% for m in messages %}{{ m.content }}{% endfor %}")));
  EXPECT_TRUE(all.any && all.system && all.tools);
  ASSERT_EXPECTED(const auto strict,
                  test_template(small("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no "
                                      "system') }}{% endif %}{{ m.content }}{% endfor %}")));
  EXPECT_TRUE(strict.any && !strict.system && !strict.tools);
  EXPECT_GT(strict.prompt_bytes, 20u);
}

TEST(SelfTest, TemplatesThatMakeNoPromptAreErrors) {
  const std::pair<const char*, const char*> cases[] = {
      {"{% for m in messages %}", "line 1"},
      {"{{ raise_exception('never') }}", "never"},
      {"{{ messages[0].content }}", "the user's last message is not in the prompt"},
      {"{{ nothing() }}", "unknown function"},
  };
  for (const auto& [text, reason] : cases) {
    const auto result = test_template(small(text));
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
  }
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
