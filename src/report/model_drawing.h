// A model's layers as SVG.
#pragma once

#include <string>

#include "report/chart.h"
#include "report/model_layers.h"

namespace shoehorn::report {

/// A row per layer (per run of equal layers where there are very many): query and KV heads, MLP width and bytes as
/// bars. Where `dense`, the model that it was made of, has as many layers, its widths are outlined behind. nullptr:
/// none.
Markup draw_widths(const std::string& name, const ModelLayers& model, const ModelLayers* dense = nullptr);

/// Layer x matrix: the type as text, bits per weight as colour.
HeatMap type_map(const std::string& name, const ModelLayers& model);

}  // namespace shoehorn::report
