#include "engine/model.h"

#include "base/memory.h"
#include "models/gguf_hparams.h"

namespace shoehorn::engine {

Expected<std::shared_ptr<const Model>> Model::open(const std::string& path, FileMode mode) {
  SHOEHORN_TRY(auto file, io::GgufFile::open(path, mode));
  return create(std::move(file), std::nullopt, mode == FileMode::kMap);
}

Expected<std::shared_ptr<const Model>> Model::create(io::GgufFile file, std::optional<models::RopeType> rope, bool read_ahead) {
  auto model = std::make_shared<Model>();
  SHOEHORN_TRY(model->kernel_set_, kernels::select_kernel_set());
  model->file_ = std::move(file);
  SHOEHORN_TRY(const auto described, models::read_gguf_model(model->file_));
  model->architecture_ = described.architecture;
  model->hparams_ = described.hparams;
  model->rope_ = rope.value_or(described.architecture->rope);
  if (read_ahead) model->read_ahead();  // the disk works while the vocabulary is read

  const std::string& path = model->file_.path();
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(model->file_.metadata(), path));
  if (vocab.tokens.size() > model->hparams_.n_vocab) {
    return fail(ErrorCode::kInvalid, "{}: the tokenizer has {} tokens, the embedding {} rows", path, vocab.tokens.size(),
                model->hparams_.n_vocab);
  }
  auto tokenizer = tokenizer::Tokenizer::create(std::move(vocab));
  if (!tokenizer) return annotate(tokenizer.error(), path);
  model->tokenizer_ = std::make_unique<tokenizer::Tokenizer>(std::move(*tokenizer));

  for (const models::LayerShape& layer : model->hparams_.layers) {
    if (!model->hparams_.ffn_hadamard || layer.n_ff == 0 || model->transforms_.contains(layer.n_ff)) continue;
    SHOEHORN_TRY(const hadamard::Plan plan, hadamard::plan(layer.n_ff));
    model->transforms_[layer.n_ff] = std::make_unique<hadamard::Transform<float>>(plan, model->kernels().hadamard);
  }
  model->layers_.resize(model->hparams_.n_layer);
  for (const models::TensorSpec& spec : models::tensor_specs(*model->architecture_, model->hparams_)) {
    const io::GgufTensor& tensor = *model->file_.find(spec.gguf_name);
    WeightSet& set = spec.layer < 0 ? model->global_ : model->layers_[static_cast<size_t>(spec.layer)];
    set[spec.id()] = model->bind(tensor.rows(spec.gguf_row, spec.n_rows()));
  }
  return model;
}

Weight Model::bind(const io::GgufTensor& tensor) {
  const quant::Format& format = quant::format(tensor.type);
  Weight weight{tensor.data.data(), tensor.type, tensor.n_rows(), tensor.n_cols(), quant::row_bytes(format, tensor.n_cols()),
                &kernels::kernels_for(kernels(), tensor.type)};
  if (tensor.shape.size() == 1) {
    vectors_.push_back(std::make_unique<float[]>(tensor.n_cols()));
    format.decode(tensor.data.data(), vectors_.back().get(), tensor.n_cols());
    weight.data = reinterpret_cast<const std::byte*>(vectors_.back().get());
    weight.type = quant::Type::F32;
    weight.row_bytes = tensor.n_cols() * sizeof(float);
    weight.kernels = &kernels::kernels_for(kernels(), quant::Type::F32);
  }
  return weight;
}

void Model::read_ahead() {
  std::vector<std::span<const std::byte>> order, layers, output;
  for (const models::TensorSpec& spec : models::tensor_specs(*architecture_, hparams_)) {
    const io::GgufTensor tensor = file_.find(spec.gguf_name)->rows(spec.gguf_row, spec.n_rows());
    const auto data = tensor.data;
    if (tensor.shape.size() == 1) {
      order.push_back(data);  // bind() waits for them: not behind the whole file
    } else if (spec.layer >= 0) {
      layers.push_back(data);
    }
    // Of the embedding a pass reads a few rows, unless it is the output matrix too.
    if (spec.rule->role == models::Role::kOutput || (spec.rule->role == models::Role::kTokenEmbd && output.empty())) {
      output = {data};
    }
  }
  order.insert(order.end(), layers.begin(), layers.end());
  order.insert(order.end(), output.begin(), output.end());
  read_ahead_ = ReadAhead(std::move(order), available_memory());
}

const Weight& Model::output() const {
  const Weight& own = global_[models::Role::kOutput];
  return own ? own : global_[models::Role::kTokenEmbd];
}

}  // namespace shoehorn::engine
