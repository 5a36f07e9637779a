// A model on its way into a GGUF: metadata and a list of tensors under GGUF names whose rows can be read as floats,
// whether it comes from a Hugging Face checkpoint or from another GGUF.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/gguf.h"
#include "models/model.h"

namespace shoehorn::convert {

struct SourceTensor {
  std::string name;                    ///< GGUF name
  std::string source_name;             ///< its name where it comes from, for messages
  std::vector<uint64_t> shape;         ///< fastest first
  std::string stored_as;               ///< dtype or type at the source: "BF16", "Q4_K"
  std::optional<quant::Type> type;     ///< the same as a GGUF type when the bytes at the source are in that type, unpermuted
  std::span<const std::byte> data;     ///< these bytes; empty for computed tensors
  const MappedFile* file = nullptr;    ///< where `data` is mapped; nullptr: in memory of the source's own
  /// The GGUF type that holds the very same numbers although the bytes at the source are others, and rows in it; Thread-safe.
  struct Same {
    quant::Type type;
    std::function<Status(uint64_t first, uint64_t count, std::byte* out)> encode;
  };
  std::optional<Same> same = {};
  bool interleaved = false;            ///< read() has the rows in NORM rope's order, `data` in Hugging Face's

  /// Rows [first, first + count) as floats, row-major, to out. Thread-safe.
  std::function<void(uint64_t first, uint64_t count, float* out)> read;
  /// The rows will be read soon: starts to fetch their mapped pages.
  std::function<void(uint64_t first, uint64_t count)> expect;
  /// The rows will not be read again soon: lets go of their mapped pages.
  std::function<void(uint64_t first, uint64_t count)> release;

  uint64_t n_cols() const { return shape[0]; }
  /// Of all experts where there are three dimensions.
  uint64_t n_rows() const {
    uint64_t n = 1;
    for (size_t i = 1; i < shape.size(); ++i) n *= shape[i];
    return n;
  }
};

/// Where a source has one of a model's weights.
struct SourceRows {
  const SourceTensor* tensor = nullptr;  ///< nullptr: it has none
  size_t index = 0;                      ///< of the tensor
  uint64_t first = 0, n = 0;             ///< its rows; of a vector: elements
};

/// Owns what its tensors read from.
class ModelSource {
 public:
  /// A checkpoint directory (config.json) or a .gguf file. Checks that every tensor the architecture needs is there with the
  /// right shape and a floating dtype, and that none is left over; remarks go to progress.note().
  static Expected<ModelSource> open(const std::string& path, Progress& progress);

  /// What a checkpoint of these dimensions becomes, without weights: tensors have names and shapes and cannot be read. `metadata`: further
  /// keys, such as the tokenizer's.
  static ModelSource outline(const models::Architecture& architecture, const models::Hparams& hparams, const std::string& name,
                             const io::GgufMetadata& metadata);

  const io::GgufMetadata& metadata() const { return metadata_; }
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  /// Layer -1: of no layer.
  SourceRows find_rows(int layer, models::WeightId id) const;
  const models::Architecture& architecture() const { return *architecture_; }
  const models::Hparams& hparams() const { return hparams_; }
  const std::string& path() const { return path_; }
  /// True when it was read from a GGUF.
  bool from_gguf() const { return from_gguf_; }

 private:
  static Expected<ModelSource> from_checkpoint(const std::string& directory, Progress& progress);
  static Expected<ModelSource> from_file(const std::string& path);
  void find_all_rows();

  std::string path_;
  bool from_gguf_ = false;
  const models::Architecture* architecture_ = nullptr;
  models::Hparams hparams_;
  io::GgufMetadata metadata_;
  std::vector<SourceTensor> tensors_;
  struct Place {
    size_t index;
    uint64_t first, n;
  };
  std::map<std::pair<int, models::WeightId>, Place> places_;
  std::shared_ptr<const void> owner_;
};

}  // namespace shoehorn::convert
