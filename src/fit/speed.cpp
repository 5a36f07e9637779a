#include "fit/speed.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace shoehorn::fit {
namespace {

constexpr size_t kBatch = 512;
constexpr double kBytesOfKv = 2;            // F16
constexpr double kFloatShareOfInt8 = 0.25;  // products of floats, a quarter of the lanes
constexpr int kProductSteps = 4;            // q k v, attention output, gate and up, down

FormatRates rates_of(const Device& device, quant::Type type) {
  const auto measured = device.formats.find(type);
  if (measured != device.formats.end()) return measured->second;
  return {device.read, quant::format(type).quantized ? device.macs : device.macs * kFloatShareOfInt8};
}

/// Of the head size nearest to the model's.
AttentionRates attention_of(const Device& device, int head_dim) {
  if (device.attention.empty()) return {device.macs * kFloatShareOfInt8, device.read, 0};
  const auto nearer = [&](const auto& a, const auto& b) {
    return std::abs(a.first - head_dim) < std::abs(b.first - head_dim);
  };
  return std::min_element(device.attention.begin(), device.attention.end(), nearer)->second;
}

/// "blk.12.attn_q.weight" -> 12; -1 for what belongs to no layer.
int layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return -1;
  int layer = -1;
  std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

}  // namespace

Speed::Speed(const Device& device, const convert::ModelSource& source, const std::vector<quant::Type>& types)
    : device_(device),
      h_(source.hparams()),
      attention_(attention_of(device, static_cast<int>(h_.head_dim))),
      layers_(h_.n_layer) {
  for (size_t i = 0; i < types.size(); ++i) {
    const convert::SourceTensor& tensor = source.tensors()[i];
    if (tensor.shape.size() < 2) continue;
    const int layer = layer_of(tensor.name);
    const bool is_output = tensor.name == "output.weight" || (h_.tied_embeddings && tensor.name == "token_embd.weight");
    if (layer < 0 && !is_output) continue;
    const FormatRates rates = rates_of(device, types[i]);
    // Of experts a token goes to some.
    const double share = tensor.shape.size() > 2 ? static_cast<double>(h_.n_expert_used) / h_.n_expert : 1;
    const auto rows = share * static_cast<double>(tensor.n_rows()), cols = static_cast<double>(tensor.n_cols());
    Matrices& all = layer < 0 ? output_ : layers_[static_cast<size_t>(layer)];
    all.token_s += rows * static_cast<double>(quant::row_bytes(quant::format(types[i]), tensor.n_cols())) / rates.read;
    all.batch_s += rows * cols / rates.macs;
    if (tensor.name.ends_with("attn_k.weight") || tensor.name.ends_with("attn_v.weight"))
      all.last_batch_s += rows * cols / rates.macs;
    if (tensor.name.ends_with("attn_qkv.weight")) {
      const models::LayerShape& shape = h_.layers[static_cast<size_t>(layer)];
      all.last_batch_s += 2.0 * shape.n_head_kv * h_.head_dim * cols / rates.macs;
    }
  }
}

double Speed::attention_token_seconds(const models::LayerShape& shape, size_t n_past) const {
  const double bytes = static_cast<double>(n_past + 1) * 2 * shape.n_head_kv * h_.head_dim * kBytesOfKv;
  return attention_.call_s + bytes / attention_.read;
}

double Speed::attention_batch_seconds(const models::LayerShape& shape, size_t n_past, size_t n) const {
  const double end = static_cast<double>(n_past + n), first = static_cast<double>(n_past);
  const double seen = (end * (end + 1) - first * (first + 1)) / 2;
  return 2 * seen * shape.n_head * h_.head_dim / attention_.macs;
}

double Speed::token_seconds(size_t n_past) const {
  const StepCosts& costs = device_.steps;
  double seconds = 2 * costs.step_s + h_.n_embd * costs.norm_s + output_.token_s;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const models::LayerShape& shape = h_.layers[i];
    seconds += layers_[i].token_s;
    if (shape.n_head > 0) {
      seconds += 4 * costs.step_s + h_.n_embd * costs.norm_s +
                 (shape.n_head + 2.0 * shape.n_head_kv) * h_.head_dim * costs.rope_s;
      seconds += attention_token_seconds(shape, n_past);
    }
    if (shape.n_ff > 0) seconds += 3 * costs.step_s + h_.n_embd * costs.norm_s;
  }
  return seconds;
}

double Speed::batch_seconds(size_t n_past, size_t n, bool logits) const {
  const StepCosts& costs = device_.steps;
  const auto tokens = static_cast<double>(n);
  double seconds = logits ? output_.token_s : 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const models::LayerShape& shape = h_.layers[i];
    const bool last = i + 1 == layers_.size();
    // After the last layer only the token whose logits are asked for is looked at.
    seconds +=
        tokens * (last ? layers_[i].last_batch_s : layers_[i].batch_s) + (last && logits ? layers_[i].token_s : 0);
    if (shape.n_head > 0) {
      seconds +=
          tokens * (h_.n_embd * costs.norm_s + (shape.n_head + 2.0 * shape.n_head_kv) * h_.head_dim * costs.rope_s);
      seconds += last ? 0 : attention_batch_seconds(shape, n_past, n);
    }
    if (shape.n_ff > 0 && !last) seconds += tokens * h_.n_embd * costs.norm_s;
    seconds += (kProductSteps + 3) * costs.step_s;
  }
  return seconds;
}

double Speed::prompt_seconds(size_t n) const {
  double seconds = 0;
  for (size_t at = 0; at < n; at += kBatch) seconds += batch_seconds(at, std::min(kBatch, n - at), at + kBatch >= n);
  return seconds;
}

double Speed::tokens_per_second(size_t n_past, size_t n) const {
  // Linear in the position.
  return 1 / token_seconds(n_past + n / 2);
}

}  // namespace shoehorn::fit
