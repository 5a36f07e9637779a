#include "serve/worker.h"

namespace shoehorn::serve {

/// Of prompts between two tokens of those who generate: reading them takes about as long as generating once.
constexpr size_t kBusyTokens = 32;

Worker::Worker(engine::Batch batch, size_t max_waiting)
    : batch_(std::move(batch)),
      scheduler_(batch_, kBusyTokens),
      max_waiting_(max_waiting),
      thread_([this] { run(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status Worker::submit(engine::Request request, std::shared_ptr<Sink> sink) {
  if (request.prompt.empty()) return fail(ErrorCode::kInvalid, "the prompt is empty");
  if (request.prompt.size() >= batch_.n_ctx()) {
    return fail(ErrorCode::kInvalid, "the prompt has {} tokens and the context {}: there is no room for an answer",
                request.prompt.size(), batch_.n_ctx());
  }
  {
    const std::lock_guard lock(mutex_);
    // Those that a sequence is free for do not wait.
    const size_t ahead = incoming_.size() + n_running_;
    if (stopping_ || ahead >= max_waiting_ + batch_.n_sequences()) {
      ++stats_.refused;
      return fail(ErrorCode::kTooLarge, "{} requests are in line, which is as many as may be", incoming_.size());
    }
    ++stats_.requests;
    incoming_.push_back({std::move(request), std::move(sink)});
  }
  changed_.notify_all();
  return {};
}

WorkerStats Worker::stats() const {
  const std::lock_guard lock(mutex_);
  WorkerStats out = stats_;
  out.sequences = batch_.n_sequences();
  out.active = std::min(n_running_, out.sequences);
  out.waiting = incoming_.size() + n_running_ - out.active;
  return out;
}

/// What has come since the last step. The lock is held.
void Worker::take_in() {
  for (Waiting& waiting : incoming_) {
    waiting.request.on_token = [sink = waiting.sink](tokenizer::Token token) { return sink->on_token(token); };
    running_.emplace(scheduler_.submit(std::move(waiting.request)), std::move(waiting.sink));
  }
  incoming_.clear();
  n_running_ = running_.size();
}

void Worker::drop_gone() {
  for (auto entry = running_.begin(); entry != running_.end();) {
    if (!entry->second->gone()) {
      ++entry;
      continue;
    }
    scheduler_.cancel(entry->first);
    entry->second->on_done(fail(ErrorCode::kCancelled, "the client is gone"));
    entry = running_.erase(entry);
    const std::lock_guard lock(mutex_);
    ++stats_.cancelled;
    n_running_ = running_.size();
  }
}

void Worker::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !incoming_.empty() || !running_.empty(); });
      take_in();
      if (stopping_) break;
    }
    drop_gone();
    auto answers = scheduler_.step();
    if (!answers) {
      // A pass failed: no request can be trusted to go on.
      for (auto& [id, sink] : running_) {
        scheduler_.cancel(id);
        sink->on_done(tl::unexpected(answers.error()));
      }
      const std::lock_guard lock(mutex_);
      stats_.failed += running_.size();
      running_.clear();
      n_running_ = 0;
      continue;
    }
    for (engine::Answer& answer : *answers) {
      const auto entry = running_.find(answer.id);
      if (entry == running_.end()) continue;
      const auto sink = std::move(entry->second);
      running_.erase(entry);
      {
        const std::lock_guard lock(mutex_);
        n_running_ = running_.size();
        if (answer.result) {
          stats_.prompt_tokens += answer.result->n_prompt;
          stats_.generated_tokens += answer.result->ids.size();
          stats_.prompt_seconds += answer.result->prompt_seconds;
          stats_.decode_seconds += answer.result->decode_seconds;
        } else {
          ++stats_.failed;
        }
      }
      sink->on_done(std::move(answer.result));
    }
  }
  for (auto& [id, sink] : running_) sink->on_done(fail(ErrorCode::kCancelled, "the server stops"));
}

}  // namespace shoehorn::serve
