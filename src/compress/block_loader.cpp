#include "compress/block_loader.h"

#include <algorithm>
#include <cstring>

#include "compress/blocks.h"
#include "compress/interleaved_rows.h"

namespace shoehorn::compress {
namespace {

using models::Role;

std::vector<int64_t> sizes_of(const io::CheckpointTensor& tensor) { return {tensor.shape.begin(), tensor.shape.end()}; }

/// The tensor in its own type where torch has it, else as floats.
at::Tensor copy_out(const io::CheckpointTensor& tensor) {
  const at::ScalarType dtype = tensor.packed != nullptr ? at::kFloat : torch_dtype(tensor.dtype);
  at::Tensor out = at::empty(sizes_of(tensor), dtype);
  const auto n_rows = static_cast<int64_t>(tensor.shape.front()), n_cols = out.numel() / n_rows;
  if (tensor.packed == nullptr && io_dtype(dtype) == tensor.dtype) {
    auto* to = static_cast<std::byte*>(out.data_ptr());
    const int64_t row_bytes = n_cols * static_cast<int64_t>(out.element_size());
    at::parallel_for(0, n_rows, std::max<int64_t>(1, (int64_t{1} << 22) / row_bytes), [&](int64_t begin, int64_t end) {
      io::copy_rows(tensor, static_cast<uint64_t>(begin), static_cast<uint64_t>(end - begin), to + begin * row_bytes);
    });
  } else {
    auto* to = out.data_ptr<float>();
    at::parallel_for(0, n_rows, std::max<int64_t>(1, (int64_t{1} << 20) / n_cols), [&](int64_t begin, int64_t end) {
      io::read_floats(tensor, static_cast<uint64_t>(begin * n_cols), static_cast<uint64_t>((end - begin) * n_cols), to + begin * n_cols);
    });
  }
  tensor.release();
  return out;
}

}  // namespace

BlockLoader::BlockLoader(convert::OpenedCheckpoint checkpoint, Compute compute, bool resident)
    : checkpoint_(std::move(checkpoint)), compute_(compute), resident_(resident) {
  layers_.resize(hparams().n_layer);
  kept_.resize(hparams().n_layer);
  for (const auto& [spec, tensor] : checkpoint_.tensors) {
    StoredSet& set = spec.layer < 0 ? global_ : layers_[static_cast<size_t>(spec.layer)];
    set[spec.id()] = &tensor;
  }
}

TensorSet BlockLoader::load(const StoredSet& stored) const {
  TensorSet out;
  stored.for_each([&](models::WeightId id, const io::CheckpointTensor* tensor) {
    if (tensor == nullptr) return;
    at::Tensor values = copy_out(*tensor);
    if (const auto format = rounded_.find(id.role); format != rounded_.end()) values = rounded(values.to(at::kFloat), {}, *format->second);
    const bool interleaved = checkpoint_.interleaved && is_interleaved(id.role);
    out[id] = (interleaved ? deinterleaved(values, hparams()) : values).to(options(id.role));
    if (models::is_gain(id.role) && checkpoint_.gain_offset != 0) out[id] += static_cast<double>(checkpoint_.gain_offset);
  });
  return out;
}

TensorSet BlockLoader::block(size_t layer) {
  if (kept_[layer]) return *kept_[layer];
  TensorSet out = load(layers_[layer]);
  out.attention = hparams().layers[layer].attention;
  if (resident_) kept_[layer] = out;
  return out;
}

at::TensorOptions BlockLoader::options(Role role) const { return models::is_of_norm(role) ? compute_.wide_options() : compute_.options(); }

TensorSet BlockLoader::head() {
  if (kept_head_) return *kept_head_;
  StoredSet wanted = global_;
  const bool own_output = global_[Role::kOutput] != nullptr;
  if (own_output) wanted[Role::kTokenEmbd] = nullptr;
  TensorSet out = load(wanted);
  if (resident_) kept_head_ = out;
  return out;
}

at::Tensor BlockLoader::embed(const at::Tensor& ids) const {
  const io::CheckpointTensor& table = *global_[Role::kTokenEmbd];
  const auto n_embd = static_cast<int64_t>(table.shape[1]);
  const at::Tensor flat = ids.to(at::kCPU).contiguous().view({-1});
  at::Tensor out = at::empty({flat.size(0), n_embd}, at::kFloat);
  const int64_t* id = flat.data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.size(0); ++i) {
    io::read_floats(table, static_cast<uint64_t>(id[i] * n_embd), static_cast<uint64_t>(n_embd), out.data_ptr<float>() + i * n_embd);
  }
  if (const auto format = rounded_.find(Role::kTokenEmbd); format != rounded_.end() && out.numel() > 0) out = rounded(out, {}, *format->second);
  std::vector<int64_t> sizes = ids.sizes().vec();
  sizes.push_back(n_embd);
  if (const float scale = hparams().embedding_scale; scale != 1) out *= static_cast<double>(scale);
  // What the embedding gives is as exact as the weights are in the products.
  return out.view(sizes).to(compute_.options()).to(compute_.wide());
}

void BlockLoader::expect(size_t layer) const {
  if (layer >= layers_.size() || kept_[layer]) return;
  layers_[layer].for_each([](models::WeightId, const io::CheckpointTensor* tensor) {
    if (tensor != nullptr) tensor->expect();
  });
}

const io::CheckpointTensor* BlockLoader::find(int layer, models::WeightId id) const {
  return (layer < 0 ? global_ : layers_[static_cast<size_t>(layer)])[id];
}

std::vector<models::WeightId> BlockLoader::weights_of(size_t layer) const {
  std::vector<models::WeightId> ids;
  layers_[layer].for_each([&](models::WeightId id, const io::CheckpointTensor* tensor) {
    if (tensor != nullptr) ids.push_back(id);
  });
  return ids;
}

at::Tensor BlockLoader::stored(int layer, models::WeightId id) const {
  const io::CheckpointTensor* tensor = find(layer, id);
  return tensor == nullptr ? at::Tensor() : copy_out(*tensor);
}

at::Tensor BlockLoader::gain(int layer, Role norm) const {
  return stored(layer, norm).to(at::kDouble) + static_cast<double>(checkpoint_.gain_offset);
}

uint64_t BlockLoader::bytes(const StoredSet& stored) const {
  uint64_t n = 0;
  stored.for_each([&](models::WeightId, const io::CheckpointTensor* tensor) { n += tensor == nullptr ? 0 : tensor->n_elements(); });
  return n * c10::elementSize(compute_.dtype);
}

uint64_t BlockLoader::largest_block_bytes() const {
  uint64_t most = 0;
  for (const StoredSet& stored : layers_) most = std::max(most, bytes(stored));
  return most;
}

uint64_t BlockLoader::head_bytes() const {
  const auto* output = global_[Role::kOutput];
  if (output == nullptr) output = global_[Role::kTokenEmbd];
  return output->n_elements() * c10::elementSize(compute_.dtype);
}

uint64_t BlockLoader::total_bytes() const {
  uint64_t n = head_bytes();
  for (const StoredSet& stored : layers_) n += bytes(stored);
  return n;
}

}  // namespace shoehorn::compress
