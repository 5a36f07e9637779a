#include "compress/block_stream.h"

namespace shoehorn::compress {
namespace {

Status check_cancelled(const Progress& progress) {
  if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
  return {};
}

}  // namespace

std::vector<at::Tensor> split_batches(const at::Tensor& ids, int64_t size) { return ids.split(size, 0); }

Expected<at::Tensor> BlockStream::get(ActivationStore::Slot slot) const {
  SHOEHORN_TRY(const at::Tensor tensor, store_.get(slot));
  return tensor.to(model_.compute().device);
}

void BlockStream::drop(Boundary& boundary) {
  for (const auto slot : boundary) store_.drop(slot);
  boundary.clear();
}

Expected<Boundary> BlockStream::embed(const std::vector<at::Tensor>& batches) {
  Boundary out;
  for (const at::Tensor& ids : batches) {
    SHOEHORN_TRY(const auto slot, store_.put(loader_.embed(ids)));
    out.push_back(slot);
  }
  return out;
}

Expected<Boundary> BlockStream::forward(size_t layer, Boundary& in, bool keep) {
  const TensorSet weights = loader_.block(layer);
  return forward(layer, weights, in, keep, [&](const TensorSet& w, const at::Tensor& x, size_t) { return model_.block(w, x); });
}

Expected<Boundary> BlockStream::forward(size_t layer, const TensorSet& weights, Boundary& in, bool keep, BlockFunction function) {
  at::NoGradGuard no_gradient;
  loader_.expect(layer + 1);
  Boundary out;
  for (size_t m = 0; m < in.size(); ++m) {
    SHOEHORN_RETURN_IF_ERROR(check_cancelled(progress_));
    SHOEHORN_TRY(const at::Tensor x, get(in[m]));
    if (!keep) store_.drop(in[m]);
    SHOEHORN_TRY(const auto slot, store_.put(function(weights, x, m)));
    out.push_back(slot);
  }
  if (!keep) in.clear();
  progress_.advance(1);
  return out;
}

Status BlockStream::backward(const TensorSet& weights, Boundary& inputs, Boundary& gradients, const std::vector<at::Tensor>& parameters,
                             bool want_input, BlockFunction function,
                             FunctionRef<void(size_t m, std::vector<at::Tensor>&& gradients)> visit) {
  for (size_t m = 0; m < inputs.size(); ++m) {
    SHOEHORN_RETURN_IF_ERROR(check_cancelled(progress_));
    SHOEHORN_TRY(at::Tensor x, get(inputs[m]));
    SHOEHORN_TRY(const at::Tensor gradient, get(gradients[m]));
    store_.drop(inputs[m]);
    store_.drop(gradients[m]);
    x = x.detach();
    std::vector<at::Tensor> wanted = parameters;
    if (want_input) wanted.push_back(x.requires_grad_(true));
    at::AutoGradMode with_gradient(true);
    const at::Tensor y = function(weights, x, m);
    std::vector<at::Tensor> found = torch::autograd::grad({y}, wanted, {gradient}, c10::nullopt, false, true);
    for (size_t i = 0; i < found.size(); ++i) {
      if (!found[i].defined()) found[i] = at::zeros_like(wanted[i]);  // of an expert that no token went to
    }
    if (want_input) {
      SHOEHORN_TRY(gradients[m], store_.put(found.back()));
      found.pop_back();
    }
    visit(m, std::move(found));
  }
  inputs.clear();
  if (!want_input) gradients.clear();
  progress_.advance(1);
  return {};
}

}  // namespace shoehorn::compress
