#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>

#include "base/output_file.h"
#include "eval/chunks.h"
#include "eval/perplexity.h"
#include "eval/task_runs.h"

namespace shoehorn::eval {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

double exp_of_mean(std::span<const double> sums) { return std::exp(mean_of_sums(sums)); }
double bits_of_mean(std::span<const double> sums) { return mean_of_sums(sums) / std::log(2.0); }

constexpr Metric kMetrics[] = {
    {"ppl", "perplexity per token", Metric::Kind::kRatio, 2, exp_of_mean},
    {"word_ppl", "perplexity per word (between white space)", Metric::Kind::kRatio, 2, exp_of_mean, 2},
    {"bits_per_byte", "bits per byte of text", Metric::Kind::kRatio, 2, bits_of_mean},
};

struct Units {
  double words = 0, bytes = 0;
};

/// Of the tokens [first, end) of a chunk; words are counted where they begin.
Units units_of(const tokenizer::Tokenizer& tokenizer, const std::vector<tokenizer::Token>& ids, size_t first) {
  Units units;
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  const std::string before = tokenizer.piece(ids[first - 1], true);
  bool after_space = before.empty() || is_space(before.back());
  for (size_t i = first; i < ids.size(); ++i) {
    for (const char c : tokenizer.piece(ids[i], true)) {
      units.words += after_space && !is_space(c);
      after_space = is_space(c);
      ++units.bytes;
    }
  }
  return units;
}

}  // namespace

const std::span<const Metric> kTextMetrics = kMetrics;

Expected<Evaluation> run_perplexity(const TaskRun& run) {
  SHOEHORN_TRY(const std::string text, read_file(run.options.path, kMaxTextBytes));
  SHOEHORN_TRY(auto session, engine::Session::create(run.subject.model, run.subject.session));
  std::optional<engine::Session> base;
  if (run.base != nullptr) {
    SHOEHORN_TRY(base, engine::Session::create(run.base->model, run.base->session));
  }
  const size_t n_ctx = session.n_ctx();
  const auto result = perplexity(session, base ? &*base : nullptr, text,
                                 {.n_ctx = n_ctx, .max_chunks = run.options.limit}, run.progress);
  if (!result) return annotate(result.error(), run.options.path);
  const tokenizer::Tokenizer& tokenizer = run.subject.model->tokenizer();
  SHOEHORN_TRY(const Chunks chunks, Chunks::cut(tokenizer, text, n_ctx));
  const double n_counted = static_cast<double>(result->tokens) / static_cast<double>(result->chunks);
  Evaluation out;
  for (size_t chunk = 0; chunk < result->chunks; ++chunk) {
    const Units units = units_of(tokenizer, chunks[chunk], n_ctx - static_cast<size_t>(n_counted));
    const double nll = result->chunk_nll[chunk];
    ItemResult item = {.id = std::to_string(chunk),
                       .record = {{"task", "perplexity"},
                                  {"id", std::to_string(chunk)},
                                  {"n_ctx", n_ctx},
                                  {"nll", nll},
                                  {"tokens", n_counted},
                                  {"words", units.words},
                                  {"bytes", units.bytes}}};
    put_row(item.record, kMetrics[0], {nll, n_counted});
    put_row(item.record, kMetrics[1], {nll, units.words});
    put_row(item.record, kMetrics[2], {nll, units.bytes});
    SHOEHORN_RETURN_IF_ERROR(run.log.add(item));
    out.items.push_back(std::move(item));
  }
  for (const Metric& metric : kMetrics) out.metrics.push_back(&metric);
  out.facts = {{"n_ctx", n_ctx}, {"tokens", result->tokens}};
  if (result->has_base) {
    out.facts.update({{"base_ppl", result->base_ppl},
                      {"kld_mean", result->kld_mean},
                      {"kld_err", result->kld_err},
                      {"kld_p99", result->kld_p99},
                      {"kld_max", result->kld_max},
                      {"top1", result->top1}});
  }
  return out;
}

}  // namespace shoehorn::eval
