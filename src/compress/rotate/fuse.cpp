#include "compress/rotate/fuse.h"

#include <random>

namespace shoehorn::compress {

using models::Role;

Expected<Rotations> random_rotations(const models::Hparams& h, const RotationOptions& options) {
  std::mt19937_64 seeds(options.seed);
  Rotations out;
  const auto random = [](const std::string& what, RotationKind kind, uint32_t n, uint64_t seed) {
    auto rotation = Rotation::random(kind, n, seed);
    return rotation ? rotation : Expected<Rotation>(annotate(rotation.error(), what));
  };
  const uint64_t r1_seed = seeds(), r4_seed = seeds();
  if (options.r1) {
    SHOEHORN_TRY(out.r1, random("R1", options.kind, h.n_embd, r1_seed));
  }
  for (size_t l = 0; l < h.layers.size() && options.r2; ++l) {
    const models::LayerShape& layer = h.layers[l];
    auto& heads = out.r2.emplace_back();
    for (uint32_t head = 0; head < (layer.n_head == 0 ? 0 : layer.n_head_kv); ++head) {
      SHOEHORN_TRY(Rotation rotation, random(fmt::format("R2 of layer {}", l), options.kind, h.head_dim, seeds()));
      heads.push_back(std::move(rotation));
    }
  }
  if (!options.r4) return out;
  std::mt19937_64 r4_seeds(r4_seed);
  for (size_t l = 0; l < h.layers.size(); ++l) {
    out.r4.emplace_back();
    if (h.layers[l].n_ff == 0) continue;
    SHOEHORN_TRY(out.r4.back(), random(fmt::format("R4 of layer {}", l), RotationKind::kHadamard, h.layers[l].n_ff, r4_seeds()));
  }
  return out;
}

/// What is added to the residual stream: W becomes R1' W.
at::Tensor Fusion::into_residual(const at::Tensor& weight) const {
  return rotations_.r1 ? rotations_.r1->columns(weight) : weight.to(at::kDouble);
}

/// What reads the residual stream behind a norm: W becomes W diag(gain) R1.
at::Tensor Fusion::from_residual(const at::Tensor& weight, int layer, Role norm) const {
  return rotations_.r1 ? rotations_.r1->rows(weight, source_.gain(layer, norm)) : weight.to(at::kDouble);
}

/// The rows of v_proj, or its bias: those of each KV head times R2'.
at::Tensor Fusion::heads_out(int layer, const at::Tensor& weight) const {
  if (rotations_.r2.empty()) return weight;
  const auto& heads = rotations_.r2[static_cast<size_t>(layer)];
  std::vector<at::Tensor> parts;
  for (size_t head = 0; head < heads.size(); ++head) {
    const int64_t n = heads[head].n();
    const at::Tensor rows = weight.narrow(0, static_cast<int64_t>(head) * n, n);
    parts.push_back(rows.dim() == 1 ? heads[head].rows(rows) : heads[head].columns(rows));
  }
  return at::cat(parts);
}

/// The columns of o_proj: those of each query head times the R2 of the KV head that it reads.
at::Tensor Fusion::heads_in(int layer, const at::Tensor& weight) const {
  if (rotations_.r2.empty()) return weight;
  const auto& heads = rotations_.r2[static_cast<size_t>(layer)];
  const models::LayerShape& shape = source_.hparams().layers[static_cast<size_t>(layer)];
  const size_t per_kv = shape.n_head / shape.n_head_kv;
  std::vector<at::Tensor> parts;
  for (size_t head = 0; head < shape.n_head; ++head) {
    const Rotation& rotation = heads[head / per_kv];
    parts.push_back(rotation.rows(weight.narrow(1, static_cast<int64_t>(head) * rotation.n(), rotation.n())));
  }
  return at::cat(parts, 1);
}

at::Tensor Fusion::operator()(int layer, models::WeightId id, const at::Tensor& stored) const {
  // Matrices are converted where they are rotated, a piece at a time.
  const at::Tensor w = stored.dim() == 1 ? stored.to(at::kDouble) : stored;
  const Rotation* r4 = nullptr;
  const bool all_reads = source_.hparams().n_expert == 0 || id.expert >= 0;  // not the shared expert's
  if (!rotations_.r4.empty() && layer >= 0 && all_reads && rotations_.r4[static_cast<size_t>(layer)])
    r4 = &*rotations_.r4[static_cast<size_t>(layer)];
  switch (id.role) {
    case Role::kTokenEmbd:
      return rotations_.r1 ? rotations_.r1->rows(w) : w.to(at::kDouble);
    case Role::kOutput:
      return from_residual(w, -1, Role::kOutputNorm);
    case Role::kOutputNorm:
    case Role::kAttnNorm:
    case Role::kFfnNorm:
      return rotations_.r1 ? at::ones_like(w) - static_cast<double>(source_.checkpoint().gain_offset) : w;
    case Role::kAttnQ:
    case Role::kAttnK:
      return from_residual(w, layer, Role::kAttnNorm);
    case Role::kAttnV:
      return heads_out(layer, from_residual(w, layer, Role::kAttnNorm));
    case Role::kAttnVBias:
      return heads_out(layer, w);
    case Role::kAttnOutput:
      return into_residual(heads_in(layer, w));
    case Role::kFfnSharedShare:
      return from_residual(w.unsqueeze(0), layer, Role::kFfnNorm).squeeze(0);
    case Role::kFfnRouter:
    case Role::kFfnGate:
      return from_residual(w, layer, Role::kFfnNorm);
    case Role::kFfnUp: {
      const at::Tensor rotated = from_residual(w, layer, Role::kFfnNorm);
      return r4 != nullptr ? rotated * r4->signs().unsqueeze(1).to(rotated.options()) : rotated;
    }
    case Role::kFfnUpBias:
      return r4 != nullptr ? w * r4->signs() : w;
    case Role::kFfnDown:
      return into_residual(r4 != nullptr ? r4->rows(w) : w);
    case Role::kAttnOutputBias:
    case Role::kFfnDownBias:
      return rotations_.r1 ? rotations_.r1->rows(w) : w;
    case Role::kAttnQBias:
    case Role::kAttnKBias:
    case Role::kAttnQNorm:
    case Role::kAttnKNorm:
    case Role::kAttnSubNorm:
    case Role::kFfnSubNorm:
    case Role::kAttnPostNorm:
    case Role::kFfnPostNorm:
    case Role::kFfnGateBias:
    case Role::kAttnNormBias:
    case Role::kFfnNormBias:
    case Role::kOutputNormBias:
    case Role::kRopeFreqs:
    case Role::kRopeFactorsLong:
    case Role::kRopeFactorsShort:
      return w;  // behind or before what is rotated
  }
  return w;
}

ChangedModel rotated_model(const BlockLoader& source, const Rotations& rotations, const std::string& result_dtype) {
  ChangedModel out;
  out.layers = unchanged_layers(source.hparams());
  out.untied = rotations.r1.has_value();
  out.ffn_hadamard = !rotations.r4.empty();
  out.result_dtype = result_dtype;
  out.replace = Fusion(source, rotations);
  return out;
}

}  // namespace shoehorn::compress
