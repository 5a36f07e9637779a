#include "model_presets.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/checked.h"
#include "models/hf_config.h"
#include "models/keys.h"

namespace shoehorn::tools {
namespace {

struct Preset {
  const char* name;
  TokenizerStyle tokenizer;
  uint64_t n_special, n_padding;
  const char* config;
  const char* generation_config;
};

// Each config.json is the published model's own (base models).
constexpr auto kPresets = std::to_array<Preset>({
    {"llama-3.1-8b", TokenizerStyle::kLlama3, 256, 0, R"({
      "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096,
      "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
      "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 8192, "rope_type": "llama3"},
      "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
      "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 128256})",
     R"({"bos_token_id": 128000, "do_sample": true, "eos_token_id": 128001, "temperature": 0.6, "top_p": 0.9,
      "transformers_version": "4.43.0.dev0"})"},
    {"llama-3.2-1b", TokenizerStyle::kLlama3, 256, 0, R"({
      "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
      "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
      "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                       "original_max_position_embeddings": 8192, "rope_type": "llama3"},
      "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})",
     R"({"bos_token_id": 128000, "do_sample": true, "eos_token_id": 128001, "temperature": 0.6, "top_p": 0.9,
      "transformers_version": "4.45.0.dev0"})"},
    {"llama-3.2-3b", TokenizerStyle::kLlama3, 256, 0, R"({
      "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 128, "hidden_act": "silu", "hidden_size": 3072,
      "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
      "model_type": "llama", "num_attention_heads": 24, "num_hidden_layers": 28, "num_key_value_heads": 8,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                       "original_max_position_embeddings": 8192, "rope_type": "llama3"},
      "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})",
     R"({"bos_token_id": 128000, "do_sample": true, "eos_token_id": 128001, "temperature": 0.6, "top_p": 0.9,
      "transformers_version": "4.45.0.dev0"})"},
    {"llama-2-7b", TokenizerStyle::kLlama2, 3, 0, R"({
      "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
      "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096,
      "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false,
      "torch_dtype": "float16", "transformers_version": "4.31.0.dev0", "use_cache": true, "vocab_size": 32000})",
     R"({"bos_token_id": 1, "do_sample": true, "eos_token_id": 2, "pad_token_id": 0, "temperature": 0.6,
      "max_length": 4096, "top_p": 0.9, "transformers_version": "4.31.0.dev0"})"},
    {"mistral-7b", TokenizerStyle::kLlama2, 3, 0, R"({
      "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
      "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
      "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
      "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true,
      "vocab_size": 32768})",
     R"({"_from_model_config": true, "bos_token_id": 1, "eos_token_id": 2, "transformers_version": "4.42.0.dev0"})"},
    {"qwen2-0.5b", TokenizerStyle::kQwen2, 3, 290, R"({
      "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
      "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
      "max_position_embeddings": 131072, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
      "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "sliding_window": 131072, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.40.1", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})",
     R"({"bos_token_id": 151643, "do_sample": false, "eos_token_id": 151643, "max_new_tokens": 2048,
      "transformers_version": "4.40.1"})"},
    {"qwen3-0.6b", TokenizerStyle::kQwen3, 26, 267, R"({
      "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
      "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 40960,
      "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
      "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
      "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})",
     R"({"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "pad_token_id": 151643,
      "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0"})"},
    {"gemma-2b", TokenizerStyle::kGemma, 6, 0, R"({
      "architectures": ["GemmaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 2,
      "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh",
      "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 16384, "max_position_embeddings": 8192,
      "model_type": "gemma", "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
      "pad_token_id": 0, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000.0,
      "torch_dtype": "bfloat16", "transformers_version": "4.38.0.dev0", "use_cache": true, "vocab_size": 256000})",
     R"({"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "transformers_version": "4.38.0.dev0"})"},
    {"tiny-gemma", TokenizerStyle::kGemma, 6, 0, R"({
      "architectures": ["GemmaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 2,
      "eos_token_id": 1, "head_dim": 64, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh",
      "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 1024, "max_position_embeddings": 2048,
      "model_type": "gemma", "num_attention_heads": 6, "num_hidden_layers": 4, "num_key_value_heads": 1,
      "pad_token_id": 0, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000.0,
      "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0})"},
    {"tiny-gemma2", TokenizerStyle::kGemma, 6, 0, R"({
      "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
      "final_logit_softcapping": 30.0, "head_dim": 64, "hidden_act": "gelu_pytorch_tanh",
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 256, "initializer_range": 0.02,
      "intermediate_size": 1024, "max_position_embeddings": 2048, "model_type": "gemma2", "num_attention_heads": 6,
      "num_hidden_layers": 4, "num_key_value_heads": 2, "pad_token_id": 0, "query_pre_attn_scalar": 64,
      "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 32, "torch_dtype": "bfloat16",
      "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1, "pad_token_id": 0})"},
    {"tiny-gemma3", TokenizerStyle::kGemma, 6, 0, R"({
      "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
      "final_logit_softcapping": null, "head_dim": 64, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 256,
      "initializer_range": 0.02, "intermediate_size": 1024, "max_position_embeddings": 2048,
      "model_type": "gemma3_text", "num_attention_heads": 6, "num_hidden_layers": 7, "num_key_value_heads": 1,
      "pad_token_id": 0, "query_pre_attn_scalar": 64, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
      "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 32, "sliding_window_pattern": 6,
      "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1, "pad_token_id": 0})"},
    {"tiny-phi3", TokenizerStyle::kLlama2, 4, 0, R"({
      "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
      "embd_pdrop": 0.0, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02,
      "intermediate_size": 1024, "max_position_embeddings": 2048, "model_type": "phi3", "num_attention_heads": 8,
      "num_hidden_layers": 4, "num_key_value_heads": 4, "original_max_position_embeddings": 32, "pad_token_id": 0,
      "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
      "rope_scaling": {"long_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.2, 4.1, 5.3, 6.8, 8.0, 9.5, 11.0, 12.5, 14.0, 16.0],
                       "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.9, 2.1],
                       "type": "longrope"},
      "rope_theta": 10000.0, "sliding_window": 2048, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
      "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})"},
    {"tiny-mixtral", TokenizerStyle::kLlama2, 3, 0, R"({
      "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
      "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 512,
      "max_position_embeddings": 2048, "model_type": "mixtral", "num_attention_heads": 8, "num_experts_per_tok": 2,
      "num_hidden_layers": 4, "num_key_value_heads": 2, "num_local_experts": 8, "output_router_logits": false,
      "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 1, "eos_token_id": 2})"},
    {"tiny-qwen2moe", TokenizerStyle::kQwen2, 3, 5, R"({
      "architectures": ["Qwen2MoeForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1016, "decoder_sparse_step": 1,
      "eos_token_id": 1016, "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 1024,
      "max_position_embeddings": 2048, "max_window_layers": 4, "model_type": "qwen2_moe", "moe_intermediate_size": 256,
      "norm_topk_prob": false, "num_attention_heads": 8, "num_experts": 6, "num_experts_per_tok": 2, "num_hidden_layers": 4,
      "num_key_value_heads": 8, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 512, "sliding_window": 2048,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false,
      "vocab_size": 1024})",
     R"({"bos_token_id": 1016, "eos_token_id": 1016})"},
    {"tiny-qwen3moe", TokenizerStyle::kQwen3, 26, 5, R"({
      "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 993,
      "decoder_sparse_step": 1, "eos_token_id": 995, "head_dim": 64, "hidden_act": "silu", "hidden_size": 256,
      "initializer_range": 0.02, "intermediate_size": 1024, "max_position_embeddings": 2048, "max_window_layers": 4,
      "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 256, "norm_topk_prob": true,
      "num_attention_heads": 8, "num_experts": 8, "num_experts_per_tok": 3, "num_hidden_layers": 4,
      "num_key_value_heads": 2, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null,
      "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
      "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false, "vocab_size": 1024})",
     R"({"bos_token_id": 993, "eos_token_id": 995})"},
    {"tiny-olmo2", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1008,
      "eos_token_id": 1009, "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02,
      "intermediate_size": 1024, "max_position_embeddings": 2048, "model_type": "olmo2", "num_attention_heads": 8,
      "num_hidden_layers": 4, "num_key_value_heads": 4, "pad_token_id": 1010, "rms_norm_eps": 1e-06,
      "rope_scaling": null, "rope_theta": 500000, "tie_word_embeddings": false, "torch_dtype": "float32",
      "use_cache": false, "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "eos_token_id": 1009, "pad_token_id": 1010})"},
    {"tiny-smollm3", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1008,
      "eos_token_id": 1009, "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02,
      "intermediate_size": 1024,
      "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention"],
      "max_position_embeddings": 2048, "mlp_bias": false, "model_type": "smollm3", "no_rope_layer_interval": 4,
      "no_rope_layers": [1, 1, 1, 0, 1], "num_attention_heads": 8, "num_hidden_layers": 5, "num_key_value_heads": 2,
      "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null,
      "torch_dtype": "bfloat16", "use_cache": false, "use_sliding_window": false, "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "eos_token_id": 1009})"},
    {"tiny-gptneox", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["GPTNeoXForCausalLM"], "attention_bias": true, "attention_dropout": 0.0, "bos_token_id": 1008,
      "eos_token_id": 1009, "hidden_act": "gelu", "hidden_dropout": 0.0, "hidden_size": 256, "initializer_range": 0.02,
      "intermediate_size": 1024, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
      "num_attention_heads": 8, "num_hidden_layers": 4, "rotary_emb_base": 10000, "rotary_pct": 0.25,
      "tie_word_embeddings": false, "torch_dtype": "float16", "use_cache": true, "use_parallel_residual": true,
      "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "eos_token_id": 1009})"},
    {"tiny-mpt", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["MPTForCausalLM"],
      "attn_config": {"alibi": true, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "attn_type": "multihead_attention",
                      "attn_uses_sequence_id": false, "clip_qkv": null, "prefix_lm": false, "qk_ln": false, "softmax_scale": null},
      "d_model": 256, "emb_pdrop": 0, "expansion_ratio": 4, "init_device": "cpu", "learned_pos_emb": true, "logit_scale": null,
      "max_seq_len": 2048, "model_type": "mpt", "n_heads": 8, "n_layers": 4, "no_bias": true, "norm_type": "low_precision_layernorm",
      "bos_token_id": 1008, "eos_token_id": 1009, "resid_pdrop": 0, "torch_dtype": "bfloat16", "use_cache": false, "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "eos_token_id": 1009})"},
    {"tiny-bitnet", TokenizerStyle::kLlama2, 3, 0, R"({
      "architectures": ["BitnetForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
      "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 1024,
      "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 8, "num_hidden_layers": 4,
      "num_key_value_heads": 8, "pad_token_id": 0, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
      "tie_word_embeddings": true, "torch_dtype": "float16", "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})"},
    {"tiny-bitnet-2b4t", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["BitNetForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1008,
      "eos_token_id": 1009, "hidden_act": "relu2", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 768,
      "max_position_embeddings": 2048, "model_type": "bitnet", "num_attention_heads": 8, "num_hidden_layers": 4,
      "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 500000.0,
      "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "eos_token_id": 1009})"},
    // No published model: small enough for a test, wide enough for blocks of 256.
    {"tiny", TokenizerStyle::kLlama3, 16, 0, R"({
      "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 1008, "eos_token_id": 1009, "head_dim": 32, "hidden_act": "silu", "hidden_size": 256,
      "initializer_range": 0.02, "intermediate_size": 1024, "max_position_embeddings": 2048, "mlp_bias": false,
      "model_type": "llama", "num_attention_heads": 8, "num_hidden_layers": 4, "num_key_value_heads": 2,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 256, "rope_type": "llama3"},
      "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
      "vocab_size": 1024})",
     R"({"bos_token_id": 1008, "do_sample": true, "eos_token_id": 1009, "temperature": 0.6, "top_p": 0.9})"},
});

constexpr uint64_t kMaxDim = uint64_t{1} << 24;

uint64_t number(const Json& config, const char* key) { return json_or<uint64_t>(config, key, 0); }

const char* torch_dtype(io::DType dtype) {
  switch (dtype) {
    case io::DType::F32:
      return "float32";
    case io::DType::F16:
      return "float16";
    default:
      return "bfloat16";
  }
}

Status set_head_dim(Json& config, const Overrides& overrides) {
  const uint64_t n_embd = number(config, "hidden_size"), n_head = number(config, "num_attention_heads");
  if (overrides.head_dim) {
    config["head_dim"] = *overrides.head_dim;
  } else if (overrides.n_embd || overrides.n_head || !config.contains("head_dim")) {
    if (n_embd % n_head != 0) {
      return fail(ErrorCode::kInvalid, "hidden size {} is no multiple of {} heads; give --head-dim", n_embd, n_head);
    }
    // Published configs without the key stay without it.
    if (config.contains("head_dim")) config["head_dim"] = n_embd / n_head;
  }
  return {};
}

/// Moves the tokenizer's special tokens to where they are in a vocabulary of another size.
Status resize_vocab(ModelPlan& plan, uint64_t n_vocab) {
  const uint64_t old_base = number(plan.config, "vocab_size") - plan.n_special - plan.n_padding;
  if (plan.tokenizer == TokenizerStyle::kLlama3) plan.n_special = n_vocab >= 8192 ? 256 : 16;
  plan.n_padding = std::min<uint64_t>(plan.n_padding, 5);
  if (n_vocab < 256 + plan.n_special + plan.n_padding) {
    return fail(ErrorCode::kInvalid, "a vocabulary of {}: 256 bytes, {} special tokens and {} unused rows take {}",
                n_vocab, plan.n_special, plan.n_padding, 256 + plan.n_special + plan.n_padding);
  }
  plan.config["vocab_size"] = n_vocab;
  if (specials_first(plan.tokenizer)) return {};
  const uint64_t base = n_vocab - plan.n_special - plan.n_padding;
  const auto move = [&](Json& id) { id = id.get<uint64_t>() - old_base + base; };
  for (Json* json : {&plan.config, &plan.generation_config}) {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      if (!json->contains(key)) continue;
      Json& ids = (*json)[key];
      if (ids.is_array()) {
        for (Json& id : ids) move(id);
      } else {
        move(ids);
      }
    }
  }
  return {};
}

/// Three quarters of n_ff, kept a multiple of 256 (of 32 in small models) for the block formats.
uint64_t pruned_width(uint64_t n_ff) {
  const uint64_t multiple = n_ff >= 1024 ? 256 : 32;
  return std::max(multiple, (n_ff * 3 / 4 + multiple / 2) / multiple * multiple);
}

Status make_jagged(Json& config, Jagged jagged) {
  const uint64_t n_layer = number(config, "num_hidden_layers"), n_ff = number(config, "intermediate_size");
  const uint64_t n_head = number(config, "num_attention_heads"), n_head_kv = number(config, "num_key_value_heads");
  if (n_layer < 2) return fail(ErrorCode::kInvalid, "a jagged model needs two layers");
  if (pruned_width(n_ff) >= n_ff) return fail(ErrorCode::kInvalid, "an MLP of {} is too narrow to prune", n_ff);
  // Layers 4..27 of 32, as in "LLM Compression and Deployment on Raspberry Pi 4"; the like elsewhere.
  const uint64_t first = std::max<uint64_t>(1, n_layer / 8), last = std::max(first, n_layer - first - 1);
  config["head_dim"] = json_or<uint64_t>(config, "head_dim", number(config, "hidden_size") / n_head);
  config["intermediate_size"] = std::vector<uint64_t>(n_layer, n_ff);
  for (uint64_t i = first; i <= last; ++i) config["intermediate_size"][i] = pruned_width(n_ff);
  if (jagged != Jagged::kFull) return {};
  // Whole KV groups go, with their query heads; of a single group, half of its query heads.
  const uint64_t group = n_head / n_head_kv;
  const uint64_t kept_kv = n_head_kv == 1 ? 1 : std::min(n_head_kv - 1, (n_head_kv * 3 + 3) / 4);
  const uint64_t kept = n_head_kv == 1 ? n_head / 2 : kept_kv * group;
  if (kept == 0) return fail(ErrorCode::kInvalid, "a single head cannot be pruned");
  config["num_attention_heads"] = std::vector<uint64_t>(n_layer, n_head);
  config["num_key_value_heads"] = std::vector<uint64_t>(n_layer, n_head_kv);
  const uint64_t middle = std::max<uint64_t>(1, n_layer / 2);
  config["num_attention_heads"][middle] = kept;
  config["num_key_value_heads"][middle] = kept_kv;
  return {};
}

}  // namespace

std::string preset_names() {
  std::string out;
  for (const Preset& preset : kPresets) out += (out.empty() ? "" : ", ") + std::string(preset.name);
  return out;
}

Expected<ModelPlan> make_plan(const std::string& name, const Overrides& overrides) {
  const auto preset = std::find_if(kPresets.begin(), kPresets.end(), [&](const Preset& p) { return p.name == name; });
  if (preset == kPresets.end()) {
    return fail(ErrorCode::kInvalid, "no model {}; there are {}", name, preset_names());
  }
  ModelPlan plan;
  SHOEHORN_TRY(plan.config, parse_json(preset->config));
  SHOEHORN_TRY(plan.generation_config, parse_json(preset->generation_config));
  plan.tokenizer = preset->tokenizer;
  plan.n_special = preset->n_special;
  plan.n_padding = preset->n_padding;

  Json& config = plan.config;
  const models::OwnKeys* own_keys = models::find_hf_architecture(config["architectures"][0].get<std::string>())->own_keys;
  const bool own_names = own_keys != nullptr && own_keys->standard != nullptr;
  if (own_names) config = own_keys->standard(std::move(config));
  if (!config.contains("num_key_value_heads")) config["num_key_value_heads"] = overrides.n_head.value_or(number(config, "num_attention_heads"));
  const std::pair<const char*, std::optional<uint64_t>> numbers[] = {
      {"num_hidden_layers", overrides.n_layer},     {"hidden_size", overrides.n_embd},
      {"intermediate_size", overrides.n_ff},        {"num_attention_heads", overrides.n_head},
      {"num_key_value_heads", overrides.n_head_kv}, {"max_position_embeddings", overrides.n_ctx},
  };
  for (const auto& [key, value] : numbers) {
    if (value) config[key] = *value;
    if (const uint64_t n = number(config, key); n == 0 || n > kMaxDim) {
      return fail(ErrorCode::kInvalid, "{} = {} is not in 1..{}", key, n, kMaxDim);
    }
  }
  if (overrides.n_layer && config.contains("max_window_layers")) config["max_window_layers"] = *overrides.n_layer;
  const uint64_t n_head = number(config, "num_attention_heads"), n_head_kv = number(config, "num_key_value_heads");
  if (n_head % n_head_kv != 0) {
    return fail(ErrorCode::kInvalid, "{} heads are no multiple of {} KV heads", n_head, n_head_kv);
  }
  SHOEHORN_RETURN_IF_ERROR(set_head_dim(config, overrides));
  const uint64_t head_dim = json_or<uint64_t>(config, "head_dim", number(config, "hidden_size") / n_head);
  if (head_dim == 0 || head_dim % 2 != 0 || head_dim > kMaxDim / n_head) {
    return fail(ErrorCode::kInvalid, "a head dimension of {}; RoPE needs an even one", head_dim);
  }
  if (overrides.n_vocab && *overrides.n_vocab != number(config, "vocab_size")) {
    if (*overrides.n_vocab > kMaxDim) return fail(ErrorCode::kInvalid, "a vocabulary of more than {}", kMaxDim);
    SHOEHORN_RETURN_IF_ERROR(resize_vocab(plan, *overrides.n_vocab));
  }
  if (overrides.dtype) config["torch_dtype"] = torch_dtype(*overrides.dtype);
  if (overrides.jagged != Jagged::kNo) SHOEHORN_RETURN_IF_ERROR(make_jagged(config, overrides.jagged));
  if (own_names) {
    SHOEHORN_TRY(const models::ModelConfig model, models::parse_model_config(config));
    own_keys->own(model.hparams, config);
  }
  return plan;
}

Expected<std::vector<TensorPlan>> tensor_plan(const Json& config) {
  SHOEHORN_TRY(const models::ModelConfig model, models::parse_model_config(config));
  const float residual_gain = 1.0f / std::sqrt(2.0f * static_cast<float>(model.hparams.n_layer));
  const auto plan = [&](const models::FileTensor& tensor) -> TensorPlan {
    TensorPlan out{tensor.name, {tensor.shape.rbegin(), tensor.shape.rend()}, 0.0f, 0.1f};
    const models::Role role = tensor.parts.front().rule->role;
    if (models::is_gain(role)) {
      out.mean = 1 - model.architecture->gain_offset;
      out.stddev = 0.05f;
    } else if (role == models::Role::kTokenEmbd) {
      out.stddev = 0.02f;
    } else if (tensor.shape.size() > 1) {
      const bool into_residual = role == models::Role::kAttnOutput || role == models::Role::kFfnDown;
      // Trained routers tell experts apart: near-ties, which a last bit decides, are rare.
      const float gain = into_residual ? residual_gain : role == models::Role::kFfnRouter ? 4.0f : 1.0f;
      out.stddev = gain / std::sqrt(static_cast<float>(tensor.shape[0]));
    }
    return out;
  };
  // As in published files: the embedding, the layers, what comes behind them.
  std::vector<TensorPlan> out, behind;
  const auto specs = models::tensor_specs(*model.architecture, model.hparams);
  for (const models::FileTensor& tensor : models::hf_tensors(specs)) {
    const models::TensorSpec& first = tensor.parts.front();
    (first.layer >= 0 || first.rule->role == models::Role::kTokenEmbd ? out : behind).push_back(plan(tensor));
  }
  out.insert(out.end(), behind.begin(), behind.end());
  return out;
}

}  // namespace shoehorn::tools
