#include "convert/model_source.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "convert/naming.h"
#include "convert/opened_checkpoint.h"
#include "convert/rope_rows.h"
#include "models/gguf_hparams.h"
#include "tokenizer/vocab.h"

namespace shoehorn::convert {
namespace {

using models::RopeRows;
using models::TensorSpec;

std::optional<quant::Type> gguf_type(io::DType dtype) {
  switch (dtype) {
    case io::DType::F32: return quant::Type::F32;
    case io::DType::F16: return quant::Type::F16;
    case io::DType::BF16: return quant::Type::BF16;
    default: return std::nullopt;
  }
}

SourceTensor computed(const TensorSpec& spec, std::vector<float> values) {
  SourceTensor tensor{spec.gguf_name, spec.gguf_name, spec.shape, "F32", std::nullopt, {}, nullptr, {}, false, {}, {}, {}};
  const uint64_t n_cols = tensor.n_cols();
  tensor.read = [values = std::move(values), n_cols](uint64_t first, uint64_t count, float* out) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(first * n_cols), count * n_cols, out);
  };
  tensor.expect = tensor.release = [](uint64_t, uint64_t) {};
  return tensor;
}

/// A layer with attention but no MLP is skipped whole, attention too, by llama.cpp: such layers get an MLP of zeros, which adds
/// nothing. Returns those layers.
std::set<int> give_bare_attention_an_mlp(models::Hparams& h) {
  constexpr uint32_t kWidth = 256;  // one K-quant block
  std::set<int> padded;
  for (size_t i = 0; i < h.layers.size(); ++i) {
    if (h.layers[i].n_head == 0 || h.layers[i].n_ff > 0) continue;
    h.layers[i].n_ff = kWidth;
    padded.insert(static_cast<int>(i));
  }
  return padded;
}

SourceTensor silent_mlp_tensor(const TensorSpec& spec) {
  uint64_t n = 1;
  for (const uint64_t dim : spec.shape) n *= dim;
  return computed(spec, std::vector<float>(n, spec.rule->role == models::Role::kFfnNorm ? 1.0f : 0.0f));
}

/// A norm's gain, where checkpoints store it less `offset`.
SourceTensor gain_tensor(const TensorSpec& spec, const io::CheckpointTensor& source, float offset) {
  std::vector<float> gain(source.n_elements());
  io::read_floats(source, 0, gain.size(), gain.data());
  for (float& value : gain) value += offset;
  return computed(spec, std::move(gain));
}

/// The checkpoint's bytes must outlive it.
SourceTensor from_checkpoint_tensor(const TensorSpec& spec, const io::CheckpointTensor& source, bool permute, uint64_t head_dim,
                                    uint64_t n_rot) {
  SourceTensor tensor{spec.gguf_name, source.name, spec.shape, io::dtype_info(source.dtype).name, std::nullopt, source.data, source.file, {}, permute, {}, {}, {}};
  const bool vector = spec.shape.size() == 1;
  const uint64_t n_cols = tensor.n_cols();
  const bool in_one_piece = source.run == 0 && source.packed == nullptr;
  if (!in_one_piece) tensor.data = {};
  if (!permute) {
    if (in_one_piece) tensor.type = gguf_type(source.dtype);
    tensor.read = [source, n_cols](uint64_t first, uint64_t count, float* out) {
      io::read_floats(source, first * n_cols, count * n_cols, out);
    };
  } else if (vector) {
    tensor.read = [source, n_cols, head_dim, n_rot](uint64_t, uint64_t, float* out) {
      for (uint64_t i = 0; i < n_cols; ++i) io::read_floats(source, hf_row(i, head_dim, n_rot), 1, out + i);
    };
  } else {
    tensor.read = [source, n_cols, head_dim, n_rot](uint64_t first, uint64_t count, float* out) {
      for (uint64_t r = 0; r < count; ++r) {
        io::read_floats(source, hf_row(first + r, head_dim, n_rot) * n_cols, n_cols, out + r * n_cols);
      }
    };
  }
  if (const auto type = source.packed == nullptr ? std::nullopt : source.packed->same_as()) {
    const uint64_t row_bytes = quant::row_bytes(quant::format(*type), n_cols);
    tensor.same = {*type, [source, permute, head_dim, n_rot, row_bytes](uint64_t first, uint64_t count, std::byte* out) -> Status {
                     for (uint64_t r = first; r < first + count; ++r, out += row_bytes) {
                       const uint64_t row = permute ? hf_row(r, head_dim, n_rot) : r;
                       SHOEHORN_RETURN_IF_ERROR(source.packed->encode(source.packed_row + source.place_of(row), 1, out));
                     }
                     return {};
                   }};
  }
  if (source.packed != nullptr) {
    tensor.stored_as = fmt::format("packed {}", tensor.stored_as);
    // It is fetched and let go of as a whole.
    tensor.expect = [source](uint64_t first, uint64_t) {
      if (first == 0) source.expect();
    };
    tensor.release = [source, n_rows = tensor.n_rows()](uint64_t first, uint64_t count) {
      if (first + count == n_rows) source.release();
    };
    return tensor;
  }
  // A vector is one row.
  const auto place = [source, vector](uint64_t first, uint64_t count) {
    return vector ? source.data : source.bytes_of(first, count);
  };
  tensor.expect = [file = source.file, place](uint64_t first, uint64_t count) {
    if (file != nullptr) file->expect(place(first, count));
  };
  tensor.release = [file = source.file, place](uint64_t first, uint64_t count) {
    if (file != nullptr) file->release(place(first, count));
  };
  return tensor;
}

/// The rows of all parts, one behind the other, as one tensor.
SourceTensor joined(const models::FileTensor& whole, std::vector<SourceTensor> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  SourceTensor tensor = parts.front();
  tensor.name = whole.name;
  tensor.shape = whole.shape;
  for (size_t i = 1; i < parts.size(); ++i) {
    const SourceTensor& part = parts[i];
    if (part.source_name != tensor.source_name) tensor.source_name += ", " + part.source_name;
    // As one piece only where they lie one behind the other.
    const bool adjacent = tensor.type && part.type == tensor.type && part.file == tensor.file && part.data.data() == tensor.data.data() + tensor.data.size();
    tensor.type = adjacent ? tensor.type : std::nullopt;
    tensor.data = adjacent ? std::span(tensor.data.data(), tensor.data.size() + part.data.size()) : std::span<const std::byte>();
  }
  const bool vector = whole.shape.size() == 1;
  const bool all_same = std::all_of(parts.begin(), parts.end(), [&](const SourceTensor& part) { return part.same && part.same->type == parts.front().same->type; });
  const auto shared = std::make_shared<const std::vector<SourceTensor>>(std::move(parts));
  // Calls visit(part, its first row, rows, rows before them) for each part that has rows of [first, first + count).
  const auto for_each = [shared](uint64_t first, uint64_t count, auto&& visit) {
    uint64_t begin = 0;
    for (const SourceTensor& part : *shared) {
      const uint64_t end = begin + part.n_rows(), from = std::max(first, begin), to = std::min(first + count, end);
      if (from < to) visit(part, from - begin, to - from, from - first);
      begin = end;
    }
  };
  tensor.same.reset();
  if (all_same) {
    const quant::Type type = shared->front().same->type;
    const uint64_t row_bytes = quant::row_bytes(quant::format(type), tensor.n_cols());
    tensor.same = {type, [for_each, row_bytes](uint64_t first, uint64_t count, std::byte* out) -> Status {
                     Status status;
                     for_each(first, count, [&](const SourceTensor& part, uint64_t row, uint64_t n, uint64_t before) {
                       if (status) status = part.same->encode(row, n, out + before * row_bytes);
                     });
                     return status;
                   }};
  }
  if (vector) {
    tensor.read = [shared](uint64_t, uint64_t, float* out) {
      for (const SourceTensor& part : *shared) {
        part.read(0, 1, out);
        out += part.n_cols();
      }
    };
  } else {
    tensor.read = [for_each, n_cols = tensor.n_cols()](uint64_t first, uint64_t count, float* out) {
      for_each(first, count, [&](const SourceTensor& part, uint64_t row, uint64_t n, uint64_t before) { part.read(row, n, out + before * n_cols); });
    };
  }
  tensor.expect = [for_each](uint64_t first, uint64_t count) {
    for_each(first, count, [](const SourceTensor& part, uint64_t row, uint64_t n, uint64_t) { part.expect(row, n); });
  };
  tensor.release = [for_each](uint64_t first, uint64_t count) {
    for_each(first, count, [](const SourceTensor& part, uint64_t row, uint64_t n, uint64_t) { part.release(row, n); });
  };
  return tensor;
}

}  // namespace

Expected<ModelSource> ModelSource::open(const std::string& path, Progress& progress) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return from_checkpoint(path, progress);
  if (!std::filesystem::exists(path, ignored)) return fail(ErrorCode::kNotFound, "{}: no such file or directory", path);
  if (path.ends_with(".safetensors") || path.ends_with(".bin")) {
    return fail(ErrorCode::kInvalid, "{}: give the checkpoint's directory (with config.json), not the weights file", path);
  }
  return from_file(path);
}

Expected<ModelSource> ModelSource::from_checkpoint(const std::string& directory, Progress& progress) {
  ModelSource out;
  out.path_ = directory;
  SHOEHORN_TRY(const auto opened, open_checkpoint(directory, progress));
  const models::ModelConfig& config = opened.config;
  out.architecture_ = config.architecture;
  out.hparams_ = config.hparams;
  const std::set<int> padded = give_bare_attention_an_mlp(out.hparams_);
  const models::Hparams& h = out.hparams_;
  out.owner_ = opened.weights;
  SHOEHORN_TRY(const auto vocab, tokenizer::vocab_from_directory(directory, h.n_vocab));
  const uint64_t n_parameters = models::count_parameters(*config.architecture, h);
  write_general_names(parse_model_name(directory, n_parameters), out.metadata_);
  models::write_gguf_hparams(*config.architecture, h, out.metadata_);
  tokenizer::vocab_to_gguf(vocab, out.metadata_);

  auto stored = opened.tensors.begin();
  const auto part_tensor = [&](const TensorSpec& spec) -> SourceTensor {
    if (models::is_rope_divisors(spec.rule->role)) return computed(spec, models::rope_divisors(h, spec.rule->role));
    if (padded.contains(spec.layer) && spec.rule->part == models::Part::kMlp) return silent_mlp_tensor(spec);
    const io::CheckpointTensor& tensor = (stored++)->stored;
    if (opened.gain_offset != 0 && models::is_gain(spec.rule->role)) return gain_tensor(spec, tensor, opened.gain_offset);
    const bool permute = config.architecture->rope == models::RopeType::kNorm && spec.rule->rope_rows != RopeRows::kNone;
    return from_checkpoint_tensor(spec, tensor, permute, h.head_dim, h.n_rot);
  };
  const auto specs = models::tensor_specs(*config.architecture, h);
  for (const models::FileTensor& whole : models::gguf_tensors(specs)) {
    std::vector<SourceTensor> parts;
    for (const TensorSpec& spec : whole.parts) parts.push_back(part_tensor(spec));
    out.tensors_.push_back(joined(whole, std::move(parts)));
  }
  out.find_all_rows();
  return out;
}

ModelSource ModelSource::outline(const models::Architecture& architecture, const models::Hparams& hparams, const std::string& name,
                                 const io::GgufMetadata& metadata) {
  ModelSource out;
  out.path_ = name;
  out.architecture_ = &architecture;
  out.hparams_ = hparams;
  give_bare_attention_an_mlp(out.hparams_);
  write_general_names(parse_model_name(name, models::count_parameters(architecture, out.hparams_)), out.metadata_);
  models::write_gguf_hparams(architecture, out.hparams_, out.metadata_);
  for (const auto& [key, value] : metadata.entries()) out.metadata_.set(key, value);
  const auto specs = models::tensor_specs(architecture, out.hparams_);
  for (const models::FileTensor& tensor : models::gguf_tensors(specs)) {
    out.tensors_.push_back({tensor.name, tensor.name, tensor.shape, "", std::nullopt, {}, nullptr, {}, false, {}, {}, {}});
  }
  out.find_all_rows();
  return out;
}

Expected<ModelSource> ModelSource::from_file(const std::string& path) {
  ModelSource out;
  out.path_ = path;
  out.from_gguf_ = true;
  SHOEHORN_TRY(auto opened, io::GgufFile::open(path));
  const auto file = std::make_shared<io::GgufFile>(std::move(opened));
  out.owner_ = file;
  SHOEHORN_TRY(const auto model, models::read_gguf_model(*file));
  out.architecture_ = model.architecture;
  out.hparams_ = model.hparams;
  out.metadata_ = file->metadata();
  for (const char* key : {"split.no", "split.count", "split.tensors.count", "general.alignment"}) out.metadata_.erase(key);
  for (const io::GgufTensor& source : file->tensors()) {
    const quant::Format& format = quant::format(source.type);
    const uint64_t n_cols = source.n_cols(), row_bytes = quant::row_bytes(format, n_cols);
    SourceTensor tensor{source.name, source.name, source.shape, format.name, source.type, source.data, source.file, {}, false, {}, {}, {}};
    tensor.read = [&source, &format, n_cols, row_bytes](uint64_t first, uint64_t count, float* out_rows) {
      format.decode(source.data.data() + first * row_bytes, out_rows, count * n_cols);
    };
    tensor.expect = [&source, row_bytes](uint64_t first, uint64_t count) {
      if (source.file != nullptr) source.file->expect(source.data.subspan(first * row_bytes, count * row_bytes));
    };
    tensor.release = [&source, row_bytes](uint64_t first, uint64_t count) {
      if (source.file != nullptr) source.file->release(source.data.subspan(first * row_bytes, count * row_bytes));
    };
    out.tensors_.push_back(std::move(tensor));
  }
  out.find_all_rows();
  return out;
}

void ModelSource::find_all_rows() {
  std::map<std::string_view, size_t> index;
  for (size_t i = 0; i < tensors_.size(); ++i) index[tensors_[i].name] = i;
  for (const TensorSpec& spec : models::tensor_specs(*architecture_, hparams_)) {
    const auto found = index.find(spec.gguf_name);
    if (found != index.end()) places_.insert({{spec.layer, spec.id()}, {found->second, spec.gguf_row, spec.n_rows()}});
  }
}

SourceRows ModelSource::find_rows(int layer, models::WeightId id) const {
  const auto found = places_.find({layer, id});
  if (found == places_.end()) return {};
  const Place& place = found->second;
  return {&tensors_[place.index], place.index, place.first, place.n};
}

}  // namespace shoehorn::convert
