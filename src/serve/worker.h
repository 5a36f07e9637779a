// The one thread that computes: requests come from any thread, and what they become goes to their sinks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/scheduler.h"

namespace shoehorn::serve {

/// Where a request's tokens go. Called on the worker's thread, which waits meanwhile: nothing here may block.
class Sink {
 public:
  virtual ~Sink() = default;
  /// A drawn token; false ends the generation.
  virtual bool on_token(tokenizer::Token token) = 0;
  /// The end: once, and nothing after it.
  virtual void on_done(Expected<engine::Generation> result) = 0;
  /// Nobody waits for the rest any more; asked between tokens.
  virtual bool gone() const = 0;
};

struct WorkerStats {
  size_t waiting = 0, active = 0, sequences = 0;
  uint64_t requests = 0, refused = 0, cancelled = 0, failed = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0;
  double prompt_seconds = 0, decode_seconds = 0;  ///< summed over requests
};

class Worker {
 public:
  /// `max_waiting`: requests in line beyond those that a sequence has; further ones are refused.
  Worker(engine::Batch batch, size_t max_waiting);
  /// Ends all requests with kCancelled.
  ~Worker();

  /// Puts a request in line; its on_token is the sink's. Fails with kTooLarge when the line is full, and when the
  /// prompt does not fit into a context, with the numbers.
  Status submit(engine::Request request, std::shared_ptr<Sink> sink);

  WorkerStats stats() const;
  const engine::Model& model() const { return batch_.model(); }
  size_t n_ctx() const { return batch_.n_ctx(); }

 private:
  struct Waiting {
    engine::Request request;
    std::shared_ptr<Sink> sink;
  };
  void run();
  void take_in();
  void drop_gone();

  engine::Batch batch_;
  engine::Scheduler scheduler_;
  const size_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> incoming_;
  std::map<uint64_t, std::shared_ptr<Sink>> running_;  // by the scheduler's number; the worker's thread alone
  size_t n_running_ = 0;                               // the same for others
  WorkerStats stats_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoehorn::serve
