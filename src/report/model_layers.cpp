#include "report/model_layers.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/memory.h"

namespace shoehorn::report {
namespace {

constexpr std::string_view kLayerPrefix = "blk.", kWeightSuffix = ".weight";

/// The layer and the rest of a GGUF name; -1 and the name where it belongs to no layer.
std::pair<int, std::string_view> split_name(std::string_view name) {
  if (name.ends_with(kWeightSuffix)) name.remove_suffix(kWeightSuffix.size());
  if (!name.starts_with(kLayerPrefix)) return {-1, name};
  const std::string_view rest = name.substr(kLayerPrefix.size());
  int layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const auto length = static_cast<size_t>(end - rest.data());
  if (error != std::errc() || layer < 0 || length >= rest.size() || rest[length] != '.') return {-1, name};
  return {layer, rest.substr(length + 1)};
}

double bits(uint64_t bytes, uint64_t weights) {
  return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

bool same(const Layer& a, const Layer& b) {
  return a.shape == b.shape && a.bytes == b.bytes &&
         std::ranges::equal(a.matrices, b.matrices,
                            [](const Part& x, const Part& y) { return x.name == y.name && x.type == y.type; });
}

/// Columns that `text` takes on a terminal, for the characters that are used here.
size_t columns(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// `share` of `width` columns, in eighths of a column, filled up with spaces.
std::string bar(double share, size_t width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  auto eighths = static_cast<size_t>(std::lround(std::clamp(share, 0.0, 1.0) * static_cast<double>(width) * 8));
  if (share > 0) eighths = std::max<size_t>(eighths, 1);
  std::string out;
  for (size_t i = 0; i < eighths / 8; ++i) out += "█";
  out += kEighths[eighths % 8];
  return out.append(width - columns(out), ' ');
}

/// Matrices whose types agree in every layer, under one heading.
struct TypeColumn {
  std::string title;
  std::vector<std::string> types;  // [n_layer], "-" where a layer has none
};

std::vector<TypeColumn> type_columns(const ModelLayers& model) {
  std::vector<TypeColumn> out;
  for (const std::string& name : model.matrix_names()) {
    TypeColumn column{short_name(name), {}};
    for (const Layer& layer : model.layers) {
      const Part* part = layer.find(name);
      column.types.push_back(part == nullptr ? "-" : part->type);
    }
    const auto like = std::ranges::find(out, column.types, &TypeColumn::types);
    if (like == out.end()) {
      out.push_back(std::move(column));
    } else {
      like->title += " " + column.title;
    }
  }
  return out;
}

struct TextTable {
  std::vector<std::vector<std::string>> rows;
  std::vector<bool> right;

  std::string str() const {
    std::vector<size_t> widths(right.size());
    for (const auto& row : rows) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
    }
    std::string out;
    for (const auto& row : rows) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        const std::string space(widths[i] - columns(row[i]), ' ');
        line += (i == 0 ? "" : "  ") + (right[i] ? space + row[i] : row[i] + space);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
    }
    return out;
  }
};

}  // namespace

double Part::bits_per_weight() const { return bits(bytes, weights); }

double ModelLayers::bits_per_weight() const { return bits(bytes, parameters); }

const Part* Layer::find(std::string_view name) const {
  const auto found = std::ranges::find(matrices, name, &Part::name);
  return found == matrices.end() ? nullptr : &*found;
}

std::vector<std::string> ModelLayers::matrix_names() const {
  std::vector<std::string> names;
  for (const Layer& layer : layers) {
    for (const Part& part : layer.matrices) {
      if (std::ranges::find(names, part.name) == names.end()) names.push_back(part.name);
    }
  }
  return names;
}

ModelLayers model_layers(const convert::ModelSource& source) {
  const models::Hparams& h = source.hparams();
  ModelLayers model;
  model.architecture = models::gguf_name(source.architecture(), source.hparams());
  model.n_embd = h.n_embd;
  model.head_dim = h.head_dim;
  model.jagged = !h.uniform();
  for (const models::LayerShape& shape : h.layers) model.layers.push_back({shape, {}, 0, 0});
  for (const convert::SourceTensor& tensor : source.tensors()) {
    if (tensor.data.empty()) continue;
    const uint64_t weights = tensor.n_cols() * tensor.n_rows(), bytes = tensor.data.size();
    const auto [number, name] = split_name(tensor.name);
    model.bytes += bytes;
    if (name != "rope_freqs") model.parameters += weights;
    const bool matrix = tensor.shape.size() > 1;
    const Part part{std::string(name), tensor.stored_as, weights, bytes};
    if (number < 0 || static_cast<size_t>(number) >= model.layers.size()) {
      if (matrix) model.outside.push_back(part);
      continue;
    }
    Layer& layer = model.layers[static_cast<size_t>(number)];
    layer.weights += weights;
    layer.bytes += bytes;
    if (matrix) layer.matrices.push_back(part);
  }
  return model;
}

std::vector<LayerRun> equal_runs(const std::vector<Layer>& layers) {
  std::vector<LayerRun> runs;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!runs.empty() && same(layers[i], layers[runs.back().first])) {
      runs.back().last = i;
    } else {
      runs.push_back({i, i});
    }
  }
  return runs;
}

std::string short_name(std::string_view matrix) {
  if (matrix.starts_with("attn_")) return matrix == "attn_output" ? "o" : std::string(matrix.substr(5));
  return std::string(matrix.starts_with("ffn_") ? matrix.substr(4) : matrix);
}

std::string draw_as_text(const ModelLayers& model) {
  constexpr size_t kWidthBar = 16, kBytesBar = 10;
  uint32_t max_ff = 1;
  uint64_t max_bytes = 1;
  for (const Layer& layer : model.layers) {
    max_ff = std::max(max_ff, layer.shape.n_ff);
    max_bytes = std::max(max_bytes, layer.bytes);
  }
  const auto types = type_columns(model);
  TextTable table;
  table.rows.push_back({"layers", "heads", "MLP", ""});
  table.right = {false, true, true, false};
  for (const TypeColumn& column : types) {
    table.rows[0].push_back(column.title);
    table.right.push_back(false);
  }
  table.rows[0].insert(table.rows[0].end(), {"bytes", ""});
  table.right.insert(table.right.end(), {true, false});
  for (const LayerRun& run : equal_runs(model.layers)) {
    const Layer& layer = model.layers[run.first];
    std::vector<std::string> row = {
        run.first == run.last ? std::to_string(run.first) : fmt::format("{}-{}", run.first, run.last),
        layer.shape.n_head == 0 ? "-" : fmt::format("{}/{}", layer.shape.n_head, layer.shape.n_head_kv),
        layer.shape.n_ff == 0 ? "-" : std::to_string(layer.shape.n_ff),
        bar(static_cast<double>(layer.shape.n_ff) / max_ff, kWidthBar)};
    for (const TypeColumn& column : types) row.push_back(column.types[run.first]);
    const size_t count = run.last - run.first + 1;
    row.push_back(fmt::format("{}{}", count == 1 ? "" : fmt::format("{} x ", count), format_bytes(layer.bytes)));
    row.push_back(bar(static_cast<double>(layer.bytes) / static_cast<double>(max_bytes), kBytesBar));
    table.rows.push_back(std::move(row));
  }
  std::string out = table.str();
  for (const Part& part : model.outside)
    out += fmt::format("{}: {}, {}\n", part.name, part.type, format_bytes(part.bytes));
  return out;
}

Json layers_json(const ModelLayers& model) {
  Json out = Json::array();
  for (const Layer& layer : model.layers) {
    Json types = Json::object();
    for (const Part& part : layer.matrices) types[part.name] = part.type;
    out.push_back({{"n_head", layer.shape.n_head},
                   {"n_head_kv", layer.shape.n_head_kv},
                   {"n_ff", layer.shape.n_ff},
                   {"parameters", layer.weights},
                   {"bytes", layer.bytes},
                   {"types", std::move(types)}});
  }
  return out;
}

}  // namespace shoehorn::report
