#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>

namespace shoehorn::engine {
namespace {

using tokenizer::Token;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

uint64_t Scheduler::submit(Request request) {
  waiting_.emplace_back(next_id_, std::move(request));
  return next_id_++;
}

bool Scheduler::cancel(uint64_t id) {
  const auto waits =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& entry) { return entry.first == id; });
  if (waits != waiting_.end()) {
    waiting_.erase(waits);
    return true;
  }
  for (Slot& slot : slots_) {
    if (slot.id != id) continue;
    release(slot);
    return true;
  }
  return false;
}

/// A free sequence keeps nothing alive that a request brought along.
void Scheduler::release(Slot& slot) {
  slot.id.reset();
  slot.request = {};
  slot.sampler.reset();
}

size_t Scheduler::n_active() const {
  return static_cast<size_t>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.id.has_value(); }));
}

/// Gives free sequences to those who wait.
void Scheduler::admit(std::vector<Answer>& done) {
  for (Slot& slot : slots_) {
    while (!slot.id && !waiting_.empty()) {
      auto [id, request] = std::move(waiting_.front());
      waiting_.pop_front();
      if (request.prompt.empty()) {
        done.push_back({id, fail(ErrorCode::kInvalid, "the prompt is empty")});
      } else if (request.prompt.size() > batch_.n_ctx()) {
        done.push_back({id, fail(ErrorCode::kTooLarge,
                                 "the prompt has {} tokens, the context {}; use a larger -c or a shorter prompt",
                                 request.prompt.size(), batch_.n_ctx())});
      } else {
        slot.id = id;
        slot.sampler.emplace(request.sampler);
        slot.request = std::move(request);
        slot.n_read = 0;
        slot.generation = {};
        slot.generation.n_prompt = slot.request.prompt.size();
        slot.start = now();
      }
    }
  }
}

/// Takes over what any sequence holds of the prompt's beginning, in whole portions: so every token is computed as it
/// would be alone.
void Scheduler::share_prefix(size_t slot) {
  const std::vector<Token>& prompt = slots_[slot].request.prompt;
  const auto common = [&](size_t other) {
    const std::vector<Token>& held = slots_[other].held;
    if (slots_[other].held_with != slots_[slot].request.adapters) return size_t{0};
    const auto n = static_cast<size_t>(std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end() - 1).first -
                                       held.begin());
    return n / batch_.n_batch() * batch_.n_batch();
  };
  size_t best = slot;
  for (size_t other = 0; other < slots_.size(); ++other) {
    if (common(other) > common(best)) best = other;
  }
  const size_t n = common(best);
  batch_.copy_prefix(best, slot, n);
  slots_[slot].held_with = slots_[slot].request.adapters;
  slots_[slot].held.assign(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(n));
  slots_[slot].n_read = n;
}

/// Prompt tokens to read next. Parts of a portion are no smaller than few_tokens() unless the portion is, so that every token goes
/// through the kernels that it would go through alone.
size_t Scheduler::portion(const Slot& slot, bool busy) const {
  const size_t n_batch = batch_.n_batch(), few = batch_.few_tokens();
  const size_t whole = std::min(n_batch - slot.n_read % n_batch, slot.request.prompt.size() - slot.n_read);
  if (!busy || whole <= busy_tokens_) return whole;
  return whole - busy_tokens_ < few ? whole - few : busy_tokens_;
}

Status Scheduler::read_prompts(std::vector<Answer>& done) {
  // The first portions that fit, oldest request first. A short one goes alone: beside others it would go through other
  // kernels.
  std::vector<size_t> order;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].reading()) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return slots_[a].id < slots_[b].id; });
  const bool busy = std::ranges::any_of(slots_, [](const Slot& slot) { return slot.id && !slot.reading(); });
  const size_t most = busy ? std::min(busy_tokens_, batch_.max_tokens()) : batch_.max_tokens();
  std::vector<BatchInput> inputs;
  std::vector<size_t> chosen;
  size_t n_tokens = 0;
  for (const size_t i : order) {
    Slot& slot = slots_[i];
    const std::vector<Token>& prompt = slot.request.prompt;
    // States come of a pass of their own, and of every token.
    if (slot.request.on_states) {
      if (n_tokens > 0) continue;
      return read_states(i, std::min(portion(slot, busy), most), done);
    }
    // A long prompt waits for a pass of its own: those before it may leave it more to share.
    if (slot.n_read == 0 && n_tokens > 0 && prompt.size() > batch_.n_batch()) continue;
    if (slot.n_read == 0) share_prefix(i);
    const size_t n = portion(slot, busy);
    if (n_tokens + n > most || (n < batch_.few_tokens() && n_tokens > 0)) continue;
    const bool last = slot.n_read + n == prompt.size() && slot.request.max_tokens != 0;
    inputs.push_back({i, std::span<const Token>(prompt).subspan(slot.n_read, n), last ? size_t{1} : size_t{0}, &slot.request.adapters});
    chosen.push_back(i);
    n_tokens += n;
    if (n < batch_.few_tokens()) break;
  }
  if (inputs.empty()) return {};
  SHOEHORN_TRY(const auto logits, batch_.eval(inputs));
  std::vector<size_t> drawing;
  for (const BatchInput& input : inputs) {
    Slot& slot = slots_[input.sequence];
    took(input.sequence, input.tokens);
    if (slot.reading()) continue;
    for (const Token token : slot.request.prompt) slot.sampler->accept(token);
    slot.first = now();
    slot.generation.prompt_seconds = slot.first - slot.start;
    if (slot.request.max_tokens == 0) {
      finish(input.sequence, done);
    } else {
      drawing.push_back(input.sequence);
    }
  }
  draw(drawing, logits, done);
  return {};
}

/// Tokens of a prompt that are in the cache now.
void Scheduler::took(size_t i, std::span<const Token> tokens) {
  Slot& slot = slots_[i];
  slot.n_read += tokens.size();
  slot.held.insert(slot.held.end(), tokens.begin(), tokens.end());
  n_read_ += tokens.size();
}

Status Scheduler::read_states(size_t i, size_t n, std::vector<Answer>& done) {
  Slot& slot = slots_[i];
  if (slot.n_read == 0) {
    batch_.truncate(i, 0);
    slot.held.clear();
    slot.held_with = slot.request.adapters;
  }
  const auto tokens = std::span<const Token>(slot.request.prompt).subspan(slot.n_read, n);
  const BatchInput input = {i, tokens, n, &slot.request.adapters};
  SHOEHORN_TRY(const auto states, batch_.eval_states({&input, 1}));
  took(i, tokens);
  slot.request.on_states(states);
  if (slot.reading()) return {};
  slot.first = now();
  slot.generation.prompt_seconds = slot.first - slot.start;
  finish(i, done);
  return {};
}

Status Scheduler::generate(std::vector<Answer>& done) {
  std::vector<BatchInput> inputs;
  std::vector<size_t> drawing;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (!slot.id || slot.reading()) continue;
    inputs.push_back({i, {&slot.next, 1}, 1, &slot.request.adapters});
    drawing.push_back(i);
  }
  if (inputs.empty()) return {};
  SHOEHORN_TRY(const auto logits, batch_.eval(inputs));
  for (const size_t i : drawing) slots_[i].held.push_back(slots_[i].next);
  draw(drawing, logits, done);
  return {};
}

void Scheduler::draw(std::span<const size_t> slots, std::span<const float> logits, std::vector<Answer>& done) {
  struct Drawn {
    Token token;
    float gap;
    std::vector<TokenLogprob> logprobs;
  };
  const size_t n_vocab = batch_.n_vocab();
  std::vector<Drawn> drawn(slots.size());
  batch_.pool().parallel_for(slots.size(), 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const auto row = logits.subspan(i * n_vocab, n_vocab);
      Slot& slot = slots_[slots[i]];
      drawn[i] = {slot.sampler->sample(row), top2_gap(row), {}};
      if (slot.request.on_logprobs) drawn[i].logprobs = logprobs_of(row, drawn[i].token, slot.request.n_top);
    }
  });
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots_[slots[i]];
    const bool full = batch_.n_past(slots[i]) >= batch_.n_ctx();
    slot.next = drawn[i].token;
    if (slot.request.on_logprobs) slot.request.on_logprobs(std::move(drawn[i].logprobs));
    const bool goes_on = take_token(batch_.model().tokenizer(), drawn[i].token, drawn[i].gap, *slot.sampler,
                                    slot.request.max_tokens, full, slot.request.on_token, slot.generation);
    n_drawn_ += 1;
    if (!goes_on) finish(slots[i], done);
  }
}

void Scheduler::finish(size_t i, std::vector<Answer>& done) {
  Slot& slot = slots_[i];
  slot.generation.decode_seconds = now() - slot.first;
  done.push_back({*slot.id, std::move(slot.generation)});
  release(slot);
}

Expected<std::vector<Answer>> Scheduler::step() {
  std::vector<Answer> done;
  admit(done);
  SHOEHORN_RETURN_IF_ERROR(read_prompts(done));
  SHOEHORN_RETURN_IF_ERROR(generate(done));
  return done;
}

}  // namespace shoehorn::engine
