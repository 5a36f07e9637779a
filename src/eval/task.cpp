#include "eval/task.h"

#include "eval/multiple_choice.h"
#include "eval/task_runs.h"

namespace shoehorn::eval {
namespace {

constexpr size_t kDefaultShots = 5;

}  // namespace

std::span<const Task> tasks() {
#define SHOEHORN_CHOICE_TASK(name, summary, metrics) \
  {#name, summary, false, [](const TaskRun& run) { return run_choice_task(run, #name, read_##name, metrics); }},
#define SHOEHORN_TASK(name, summary, takes_base) {#name, summary, takes_base, run_##name},
  static constexpr Task kTasks[] = {
#include "eval/tasks.inc"
  };
#undef SHOEHORN_CHOICE_TASK
#undef SHOEHORN_TASK
  return kTasks;
}

const Task* find_task(std::string_view name) {
  for (const Task& task : tasks()) {
    if (name == task.name) return &task;
  }
  return nullptr;
}

const Metric* find_metric(std::string_view name) {
  for (const auto& metrics :
       {kChoiceMetrics, kTruthMetrics, kGsm8kMetrics, kAnswerMetrics, kBaseMetrics, kTextMetrics}) {
    for (const Metric& metric : metrics) {
      if (name == metric.name) return &metric;
    }
  }
  return nullptr;
}

Expected<size_t> shots_of(const TaskOptions& options) {
  if (options.dev_path.empty() && options.shots.value_or(0) > 0) {
    return fail(ErrorCode::kInvalid, "--shots {} needs a file to take the examples from; give it with --dev",
                *options.shots);
  }
  return options.shots.value_or(options.dev_path.empty() ? 0 : kDefaultShots);
}

}  // namespace shoehorn::eval
