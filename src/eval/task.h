// The benchmarks that `eval` knows, and what running one takes and gives.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "engine/session.h"
#include "eval/metric.h"

namespace shoehorn::eval {

struct TaskOptions {
  std::string path;                   ///< the questions
  std::string labels_path;            ///< PIQA's labels
  std::string dev_path;               ///< examples, in the form of the questions
  std::optional<size_t> shots;        ///< examples before each question; absent: 5 with a dev_path, else none
  size_t limit = 0;                   ///< the first so many questions (chunks of a text); 0: all
  std::optional<int64_t> max_tokens;  ///< of a generated answer; absent: the task's own
  size_t n_parallel = 8;              ///< answers generated side by side
  std::optional<bool> chat;  ///< whether questions are put in the model's chat template; absent: as the task does
};

/// A model and how it is run.
struct Subject {
  std::shared_ptr<const engine::Model> model;
  engine::SessionOptions session;
};

/// Where answered items are kept as they are made, and found again when work that was stopped goes on.
class ItemLog {
 public:
  virtual ~ItemLog() = default;
  /// The item as an earlier run answered it, or nullptr.
  virtual const ItemResult* find(const std::string& id) const = 0;
  virtual Status add(const ItemResult& item) = 0;
};

/// Keeps nothing.
class NoItemLog : public ItemLog {
 public:
  const ItemResult* find(const std::string&) const override { return nullptr; }
  Status add(const ItemResult&) override { return {}; }
};

struct TaskRun {
  const TaskOptions& options;
  const Subject& subject;
  const Subject* base;  ///< the uncompressed model, or nullptr
  ItemLog& log;
  Progress& progress;
};

struct Evaluation {
  std::vector<ItemResult> items;       ///< in the order of the file
  std::vector<const Metric*> metrics;  ///< the figures of this run; a base adds some
  Json facts = Json::object();         ///< what else is to be said of the run: shots, protocol ...
  std::vector<std::string> remarks;    ///< worth the user's attention: contexts that were cut ...
};

/// A row of tasks.inc.
struct Task {
  const char* name;
  const char* summary;
  bool takes_base;  ///< whether a base model is of use
  Expected<Evaluation> (*run)(const TaskRun& run);
};

std::span<const Task> tasks();
/// nullptr when there is none of that name.
const Task* find_task(std::string_view name);

/// All metrics of all tasks, by name: for comparing files of answers. nullptr when there is none.
const Metric* find_metric(std::string_view name);

/// The number of examples that `options` ask for; fails when there is no file to take them from.
Expected<size_t> shots_of(const TaskOptions& options);

}  // namespace shoehorn::eval
