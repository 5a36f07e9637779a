// A GGUF ready to run: mapped weights by role, dimensions, tokenizer. Read-only and shared between sessions.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/read_ahead.h"
#include "hadamard/transform.h"
#include "io/gguf.h"
#include "kernels/kernel.h"
#include "models/per_weight.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::engine {

/// A weight tensor where it lies. Matrices stay in their format in the mapping; vectors are floats.
struct Weight {
  const std::byte* data = nullptr;              ///< nullptr: the model has no such tensor
  quant::Type type = quant::Type::F32;
  size_t n_rows = 0, n_cols = 0;
  size_t row_bytes = 0;
  const kernels::Kernels* kernels = nullptr;    ///< for `type`

  explicit operator bool() const { return data != nullptr; }
  const float* floats() const { return reinterpret_cast<const float*>(data); }
};

/// The tensors of one block, or the global ones.
using WeightSet = models::PerWeight<Weight>;

class Model {
 public:
  /// Fails with file, tensor or key and reason when the file is damaged or not a model that the engine runs.
  /// A mapped file is loaded in the background, in the order in which a forward pass reads it.
  static Expected<std::shared_ptr<const Model>> open(const std::string& path, FileMode mode = FileMode::kMap);
  /// The same of a file that is open, or of tensors that lie elsewhere. `rope`: how its q and k rows lie when it is not as
  /// the architecture has them; `read_ahead`: load mapped pages in the background.
  static Expected<std::shared_ptr<const Model>> create(io::GgufFile file, std::optional<models::RopeType> rope = {},
                                                       bool read_ahead = true);

  const io::GgufFile& file() const { return file_; }
  const models::Architecture& architecture() const { return *architecture_; }
  const models::Hparams& hparams() const { return hparams_; }
  models::RopeType rope() const { return rope_; }
  const tokenizer::Tokenizer& tokenizer() const { return *tokenizer_; }
  const kernels::KernelSet& kernel_set() const { return *kernel_set_; }
  const kernels::KernelTable& kernels() const { return kernel_set_->table(); }

  const WeightSet& global() const { return global_; }
  const WeightSet& layer(size_t i) const { return layers_[i]; }
  /// What comes between SwiGLU and the down product, an expert's or the only one (-1); nullptr: nothing does.
  const hadamard::Transform<float>* ffn_hadamard(size_t layer, int expert) const {
    return hparams_.transforms(expert) ? transforms_.at(hparams_.layers[layer].n_ff).get() : nullptr;
  }
  /// The output matrix: its own or the token embedding.
  const Weight& output() const;

 private:
  Weight bind(const io::GgufTensor& tensor);
  void read_ahead();

  io::GgufFile file_;
  ReadAhead read_ahead_;
  const models::Architecture* architecture_ = nullptr;
  models::Hparams hparams_;
  models::RopeType rope_ = models::RopeType::kNorm;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  const kernels::KernelSet* kernel_set_ = nullptr;
  WeightSet global_;
  std::vector<WeightSet> layers_;
  std::map<uint32_t, std::unique_ptr<const hadamard::Transform<float>>> transforms_;  // by n_ff
  std::vector<std::unique_ptr<float[]>> vectors_;
};

}  // namespace shoehorn::engine
