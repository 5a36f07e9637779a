// Answers any number of prompts over the sequences of a batch, each as soon as a sequence is free.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "engine/batch.h"
#include "engine/generate.h"

namespace shoehorn::engine {

struct Request {
  std::vector<tokenizer::Token> prompt;
  SamplerOptions sampler;
  int64_t max_tokens = -1;  ///< < 0: no limit
  /// Called for each drawn token; false stops the generation. May be empty.
  std::function<bool(tokenizer::Token)> on_token = {};
  /// Called before on_token with the token's logarithm of probability and those of the n_top most likely. May be empty.
  std::function<void(std::vector<TokenLogprob>)> on_logprobs = {};
  size_t n_top = 0;
  /// Called with the states [n, n_embd] of the prompt's tokens, in order, as they are computed; nothing is generated then.
  /// May be empty.
  std::function<void(std::span<const float>)> on_states = {};
  Adapters adapters = {};  ///< added to the weights; prompts share what was computed with the same ones only
};

/// A request that is done: its generation, or why there is none.
struct Answer {
  uint64_t id;
  Expected<Generation> result;
};

/// Continuous batching: step() by step, requests that wait take the sequences that are free, prompts are read in
/// portions of n_batch() tokens, and every sequence that generates gets one token. Requests may come and go between
/// steps.
///
/// An answer is that of generate() in a Session of its own, token by token, whatever else runs beside it, while the
/// batch has fewer sequences than few_tokens(); with more, the kernels for many tokens round a little differently.
/// Prompts that begin alike share what was computed for whole portions of n_batch() tokens, which changes nothing.
class Scheduler {
 public:
  /// The batch must outlive this, which alone uses it. `busy_tokens`: of prompts that are read between two tokens while
  /// sequences generate, so that a long prompt does not stall them; 0: n_batch(). At least twice few_tokens().
  explicit Scheduler(Batch& batch, size_t busy_tokens = 0)
      : batch_(batch), busy_tokens_(busy_tokens == 0 ? batch.n_batch() : std::max(busy_tokens, 2 * batch.few_tokens())), slots_(batch.n_sequences()) {}

  /// Puts a request in line; its number.
  uint64_t submit(Request request);
  /// Drops a request; false when it is not known (any more).
  bool cancel(uint64_t id);

  bool idle() const { return waiting_.empty() && n_active() == 0; }
  size_t n_waiting() const { return waiting_.size(); }
  size_t n_active() const;
  /// Tokens drawn and prompt tokens read since the beginning.
  uint64_t n_drawn() const { return n_drawn_; }
  uint64_t n_read() const { return n_read_; }

  /// One round; the requests that ended with it. Fails only when a pass does.
  Expected<std::vector<Answer>> step();

 private:
  struct Slot {
    std::optional<uint64_t> id;  // absent: free
    Request request;
    std::optional<Sampler> sampler;
    std::vector<tokenizer::Token> held;  // what the KV cache holds
    Adapters held_with;                  // the adapters that it was computed with
    size_t n_read = 0;                   // of the prompt
    tokenizer::Token next = 0;           // drawn, not evaluated
    Generation generation;
    double start = 0, first = 0;  // seconds, when the request was taken and when its first logits were there
    bool reading() const { return id && n_read < request.prompt.size(); }
  };

  void admit(std::vector<Answer>& done);
  void share_prefix(size_t slot);
  Status read_prompts(std::vector<Answer>& done);
  Status generate(std::vector<Answer>& done);
  /// Draws a token for each slot from its row of logits.
  void draw(std::span<const size_t> slots, std::span<const float> logits, std::vector<Answer>& done);
  void finish(size_t slot, std::vector<Answer>& done);

  static void release(Slot& slot);
  size_t portion(const Slot& slot, bool busy) const;
  void took(size_t slot, std::span<const tokenizer::Token> tokens);
  Status read_states(size_t slot, size_t n, std::vector<Answer>& done);

  Batch& batch_;
  const size_t busy_tokens_;
  std::vector<Slot> slots_;
  std::deque<std::pair<uint64_t, Request>> waiting_;
  uint64_t next_id_ = 0, n_drawn_ = 0, n_read_ = 0;
};

}  // namespace shoehorn::engine
