// Where a forward pass spends its time, per kind of operation.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "engine/session.h"

namespace shoehorn::eval {

/// One kind of operation, summed over layers and passes.
struct ProfileEntry {
  engine::Step step = {};
  uint64_t calls = 0;
  double seconds = 0;
  uint64_t bytes =
      0;  ///< least that it reads: weights once per pass, the rows of the embedding, keys and values once per pass
  uint64_t macs = 0;  ///< multiply-accumulates of its products; 0 for what has none
};

/// "q, k, v product" and so on, as the reports write it.
const char* step_name(engine::Step step);

/// Times the steps of a session's passes as long as it lives. The clock is read once per step, some ten times a layer.
class StepProfiler : public engine::StepObserver {
 public:
  explicit StepProfiler(engine::Session& session);
  ~StepProfiler() override;
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  void on_pass() override;
  void on_step(engine::Step step, const engine::StepWork& work) override;

  /// The steps that were done, in the order of a pass.
  std::vector<ProfileEntry> entries() const;

 private:
  engine::Session& session_;
  std::chrono::steady_clock::time_point last_;
  std::array<ProfileEntry, engine::kStepCount> entries_;
};

}  // namespace shoehorn::eval
