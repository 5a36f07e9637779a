// Low-rank adapters: W x + alpha / r B A x (Hu et al. 2021, arXiv:2106.09685).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compress/block_loader.h"
#include "compress/work_directory.h"

namespace shoehorn::compress {

struct LoraSettings {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;                  ///< share of the adapter's inputs that is dropped while training
  std::vector<models::Role> targets;   ///< projections that get an adapter
  std::vector<models::Role> full;      ///< projections whose whole weight is trained, as a difference of full rank
  int64_t full_block = 0;              ///< > 0: so many weights in a row of these have a factor that is trained too
};

/// The projections that can have one, by the names of the field: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.
std::string_view projection_name(models::Role role);
/// The roles of names; fails naming one that there is not.
Expected<std::vector<models::Role>> parse_projections(const std::vector<std::string>& names);
/// All of them.
std::vector<models::Role> all_projections();

/// What is trained of one module of Hugging Face's, in single precision (double where that is computed in). A module is a projection, or
/// several that are the rows of one matrix there (Phi-3's qkv_proj): it is trained whole when one of them is asked for.
struct LoraPair {
  std::string module;  ///< "model.layers.0.self_attn.q_proj"
  at::Tensor a;      ///< [rank, n_in]
  at::Tensor b;      ///< [n_out, rank]
  at::Tensor delta;  ///< [n_out, n_in], in place of a and b where the full rank is trained
  at::Tensor log_scale;  ///< [n_out, n_in / full_block] beside delta, where blocks have factors

  /// Those that are there.
  std::vector<at::Tensor> tensors() const;
  /// Rows of the module's matrix, w its rows from `first`: (w + delta) exp(log_scale), without gradients.
  at::Tensor whole(const at::Tensor& w, int64_t first) const;
};

/// Which draw of the dropout masks a pass uses. The backward pass computes a block again and must draw the same.
struct DropoutDraw {
  uint64_t seed = 0, step = 0, micro_batch = 0;
  bool training = false;
};

class LoraAdapter {
 public:
  LoraAdapter() = default;
  /// A from a uniform distribution of +-1/sqrt(n_in), drawn in a fixed order; B zero: the adapter does nothing at first.
  LoraAdapter(const BlockLoader& loader, const LoraSettings& settings, uint64_t seed, const Compute& compute);

  const LoraSettings& settings() const { return settings_; }
  double scale() const { return settings_.alpha / static_cast<double>(settings_.rank); }
  int64_t n_parameters() const;

  /// Pairs by layer and their module's first weight, in order.
  std::map<std::pair<int, models::WeightId>, LoraPair>& pairs() { return pairs_; }
  const std::map<std::pair<int, models::WeightId>, LoraPair>& pairs() const { return pairs_; }
  /// What is trained of one projection.
  struct Rows {
    const LoraPair* pair = nullptr;  ///< nullptr: nothing
    int64_t first = 0, n = 0;        ///< its rows of b, or of delta

    at::Tensor b() const { return pair->b.narrow(0, first, n); }
    at::Tensor delta() const { return pair->delta.narrow(0, first, n); }
    at::Tensor whole(const at::Tensor& w) const { return pair->whole(w, first); }
  };
  Rows rows(int layer, models::WeightId id) const;
  /// The modules of one layer whose whole weight is trained, in the order of parameters(), each with its weights in the order of their rows.
  struct Whole {
    const LoraPair* pair;
    std::vector<models::WeightId> parts;
  };
  std::vector<Whole> whole_modules(int layer) const;
  /// The tensors of one layer in a fixed order, as leaves that want gradients.
  std::vector<at::Tensor> parameters(int layer) const;
  /// All of them, layer by layer.
  std::vector<at::Tensor> parameters() const;

  /// The projection of `layer` with its adapters added to `weights`.
  Projection projection(int layer, const TensorSet& weights, const DropoutDraw& draw) const;

  /// W + alpha / r B A, or LoraPair::whole(), in wide precision.
  at::Tensor merged(int layer, models::WeightId id, const at::Tensor& weight) const;

  /// True when every projection is of low rank: what adapter files can hold.
  bool low_rank() const { return settings_.full.empty(); }

  /// Tensors under PEFT's names without its prefix ("model.layers.0.self_attn.q_proj.lora_A.weight"); differences of full rank end
  /// in ".delta", factors of blocks in ".log_scale".
  NamedTensors named() const;

 private:
  LoraSettings settings_;
  /// A projection's rows of a module.
  struct Place {
    models::WeightId module;
    int64_t first, n;
  };
  std::map<std::pair<int, models::WeightId>, LoraPair> pairs_;
  std::map<std::pair<int, models::WeightId>, Place> places_;
};

}  // namespace shoehorn::compress
