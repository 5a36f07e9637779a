#include "cli/output_check.h"

#include <filesystem>

#include "base/output_file.h"
#include "cli/open_model.h"
#include "convert/check.h"
#include "eval/bundled_text.h"
#include "tokenizer/unicode.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
/// The metadata's room for what the model said: its size must be known before it is said.
constexpr size_t kSentenceBytes = 256;
/// A result further from its source than this is worth a word.
constexpr double kFarKl = 1;

/// Whole characters of a text, cut or filled up with spaces to kSentenceBytes.
std::string fitted(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    uint32_t cp = 0;
    const size_t n = tokenizer::utf8_sequence(text, pos, cp);
    if (n > 0 && out.size() + n > kSentenceBytes) break;
    if (n > 0) out += text.substr(pos, n);
    pos += n > 0 ? n : 1;
  }
  out.resize(kSentenceBytes, ' ');
  return out;
}

}  // namespace

OutputCheck::OutputCheck(std::string source, std::string text, int n_threads)
    : source_(std::move(source)), text_(std::move(text)), n_threads_(n_threads) {}

convert::Remarks OutputCheck::unmeasured() const { return remarks({}); }

convert::Remarks OutputCheck::remarks(const eval::CheckResult& result) const {
  const eval::PredictionResult& p = result.predictions;
  const auto key = [](const char* name) { return std::string(convert::kCheckPrefix) + name; };
  const auto number = [](double x) { return io::GgufValue(static_cast<float>(x)); };
  return {{key("text"), text_.empty() ? eval::kBundledTextName : std::filesystem::path(text_).filename().string()},
          {key("tokens"), static_cast<uint32_t>(p.tokens)},
          {key("ppl"), number(p.ppl)},
          {key("source_ppl"), number(p.base_ppl)},
          {key("kld_mean"), number(p.kld_mean)},
          {key("kld_err"), number(p.kld_err)},
          {key("kld_p99"), number(p.kld_p99)},
          {key("top1"), number(p.top1)},
          {key("prompt"), eval::CheckOptions().prompt},
          {key("sentence"), fitted(result.sentence)}};
}

Expected<convert::Remarks> OutputCheck::run(const std::string& path, Progress& progress) {
  const auto measure = [&]() -> Expected<eval::CheckResult> {
    std::string text;
    if (!text_.empty()) {
      SHOEHORN_TRY(text, read_file(text_, kMaxTextBytes));
    }
    SHOEHORN_TRY(const auto model, open_model(path));
    SHOEHORN_TRY(const auto source, open_model(source_));
    eval::CheckOptions options{.text = text_.empty() ? eval::bundled_text() : std::string_view(text), .n_threads = n_threads_};
    return eval::check_output(model, source, options, progress);
  };
  const auto failed = [](const Error& error) {
    if (error.code == ErrorCode::kCancelled) return fail(error.code, "{}", error.message);
    return fail(error.code, "the check of the output failed: {}; --no-check writes it nevertheless", error.message);
  };
  // Every weight, and then what they compute.
  if (const auto scanned = convert::check_model(path, {.n_threads = n_threads_}, progress); !scanned) return failed(scanned.error());
  auto found = measure();
  if (!found) {
    const Error& error = found.error();
    if (error.code == ErrorCode::kCancelled || error.code == ErrorCode::kInvalid) return failed(error);
    progress.note("the output was not checked: " + error.message);
    return unmeasured();
  }
  result_ = std::move(*found);
  if (result_->predictions.kld_mean > kFarKl) {
    progress.note(fmt::format("the output is far from its source: a KL divergence of {:.2f}", result_->predictions.kld_mean));
  }
  if (result_->repeats) progress.note("what the output says repeats itself: \"" + result_->sentence + "\"");
  return remarks(*result_);
}

Json OutputCheck::json() const {
  if (!result_) return nullptr;
  const eval::PredictionResult& p = result_->predictions;
  return {{"text", text_.empty() ? eval::kBundledTextName : text_},
          {"tokens", p.tokens},
          {"ppl", p.ppl},
          {"ppl_err", p.ppl_err},
          {"source_ppl", p.base_ppl},
          {"kld_mean", p.kld_mean},
          {"kld_err", p.kld_err},
          {"kld_p99", p.kld_p99},
          {"top1", p.top1},
          {"prompt", eval::CheckOptions().prompt},
          {"sentence", result_->sentence},
          {"repeats", result_->repeats}};
}

std::string OutputCheck::summary() const {
  if (!result_) return "";
  const eval::PredictionResult& p = result_->predictions;
  std::string text = fmt::format("checked on {} predictions: perplexity {:.4f} (source {:.4f}), mean KL {:.6f} +/- {:.6f}, same top-1 {:.2f} %",
                                 p.tokens, p.ppl, p.base_ppl, p.kld_mean, p.kld_err, p.top1 * 100);
  if (!result_->sentence.empty()) text += fmt::format("\n{}{}", eval::CheckOptions().prompt, result_->sentence);
  return text;
}

}  // namespace shoehorn::cli
