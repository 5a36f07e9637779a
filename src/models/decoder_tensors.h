// The tensors that pre-norm decoder blocks with grouped-query attention and a gated MLP have in common, under Hugging Face's
// names and GGUF's. Architectures pick from these.
#pragma once

#include "models/model.h"

namespace shoehorn::models {

// clang-format off
inline constexpr TensorRule kTokenEmbd{Role::kTokenEmbd, "token_embd.weight", "model.embed_tokens.weight", Dim::kVocab, Dim::kEmbd, Part::kGlobal};
inline constexpr TensorRule kOutputNorm{Role::kOutputNorm, "output_norm.weight", "model.norm.weight", Dim::kNone, Dim::kEmbd, Part::kGlobal};
inline constexpr TensorRule kOutput{Role::kOutput, "output.weight", "lm_head.weight", Dim::kVocab, Dim::kEmbd, Part::kGlobal, Presence::kUntied};
inline constexpr TensorRule kRopeFreqs{Role::kRopeFreqs, "rope_freqs.weight", "", Dim::kNone, Dim::kHalfRot, Part::kGlobal, Presence::kLlama3Rope};
/// Divisors of LongRoPE, which a checkpoint has in its configuration.
inline constexpr TensorRule kRopeFactorsLong{Role::kRopeFactorsLong, "rope_factors_long.weight", "", Dim::kNone, Dim::kHalfRot, Part::kGlobal, Presence::kLongRope};
inline constexpr TensorRule kRopeFactorsShort{Role::kRopeFactorsShort, "rope_factors_short.weight", "", Dim::kNone, Dim::kHalfRot, Part::kGlobal, Presence::kLongRope};

inline constexpr TensorRule kAttnNorm{Role::kAttnNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", Dim::kNone, Dim::kEmbd, Part::kAttention};
inline constexpr TensorRule kAttnQ{Role::kAttnQ, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", Dim::kQ, Dim::kEmbd, Part::kAttention, Presence::kAlways, RopeRows::kQ};
inline constexpr TensorRule kAttnK{Role::kAttnK, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", Dim::kKv, Dim::kEmbd, Part::kAttention, Presence::kAlways, RopeRows::kK};
inline constexpr TensorRule kAttnV{Role::kAttnV, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", Dim::kKv, Dim::kEmbd, Part::kAttention};
inline constexpr TensorRule kAttnOutput{Role::kAttnOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", Dim::kEmbd, Dim::kQ, Part::kAttention};
inline constexpr TensorRule kAttnQBias{Role::kAttnQBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", Dim::kNone, Dim::kQ, Part::kAttention, Presence::kAttentionBias, RopeRows::kQ};
inline constexpr TensorRule kAttnKBias{Role::kAttnKBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", Dim::kNone, Dim::kKv, Part::kAttention, Presence::kAttentionBias, RopeRows::kK};
inline constexpr TensorRule kAttnVBias{Role::kAttnVBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", Dim::kNone, Dim::kKv, Part::kAttention, Presence::kAttentionBias};
inline constexpr TensorRule kAttnOutputBias{Role::kAttnOutputBias, "blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias", Dim::kNone, Dim::kEmbd, Part::kAttention, Presence::kAttentionOutputBias};
inline constexpr TensorRule kAttnQNorm{Role::kAttnQNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight", Dim::kNone, Dim::kHeadDim, Part::kAttention};
inline constexpr TensorRule kAttnKNorm{Role::kAttnKNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight", Dim::kNone, Dim::kHeadDim, Part::kAttention};

inline constexpr TensorRule kFfnNorm{Role::kFfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", Dim::kNone, Dim::kEmbd, Part::kMlp};
inline constexpr TensorRule kFfnGate{Role::kFfnGate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", Dim::kFf, Dim::kEmbd, Part::kMlp};
inline constexpr TensorRule kFfnUp{Role::kFfnUp, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", Dim::kFf, Dim::kEmbd, Part::kMlp};
inline constexpr TensorRule kFfnDown{Role::kFfnDown, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", Dim::kEmbd, Dim::kFf, Part::kMlp};
inline constexpr TensorRule kFfnGateBias{Role::kFfnGateBias, "blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias", Dim::kNone, Dim::kFf, Part::kMlp, Presence::kMlpBias};
inline constexpr TensorRule kFfnUpBias{Role::kFfnUpBias, "blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias", Dim::kNone, Dim::kFf, Part::kMlp, Presence::kMlpBias};
inline constexpr TensorRule kFfnDownBias{Role::kFfnDownBias, "blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias", Dim::kNone, Dim::kEmbd, Part::kMlp, Presence::kMlpBias};

// Experts (Shazeer et al. 2017, arXiv:1701.06538) instead of one MLP, and the scores by which a token goes to some of them. The names are Qwen's.
inline constexpr TensorRule kFfnRouter{Role::kFfnRouter, "blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.gate.weight", Dim::kExperts, Dim::kEmbd, Part::kMlp, Presence::kExperts};

/// Only where there are no experts.
constexpr TensorRule dense(TensorRule rule) {
  rule.presence = Presence::kDense;
  return rule;
}
/// One of each expert.
constexpr TensorRule of_experts(TensorRule rule, const char* gguf_name, const char* hf_name) {
  rule.gguf_name = gguf_name;
  rule.hf_name = hf_name;
  rule.presence = Presence::kExperts;
  rule.per_expert = true;
  return rule;
}
inline constexpr TensorRule kExpertsGate = of_experts(kFfnGate, "blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.{}.gate_proj.weight");
inline constexpr TensorRule kExpertsUp = of_experts(kFfnUp, "blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.{}.up_proj.weight");
inline constexpr TensorRule kExpertsDown = of_experts(kFfnDown, "blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.{}.down_proj.weight");

// Qwen2-MoE: an expert that works on every token, by a share that a row of weights gives.
inline constexpr TensorRule kSharedShare{Role::kFfnSharedShare, "blk.{}.ffn_gate_inp_shexp.weight", "model.layers.{}.mlp.shared_expert_gate.weight", Dim::kNone, Dim::kEmbd, Part::kMlp,
                                         Presence::kExperts, RopeRows::kNone, HfRows::kInOrder, false, true};
inline constexpr TensorRule kSharedGate{Role::kFfnGate, "blk.{}.ffn_gate_shexp.weight", "model.layers.{}.mlp.shared_expert.gate_proj.weight", Dim::kFfShared, Dim::kEmbd, Part::kMlp, Presence::kExperts};
inline constexpr TensorRule kSharedUp{Role::kFfnUp, "blk.{}.ffn_up_shexp.weight", "model.layers.{}.mlp.shared_expert.up_proj.weight", Dim::kFfShared, Dim::kEmbd, Part::kMlp, Presence::kExperts};
inline constexpr TensorRule kSharedDown{Role::kFfnDown, "blk.{}.ffn_down_shexp.weight", "model.layers.{}.mlp.shared_expert.down_proj.weight", Dim::kEmbd, Dim::kFfShared, Part::kMlp, Presence::kExperts};

// LayerNorm has biases beside its gains. Hugging Face's names for them differ by architecture.
inline constexpr TensorRule kOutputNormBias{Role::kOutputNormBias, "output_norm.bias", "", Dim::kNone, Dim::kEmbd, Part::kGlobal, Presence::kNormBias};
inline constexpr TensorRule kAttnNormBias{Role::kAttnNormBias, "blk.{}.attn_norm.bias", "", Dim::kNone, Dim::kEmbd, Part::kAttention, Presence::kNormBias};
inline constexpr TensorRule kFfnNormBias{Role::kFfnNormBias, "blk.{}.ffn_norm.bias", "", Dim::kNone, Dim::kEmbd, Part::kMlp, Presence::kNormBias};

// Gemma 2 and 3: a norm before each part and one behind it, before the sum. Hugging Face's post_attention_layernorm is the one behind attention.
inline constexpr TensorRule kAttnPostNorm{Role::kAttnPostNorm, "blk.{}.post_attention_norm.weight", "model.layers.{}.post_attention_layernorm.weight", Dim::kNone, Dim::kEmbd, Part::kAttention};
inline constexpr TensorRule kFfnPreNorm{Role::kFfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.pre_feedforward_layernorm.weight", Dim::kNone, Dim::kEmbd, Part::kMlp};
inline constexpr TensorRule kFfnPostNorm{Role::kFfnPostNorm, "blk.{}.post_ffw_norm.weight", "model.layers.{}.post_feedforward_layernorm.weight", Dim::kNone, Dim::kEmbd, Part::kMlp};

// BitNet: a norm of what the output matrices of attention and MLP read.
inline constexpr TensorRule kAttnSubNorm{Role::kAttnSubNorm, "blk.{}.attn_sub_norm.weight", "model.layers.{}.self_attn.attn_sub_norm.weight", Dim::kNone, Dim::kQ, Part::kAttention};
inline constexpr TensorRule kFfnSubNorm{Role::kFfnSubNorm, "blk.{}.ffn_sub_norm.weight", "model.layers.{}.mlp.ffn_sub_norm.weight", Dim::kNone, Dim::kFf, Part::kMlp};

/// A rule under other names.
constexpr TensorRule stored_as(TensorRule rule, const char* gguf_name, const char* hf_name, HfRows hf_rows = HfRows::kInOrder) {
  rule.gguf_name = gguf_name;
  rule.hf_name = hf_name;
  rule.hf_rows = hf_rows;
  return rule;
}
/// The same in a GGUF, in a checkpoint under another name.
constexpr TensorRule hf_named(TensorRule rule, const char* hf_name) { return stored_as(rule, rule.gguf_name, hf_name); }

/// The GGUF names of q, k and v where they are one matrix.
inline constexpr const char* kQkv = "blk.{}.attn_qkv.weight";
inline constexpr const char* kQkvBias = "blk.{}.attn_qkv.bias";

/// A llama: every tensor that it can have, Mixtral's among them.
inline constexpr TensorRule kLlamaTensors[] = {
    kRopeFreqs, kRopeFactorsLong, kRopeFactorsShort, kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQBias, kAttnK, kAttnKBias, kAttnV, kAttnVBias, kAttnOutput, kAttnOutputBias,
    kFfnNorm, dense(kFfnGate), kFfnGateBias, dense(kFfnUp), kFfnUpBias, dense(kFfnDown), kFfnDownBias,
    stored_as(kFfnRouter, kFfnRouter.gguf_name, "model.layers.{}.block_sparse_moe.gate.weight"),
    of_experts(kFfnGate, kExpertsGate.gguf_name, "model.layers.{}.block_sparse_moe.experts.{}.w1.weight"),
    of_experts(kFfnUp, kExpertsUp.gguf_name, "model.layers.{}.block_sparse_moe.experts.{}.w3.weight"),
    of_experts(kFfnDown, kExpertsDown.gguf_name, "model.layers.{}.block_sparse_moe.experts.{}.w2.weight"),
};
// clang-format on

}  // namespace shoehorn::models
