#include "report/model_drawing.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/memory.h"

namespace shoehorn::report {
namespace {

constexpr size_t kMaxRows = 100;  // more layers are drawn as runs

std::string number(double value) { return fmt::format("{:.1f}", value); }

std::vector<LayerRun> rows_of(const ModelLayers& model) {
  std::vector<LayerRun> rows;
  if (model.layers.size() > kMaxRows) {
    rows = equal_runs(model.layers);
    if (rows.size() > 4 * kMaxRows) rows.resize(4 * kMaxRows);
    return rows;
  }
  for (size_t i = 0; i < model.layers.size(); ++i) rows.push_back({i, i});
  return rows;
}

std::string row_name(const LayerRun& run) {
  return run.first == run.last ? std::to_string(run.first) : fmt::format("{}-{}", run.first, run.last);
}

/// One of the drawing's columns of bars.
struct Column {
  std::string title;
  double left, width;
};

void draw_bar(Markup& out, const Column& column, double top, double share, double dense_share, const char* style,
              const std::string& text, const std::string& tooltip) {
  constexpr double kHeight = 13;
  const auto rect = [&](const char* name, double part) {
    out.open("rect", {{"class", name},
                      {"x", number(column.left)},
                      {"y", number(top)},
                      {"width", number(std::max(part * column.width, part > 0 ? 1.0 : 0.0))},
                      {"height", number(kHeight)},
                      {"rx", "2"}});
    out.element("title", tooltip).close();
  };
  if (dense_share > share) rect("ghost", dense_share);
  rect(style, share);
  const double text_width = 6.6 * static_cast<double>(text.size()) + 8;
  const bool inside = share * column.width > text_width;
  const double after = std::max(share, dense_share) * column.width + 4;
  out.element("text", text,
              {{"class", inside ? "on-bar" : ""},
               {"x", number(column.left + (inside ? 5 : after))},
               {"y", number(top + 10.5)}});
}

}  // namespace

Markup draw_widths(const std::string& name, const ModelLayers& model, const ModelLayers* dense) {
  constexpr double kRow = 17, kHead = 22, kWidth = 480;
  const Column heads{"heads / KV", 52, 96}, mlp{"MLP width", 172, 176}, bytes{"bytes", 372, 104};
  if (dense != nullptr && dense->layers.size() != model.layers.size()) dense = nullptr;
  double max_head = 1, max_ff = 1, max_bytes = 1;
  for (const ModelLayers* m : {&model, dense}) {
    if (m == nullptr) continue;
    for (const Layer& layer : m->layers) {
      max_head = std::max<double>(max_head, layer.shape.n_head);
      max_ff = std::max<double>(max_ff, layer.shape.n_ff);
    }
  }
  for (const Layer& layer : model.layers) max_bytes = std::max(max_bytes, static_cast<double>(layer.bytes));

  const auto rows = rows_of(model);
  std::string outside;
  for (const Part& part : model.outside)
    outside += fmt::format("{}{}: {}, {}", outside.empty() ? "" : "; ", part.name, part.type, format_bytes(part.bytes));
  Markup out;
  out.open("figure").open("figcaption").element("strong", "Layers of " + name).text(" ");
  out.element("span",
              fmt::format("{} layers of {} channels, heads of {}.{}{}{}", model.layers.size(), model.n_embd,
                          model.head_dim, dense == nullptr ? "" : " Grey behind: the model that it was made of.",
                          outside.empty() ? "" : " Beside the layers ", outside));
  out.close();
  out.open("svg",
           {{"viewBox", fmt::format("0 0 {} {:.0f}", kWidth, kHead + kRow * static_cast<double>(rows.size()) + 4)},
            {"role", "img"},
            {"class", "chart"},
            {"aria-label",
             fmt::format("Heads, MLP width and bytes of each of the {} layers of {}", model.layers.size(), name)}});
  out.element("text", "layer", {{"class", "axis-title"}, {"x", "42"}, {"y", "14"}, {"text-anchor", "end"}});
  for (const Column& column : {heads, mlp, bytes}) {
    out.element("text", column.title, {{"class", "axis-title"}, {"x", number(column.left)}, {"y", "14"}});
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    const double top = kHead + kRow * static_cast<double>(r);
    const size_t index = rows[r].first;
    const Layer& layer = model.layers[index];
    const models::LayerShape& shape = layer.shape;
    const models::LayerShape before = dense == nullptr ? shape : dense->layers[index].shape;
    const std::string title = "layer " + row_name(rows[r]);
    out.element("text", row_name(rows[r]), {{"x", "42"}, {"y", number(top + 10.5)}, {"text-anchor", "end"}});
    const auto was = [](uint32_t now, uint32_t then) { return now == then ? "" : fmt::format(", was {}", then); };
    draw_bar(out, heads, top, shape.n_head / max_head, before.n_head / max_head, "c0",
             shape.n_head == 0 ? "none" : fmt::format("{} / {}", shape.n_head, shape.n_head_kv),
             fmt::format("{}: {} query heads{}, {} KV heads{}", title, shape.n_head, was(shape.n_head, before.n_head),
                         shape.n_head_kv, was(shape.n_head_kv, before.n_head_kv)));
    draw_bar(out, mlp, top, shape.n_ff / max_ff, before.n_ff / max_ff, "c1",
             shape.n_ff == 0 ? "none" : std::to_string(shape.n_ff),
             fmt::format("{}: {} neurons{}", title, shape.n_ff, was(shape.n_ff, before.n_ff)));
    draw_bar(out, bytes, top, static_cast<double>(layer.bytes) / max_bytes, 0, "c2", format_bytes(layer.bytes),
             fmt::format("{}: {} bytes, {} weights", title, format_count(layer.bytes), format_count(layer.weights)));
  }
  out.close().close();
  return out;
}

HeatMap type_map(const std::string& name, const ModelLayers& model) {
  HeatMap map;
  map.title = "Types in " + name;
  map.description = "Bits per weight as colour, for every matrix of every layer.";
  for (const Part& part : model.outside) {
    map.description += fmt::format(" {}: {} ({:.4g} bits).", part.name, part.type, part.bits_per_weight());
  }
  map.row_title = "layer";
  map.value_title = "bits per weight";
  const auto names = model.matrix_names();
  for (const std::string& matrix : names) map.columns.push_back(short_name(matrix));
  for (const LayerRun& run : rows_of(model)) {
    map.rows.push_back(row_name(run));
    auto& row = map.cells.emplace_back();
    for (const std::string& matrix : names) {
      const Part* part = model.layers[run.first].find(matrix);
      if (part == nullptr) {
        row.emplace_back();
        continue;
      }
      row.push_back({part->bits_per_weight(), part->type,
                     fmt::format("layer {} {}: {}, {:.4g} bits per weight, {} bytes", row_name(run), part->name,
                                 part->type, part->bits_per_weight(), format_count(part->bytes))});
    }
  }
  return map;
}

}  // namespace shoehorn::report
