// What a model is, without any computation: its dimensions, its tensors, its block flags. An architecture is one file in
// this folder plus one row in architectures.inc.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/activation.h"
#include "base/status.h"

namespace shoehorn::models {

/// How rotary embedding pairs up the elements of a head: NORM rotates (2i, 2i+1), NEOX rotates (i, i + n_rot/2).
/// Hugging Face stores every model for NEOX; a NORM file has its q and k rows permuted accordingly.
enum class RopeType { kNorm, kNeox };

enum class RopeScalingType { kNone, kLinear, kYarn, kLlama3, kLongRope };

struct RopeScaling {
  RopeScalingType type = RopeScalingType::kNone;
  float factor = 1;                    ///< context is stretched by this
  uint32_t original_context = 0;       ///< context length before stretching (yarn, llama3, longrope)
  float low_freq_factor = 1;           ///< llama3
  float high_freq_factor = 4;          ///< llama3
  float attn_factor = 1;               ///< multiplies the magnitude, with yarn on top of its own 0.1 ln(factor) + 1
  float beta_fast = 32, beta_slow = 1; ///< yarn: rotations over the original context where the ramp ends and begins
  /// longrope, [n_rot / 2]: divisors of the frequencies in contexts up to the original one, and in longer ones.
  std::vector<float> short_factors = {}, long_factors = {};
};

/// How an architecture norms what its parts read: by the root mean square (Zhang & Sennrich 2019, arXiv:1910.07467), or by mean and
/// standard deviation (Ba et al. 2016, arXiv:1607.06450), with biases too.
enum class NormKind { kRms, kLayer };

/// What the attention of a block sees, whatever its dimensions.
struct AttentionKind {
  bool windowed = false;  ///< Hparams::window positions, and not all
  bool rotated = true;    ///< queries and keys by their positions (RoPE)
  bool operator==(const AttentionKind&) const = default;
};

/// Dimensions of one block. Pruned models are jagged: every layer may have its own.
struct LayerShape {
  uint32_t n_head = 0;     ///< 0: the layer has no attention
  uint32_t n_head_kv = 0;
  uint32_t n_ff = 0;       ///< of each of its MLP's experts where it has some; 0: the layer has no MLP
  AttentionKind attention = {};
  bool operator==(const LayerShape&) const = default;
};

struct Hparams {
  uint32_t n_vocab = 0, n_embd = 0, n_layer = 0;
  uint32_t head_dim = 0;        ///< elements of one q, k or v head
  uint32_t n_rot = 0;           ///< leading elements of a head that are rotated
  uint32_t n_ctx_train = 0;
  float norm_eps = 0;
  float rope_theta = 10000;
  RopeScaling rope_scaling;
  NormKind norm = NormKind::kRms;
  bool norm_bias = false;        ///< norms have biases
  bool parallel_residual = false;///< the MLP reads what attention reads, not its sum
  float alibi_max_bias = 0;      ///< > 0: ALiBi instead of RoPE, whose steepest slope is 2^(-this / n_head) (Press et al. 2021, arXiv:2108.12409)
  /// > 0: an MLP is so many experts of one width, of which the router's favourites, n_expert_used, work on a token; what they give is
  /// summed by the softmax of its scores (Shazeer et al. 2017, arXiv:1701.06538; Jiang et al. 2024, arXiv:2401.04088).
  uint32_t n_expert = 0, n_expert_used = 0;
  bool renormalize_experts = false;  ///< the shares of those that work are divided by their sum
  uint32_t n_ff_shared = 0;      ///< > 0: width of an expert that works on every token, by a share of its own
  float clamp_qkv = 0;           ///< > 0: q, k and v are cut off at +-this
  float embedding_scale = 1;     ///< what the token embedding gives is multiplied with it
  Activation activation = Activation::kSilu;  ///< of the MLP
  float attention_scale = 0;     ///< what scores are multiplied with; 0: 1 / sqrt(head_dim)
  float attention_softcap = 0;   ///< c > 0: a score s becomes c tanh(s / c) (Gemma 2, arXiv:2408.00118)
  float output_softcap = 0;      ///< the same of logits
  uint32_t window = 0;           ///< positions that windowed layers see, the token's own among them
  float window_rope_theta = 0;   ///< of windowed layers, whose rope is not scaled; 0: as in the others
  bool tied_embeddings = false;  ///< no output tensor of its own: logits come from token_embd
  bool attention_bias = false;         ///< q, k and v have biases
  bool attention_output_bias = false;
  bool mlp_bias = false;
  /// What down_proj reads goes through a Hadamard transform first (hadamard/matrix.h; R4 of SpinQuant, Liu et al. 2024,
  /// arXiv:2405.16406), which is in down_proj's columns already.
  bool ffn_hadamard = false;
  std::vector<LayerShape> layers;  ///< [n_layer]

  /// Whether what an expert's down_proj reads (-1: the only MLP's, or the shared expert's) goes through a Hadamard transform first.
  bool transforms(int expert) const { return ffn_hadamard && (n_expert == 0 || expert >= 0); }
  /// True when all layers have the same widths.
  bool uniform() const;
  float score_scale() const;
  /// The largest n_ff, a shared expert's width among them, and n_head over all layers.
  uint32_t max_n_ff() const;
  uint32_t max_n_head() const;
};

/// What a tensor is for.
enum class Role {
  kTokenEmbd, kOutputNorm, kOutputNormBias, kOutput, kRopeFreqs, kRopeFactorsLong, kRopeFactorsShort,
  kAttnNorm, kAttnNormBias, kAttnQ, kAttnK, kAttnV, kAttnOutput, kAttnQBias, kAttnKBias, kAttnVBias, kAttnOutputBias, kAttnQNorm, kAttnKNorm,
  kAttnSubNorm, kAttnPostNorm,
  kFfnNorm, kFfnNormBias, kFfnRouter, kFfnSharedShare, kFfnGate, kFfnUp, kFfnSubNorm, kFfnDown, kFfnGateBias, kFfnUpBias, kFfnDownBias, kFfnPostNorm,
};
inline constexpr size_t kRoleCount = static_cast<size_t>(Role::kFfnPostNorm) + 1;

/// Which weight of a block (or of those outside of all blocks) is meant. Experts have their own of the MLP's; what all tokens go through, a
/// shared expert's among them, is of expert -1.
struct WeightId {
  Role role;
  int expert = -1;
  constexpr WeightId(Role of, int whose = -1) : role(of), expert(whose) {}  // NOLINT: a role is one
  constexpr auto operator<=>(const WeightId&) const = default;
};

/// Symbolic dimensions; what they are in numbers depends on the layer.
enum class Dim { kNone, kVocab, kEmbd, kFf, kFfShared, kExperts, kQ, kKv, kHeadDim, kHalfRot };

/// When a tensor is there.
enum class Presence {
  kAlways,
  kUntied,          ///< only when the output layer has weights of its own
  kAttentionBias,   ///< only with Hparams::attention_bias
  kAttentionOutputBias,
  kMlpBias,
  kDense,           ///< only without experts
  kExperts,         ///< only with experts
  kNormBias,
  kLlama3Rope,      ///< only with llama3 rope scaling; computed, not stored in checkpoints
  kLongRope,        ///< only with longrope scaling; from the configuration
};

/// Which part of a block a tensor belongs to: a layer without attention (MLP) has none of that part.
enum class Part { kGlobal, kAttention, kMlp };

/// Heads whose rows are interleaved for NORM rope when the file uses it.
enum class RopeRows { kNone, kQ, kK };

/// How the rows of rules with one name lie in a checkpoint.
enum class HfRows {
  kInOrder,   ///< those of one rule behind those of the other
  kByHeads,   ///< the rows of a head of each rule behind one another, then the next head's
};

/// Rules one behind the other with the same name are that tensor's rows (of a vector: elements), one behind the other: Phi-3's
/// qkv_proj is three rules.
struct TensorRule {
  Role role;
  const char* gguf_name;   ///< "blk.{}.attn_q.weight", {} is the layer
  const char* hf_name;     ///< "model.layers.{}.self_attn.q_proj.weight"; "" when checkpoints do not store it
  Dim rows, cols;          ///< rows = kNone for vectors
  Part part;
  Presence presence = Presence::kAlways;
  RopeRows rope_rows = RopeRows::kNone;
  HfRows hf_rows = HfRows::kInOrder;
  /// There is one of each expert: a second {} in hf_name is its number; a GGUF has them one behind the other as one tensor of three
  /// dimensions.
  bool per_expert = false;
  bool hf_matrix = false;  ///< checkpoints have this vector as a matrix of one row
};

struct OwnKeys;  // models/keys.h

struct Architecture {
  const char* name;                                     ///< general.architecture
  std::span<const std::string_view> hf_architectures;   ///< config.json "architectures" that are written as this one
  RopeType rope;
  std::span<const TensorRule> tensors;                  ///< in the order they are written
  /// The architecture that jagged checkpoints of this one are written as; nullptr when stock readers have none.
  const char* jagged_as = nullptr;
  /// config.json's "attention_bias" when the key is missing.
  bool default_attention_bias = false;
  /// GGUF keys hold per-layer arrays (INT32) instead of numbers.
  bool per_layer_keys = false;
  /// config.json's "tie_word_embeddings" when the key is missing. Where there is no rule for an output matrix, it must be so.
  bool default_tied = false;
  /// Checkpoints store the norms' gains less this; a GGUF has the gains themselves.
  float gain_offset = 0;
  Activation activation = Activation::kSilu;
  NormKind norm = NormKind::kRms;
  bool renormalize_experts = false;
  /// Stock readers take q for as wide as the residual stream: with fewer heads a model is written as `jagged_as`, or not at all.
  bool whole_heads = false;
  /// What follows from the architecture and the dimensions alone; nullptr: nothing does.
  void (*complete)(Hparams& hparams) = nullptr;
  /// Keys of config.json and GGUF beyond those that all have; nullptr: there are none.
  const OwnKeys* own_keys = nullptr;
};

/// All architectures in the order of architectures.inc.
std::span<const Architecture* const> architectures();
/// By GGUF name; nullptr when unknown.
const Architecture* find_architecture(std::string_view name);
/// By config.json's architecture; nullptr when unknown.
const Architecture* find_hf_architecture(std::string_view hf_name);
/// "llama, deci, qwen2, ..." for error messages.
std::string architecture_names();
/// The known class of config.json, or architecture of a GGUF, whose name takes the fewest changes to become `name`: for
/// whoever asks for one that is not known.
std::string_view nearest_hf_architecture(std::string_view name);
std::string_view nearest_architecture(std::string_view name);

inline constexpr std::string_view kRotatedSuffix = "-r4";
/// general.architecture of such a model: with "-r4" behind it where hparams have ffn_hadamard, so that who does not know
/// of the transform refuses the file.
std::string gguf_name(const Architecture& architecture, const Hparams& hparams);

/// A tensor rule's name in a layer: `pattern` with the numbers for "{}", of the layer and then of the expert.
std::string with_layer(std::string_view pattern, int layer, int expert = -1);

/// One tensor of a concrete model: what a file has under its name, or some rows of it.
struct TensorSpec {
  const TensorRule* rule;
  int layer;                      ///< -1 for global tensors
  int expert;                     ///< -1 for what is no expert's
  std::string gguf_name, hf_name;
  std::vector<uint64_t> shape;    ///< fastest first: [n_cols, n_rows] or [n]
  uint64_t gguf_row = 0, hf_row = 0;  ///< the first of its rows (of a vector: elements) among those under the name
  /// With HfRows::kByHeads: its rows lie in runs of hf_run, hf_stride from one's beginning to the next one's. 0: in one piece.
  uint64_t hf_run = 0, hf_stride = 0;

  /// Of a vector: its elements.
  uint64_t n_rows() const { return shape.back(); }
  WeightId id() const { return {rule->role, expert}; }
};

/// A tensor as a file has it.
struct FileTensor {
  std::string name;
  std::vector<uint64_t> shape;         ///< fastest first
  std::span<const TensorSpec> parts;   ///< whose rows lie one behind the other
};

/// True for the gains of norms.
bool is_gain(Role role);
/// True for what norms are made of: gains and biases.
bool is_of_norm(Role role);

/// True when the architecture has a tensor of this role at all.
bool has_role(const Architecture& architecture, Role role);

/// True when its models may have experts.
bool has_experts(const Architecture& architecture);

/// Whether rotations (compress/rotate) can be folded into weights at all: RMSNorm commutes with them; LayerNorm does not, nor do the gains
/// of a norm between v and the output matrix.
bool can_rotate(const Architecture& architecture);
/// Whether that of the residual stream (R1) can: norms' gains are folded into what follows, the last one's into an output matrix of
/// its own; gains behind a part have nothing that follows.
bool can_rotate_residual(const Architecture& architecture);

/// Every tensor a model of these dimensions has, in file order.
std::vector<TensorSpec> tensor_specs(const Architecture& architecture, const Hparams& hparams);

/// The weights of these roles that a layer's rule stands for: one, or one of each expert.
std::vector<WeightId> weight_ids(const TensorRule& rule, const Hparams& hparams);

/// The share of tokens that go through a rule's weights.
double share_of_tokens(const TensorRule& rule, const Hparams& hparams);

/// How many experts of a layer n_tokens go to together, if each is as likely; 0 without experts.
double experts_read(const Hparams& hparams, size_t n_tokens);

/// The tensors that a GGUF has of these, or a checkpoint; they must outlive the result.
std::vector<FileTensor> gguf_tensors(std::span<const TensorSpec> specs);
std::vector<FileTensor> hf_tensors(std::span<const TensorSpec> specs);

/// True for what a GGUF has as a tensor and a checkpoint in its configuration: divisors of rope's frequencies.
bool is_rope_divisors(Role role);
/// That tensor's values.
std::vector<float> rope_divisors(const Hparams& hparams, Role role);

/// Number of parameters: all stored tensors but rope's divisors.
uint64_t count_parameters(const Architecture& architecture, const Hparams& hparams);

/// Refuses dimensions that no model has or that do not fit together (0 layers, heads not divisible, odd head_dim, a
/// Hadamard transform of odd n_ff ...).
Status check_hparams(const Hparams& hparams);

/// [n_head] What each head's scores lose for a position of distance, with ALiBi.
std::vector<float> alibi_slopes(uint32_t n_head, float max_bias);

/// The rope_freqs tensor of llama3 scaling: [n_rot / 2] divisors of the base frequencies.
/// Source: Llama 3.1 reference code, apply_scaling; transformers modeling_rope_utils _compute_llama3_parameters.
std::vector<float> llama3_rope_freqs(const Hparams& hparams);

}  // namespace shoehorn::models
