#include "engine/adapter.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "models/model.h"

namespace shoehorn::engine {
namespace {

constexpr size_t kRankMultiple = 32, kMaxRank = 4096;

/// Rows and columns of floats as a weight.
Weight weight_of(const float* data, size_t n_rows, size_t n_cols, const kernels::KernelTable& kernels) {
  return {reinterpret_cast<const std::byte*>(data), quant::Type::F32, n_rows, n_cols, n_cols * sizeof(float),
          &kernels::kernels_for(kernels, quant::Type::F32)};
}

/// A tensor's rows as floats, each with zeros behind it up to n_cols.
Status decode_rows(const io::GgufTensor& tensor, size_t n_cols, float* out) {
  const quant::Format& format = quant::format(tensor.type);
  const size_t row_bytes = quant::row_bytes(format, tensor.n_cols());
  for (size_t row = 0; row < tensor.n_rows(); ++row) {
    float* values = out + row * n_cols;
    format.decode(tensor.data.data() + row * row_bytes, values, tensor.n_cols());
    if (!std::all_of(values, values + tensor.n_cols(), [](float v) { return std::isfinite(v); }))
      return fail(ErrorCode::kInvalid, "{} has weights that are not finite", tensor.name);
  }
  return {};
}

}  // namespace

Expected<std::shared_ptr<const Adapter>> Adapter::open(const std::string& path, std::shared_ptr<const Model> model) {
  const auto refuse = [&](ErrorCode code, const std::string& why) { return fail(code, "{}: {}", path, why); };
  SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
  const io::GgufMetadata& metadata = file.metadata();
  const auto text = [&](const char* key) {
    const std::string* value = metadata.get_string(key);
    return value == nullptr ? std::string() : *value;
  };
  if (text("general.type") != "adapter") return refuse(ErrorCode::kInvalid, "this is no adapter (general.type)");
  if (text("adapter.type") != "lora")
    return refuse(ErrorCode::kUnsupported,
                  fmt::format("an adapter of type \"{}\"; lora is known", text("adapter.type")));
  if (text("general.architecture") != model->architecture().name)
    return refuse(ErrorCode::kInvalid, fmt::format("it is for {}, the model is a {}", text("general.architecture"),
                                                   model->architecture().name));
  const auto alpha = metadata.get_float("adapter.lora.alpha");
  if (!alpha || !std::isfinite(*alpha)) return refuse(ErrorCode::kInvalid, "adapter.lora.alpha is missing");

  const auto specs = models::tensor_specs(model->architecture(), model->hparams());
  const auto tensors = models::gguf_tensors(specs);

  auto out = std::make_shared<Adapter>();
  Fnv1a hash;
  for (const io::GgufTensor& a : file.tensors()) {
    constexpr std::string_view kA = ".lora_a", kB = ".lora_b";
    if (a.name.ends_with(kB) && file.find(a.name.substr(0, a.name.size() - kB.size()) + std::string(kA)) != nullptr)
      continue;
    if (!a.name.ends_with(kA))
      return refuse(ErrorCode::kUnsupported, fmt::format("{}: tensors NAME.lora_a and NAME.lora_b are known", a.name));
    const std::string name = a.name.substr(0, a.name.size() - kA.size());
    const io::GgufTensor* b = file.find(name + std::string(kB));
    if (b == nullptr) return refuse(ErrorCode::kInvalid, fmt::format("{} has no {}{}", a.name, name, kB));
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [&](const models::FileTensor& t) { return t.name == name; });
    if (tensor == tensors.end() || tensor->parts.front().rule->role == models::Role::kTokenEmbd)
      return refuse(ErrorCode::kUnsupported,
                    fmt::format("the model has no matrix {} that an adapter could go with", name));
    const std::vector<uint64_t>& shape = tensor->shape;
    const size_t rank = a.shape.size() > 1 ? a.shape[1] : 0, n_cols = shape.front();
    // Of experts each has a pair: the third dimension.
    std::vector<uint64_t> wanted_a = shape, wanted_b = shape;
    if (shape.size() > 1) wanted_a[1] = wanted_b[0] = rank;
    if (shape.size() < 2 || a.shape != wanted_a || b->shape != wanted_b)
      return refuse(ErrorCode::kInvalid,
                    fmt::format("{} [{}] and [{}] do not fit the model's [{}]", name, fmt::join(a.shape.rbegin(), a.shape.rend(), ", "),
                                fmt::join(b->shape.rbegin(), b->shape.rend(), ", "), fmt::join(shape.rbegin(), shape.rend(), ", ")));
    if (rank == 0 || rank > kMaxRank)
      return refuse(ErrorCode::kTooLarge, fmt::format("{} has rank {}, the largest is {}", name, rank, kMaxRank));
    const size_t padded = (rank + kRankMultiple - 1) / kRankMultiple * kRankMultiple;
    const size_t n_pairs = shape.size() > 2 ? shape[2] : 1, n_rows = b->n_rows();
    AlignedBuffer<float> a_data, b_data;
    a_data.reserve(n_pairs * padded * n_cols);
    b_data.reserve(n_rows * padded);
    std::fill_n(a_data.data(), n_pairs * padded * n_cols, 0.0f);
    std::fill_n(b_data.data(), n_rows * padded, 0.0f);
    Status decoded = decode_rows(*b, padded, b_data.data());
    for (size_t i = 0; i < n_pairs && decoded; ++i) decoded = decode_rows(a.rows(i * rank, rank), n_cols, a_data.data() + i * padded * n_cols);
    if (!decoded) return annotate(decoded.error(), path);
    hash.add(std::as_bytes(std::span(a.data)));
    hash.add(std::as_bytes(std::span(b->data)));
    // alpha 0 is llama.cpp's for "as it is".
    const float scale = *alpha == 0 ? 1 : static_cast<float>(*alpha) / static_cast<float>(rank);
    for (const models::TensorSpec& part : tensor->parts) {
      const Weight& w = (part.layer < 0 ? model->global() : model->layer(static_cast<size_t>(part.layer)))[part.id()];
      const size_t pair = n_pairs > 1 ? static_cast<size_t>(part.expert) : 0;
      out->pairs_[w.data] = {weight_of(a_data.data() + pair * padded * n_cols, padded, n_cols, model->kernels()),
                             weight_of(b_data.data() + part.gguf_row * padded, w.n_rows, padded, model->kernels()), scale};
    }
    out->memory_.push_back(std::move(a_data));
    out->memory_.push_back(std::move(b_data));
  }
  if (out->pairs_.empty()) return refuse(ErrorCode::kInvalid, "an adapter without tensors");
  out->path_ = path;
  out->hash_ = hash.value();
  out->model_ = std::move(model);
  return std::shared_ptr<const Adapter>(std::move(out));
}

}  // namespace shoehorn::engine
