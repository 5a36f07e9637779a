#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t pos = text.find(from);
  EXPECT_NE(pos, std::string::npos) << from;
  return text.replace(pos, from.size(), to);
}

Expected<Vocab> read(const std::vector<std::pair<std::string, std::string>>& files, uint64_t n_vocab = 0) {
  const std::string directory = temp_dir();
  for (const auto& [name, text] : files) write_text(directory + "/" + name, text);
  return vocab_from_directory(directory, n_vocab);
}

TEST(VocabDirectory, Fable10mIsReadWithAllItsConfiguration) {
  SHOEHORN_SHARED(path, "models/fable-10m");
  ASSERT_EXPECTED(const Vocab vocab, vocab_from_directory(path, 4096));
  EXPECT_EQ(vocab.pre, "llama-bpe");
  EXPECT_EQ(vocab.bos, 4088);
  EXPECT_EQ(vocab.eos, 4092);
  EXPECT_EQ(vocab.pad, 4093);
  EXPECT_EQ(vocab.eog, (std::vector<Token>{4089, 4092}));
  EXPECT_TRUE(vocab.add_bos) << "its post-processor starts with BOS";
  EXPECT_NE(vocab.chat_template.find("start_header_id"), std::string::npos);
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(vocab));
  EXPECT_EQ(tokenizer.encode("<|eot_id|>"), (std::vector<Token>{4088, 4092}));
}

TEST(VocabDirectory, Qwen2IsFilledUpToTheModelsRows) {
  SHOEHORN_SHARED(path, "data/tokenizers/qwen2");
  ASSERT_EXPECTED(const Vocab vocab, load("qwen2"));
  EXPECT_EQ(vocab.pre, "qwen2");
  EXPECT_EQ(vocab.tokens.size(), 151936u);
  EXPECT_EQ(vocab.tokens[151645], "<|im_end|>");
  EXPECT_EQ(vocab.types[151645], TokenType::kControl);
  EXPECT_EQ(vocab.tokens[151935], "[PAD151935]");
  EXPECT_EQ(vocab.types[151935], TokenType::kUnused);
  EXPECT_EQ(vocab.eos, 151645);
  EXPECT_EQ(vocab.bos, 151643);
  EXPECT_EQ(vocab.pad, 151643);
  EXPECT_EQ(vocab.eog, (std::vector<Token>{151643, 151645}));
  EXPECT_FALSE(vocab.add_bos);
  const auto too_small = vocab_from_directory(path, 151000);
  ASSERT_FALSE(too_small.has_value());
  EXPECT_NE(too_small.error().message.find("151000"), std::string::npos) << too_small.error().message;
}

TEST(VocabDirectory, Llama3sTiktokenFileGivesTheMergesOfItsTokenizerJson) {
  SHOEHORN_SHARED(path, "data/tokenizers/llama3");
  ASSERT_EXPECTED(const Vocab vocab, load("llama3"));
  EXPECT_EQ(vocab.merges.size(), 280147u);  // the published tokenizer.json has as many
  EXPECT_EQ(vocab.merges[0], "Ġ Ġ");
  EXPECT_EQ(vocab.tokens[128000], "<|begin_of_text|>");
  EXPECT_EQ(vocab.tokens[128009], "<|eot_id|>");
  EXPECT_EQ(vocab.tokens[128255], "<|reserved_special_token_247|>");
  EXPECT_EQ(vocab.bos, 128000);
  EXPECT_EQ(vocab.eos, 128001);
  EXPECT_EQ(vocab.eot, 128009);
}

TEST(VocabDirectory, SentencePieceIsPreferredToTokenizerJson) {
  SHOEHORN_SHARED(path, "data/tokenizers/llama2");
  const std::string directory = directory_with({{"tokenizer.model", "llama2/tokenizer.model"}});
  write_text(directory + "/tokenizer.json", small_tokenizer_json());
  ASSERT_EXPECTED(const Vocab vocab, vocab_from_directory(directory, 32000));
  EXPECT_EQ(vocab.model, Model::kSpm);
}

TEST(VocabDirectory, TokenizerJsonIsPreferredToTiktokenRanks) {
  ASSERT_EXPECTED(const Vocab vocab,
                  read({{"tokenizer.model", "IQ== 0\nIg== 1\n"}, {"tokenizer.json", small_tokenizer_json()}}));
  EXPECT_EQ(vocab.pre, "gpt-2");
}

TEST(VocabDirectory, MergesComeInBothForms) {
  const std::string pairs = with(small_tokenizer_json(), R"(["a b", "ab c"])", R"([["a", "b"], ["ab", "c"]])");
  ASSERT_EXPECTED(const Vocab a, read({{"tokenizer.json", small_tokenizer_json()}}));
  ASSERT_EXPECTED(const Vocab b, read({{"tokenizer.json", pairs}}));
  EXPECT_EQ(a.merges, (std::vector<std::string>{"a b", "ab c"}));
  EXPECT_EQ(a.merges, b.merges);
  const std::string spaced =
      with(with(small_tokenizer_json(), R"(["a b", "ab c"])", R"([[" ", "a"]])"), R"("abc": 4)", R"("Ġa": 4)");
  ASSERT_EXPECTED(const Vocab c, read({{"tokenizer.json", spaced}}));
  EXPECT_EQ(c.merges, (std::vector<std::string>{"Ġ a"}));
}

TEST(VocabDirectory, ConfigurationFilesAreAskedInOrder) {
  const std::string json = small_tokenizer_json();
  ASSERT_EXPECTED(const Vocab by_config,
                  read({{"tokenizer.json", json},
                        {"config.json", R"({"bos_token_id": 6, "eos_token_id": [7, 2], "pad_token_id": -1})"}}));
  EXPECT_EQ(by_config.bos, 6);
  EXPECT_EQ(by_config.eos, 7);
  EXPECT_FALSE(by_config.pad.has_value());
  EXPECT_EQ(by_config.eog, (std::vector<Token>{2, 7}));
  EXPECT_FALSE(by_config.add_bos);
  ASSERT_EXPECTED(const Vocab by_text,
                  read({{"tokenizer.json", json},
                        {"tokenizer_config.json", R"({"bos_token": {"content": "</s>"}, "add_bos_token": true})"},
                        {"special_tokens_map.json", R"({"bos_token": "<s>", "eos_token": "<s>"})"},
                        {"config.json", R"({"bos_token_id": 6, "eos_token_id": 7})"}}));
  EXPECT_EQ(by_text.bos, 7);
  EXPECT_EQ(by_text.eos, 6);
  EXPECT_TRUE(by_text.add_bos);
}

TEST(VocabDirectory, APostProcessorDecidesWhetherBosIsAdded) {
  const std::string json = with(
      small_tokenizer_json(), R"("post_processor": null)",
      R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}]})");
  const std::string config = R"({"bos_token": "<s>", "eos_token": "</s>"})";
  ASSERT_EXPECTED(const Vocab vocab, read({{"tokenizer.json", json}, {"tokenizer_config.json", config}}));
  EXPECT_TRUE(vocab.add_bos);
  EXPECT_TRUE(vocab.add_eos);
  ASSERT_EXPECTED(
      const Vocab overruled,
      read({{"tokenizer.json", json}, {"tokenizer_config.json", with(config, "}", R"(, "add_bos_token": false})")}}));
  EXPECT_FALSE(overruled.add_bos);
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(vocab));
  EXPECT_EQ(tokenizer.encode("abc"), (std::vector<Token>{6, 4, 7}));
}

TEST(VocabDirectory, ChatTemplatesComeFromThreeFilesInTwoForms) {
  const auto chat_template = [](std::vector<std::pair<std::string, std::string>> files) {
    files.emplace_back("tokenizer.json", small_tokenizer_json());
    const auto vocab = read(files);
    return vocab ? vocab->chat_template : vocab.error().message;
  };
  EXPECT_EQ(chat_template({}), "");
  EXPECT_EQ(chat_template({{"chat_template.jinja", "J"}, {"chat_template.json", R"({"chat_template": "N"})"}}), "J");
  EXPECT_EQ(chat_template({{"chat_template.json", R"({"chat_template": "N"})"}}), "N");
  EXPECT_EQ(chat_template({{"tokenizer_config.json", R"({"chat_template": "C"})"}, {"chat_template.jinja", "J"}}), "C");
  EXPECT_EQ(
      chat_template(
          {{"tokenizer_config.json",
            R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})"}}),
      "D");
}

TEST(VocabDirectory, AddedTokensAreControlOrUserDefined) {
  ASSERT_EXPECTED(const Vocab vocab, read({{"tokenizer.json", small_tokenizer_json()},
                                           {"tokenizer_config.json", R"({"added_tokens_decoder": {
        "8": {"content": "<|x|>", "special": false}, "9": {"content": "▁▁", "special": false},
        "10": {"content": "<m>", "special": true, "lstrip": true, "rstrip": true}}})"}},
                                          12));
  EXPECT_EQ(vocab.types[8], TokenType::kControl) << "looks special";
  EXPECT_EQ(vocab.types[9], TokenType::kUserDefined);
  EXPECT_EQ(vocab.tokens[9], "  ");
  EXPECT_EQ(vocab.types[10], TokenType::kControl);
  EXPECT_EQ(vocab.lstrip, std::vector<Token>{10});
  EXPECT_EQ(vocab.rstrip, std::vector<Token>{10});
  EXPECT_EQ(vocab.tokens[11], "[PAD11]");
}

TEST(VocabDirectory, MetaspaceTokenizersAreSentencePiece) {
  const char* json = R"({"normalizer": null, "added_tokens": [],
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "%s", "split": false},
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
      "vocab": {"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, "ab": 6}, "merges": [["a", "b"], ["▁", "a"]]}})";
  ASSERT_EXPECTED(const Vocab vocab, read({{"tokenizer.json", with(json, "%s", "first")}}));
  EXPECT_EQ(vocab.model, Model::kSpm);
  EXPECT_EQ(vocab.unk, 0);
  EXPECT_EQ(vocab.types[1], TokenType::kByte);
  EXPECT_TRUE(vocab.add_space_prefix);
  EXPECT_GT(vocab.scores[6], vocab.scores[5]);
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(vocab));
  EXPECT_EQ(tokenizer.encode("ab\nx"), (std::vector<Token>{2, 6, 1, 0}));
  ASSERT_EXPECTED(const Vocab never, read({{"tokenizer.json", with(json, "%s", "never")}}));
  EXPECT_FALSE(never.add_space_prefix);
}

TEST(VocabDirectory, UnsupportedTokenizersAreRefusedByName) {
  const std::string json = small_tokenizer_json();
  const std::string byte_level = R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {with(json, R"("type": "BPE")", R"("type": "Unigram")"), "Unigram"},
      {with(json, R"("type": "BPE")", R"("type": "WordPiece")"), "WordPiece"},
      {with(json, byte_level, R"({"type": "Split", "pattern": {"Regex": "\\p{Han}+"}, "behavior": "Isolated"})"),
       "\\p{Han}+"},
      {with(json, byte_level, R"({"type": "Whitespace"})"), "Whitespace"},
      {with(json, byte_level, "null"), "no ByteLevel"},
      {with(json, R"("normalizer": null)", R"("normalizer": {"type": "Lowercase"})"), "Lowercase"},
      {with(json, R"("type": "BPE")", R"("type": "BPE", "end_of_word_suffix": "</w>")"), "end_of_word_suffix"},
      {with(json, R"("type": "BPE")", R"("type": "BPE", "ignore_merges": true)"), "ignore_merges"},
  };
  for (const auto& [text, name] : cases) {
    const auto vocab = read({{"tokenizer.json", text}});
    ASSERT_FALSE(vocab.has_value()) << name;
    EXPECT_EQ(vocab.error().code, ErrorCode::kUnsupported) << vocab.error().message;
    EXPECT_NE(vocab.error().message.find(name), std::string::npos) << vocab.error().message;
    EXPECT_NE(vocab.error().message.find("tokenizer.json"), std::string::npos) << vocab.error().message;
  }
}

TEST(VocabDirectory, HostileTokenizerJsonIsAnErrorThatNamesThePlace) {
  const std::string json = small_tokenizer_json();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[]", "model"},
      {"{", "JSON"},
      {with(json, R"("a": 0)", R"("a": -1)"), "\"a\""},
      {with(json, R"("a": 0)", R"("a": "0")"), "\"a\""},
      {with(json, R"("a": 0)", R"("a": 0.5)"), "\"a\""},
      {with(json, R"("a": 0)", R"("a": 4294967296)"), "4294967296"},
      {with(json, R"("a": 0)", R"("a": 18446744073709551615)"), "18446744073709551615"},
      {with(json, R"("a": 0)", R"("a": 1)"), "token id 1"},
      {with(json, R"("merges": ["a b", "ab c"])", R"("merges": {"a": "b"})"), "model.merges"},
      {with(json, R"("merges": ["a b", "ab c"])", R"("merges": [["a", "b", "c"]])"), "model.merges[0]"},
      {with(json, R"("merges": ["a b", "ab c"])", R"("merges": [7])"), "model.merges[0]"},
      {with(json, R"("id": 6)", R"("id": "six")"), "added_tokens[0]"},
      {with(json, R"("id": 6)", R"("id": 99999999999)"), "99999999999"},
      {with(json, R"("content": "<s>")", R"("content": "</s>")"), "</s>"},
      {with(json, R"("content": "<s>")", R"("content": 5)"), "added_tokens[0]"},
      {with(json, R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})", "7"), "pre_tokenizer"},
  };
  for (const auto& [text, name] : cases) {
    const auto vocab = read({{"tokenizer.json", text}});
    ASSERT_FALSE(vocab.has_value()) << text;
    EXPECT_NE(vocab.error().message.find(name), std::string::npos) << name << " is not in: " << vocab.error().message;
  }
}

TEST(VocabDirectory, HostileConfigurationsAreErrors) {
  const std::string json = small_tokenizer_json();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"config.json", R"({"bos_token_id": 8})"},
      {"config.json", R"({"eos_token_id": [1, 4294967295]})"},
      {"config.json", R"({"eos_token_id": "7"})"},
      {"generation_config.json", R"({"eos_token_id": 123456})"},
      {"generation_config.json", "[]"},
      {"tokenizer_config.json", R"({"bos_token": 7})"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"99999999": {"content": "z"}}})"},
      {"tokenizer_config.json", R"({"chat_template": 7})"},
      {"added_tokens.json", R"({"<x>": -5})"},
  };
  for (const auto& [name, text] : cases) {
    const auto vocab = read({{"tokenizer.json", json}, {name, text}});
    ASSERT_FALSE(vocab.has_value()) << name << " " << text;
    if (text.find("chat_template") == std::string::npos) {
      EXPECT_NE(vocab.error().message.find(name), std::string::npos) << vocab.error().message;
    }
  }
  EXPECT_FALSE(read({{"tokenizer.json", json}}, uint64_t{1} << 33).has_value()) << "a vocabulary beyond int32";
  EXPECT_FALSE(read({{"tokenizer.json", json}}, 4).has_value()) << "more tokens than the model has rows";
  const auto nothing = read({});
  ASSERT_FALSE(nothing.has_value());
  EXPECT_EQ(nothing.error().code, ErrorCode::kNotFound);
}

TEST(VocabDirectory, HostileTiktokenFilesAreErrors) {
  for (const char* text : {"", "x", "IQ==", "IQ== -1", "IQ== 1", "IQ== 0\nIQ== 0", "I*== 0", "IQ== 0x", "IQ== 0\n"}) {
    EXPECT_FALSE(read({{"tokenizer.model", text}}).has_value()) << text;
  }
}

TEST(VocabDirectory, HostileMergeFilesAreErrors) {
  const std::string vocab = R"({"a": 0, "b": 1, "ab": 2})";
  EXPECT_TRUE(read({{"vocab.json", vocab}, {"merges.txt", "#version: 0.2\r\na b\r\n\n"}}).has_value());
  for (const char* merges : {"ab\n", "a b c\n", "a \n"}) {
    EXPECT_FALSE(read({{"vocab.json", vocab}, {"merges.txt", merges}}).has_value()) << merges;
  }
  EXPECT_FALSE(read({{"vocab.json", vocab}}).has_value()) << "no merges.txt";
  const auto unknown = read({{"vocab.json", vocab},
                             {"merges.txt", "a b\n"},
                             {"tokenizer_config.json", R"({"tokenizer_class": "MartianTokenizer"})"}});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("MartianTokenizer"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
