// A tiktoken file: one "base64(token) rank" per line, as Meta ships Llama 3 and 4. The merges follow from the ranks: a
// pair may merge when its concatenation is a token, in the order of that token's rank.
#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "tokenizer/byte_level.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

bool base64_decode(std::string_view text, std::string& out) {
  static constexpr auto kDigits = [] {
    std::array<int8_t, 256> table{};
    table.fill(-1);
    const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 64; ++i) table[static_cast<uint8_t>(alphabet[i])] = static_cast<int8_t>(i);
    return table;
  }();
  if (text.empty() || text.size() % 4 != 0) return false;
  size_t n_padding = 0;
  while (n_padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++n_padding;
  }
  out.clear();
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const int digit = kDigits[static_cast<uint8_t>(c)];
    if (digit < 0) return false;
    bits = (bits << 6 | static_cast<uint32_t>(digit)) & 0xffffff;
    n_bits += 6;
    if (n_bits >= 8) {
      n_bits -= 8;
      out += static_cast<char>(bits >> n_bits);
    }
  }
  return !out.empty();
}

/// The special tokens that belong to a number of ranks, from that id on; the pre-tokenizer that goes with them.
struct Family {
  uint64_t n_ranks;
  const char* pre;
  std::vector<std::string> specials;
  const char* bos;
  const char* eos;
};

const Family* find_family(uint64_t n_ranks) {
  static const std::vector<Family> families = [] {
    std::vector<std::string> llama3 = {"<|begin_of_text|>",
                                       "<|end_of_text|>",
                                       "<|reserved_special_token_0|>",
                                       "<|reserved_special_token_1|>",
                                       "<|finetune_right_pad_id|>",
                                       "<|reserved_special_token_2|>",
                                       "<|start_header_id|>",
                                       "<|end_header_id|>",
                                       "<|eom_id|>",
                                       "<|eot_id|>",
                                       "<|python_tag|>"};
    for (int i = 3; llama3.size() < 256; ++i) llama3.push_back(fmt::format("<|reserved_special_token_{}|>", i));
    std::vector<std::string> llama4 = {"<|begin_of_text|>", "<|end_of_text|>",  "<|fim_prefix|>", "<|fim_middle|>",
                                       "<|fim_suffix|>",    "<|header_start|>", "<|header_end|>", "<|eom|>",
                                       "<|eot|>",           "<|step|>"};
    return std::vector<Family>{{128000, "llama-bpe", std::move(llama3), "<|begin_of_text|>", "<|end_of_text|>"},
                               {200000, "gpt-4o", std::move(llama4), "<|begin_of_text|>", "<|end_of_text|>"}};
  }();
  for (const Family& family : families) {
    if (family.n_ranks == n_ranks) return &family;
  }
  return nullptr;
}

/// All splits of all tokens into two tokens, by the rank of the token, then by the ranks of the parts.
std::vector<std::string> merges_from_ranks(const std::vector<std::string>& by_rank) {
  std::unordered_map<std::string_view, uint32_t> ranks;
  ranks.reserve(by_rank.size());
  for (size_t i = 0; i < by_rank.size(); ++i) ranks.emplace(by_rank[i], static_cast<uint32_t>(i));
  std::vector<std::string> merges;
  std::vector<std::pair<uint32_t, uint32_t>> splits;
  for (const std::string_view token : by_rank) {
    splits.clear();
    for (size_t i = 1; i < token.size(); ++i) {
      const auto left = ranks.find(token.substr(0, i));
      if (left == ranks.end()) continue;
      const auto right = ranks.find(token.substr(i));
      if (right != ranks.end()) splits.emplace_back(left->second, right->second);
    }
    std::sort(splits.begin(), splits.end());
    for (const auto& [left, right] : splits) {
      merges.push_back(byte_level_encode(by_rank[left]) + ' ' + byte_level_encode(by_rank[right]));
    }
  }
  return merges;
}

// The longest token of o200k_base has 128 bytes; quadratic work per token stays small below this.
constexpr size_t kMaxRankBytes = 4096;

}  // namespace

Expected<TokenizerFile> read_tiktoken(const std::string& path, std::string_view text, uint64_t limit) {
  TokenizerFile file{.vocab = {}, .tokens = VocabBuilder(limit), .added = {}, .post_processor = {}};
  file.vocab.model = Model::kBpe;
  std::vector<std::string> by_rank;
  size_t line_number = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = std::min(text.find('\n', pos), text.size());
    std::string_view line = text.substr(pos, end - pos);
    pos = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    std::string token;
    if (space == std::string_view::npos || !base64_decode(line.substr(0, space), token)) {
      return fail(ErrorCode::kInvalid, "{}:{}: not a line of base64 and a rank", path, line_number);
    }
    uint64_t rank = 0;
    const auto [stop, error] = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
    if (error != std::errc() || stop != line.data() + line.size()) {
      return fail(ErrorCode::kInvalid, "{}:{}: not a rank: {:?}", path, line_number, line.substr(space + 1));
    }
    if (rank != by_rank.size()) {
      return fail(ErrorCode::kInvalid, "{}:{}: rank {} where {} comes next", path, line_number, rank, by_rank.size());
    }
    if (token.size() > kMaxRankBytes) {
      return fail(ErrorCode::kInvalid, "{}:{}: a token of {} bytes, at most {} are supported", path, line_number,
                  token.size(), kMaxRankBytes);
    }
    if (auto status = file.tokens.put(rank, byte_level_encode(token), TokenType::kNormal); !status) {
      return annotate(status.error(), path);
    }
    by_rank.push_back(std::move(token));
  }
  const Family* family = find_family(by_rank.size());
  if (family == nullptr) {
    return fail(
        ErrorCode::kUnsupported,
        "{}: {} ranks belong to no known pre-tokenizer (128000: Llama 3, 200000: Llama 4); a tokenizer.json is needed",
        path, by_rank.size());
  }
  file.vocab.pre = family->pre;
  file.vocab.merges = merges_from_ranks(by_rank);
  uint64_t id = family->n_ranks;
  for (const std::string& special : family->specials) {
    if (id >= limit) break;
    if (special == family->bos) file.vocab.bos = static_cast<Token>(id);
    if (special == family->eos) file.vocab.eos = static_cast<Token>(id);
    file.added.push_back({.id = id++, .text = special, .special = true});
  }
  return file;
}

}  // namespace shoehorn::tokenizer
