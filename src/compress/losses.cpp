#include "compress/losses.h"

#include <functional>

namespace shoehorn::compress {
namespace {

/// A chunk's logits in wide precision take this many bytes at most.
constexpr int64_t kMaxChunkBytes = int64_t{64} << 20;

at::Tensor rows_of(const HeadInput& input) { return input.x.detach().reshape({-1, input.x.size(-1)}); }

/// The indices of the rows that count, in pieces whose logits may be held at once.
std::vector<at::Tensor> counted_rows(const HeadInput& input, const at::Tensor& targets) {
  const at::Tensor counted = targets.reshape({-1}).ne(kIgnored).nonzero().view({-1}).to(input.x.device());
  const at::Tensor& output = (*input.head)[models::Role::kOutput].defined() ? (*input.head)[models::Role::kOutput]
                                                                          : (*input.head)[models::Role::kTokenEmbd];
  if (counted.size(0) == 0) return {};
  return counted.split(std::max<int64_t>(1, kMaxChunkBytes / (4 * output.size(0))), 0);
}

void add(const at::Tensor& values, Loss& sum) {
  const at::Tensor exact = values.detach().to(at::kDouble);
  sum.sum += exact.sum().item<double>();
  sum.sum_squares += exact.square().sum().item<double>();
  sum.count += values.size(0);
}

/// Sums losses(chunk of x's rows, their indices) [rows] over the rows that count, and its gradient with respect to x.
Loss sum_over_rows(const HeadInput& input, const at::Tensor& targets, bool want_gradient,
                   const std::function<at::Tensor(const at::Tensor& x, const at::Tensor& rows)>& losses) {
  Loss out;
  const at::Tensor x = rows_of(input);
  if (want_gradient) out.gradient = at::zeros_like(x);
  for (const at::Tensor& rows : counted_rows(input, targets)) {
    at::AutoGradMode mode(want_gradient);
    at::Tensor chunk = x.index_select(0, rows);
    if (want_gradient) chunk.requires_grad_(true);
    const at::Tensor values = losses(chunk, rows);
    if (want_gradient) {
      out.gradient.index_copy_(0, rows, torch::autograd::grad({values.sum()}, {chunk})[0]);
    }
    add(values, out);
  }
  if (want_gradient) out.gradient = out.gradient.view(input.x.sizes());
  return out;
}

}  // namespace

Loss cross_entropy(const HeadInput& input, const at::Tensor& targets, bool want_gradient) {
  const at::Tensor flat = targets.reshape({-1}).to(input.x.device());
  return sum_over_rows(input, targets, want_gradient, [&](const at::Tensor& x, const at::Tensor& rows) {
    const at::Tensor log_shares = at::log_softmax(input.model->logits(*input.head, x), -1);
    return -log_shares.gather(1, flat.index_select(0, rows).unsqueeze(1)).squeeze(1);
  });
}

Loss kl_divergence(const HeadInput& student, const HeadInput& teacher, const at::Tensor& targets, bool want_gradient) {
  const at::Tensor teacher_x = teacher.x.detach().reshape({-1, teacher.x.size(-1)});
  return sum_over_rows(student, targets, want_gradient, [&](const at::Tensor& x, const at::Tensor& rows) {
    at::Tensor wanted;
    {
      at::NoGradGuard no_gradient;
      wanted = at::log_softmax(teacher.model->logits(*teacher.head, teacher_x.index_select(0, rows)), -1);
    }
    const at::Tensor got = at::log_softmax(student.model->logits(*student.head, x), -1);
    return (wanted.exp() * (wanted - got)).sum(-1);
  });
}

std::vector<Loss> kl_divergences(const std::vector<HeadInput>& students, const HeadInput& teacher, const at::Tensor& targets) {
  at::NoGradGuard no_gradient;
  std::vector<Loss> out(students.size());
  const at::Tensor teacher_x = rows_of(teacher);
  for (const at::Tensor& rows : counted_rows(teacher, targets)) {
    const at::Tensor wanted = at::log_softmax(teacher.model->logits(*teacher.head, teacher_x.index_select(0, rows)), -1);
    const at::Tensor shares = wanted.exp(), information = (shares * wanted).sum(-1);
    for (size_t s = 0; s < students.size(); ++s) {
      const at::Tensor x = rows_of(students[s]).index_select(0, rows);
      const at::Tensor got = at::log_softmax(students[s].model->logits(*students[s].head, x), -1);
      add(information - (shares * got).sum(-1), out[s]);
    }
  }
  return out;
}

at::Tensor next_tokens(const at::Tensor& ids) {
  const at::Tensor end = at::full({ids.size(0), 1}, kIgnored, ids.options());
  return at::cat({ids.narrow(1, 1, ids.size(1) - 1), end}, 1);
}

}  // namespace shoehorn::compress
