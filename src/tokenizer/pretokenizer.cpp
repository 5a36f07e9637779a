#include "tokenizer/pretokenizer.h"

#include <algorithm>

#include "tokenizer/patterns.h"

namespace shoehorn::tokenizer {
namespace {

using namespace patterns;

template <Pattern... kPasses>
inline constexpr Pattern kPassList[] = {kPasses...};

}  // namespace

std::span<const PreTokenizer> pretokenizers() {
  static const PreTokenizer rows[] = {
#define PRETOKENIZER(name, ignore_merges, add_bos, ...) {name, ignore_merges, add_bos, kPassList<__VA_ARGS__>},
#define HF_PRETOKENIZER(...)
#include "tokenizer/pretokenizers.inc"
#undef PRETOKENIZER
#undef HF_PRETOKENIZER
  };
  return rows;
}

std::span<const HfPreTokenizer> hf_pretokenizers() {
  static const std::vector<std::vector<const char*>> steps = {
#define PRETOKENIZER(...)
#define HF_PRETOKENIZER(name, ignore_merges, ...) {__VA_ARGS__},
#include "tokenizer/pretokenizers.inc"
#undef PRETOKENIZER
#undef HF_PRETOKENIZER
  };
  static const std::vector<HfPreTokenizer> rows = [] {
    std::vector<HfPreTokenizer> out = {
#define PRETOKENIZER(...)
#define HF_PRETOKENIZER(name, ignore_merges, ...) {name, ignore_merges, {}},
#include "tokenizer/pretokenizers.inc"
#undef PRETOKENIZER
#undef HF_PRETOKENIZER
    };
    for (size_t i = 0; i < out.size(); ++i) out[i].steps = steps[i];
    return out;
  }();
  return rows;
}

const PreTokenizer* find_pretokenizer(std::string_view name) {
  for (const PreTokenizer& row : pretokenizers()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::vector<uint32_t> split(const PreTokenizer& pretokenizer, std::string_view text) {
  const std::vector<Char> chars = to_chars(text);
  std::vector<uint32_t> ends, cut;  // in characters
  if (!chars.empty()) ends.push_back(static_cast<uint32_t>(chars.size()));
  for (const Pattern pattern : pretokenizer.passes) {
    cut.clear();
    size_t begin = 0;
    for (const size_t end : ends) {
      size_t unmatched = begin;
      for (size_t pos = begin; pos < end;) {
        const Found found = pattern(chars.data(), pos, end);
        if (found.matched) {
          if (pos > unmatched) cut.push_back(static_cast<uint32_t>(pos));
          cut.push_back(static_cast<uint32_t>(found.end));
          unmatched = found.end;
        }
        pos = found.end;
      }
      if (end > unmatched) cut.push_back(static_cast<uint32_t>(end));
      begin = end;
    }
    ends.swap(cut);
  }
  size_t index = 0, bytes = 0;
  for (uint32_t& end : ends) {
    for (; index < end; ++index) bytes += char_bytes(chars[index]);
    end = static_cast<uint32_t>(bytes);
  }
  return ends;
}

Expected<std::string> recognize_pretokenizer(const std::vector<std::string>& steps, bool ignore_merges) {
  bool known_steps = false;
  for (const HfPreTokenizer& row : hf_pretokenizers()) {
    if (!std::equal(steps.begin(), steps.end(), row.steps.begin(), row.steps.end())) continue;
    if (row.ignore_merges == ignore_merges) return std::string(row.name);
    known_steps = true;
  }
  std::string listed;
  for (const std::string& step : steps) listed += (listed.empty() ? "" : "; ") + step;
  if (listed.empty()) listed = "none";
  return fail(ErrorCode::kUnsupported, "pre-tokenizer not supported{}: {}",
              known_steps ? (ignore_merges ? " with ignore_merges" : " without ignore_merges") : "", listed);
}

}  // namespace shoehorn::tokenizer
