#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace shoehorn::engine {

constexpr float kNever = -std::numeric_limits<float>::infinity();

tokenizer::Token argmax(std::span<const float> logits) {
  return static_cast<tokenizer::Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

float top2_gap(std::span<const float> logits) {
  float first = kNever, second = first;
  for (const float logit : logits) {
    if (logit > first) {
      second = first;
      first = logit;
    } else if (logit > second) {
      second = logit;
    }
  }
  return first - second;
}

std::vector<TokenLogprob> logprobs_of(std::span<const float> logits, tokenizer::Token token, size_t n) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit - best));
  const double norm = static_cast<double>(best) + std::log(total);
  const auto of = [&](tokenizer::Token t) {
    return TokenLogprob{t, static_cast<float>(static_cast<double>(logits[static_cast<size_t>(t)]) - norm)};
  };
  std::vector<tokenizer::Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  n = std::min(n, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&](tokenizer::Token a, tokenizer::Token b) {
                      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  std::vector<TokenLogprob> out = {of(token)};
  for (size_t i = 0; i < n; ++i) out.push_back(of(order[i]));
  return out;
}

void Sampler::accept(tokenizer::Token token) { history_.push_back(token); }

void Sampler::apply_penalties(std::span<float> logits) const {
  const bool off = options_.repeat_penalty == 1 && options_.presence_penalty == 0 && options_.frequency_penalty == 0;
  if (off || options_.repeat_last_n == 0) return;
  const size_t look_back = options_.repeat_last_n < 0
                               ? history_.size()
                               : std::min(history_.size(), static_cast<size_t>(options_.repeat_last_n));
  std::unordered_map<tokenizer::Token, int> counts;
  for (size_t i = history_.size() - look_back; i < history_.size(); ++i) ++counts[history_[i]];
  for (const auto& [token, count] : counts) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit -= static_cast<float>(count) * options_.frequency_penalty + options_.presence_penalty;
  }
}

void Sampler::begin_answer() {
  if (options_.grammar != nullptr) constraint_.emplace(options_.grammar);
}

tokenizer::Token Sampler::sample(std::span<const float> given) {
  logits_.assign(given.begin(), given.end());
  if (constraint_) constraint_->mask(logits_);
  for (const auto& [token, bias] : options_.logit_bias) {
    if (token >= 0 && static_cast<size_t>(token) < logits_.size()) logits_[static_cast<size_t>(token)] += bias;
  }
  apply_penalties(logits_);
  const tokenizer::Token token = draw();
  if (constraint_) constraint_->accept(token);
  return token;
}

tokenizer::Token Sampler::draw() {
  if (options_.temperature <= 0) return argmax(logits_);

  const auto by_logit = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  // The k best so far as a heap with the worst in front, which almost no token of a large vocabulary gets past.
  const size_t k = options_.top_k > 0 ? static_cast<size_t>(options_.top_k) : logits_.size();
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (candidates_.size() == k) {
      if (!(logits_[i] > candidates_.front().logit)) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), by_logit);
      candidates_.pop_back();
    } else if (!(logits_[i] > kNever)) {
      continue;
    }
    candidates_.push_back({static_cast<tokenizer::Token>(i), logits_[i], 0});
    if (options_.top_k > 0) std::push_heap(candidates_.begin(), candidates_.end(), by_logit);
  }
  if (candidates_.empty()) return argmax(logits_);
  std::sort(candidates_.begin(), candidates_.end(), by_logit);

  const float best = candidates_.front().logit;
  const auto set_probabilities = [&](double temperature) {
    double total = 0;
    for (Candidate& c : candidates_) {
      c.probability = std::exp(static_cast<double>(c.logit - best) / temperature);
      total += c.probability;
    }
    for (Candidate& c : candidates_) c.probability /= total;
  };

  if (options_.top_p < 1) {
    set_probabilities(1);
    double total = 0;
    size_t kept = 0;
    while (kept < candidates_.size() && (kept == 0 || total < static_cast<double>(options_.top_p))) {
      total += candidates_[kept++].probability;
    }
    candidates_.resize(kept);
  }
  if (options_.min_p > 0) {
    const float threshold = best + std::log(options_.min_p);
    const auto past = std::find_if(candidates_.begin() + 1, candidates_.end(),
                                   [&](const Candidate& c) { return c.logit < threshold; });
    candidates_.erase(past, candidates_.end());
  }

  set_probabilities(static_cast<double>(options_.temperature));
  // Drawn by hand: std::discrete_distribution is not the same everywhere.
  double u = static_cast<double>(random_()) / 4294967296.0;
  for (const Candidate& c : candidates_) {
    u -= c.probability;
    if (u < 0) return c.token;
  }
  return candidates_.back().token;
}

}  // namespace shoehorn::engine
