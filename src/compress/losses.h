// What the output head says of activations after the last block: cross-entropy and KL divergence, and their gradients.
#pragma once

#include <vector>

#include "compress/torch_model.h"

namespace shoehorn::compress {

/// Targets of tokens that do not count.
inline constexpr int64_t kIgnored = -100;

struct Loss {
  double sum = 0;       ///< nats over all tokens that count
  double sum_squares = 0;
  int64_t count = 0;
  at::Tensor gradient;  ///< d sum / d x, as x; undefined when not asked for
};

/// A model's head with the activations x [..., n_embd] that go into it.
struct HeadInput {
  const TorchModel* model;
  const TensorSet* head;
  at::Tensor x;
};

/// -log p(target); targets [...] of x's leading sizes. Logits exist for a few rows at a time.
Loss cross_entropy(const HeadInput& input, const at::Tensor& targets, bool want_gradient);

/// KL(teacher || student) over the whole vocabulary where targets are not kIgnored; the gradient is the student's.
Loss kl_divergence(const HeadInput& student, const HeadInput& teacher, const at::Tensor& targets, bool want_gradient);

/// The same of several students, without gradients.
std::vector<Loss> kl_divergences(const std::vector<HeadInput>& students, const HeadInput& teacher, const at::Tensor& targets);

/// Token ids [n, n_tokens] -> the id that follows each, kIgnored after the last.
at::Tensor next_tokens(const at::Tensor& ids);

}  // namespace shoehorn::compress
