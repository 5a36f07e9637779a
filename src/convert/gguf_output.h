// Writing a model as a GGUF: the types of a named mix, encoded row by row, in small memory.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "convert/model_source.h"
#include "io/imatrix.h"
#include "quant/mix.h"

namespace shoehorn::convert {

/// Tensors whose name matches `pattern` (ECMAScript regular expression, searched for) get `type`.
struct TypeOverride {
  std::string pattern;
  quant::Type type;
};

/// "REGEX=TYPE". Fails with kInvalid when it is something else.
Expected<TypeOverride> parse_type_override(const std::string& text);

using Remarks = std::vector<std::pair<std::string, io::GgufValue>>;

/// Keys of what a model's check found: not true of another model that is made of it.
inline constexpr std::string_view kCheckPrefix = "shoehorn.check.";

struct OutputOptions {
  const quant::Mix* mix = nullptr;
  std::vector<TypeOverride> overrides = {};  ///< the last match wins
  bool allow_requantize = false;             ///< accept sources that are already quantized
  const io::Imatrix* imatrix = nullptr;      ///< importance for the encoders; must outlive the call
  std::string imatrix_path = {};             ///< its name, for the file's metadata
  std::vector<quant::Type> types = {};       ///< of every tensor, in place of the mix's and the overrides'; empty: none
  Remarks remarks = {};                      ///< further metadata
  bool calibrated = false;                   ///< the blocks were made for known inputs: to mixes the same as an imatrix
  int n_threads = 0;                         ///< 0: default_thread_count()
  /// A tensor's blocks when they have been made already, in the type that it gets; empty: encode it from the source.
  std::function<std::span<const std::byte>(const std::string& name)> encoded = {};
  /// Looks at the whole file, at a path where it can be read before it has its name. What it returns replaces values among
  /// `remarks`, in the same size; when it fails nothing is left.
  std::function<Expected<Remarks>(const std::string& path)> check = {};
};

struct OutputTensor {
  std::string name;
  std::vector<uint64_t> shape;
  std::string from;
  quant::Type to;
  uint64_t bytes;
};

/// What quantizing costs the whole model, in nats a token of KL(source || output), on text that it was not calibrated on.
struct MeasuredCosts {
  double kl = 0;
  int64_t tokens = 0;
  std::map<std::string, double> of;  ///< by tensor: what quantizing this one adds
};

struct OutputReport {
  std::string architecture;
  const quant::Mix* mix = nullptr;  ///< that was asked for, or that a choice of types began with
  std::vector<OutputTensor> tensors;
  uint64_t parameters = 0;  ///< weights in the file, rope_freqs aside
  uint64_t tensor_bytes = 0;
  uint64_t file_bytes = 0;
  uint64_t input_bytes = 0;    ///< of tensor data that was read
  double bits_per_weight = 0;  ///< of tensor data
  std::optional<MeasuredCosts> costs = {};  ///< where types were chosen by them
  double write_seconds = 0;    ///< reading, encoding and writing, without the check
  double seconds = 0;          ///< the same, and what went before
};

/// The type that every tensor of the source gets. Fails when an override is no regular expression or its type does not
/// divide the tensor's rows.
Expected<std::vector<quant::Type>> choose_output_types(const ModelSource& source, const OutputOptions& options);

/// Which tensors of the source an override gives a type to. Fails when an override is no regular expression.
Expected<std::vector<bool>> overridden(const ModelSource& source, const std::vector<TypeOverride>& overrides);

/// The size of the file that write_gguf would write with these types.
Expected<uint64_t> output_file_bytes(const ModelSource& source, const std::vector<quant::Type>& types,
                                     const OutputOptions& options);

/// What write_gguf takes of memory, at most, with the program and a large tokenizer (98 MB were measured on 8 B parameters).
inline constexpr uint64_t kStreamingBytes = uint64_t{160} << 20;

/// Streams the source into `path`. Memory: a chunk of rows, not the model. The file appears whole or not at all; its
/// bytes do not depend on the number of threads. Fails naming the tensor when a weight is NaN, Inf or too large for its
/// type, or when the importance matrix is of other widths; progress.note() says which matrices it lacks (token_embd
/// aside, which is read by rows).
Expected<OutputReport> write_gguf(const ModelSource& source, const std::string& path, const OutputOptions& options,
                                  Progress& progress);

}  // namespace shoehorn::convert
