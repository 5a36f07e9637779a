#include "eval/profile.h"

#include <cmath>
#include <initializer_list>

namespace shoehorn::eval {
namespace {

using engine::Step;
using engine::StepWork;
using engine::Weight;
using models::Role;

struct Work {
  uint64_t bytes = 0, macs = 0;
};

Work product(std::initializer_list<const Weight*> weights, uint64_t n_tokens) {
  Work work;
  for (const Weight* weight : weights) {
    if (!*weight) continue;
    work.bytes += weight->n_rows * weight->row_bytes;
    work.macs += n_tokens * weight->n_rows * weight->n_cols;
  }
  return work;
}

/// Two products with every position that each of the last n_out tokens sees; keys and values are read once.
Work attention(const engine::Session& session, const StepWork& w) {
  const models::Hparams& h = session.model().hparams();
  const models::LayerShape& shape = h.layers[w.layer];
  const engine::KvCache& cache = session.cache();
  const uint64_t end = w.n_past + w.n, first = end - w.n_out;
  const uint64_t seen = (end * (end + 1) - first * (first + 1)) / 2;  // sum of t + 1 over the tokens first .. end - 1
  return {end * shape.n_head_kv * (cache.key_bytes() + cache.value_bytes()), 2 * seen * shape.n_head * h.head_dim};
}

Work work_of(const engine::Session& session, Step step, const StepWork& w) {
  const engine::Model& model = session.model();
  const engine::WeightSet& layer = model.layer(w.layer);
  switch (step) {
    case Step::kEmbedding:
      return {w.n * model.global()[Role::kTokenEmbd].row_bytes, 0};
    case Step::kQkv: {
      Work all = product({&layer[Role::kAttnK], &layer[Role::kAttnV]}, w.n);
      if (w.n_out > 0) {
        const Work query = product({&layer[Role::kAttnQ]}, w.n_out);
        all.bytes += query.bytes;
        all.macs += query.macs;
      }
      return all;
    }
    case Step::kAttention:
      return attention(session, w);
    case Step::kAttentionOutput:
      return product({&layer[Role::kAttnOutput]}, w.n_out);
    case Step::kGateUp:
      return product({&layer[Role::kFfnGate], &layer[Role::kFfnUp]}, w.n_out);
    case Step::kExperts: {
      // Which ones a step read is not told: as many as its tokens go to on average.
      Work all = product({&layer[Role::kFfnRouter], &layer[Role::kFfnGate], &layer[Role::kFfnUp], &layer[Role::kFfnDown]}, w.n_out);
      const Work one = product({&layer[{Role::kFfnGate, 0}], &layer[{Role::kFfnUp, 0}], &layer[{Role::kFfnDown, 0}]}, w.n_out);
      const models::Hparams& h = model.hparams();
      all.bytes += static_cast<uint64_t>(std::llround(models::experts_read(h, w.n_out) * static_cast<double>(one.bytes)));
      all.macs += one.macs * h.n_expert_used;
      return all;
    }
    case Step::kDown:
      return product({&layer[Role::kFfnDown]}, w.n_out);
    case Step::kOutput:
      return product({&model.output()}, w.n_out);
    case Step::kAttentionNorm:
    case Step::kRope:
    case Step::kFfnNorm:
    case Step::kFfnHadamard:
    case Step::kOutputNorm:
      break;
  }
  return {};
}

}  // namespace

const char* step_name(Step step) {
  switch (step) {
    case Step::kEmbedding:
      return "embedding";
    case Step::kAttentionNorm:
      return "attention norm";
    case Step::kQkv:
      return "q, k, v product";
    case Step::kRope:
      return "rope, cache";
    case Step::kAttention:
      return "attention";
    case Step::kAttentionOutput:
      return "attention output product";
    case Step::kFfnNorm:
      return "mlp norm";
    case Step::kGateUp:
      return "gate, up product";
    case Step::kFfnHadamard:
      return "mlp hadamard";
    case Step::kExperts:
      return "experts";
    case Step::kDown:
      return "down product";
    case Step::kOutputNorm:
      return "output norm";
    case Step::kOutput:
      return "output matrix";
  }
  return "";
}

StepProfiler::StepProfiler(engine::Session& session) : session_(session), last_(std::chrono::steady_clock::now()) {
  for (size_t i = 0; i < entries_.size(); ++i) entries_[i].step = static_cast<Step>(i);
  session.observe_steps(this);
}

StepProfiler::~StepProfiler() { session_.observe_steps(nullptr); }

void StepProfiler::on_pass() { last_ = std::chrono::steady_clock::now(); }

void StepProfiler::on_step(Step step, const StepWork& work) {
  const auto now = std::chrono::steady_clock::now();
  ProfileEntry& entry = entries_[static_cast<size_t>(step)];
  const Work done = work_of(session_, step, work);
  ++entry.calls;
  entry.seconds += std::chrono::duration<double>(now - last_).count();
  entry.bytes += done.bytes;
  entry.macs += done.macs;
  last_ = now;
}

std::vector<ProfileEntry> StepProfiler::entries() const {
  std::vector<ProfileEntry> done;
  for (const ProfileEntry& entry : entries_) {
    if (entry.calls > 0) done.push_back(entry);
  }
  return done;
}

}  // namespace shoehorn::eval
