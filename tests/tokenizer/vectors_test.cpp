// Published token ids: the ggml-vocab vectors of llama.cpp (made with the models' own tokenizers) and those of GPT-2,
// Llama 2 and Llama 3.
#include <sstream>

#include "base/json.h"
#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

std::vector<std::string> split_at(const std::string& all, const std::string& separator) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t end; (end = all.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    out.push_back(all.substr(begin, end - begin));
  }
  out.push_back(all.substr(begin));
  return out;
}

struct Case {
  const char* vectors;
  const char* source;
  // Decoding gives the text back, except where the vocabulary lacks bytes or the tokenizer normalizes.
  size_t round_trips;
};

class GgmlVocab : public testing::TestWithParam<Case> {};

TEST_P(GgmlVocab, EncodesEveryTextToThePublishedIds) {
  const Case& param = GetParam();
  const std::string base = std::string("data/tokenizers/ggml-vocab/ggml-vocab-") + param.vectors + ".gguf";
  SHOEHORN_SHARED(inputs, base + ".inp");
  SHOEHORN_SHARED(outputs, base + ".out");
  ASSERT_EXPECTED(auto vocab, load(param.source));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  const std::vector<std::string> texts = split_at(read_text(inputs), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = split_at(read_text(outputs), "\n");
  ASSERT_EQ(texts.size(), 47u);
  ASSERT_EQ(lines.size(), 47u);
  size_t round_trips = 0;
  for (size_t n = 0; n < texts.size(); ++n) {
    std::istringstream numbers(lines[n]);
    std::vector<Token> expected;
    for (Token id; numbers >> id;) expected.push_back(id);
    EXPECT_EQ(tokenizer.encode(texts[n], kPlain), expected) << testing::PrintToString(texts[n]);
    round_trips += tokenizer.decode(expected) == texts[n];
  }
  EXPECT_EQ(round_trips, param.round_trips);
}

INSTANTIATE_TEST_SUITE_P(Models, GgmlVocab,
                         testing::Values(Case{"llama-spm", "llama-spm", 47}, Case{"llama-spm", "llama2", 47},
                                         Case{"llama-spm", "tinyllama", 47}, Case{"phi-3", "phi-3", 47},
                                         Case{"gpt-2", "gpt-2", 47}, Case{"gpt-2", "gpt2-files", 47},
                                         Case{"llama-bpe", "llama3", 47}, Case{"qwen2", "qwen2", 47},
                                         Case{"deepseek-coder", "deepseek-coder", 47}, Case{"mpt", "mpt", 47}),
                         [](const auto& test) {
                           std::string name = std::string(test.param.vectors) + "_from_" + test.param.source;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(PublishedCases, Gpt2) {
  SHOEHORN_SHARED(path, "data/tokenizers/vectors/gpt2_tokenizer_cases.json");
  ASSERT_EXPECTED(const Json json, read_json(path));
  ASSERT_EXPECTED(auto vocab, load("gpt2-files"));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  ASSERT_EQ(json["cases"].size(), 23u);
  for (const Json& entry : json["cases"]) {
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text, kPlain), entry["ids"].get<std::vector<Token>>()) << text;
    EXPECT_EQ(tokenizer.decode(entry["ids"].get<std::vector<Token>>()), text);
  }
}

TEST(PublishedCases, Llama2WithBos) {
  SHOEHORN_SHARED(path, "data/tokenizers/vectors/llama2_encode_cases.json");
  ASSERT_EXPECTED(const Json json, read_json(path));
  for (const char* source : {"llama2", "llama-spm", "tinyllama"}) {
    ASSERT_EXPECTED(auto vocab, load(source));
    ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
    for (const Json& entry : json["cases"]) {
      EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["ids"].get<std::vector<Token>>()) << source;
    }
  }
}

TEST(PublishedCases, Llama3WithItsSpecialTokens) {
  SHOEHORN_SHARED(path, "data/tokenizers/vectors/llama3_encode_cases.json");
  ASSERT_EXPECTED(const Json json, read_json(path));
  ASSERT_EXPECTED(auto vocab, load("llama3"));
  EXPECT_TRUE(vocab.add_bos);
  vocab.add_eos = true;
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  const auto message = [](const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content + "<|eot_id|>";
  };
  for (const Json& entry : json["cases"]) {
    const auto expected = entry["ids"].get<std::vector<Token>>();
    if (entry.contains("text")) {
      EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), expected);
    } else if (entry.contains("user_message")) {
      EXPECT_EQ(tokenizer.encode(message("user", entry["user_message"].get<std::string>()), {.add_special = false}),
                expected);
    } else {
      std::string text = "<|begin_of_text|>";
      for (const Json& turn : entry["dialog"]) text += message(turn[0].get<std::string>(), turn[1].get<std::string>());
      text += "<|start_header_id|>assistant<|end_header_id|>\n\n";
      EXPECT_EQ(tokenizer.encode(text, {.add_special = false}), expected);
    }
  }
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
