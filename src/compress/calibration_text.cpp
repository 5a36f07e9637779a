#include "compress/calibration_text.h"

#include <numeric>
#include <random>

#include "base/json.h"
#include "base/output_file.h"

namespace shoehorn::compress {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

Expected<std::string> text_of(const Json& record) {
  if (const auto text = json_or<std::string>(record, "text", ""); !text.empty()) return text;
  std::string out;
  for (const char* key : {"instruction", "input", "output"}) {
    const auto part = json_or<std::string>(record, key, "");
    if (!part.empty()) out += (out.empty() ? "" : "\n\n") + part;
  }
  if (out.empty()) return fail(ErrorCode::kInvalid, "neither \"text\" nor \"instruction\" and \"output\" in it");
  return out;
}

}  // namespace

Expected<std::vector<std::string>> read_documents(const std::string& path) {
  std::vector<std::string> documents;
  if (path.ends_with(".jsonl")) {
    SHOEHORN_RETURN_IF_ERROR(for_each_json_line(path, [&](const Json& record) -> Status {
      SHOEHORN_TRY(std::string document, text_of(record));
      documents.push_back(std::move(document));
      return {};
    }));
  } else {
    SHOEHORN_TRY(std::string text, read_file(path, kMaxTextBytes));
    documents.push_back(std::move(text));
  }
  if (documents.empty() || (documents.size() == 1 && documents[0].empty())) {
    return fail(ErrorCode::kInvalid, "{}: no text in it", path);
  }
  return documents;
}

std::vector<size_t> permutation(size_t n, uint64_t seed) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(seed);
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

Expected<tokenizer::Tokenizer> directory_tokenizer(const std::string& directory, uint64_t n_vocab) {
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_directory(directory, n_vocab));
  return tokenizer::Tokenizer::create(std::move(vocab));
}

Expected<at::Tensor> draw_samples(const std::string& path, const tokenizer::Tokenizer& tokenizer,
                                  const SampleOptions& options) {
  SHOEHORN_TRY(const auto documents, read_documents(path));
  const auto n_tokens = static_cast<size_t>(options.n_tokens);
  const auto& vocab = tokenizer.vocab();
  std::vector<std::vector<tokenizer::Token>> windows;
  size_t total = 0;
  for (const std::string& document : documents) {
    const auto tokens = tokenizer.encode(document, {.add_special = false, .parse_special = false});
    total += tokens.size();
    for (size_t first = 0; first + n_tokens <= tokens.size(); first += n_tokens) {
      windows.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(first),
                           tokens.begin() + static_cast<std::ptrdiff_t>(first + n_tokens));
    }
  }
  const auto skip = static_cast<size_t>(options.skip);
  auto wanted = static_cast<size_t>(options.n_samples);
  if (options.or_fewer && windows.size() > skip) wanted = std::min(wanted, windows.size() - skip);
  if (windows.size() < wanted + skip) {
    return fail(ErrorCode::kTooLarge,
                "{}: its {} tokens in {} documents give {} samples of {} tokens, {} are wanted; give more text, or "
                "lower --samples "
                "or --seq-len",
                path, total, documents.size(), windows.size(), n_tokens, wanted + skip);
  }
  const auto order = permutation(windows.size(), options.seed);
  at::Tensor ids = at::empty({static_cast<int64_t>(wanted), options.n_tokens}, at::kLong);
  int64_t* out = ids.data_ptr<int64_t>();
  for (size_t i = 0; i < wanted; ++i) {
    auto& window = windows[order[skip + i]];
    if (vocab.add_bos && vocab.bos) window[0] = *vocab.bos;
    for (const tokenizer::Token token : window) *out++ = token;
  }
  return ids;
}

}  // namespace shoehorn::compress
