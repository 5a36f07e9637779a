// Who wants to know where a forward pass spends its time is told of every step that is done.
#pragma once

#include <cstddef>

namespace shoehorn::engine {

/// The kinds of operations of a forward pass, in their order.
enum class Step {
  kEmbedding,        ///< rows of the token embedding become floats
  kAttentionNorm,    ///< before the q, k and v products
  kQkv,              ///< q, k and v products
  kRope,             ///< head norms, rotation, keys and values into the cache
  kAttention,        ///< softmax(q . K) V
  kAttentionOutput,  ///< the product after attention, with the residual sum
  kFfnNorm,          ///< before the gate and up products
  kGateUp,           ///< gate and up products with SwiGLU
  kFfnHadamard,      ///< the transform before the down product, where the model has one
  kDown,             ///< the down product, with the residual sum
  kExperts,          ///< where there are experts: their choice, and the products and sums of those that are chosen
  kOutputNorm,
  kOutput,  ///< the logits
};
inline constexpr size_t kStepCount = static_cast<size_t>(Step::kOutput) + 1;

/// What a step worked on.
struct StepWork {
  size_t layer = 0;   ///< 0 outside of the layers
  size_t n_past = 0;  ///< positions before the first token of the pass
  size_t n = 0;       ///< tokens of the pass
  size_t n_out = 0;   ///< of these, the last that came out of the step (for kQkv: whose q was computed)
};

class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// A pass begins. Both are called from the thread that runs the pass, whose pool is idle.
  virtual void on_pass() = 0;
  /// The step is done; what passed since the call before was its time.
  virtual void on_step(Step step, const StepWork& work) = 0;
};

}  // namespace shoehorn::engine
