// From logits to a token.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "grammar/token_grammar.h"
#include "tokenizer/vocab.h"

namespace shoehorn::engine {

/// Names and defaults are llama.cpp's. The chain is applied in this order: grammar, bias, penalties, top-k, top-p, min-p, temperature, draw.
struct SamplerOptions {
  float temperature = 0.8f;        ///< <= 0: greedy, after the penalties
  int top_k = 40;                  ///< <= 0: all
  float top_p = 0.95f;             ///< >= 1: off. Holtzman et al. 2019, arXiv:1904.09751
  float min_p = 0.05f;             ///< <= 0: off. Nguyen et al. 2024, arXiv:2407.01082
  float repeat_penalty = 1.0f;     ///< 1: off. Keskar et al. 2019, arXiv:1909.05858
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int repeat_last_n = 64;          ///< tokens that the penalties look back over; 0: off, -1: all
  uint32_t seed = 0;
  std::vector<std::pair<tokenizer::Token, float>> logit_bias = {};  ///< added before penalties; ids out of range do nothing
  std::shared_ptr<const grammar::TokenGrammar> grammar = {};        ///< of the model's vocabulary; absent: anything may come
};

/// A token and the logarithm of its probability, by the model alone (before bias, penalties and temperature).
struct TokenLogprob {
  tokenizer::Token token = 0;
  float logprob = 0;
};

/// That of `token` first, then of the n most likely tokens, the best one first.
std::vector<TokenLogprob> logprobs_of(std::span<const float> logits, tokenizer::Token token, size_t n);

/// Deterministic for a given seed and sequence of calls.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) { begin_answer(); }

  /// What is drawn from here on is another text to the grammar.
  void begin_answer();
  /// Draws a token from logits [n_vocab] (not changed), the next one of the answer.
  tokenizer::Token sample(std::span<const float> logits);
  /// Whether what was drawn since begin_answer() is a whole text of the grammar; true without one.
  bool grammar_is_complete() const { return !constraint_ || constraint_->complete(); }
  /// Whether nothing can come behind it but the end.
  bool grammar_has_ended() const { return constraint_ && constraint_->complete() && !constraint_->goes_on(); }
  /// Tells the penalties of a token that was added to the context, drawn or given.
  void accept(tokenizer::Token token);

 private:
  struct Candidate {
    tokenizer::Token token;
    float logit;
    double probability;
  };
  void apply_penalties(std::span<float> logits) const;
  /// From logits_.
  tokenizer::Token draw();

  SamplerOptions options_;
  std::mt19937 random_;
  std::optional<grammar::Constraint> constraint_;
  std::vector<tokenizer::Token> history_;
  std::vector<Candidate> candidates_;
  std::vector<float> logits_;
};

/// The most likely token; the lowest id among equals.
tokenizer::Token argmax(std::span<const float> logits);

/// Logit of the most likely token minus that of the second.
float top2_gap(std::span<const float> logits);

}  // namespace shoehorn::engine
