// Files that were made to harm who opens them, one by one: every kind on record against programs like this one, with
// the CVE where it has one. The program refuses each with a message that names the file and what is wrong, soon, and in
// little memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>

#include "cli/program.h"
#include "io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn {
namespace {

namespace fs = std::filesystem;
using namespace test::gguf;
using io::GgufArray;
using test::raw;
using test::Result;
using test::run;

using Strings = std::vector<std::string>;
/// Writes the file (or checkpoint) into the directory; gives its path.
using Maker = std::function<std::string(const std::string& directory)>;

struct HostileFile {
  const char* name;
  Maker make;
  const char* message;                       ///< what the refusal must say
  std::vector<Strings> commands = kOpening;  ///< FILE stands for the path, OUT for one that must not come to be

  static inline const std::vector<Strings> kOpening = {{"inspect", "FILE"},
                                                       {"verify", "FILE"},
                                                       {"run", "-m", "FILE", "-p", "a", "-n", "1"},
                                                       {"quantize", "FILE", "OUT", "Q8_0"}};
  static inline const std::vector<Strings> kChat = {{"run", "-m", "FILE", "-cnv", "-p", "a", "-n", "1"}};
};

Maker bytes(std::string contents) {
  return [contents = std::move(contents)](const std::string& directory) {
    const std::string path = directory + "/hostile.gguf";
    test::write_text(path, contents);
    return path;
  };
}

/// The same at the beginning of a file of this many bytes, most of which are nowhere.
Maker sparse(std::string head, uint64_t size) {
  return [head = std::move(head), size](const std::string& directory) {
    const std::string path = bytes(head)(directory);
    EXPECT_EQ(truncate(path.c_str(), static_cast<off_t>(size)), 0);
    return path;
  };
}

const std::string& good_checkpoint() {
  static const std::string directory = test::make_tiny_checkpoint(test::tiny_config()).directory;
  return directory;
}

const std::string& good_gguf() {
  static const std::string path = [] {
    const std::string made = test::temp_dir() + "/good.gguf";
    const Result result = run({"convert", good_checkpoint(), made, "-q"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return made;
  }();
  return path;
}

/// A good model but for its metadata.
Maker with(std::function<void(io::GgufMetadata&)> change) {
  return [change = std::move(change)](const std::string& directory) {
    auto good = io::GgufFile::open(good_gguf());
    EXPECT_TRUE(good.has_value());
    io::GgufWriter writer;
    writer.metadata() = good->metadata();
    change(writer.metadata());
    for (const io::GgufTensor& t : good->tensors()) EXPECT_TRUE(writer.add_tensor(t.name, t.type, t.shape).has_value());
    const std::string path = directory + "/hostile.gguf";
    EXPECT_TRUE(writer.begin(path).has_value());
    for (const io::GgufTensor& t : good->tensors()) EXPECT_TRUE(writer.append(t.data).has_value());
    EXPECT_TRUE(writer.commit().has_value());
    return path;
  };
}
Maker with(const char* key, io::GgufValue value) {
  return with([key, value = std::move(value)](io::GgufMetadata& m) { m.set(key, value); });
}
Maker with_template(std::string text) { return with("tokenizer.chat_template", std::move(text)); }

/// A good model with other tokens.
Maker with_token(size_t id, std::string token) {
  return with([id, token = std::move(token)](io::GgufMetadata& m) {
    auto tokens = *m.get_strings("tokenizer.ggml.tokens");
    tokens[id] = token;
    m.set("tokenizer.ggml.tokens", GgufArray(std::move(tokens)));
  });
}

/// A good checkpoint but for one of its files.
Maker checkpoint_with(const char* file, std::string contents) {
  return [file, contents = std::move(contents)](const std::string& directory) {
    const std::string copy = directory + "/checkpoint";
    fs::copy(good_checkpoint(), copy, fs::copy_options::recursive);
    test::write_text(copy + "/" + file, contents);
    return copy;
  };
}

std::string safetensors(const std::string& header, size_t n_data) {
  return raw(uint64_t{header.size()}) + header + std::string(n_data, 'd');
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

std::string one_key(const std::string& key) { return header(0, 1) + key + std::string(64, '\0'); }
std::string one_tensor(const std::string& tensor) { return with_data(header(1, 0) + tensor, 128); }
std::string array_of(uint32_t type, uint64_t count) { return text("k") + raw(kArray) + raw(type) + raw(count); }

constexpr uint64_t kTwo31 = uint64_t{1} << 31, kTwo32 = uint64_t{1} << 32, kTwo62 = uint64_t{1} << 62;

// In the order of DESIGN's list; then what the CVEs on record name beyond it, and what has been found since.
const std::vector<HostileFile>& hostile_files() {
  static const std::vector<HostileFile> all = {
      {"TensorCountNear2To64_CVE_2024_21836", bytes(header(UINT64_MAX, 0)), "announces 18446744073709551615 tensors"},
      {"TensorCountPastTheEnd", bytes(header(1000, 0)), "announces 1000 tensors"},
      {"KeyCountNear2To64_CVE_2024_23605", bytes(header(0, UINT64_MAX)), "announces 18446744073709551615 keys"},
      {"KeyCountPastTheEnd", bytes(header(0, 1000)), "announces 1000 keys"},
      {"StringLengthNear2To64_CVE_2024_23496", bytes(one_key(raw(UINT64_MAX))), "length 18446744073709551615"},
      {"StringLengthWrapsWithItsTerminator", bytes(one_key(text("k") + raw(kString) + raw(UINT64_MAX))), "length 18446744073709551615"},
      {"StringLengthPastTheEnd", bytes(one_key(text("k") + raw(kString) + raw(uint64_t{4096}))), "needs 4096 bytes"},
      {"ArrayLengthNear2To64_CVE_2024_21825", bytes(one_key(array_of(kU32, UINT64_MAX))),
       "an array of 18446744073709551615 values is over the limit"},
      {"ArrayLengthTimesSizeWraps", bytes(one_key(array_of(kU32, kTwo62 + 1))),
       "an array of 4611686018427387905 values is over the limit"},
      {"StringArrayLengthNear2To64", bytes(one_key(array_of(kString, UINT64_MAX))), "an array of 18446744073709551615 strings does not fit"},
      {"StringArrayLengthTimesSizeWraps", bytes(one_key(array_of(kString, kTwo62))), "an array of 4611686018427387904 strings does not fit"},
      {"ArrayPastTheEnd", bytes(one_key(array_of(kU32, 100))), "truncated: an array"},
      {"FiveDimensions_CVE_2024_21802", bytes(one_tensor(info("t", {1, 1, 1, 1, 1}, kF32, 0))), "n_dims is 5"},
      {"FourBillionDimensions", bytes(one_tensor(text("t") + raw(UINT32_MAX) + std::string(64, '\0'))), "n_dims is 4294967295"},
      {"ProductOfDimensionsWraps_CVE_2026_33298", bytes(one_tensor(info("t", {32, kTwo62, kTwo62}, kF32, 0))), "number of elements overflows"},
      {"ProductOfDimensionsTimesSizeWraps", bytes(one_tensor(info("t", {kTwo62 / 2, 2}, kF32, 0))), "overflows"},
      {"NegativeDimension", bytes(one_tensor(info("t", {UINT64_MAX - 3}, kF32, 0))), "overflows"},
      {"ZeroDimension", bytes(one_tensor(info("t", {0, 4}, kF32, 0))), "a dimension is 0"},
      {"SummedSizeWraps_CVE_2025_53630_CVE_2026_27940",
       bytes(with_data(header(3, 0) + info("a", {kTwo31, kTwo31 / 2}, kF32, 0) + info("b", {kTwo31, kTwo31 / 2}, kF32, kTwo62 * 2) +
                           info("c", {8}, kF32, 0),
                       128)),
       "past the end of the file"},
      {"OffsetPastTheEnd", bytes(one_tensor(info("t", {4}, kF32, 1 << 20))), "past the end of the file"},
      {"OffsetNear2To64", bytes(one_tensor(info("t", {4}, kF32, UINT64_MAX - 31))), "past the end of the file"},
      {"SizePastTheEnd_CVE_2026_7482", bytes(one_tensor(info("t", {1 << 20}, kF32, 0))), "past the end of the file"},
      {"OverlappingTensors", bytes(with_data(header(2, 0) + info("a", {16}, kF32, 0) + info("b", {8}, kF32, 32), 128)), "overlaps"},
      {"TypeOutOfRange", bytes(one_tensor(info("t", {4}, 1'000'000, 0))), "type id 1000000 does not exist"},
      {"TypeThatWasRemoved", bytes(one_tensor(info("t", {32}, 4, 0))), "type"},
      {"UnknownValueType", bytes(one_key(text("k") + raw(uint32_t{13}))), "unknown value type 13"},
      {"AlignmentZero", bytes(one_key(key_u32("general.alignment", 0))), "general.alignment must be a power of two"},
      {"AlignmentNoPowerOfTwo", bytes(one_key(key_u32("general.alignment", 48))), "general.alignment must be a power of two"},
      {"AlignmentOf2GiB", bytes(one_key(key_u32("general.alignment", uint32_t{1} << 31))), "at most 1048576"},
      {"KeyTwice", bytes(header(0, 2) + key_u32("k", 1) + key_u32("k", 2)), "key k appears twice"},
      {"TensorTwice", bytes(with_data(header(2, 0) + info("t", {8}, kF32, 0) + info("t", {8}, kF32, 32), 128)), "t appears twice"},
      {"VocabularyLargerThanInt32", sparse(header(0, 1) + text("tokenizer.ggml.tokens") + raw(kArray) + raw(kString) + raw(kTwo31 + 8), 9 * kTwo31),
       "an array of 2147483656 strings does not fit"},
      {"SpecialTokenOutOfRange", with("tokenizer.ggml.eos_token_id", uint32_t{1'000'000}), "eos_token_id"},
      {"SpecialTokenNegative", with("tokenizer.ggml.bos_token_id", int32_t{-7}), "bos_token_id"},
      {"ByteTokenOfNoByte",
       with([](io::GgufMetadata& m) {
         Strings tokens = *m.get_strings("tokenizer.ggml.tokens");
         tokens[3] = "<0x-1>";
         std::vector<int32_t> types(tokens.size(), 1);
         types[3] = 6;
         m.set("tokenizer.ggml.model", std::string("llama"));
         m.set("tokenizer.ggml.scores", GgufArray(std::vector<float>(tokens.size(), 0)));
         m.set("tokenizer.ggml.tokens", GgufArray(std::move(tokens)));
         m.set("tokenizer.ggml.token_type", GgufArray(std::move(types)));
       }),
       "<0x-1>"},
      {"TemplateWithARunawayLoop",
       with_template("{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}"),
       "the template", HostileFile::kChat},
      {"TemplateThatDoublesItsOutput",
       with_template("{% set ns = namespace(t='aaaaaaaa') %}{% for a in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"), "template",
       HostileFile::kChat},
      {"TemplateThatCallsItself", with_template("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"), "deeper than", HostileFile::kChat},
      {"TemplateInsideItselfAThousandTimes", with_template("{{ " + std::string(100'000, '(')), "template", HostileFile::kChat},
      {"TemplateInjection_CVE_2024_34359",
       with_template("{% for c in ().__class__.__base__.__subclasses__() %}{% if 'warning' in c.__name__ %}"
                     "{{ c()._module.__builtins__['__import__']('os').popen('touch INJECTED').read() }}{% endif %}{% endfor %}"),
       "template", HostileFile::kChat},
      {"DeepConfigJson", checkpoint_with("config.json", nested(100'000)), "config.json"},
      {"DeepTokenizerJson", checkpoint_with("tokenizer.json", nested(100'000)), "tokenizer.json"},
      {"DeepSafetensorsHeader", checkpoint_with("model.safetensors", safetensors(nested(100'000), 0)), "model.safetensors"},
      {"DeepSafetensorsIndex", [](const std::string& directory) {
         const std::string path = checkpoint_with("model.safetensors.index.json", nested(100'000))(directory);
         fs::remove(path + "/model.safetensors");
         return path;
       },
       "model.safetensors.index.json"},
      {"SafetensorsHeaderPastTheEnd", checkpoint_with("model.safetensors", raw(uint64_t{1} << 20) + "{}"), "reaches past the end of the file"},
      {"SafetensorsHeaderNear2To64", checkpoint_with("model.safetensors", raw(UINT64_MAX) + "{}"), "header length 18446744073709551615"},
      {"SafetensorsOverlappingRanges",
       checkpoint_with("model.safetensors",
                       safetensors(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}})", 24)),
       "overlap"},
      {"SafetensorsShapeWraps",
       checkpoint_with("model.safetensors",
                       safetensors(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}})", 16)),
       "wraps"},
      {"SafetensorsRangePastTheEnd",
       checkpoint_with("model.safetensors", safetensors(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})", 16)), "truncated?"},
      {"CutInsideAKey_CVE_2024_32878", bytes(header(0, 3) + key_u32("a", 1) + text("b") + raw(kString) + raw(uint64_t{100}) + std::string(40, 'x')),
       "truncated"},
      {"NothingButAHeader_CVE_2024_41130", bytes(header(0, 0)), "general.architecture"},
      {"EmptyStringArray", bytes(one_key(array_of(kString, 0))), "general.architecture"},
      {"TokenLongerThanInt32_CVE_2025_49847",
       sparse(header(0, 1) + text("tokenizer.ggml.tokens") + raw(kArray) + raw(kString) + raw(uint64_t{1}) + raw(kTwo31 + 1), kTwo31 + 4096),
       "length 2147483649 is over the limit"},
      {"LongToken", with_token(270, std::string(1 << 20, 'a')), "token 270 is 1048576 bytes long"},
      {"TextLongerThanInt32_CVE_2025_52566",
       [](const std::string& directory) {
         const std::string path = directory + "/text.txt";
         test::write_text(path, "a");
         EXPECT_EQ(truncate(path.c_str(), static_cast<off_t>(kTwo31 + 1)), 0);
         return path;
       },
       "text.txt",
       {{"tokenize", "-m", "GOOD", "-f", "FILE"}, {"perplexity", "-m", "GOOD", "-f", "FILE"}, {"run", "-m", "GOOD", "-f", "FILE", "-n", "1"}}},
      {"MetadataOfGigabytes", sparse(header(0, 1) + array_of(0, kTwo32), kTwo32 + 4096), "over the limit"},
      {"FourBillionLayers", with("llama.block_count", UINT32_MAX), "block_count"},
      {"NoLayers", with("llama.block_count", uint32_t{0}), "block_count"},
      {"NoHeads", with("llama.attention.head_count", uint32_t{0}), "attn_norm.weight has no place"},
      {"MoreKvHeadsThanHeads", with("llama.attention.head_count_kv", uint32_t{1 << 30}), "n_head_kv is 1073741824, expected 0 to"},
      {"NoEmbedding", with("llama.embedding_length", uint32_t{0}), "n_embd is 0, expected 1 to"},
      {"HugeContext", with("llama.context_length", kTwo62), "context_length"},
      {"RopeOfMoreThanAHead", with("llama.rope.dimension_count", uint32_t{1 << 20}), "n_rot is 1048576, expected 2 to"},
      {"NormsEpsilonIsNotANumber", with("llama.attention.layer_norm_rms_epsilon", std::numeric_limits<float>::quiet_NaN()), "rms_norm_eps is nan"},
      {"RopeBaseIsInfinite", with("llama.rope.freq_base", std::numeric_limits<float>::infinity()), "rope_theta is inf"},
      {"MissingParts", with("split.count", uint16_t{60000}), "split"},
  };
  return all;
}

void PrintTo(const HostileFile& hostile, std::ostream* out) { *out << hostile.name; }

class HostileFiles : public testing::TestWithParam<HostileFile> {};

// Little, also beside what the program takes without a file. Sanitizers take their own.
#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMaxKiB = int64_t{4} << 20;
#else
constexpr int64_t kMaxKiB = 160 << 10;
#endif

TEST_P(HostileFiles, AreRefused) {
  const HostileFile& hostile = GetParam();
  const std::string directory = test::temp_dir(), file = hostile.make(directory), out = directory + "/out.gguf";
  const fs::path before = fs::current_path();
  for (Strings command : hostile.commands) {
    for (std::string& word : command)
      word = word == "FILE" ? file : word == "OUT" ? out : word == "GOOD" ? good_gguf() : word;
    SCOPED_TRACE(command[0]);
    const auto begin = std::chrono::steady_clock::now();
    const Result result = run(command);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
    EXPECT_EQ(result.exit_code, 1) << result.out.substr(0, 1000) << result.err;
    EXPECT_NE(result.err.find(hostile.message), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(fs::path(file).filename().string()), std::string::npos) << result.err;
    EXPECT_LT(result.err.size(), 2000u);
    EXPECT_LT(result.max_rss_kib, kMaxKiB);
    EXPECT_FALSE(fs::exists(out));
  }
  EXPECT_FALSE(fs::exists("INJECTED"));
}

TEST(HostileFiles, OneThatBecomesShorterWhileItIsReadIsAnError) {
  const std::string dir = test::temp_dir(), file = dir + "/model.gguf", text = dir + "/text.txt";
  fs::copy_file(good_gguf(), file);
  std::string words;
  for (int i = 0; i < 200'000; ++i) words += "a b ";
  test::write_text(text, words);
  test::Program program({"perplexity", "-m", file, "-f", text, "-c", "64", "-q"});
  const auto mapped = [&] {
    return test::read_text("/proc/" + std::to_string(program.pid()) + "/maps").find(file) != std::string::npos;
  };
  while (program.running() && !mapped()) usleep(1000);
  ASSERT_EQ(truncate(file.c_str(), 0), 0);
  const Result result = program.wait();
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.err.find(file), std::string::npos) << result.err;
}

TEST(HostileFiles, TheGoodOneIsTaken) {
  for (const Strings& command : {Strings{"inspect", good_gguf()}, Strings{"verify", good_gguf()},
                                 Strings{"run", "-m", good_gguf(), "-p", "a", "-n", "1"}}) {
    const Result result = run(command);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
}

INSTANTIATE_TEST_SUITE_P(OnRecord, HostileFiles, testing::ValuesIn(hostile_files()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace shoehorn
