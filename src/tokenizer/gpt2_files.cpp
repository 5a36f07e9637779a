// vocab.json and merges.txt, the files of GPT-2's own tokenizer; Qwen 2 ships them too.
#include "base/output_file.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

struct Class {
  std::string_view name;
  const char* pre;
};

// The files do not record the pre-tokenizer; the tokenizer classes that read them each have one.
constexpr Class kClasses[] = {
    {"", "gpt-2"},
    {"GPT2Tokenizer", "gpt-2"},
    {"GPT2TokenizerFast", "gpt-2"},
    {"CodeGenTokenizer", "gpt-2"},
    {"CodeGenTokenizerFast", "gpt-2"},
    {"GPTNeoXTokenizerFast", "gpt-2"},
    {"Qwen2Tokenizer", "qwen2"},
    {"Qwen2TokenizerFast", "qwen2"},
};

Status read_merges(const std::string& path, std::vector<std::string>& merges) {
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxBytes));
  size_t line_number = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = std::min(text.find('\n', pos), text.size());
    std::string_view line = std::string_view(text).substr(pos, end - pos);
    pos = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      return fail(ErrorCode::kInvalid, "{}:{}: not a pair of tokens", path, line_number);
    }
    merges.emplace_back(line);
  }
  return {};
}

}  // namespace

Expected<TokenizerFile> read_gpt2_files(const std::string& directory, const std::string& tokenizer_class,
                                        uint64_t limit) {
  TokenizerFile file{.vocab = {}, .tokens = VocabBuilder(limit), .added = {}, .post_processor = {}};
  file.vocab.model = Model::kBpe;
  for (const Class& known : kClasses) {
    if (known.name == tokenizer_class) file.vocab.pre = known.pre;
  }
  if (file.vocab.pre.empty()) {
    return fail(ErrorCode::kUnsupported,
                "{}: the pre-tokenizer of tokenizer_class {:?} is not known; a tokenizer.json is needed", directory,
                tokenizer_class);
  }
  const std::string path = directory + "/vocab.json";
  SHOEHORN_TRY(const Json vocab, read_json(path, kMaxBytes));
  if (!vocab.is_object()) return fail(ErrorCode::kInvalid, "{}: expected an object of token ids", path);
  for (const auto& [text, value] : vocab.items()) {
    SHOEHORN_TRY(const uint64_t id, json_id(value, fmt::format("{}: {:?}", path, text)));
    if (auto status = file.tokens.put(id, text, TokenType::kNormal); !status) return annotate(status.error(), path);
  }
  SHOEHORN_RETURN_IF_ERROR(read_merges(directory + "/merges.txt", file.vocab.merges));
  return file;
}

}  // namespace shoehorn::tokenizer
