#include "convert/checkpoint_view.h"

#include <algorithm>

#include "base/memory.h"
#include "convert/model_source.h"
#include "convert/rope_rows.h"

namespace shoehorn::convert {
namespace {

/// What the tensors of a view point into.
struct Owner {
  ModelSource source;
  std::vector<std::vector<float>> copies;
};

std::optional<quant::Type> viewable_type(const SourceTensor& tensor) {
  if (tensor.data.empty()) return std::nullopt;
  const quant::Format* format = quant::find_format(tensor.stored_as);
  if (format == nullptr || format->quantized) return std::nullopt;
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.data.data()) % format->block_bytes == 0;
  return aligned ? std::optional(format->type) : std::nullopt;
}

/// All rows, in Hugging Face's order.
std::vector<float> copy_of(const SourceTensor& tensor, const models::Hparams& h) {
  std::vector<float> values(tensor.n_rows() * tensor.n_cols());
  tensor.read(0, tensor.n_rows(), values.data());
  if (!tensor.interleaved) return values;
  // A vector is read whole: its elements are the rows.
  const uint64_t width = tensor.shape.size() == 1 ? 1 : tensor.n_cols(), n = values.size() / width;
  std::vector<float> ordered(values.size());
  for (uint64_t row = 0; row < n; ++row) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                ordered.begin() + static_cast<std::ptrdiff_t>(hf_row(row, h.head_dim, h.n_rot) * width));
  }
  return ordered;
}

}  // namespace

Expected<io::GgufFile> view_checkpoint(const std::string& directory, Progress& progress) {
  const auto owner = std::make_shared<Owner>();
  SHOEHORN_TRY(owner->source, ModelSource::open(directory, progress));
  const ModelSource& source = owner->source;
  uint64_t copied = 0;
  for (const SourceTensor& tensor : source.tensors()) {
    if (!viewable_type(tensor)) copied += tensor.n_rows() * tensor.n_cols() * sizeof(float);
  }
  if (const uint64_t limit = available_memory(); copied > limit) {
    return fail(ErrorCode::kTooLarge, "{}: {} of its weights have to be converted to floats to be run, {} of memory are free; convert it first",
                directory, format_bytes(copied), format_bytes(limit));
  }
  std::vector<io::GgufTensor> tensors;
  for (const SourceTensor& tensor : source.tensors()) {
    if (const auto type = viewable_type(tensor)) {
      tensors.push_back({tensor.name, *type, tensor.shape, tensor.data, tensor.file});
      continue;
    }
    owner->copies.push_back(copy_of(tensor, source.hparams()));
    tensors.push_back({tensor.name, quant::Type::F32, tensor.shape, std::as_bytes(std::span(owner->copies.back())), nullptr});
  }
  return io::GgufFile::of(directory, source.metadata(), std::move(tensors), owner);
}

}  // namespace shoehorn::convert
