#include "report/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "base/memory.h"
#include "report/tables.h"

namespace shoehorn::report {
namespace {

constexpr size_t kMaxSeries = 8;

std::string bytes_text(double bytes) {
  return bytes >= 0 && bytes < 1e18 ? format_bytes(static_cast<uint64_t>(bytes)) : "?";
}

std::string with_error(double value, double error) {
  return format_number(value) + (std::isfinite(error) && error > 0 ? " ± " + format_number(error, 2) : "");
}

/// How a model was made: what points of one colour have in common.
std::string family(const Variant& v) {
  if (!v.gguf) return "checkpoints";
  if (v.format == "F16" || v.format == "BF16" || v.format == "F32") return "not quantized";
  if (v.method.empty()) return "rounded to nearest";
  return v.method;
}

/// Points gathered under names, as series in order of their names; beyond kMaxSeries under "others".
class Gathered {
 public:
  void add(const std::string& name, Point point) {
    const bool room = points_.contains(name) || points_.size() + 1 < kMaxSeries;
    points_[room ? name : "others"].push_back(std::move(point));
  }
  bool empty() const { return points_.empty(); }
  std::vector<Series> series(Drawn drawn) const {
    std::vector<Series> out;
    for (const auto& [name, points] : points_) out.push_back({name, points, drawn});
    return out;
  }

 private:
  std::map<std::string, std::vector<Point>> points_;
};

constexpr AxisSettings kBytesAxis{"file size", true, false, Unit::kBytes};

/// blk.3.attn_q.weight as {3, "attn_q"}; {-1, name} of others.
std::pair<int, std::string> layer_and_matrix(std::string name) {
  if (name.ends_with(".weight")) name.resize(name.size() - 7);
  int layer = -1, length = 0;
  if (std::sscanf(name.c_str(), "blk.%5d.%n", &layer, &length) != 1 || length == 0 || layer < 0) return {-1, name};
  return {layer, name.substr(static_cast<size_t>(length))};
}

}  // namespace

std::vector<Chart> quality_charts(const Run& run) {
  struct Measure {
    const char *title, *axis, *description;
    double Quality::*value;
    double Quality::*error;
    bool log;
  };
  const Measure measures[] = {
      {"KL divergence over size", "mean KL (nats/token)",
       "How far the predictions are from the base's: lower and further left is better. Bars are one standard error.",
       &Quality::kld_mean, &Quality::kld_err, true},
      {"Perplexity over size", "perplexity",
       "Lower and further left is better. Bars are one standard error, most of which all models share: they predict "
       "the same text.",
       &Quality::ppl, &Quality::ppl_err, true}};
  const auto labels = short_labels(run);
  std::vector<Chart> charts;
  std::set<std::pair<std::string, double>> protocols;
  for (const Quality& q : run.qualities) protocols.insert({q.text, std::isnan(q.n_ctx) ? 0 : q.n_ctx});
  for (const auto& protocol : protocols) {
    if (charts.size() >= 2 * kMaxProtocols) break;
    for (const Measure& m : measures) {
      Gathered points;
      for (const Quality& q : run.qualities) {
        const Variant& v = run.variants[q.variant];
        if (std::pair(q.text, std::isnan(q.n_ctx) ? 0 : q.n_ctx) != protocol || !(v.bytes > 0) || !(q.*m.value > 0))
          continue;
        points.add(family(v), {v.bytes, q.*m.value, q.*m.error, labels[q.variant],
                               fmt::format("{}: {} {}, {}", v.label, m.axis, with_error(q.*m.value, q.*m.error),
                                           bytes_text(v.bytes))});
      }
      if (points.empty()) continue;
      const std::string on = protocol.first.empty() ? "" : " on " + file_name(protocol.first);
      charts.push_back({m.title + on, m.description, kBytesAxis, {m.axis, m.log}, points.series(Drawn::kPoints)});
    }
  }
  return charts;
}

std::vector<Chart> rate_charts(const Run& run) {
  const auto labels = short_labels(run);
  std::vector<Chart> charts;
  for (const bool generating : {true, false}) {
    Gathered points;
    std::set<std::pair<std::string, double>> machines;
    double bandwidth = 0;
    double least = 0, most = 0;
    for (const Rate& r : run.rates) {
      const Variant& v = run.variants[r.variant];
      const bool wanted = generating ? r.n_gen > 0 && r.n_prompt <= 0 : r.n_prompt > 0 && r.n_gen <= 0;
      if (!wanted || !(v.bytes > 0) || !(r.avg_ts > 0)) continue;
      const std::string setting =
          fmt::format("{}{}", r.test(),
                      r.n_threads > 0 ? fmt::format(", {:.0f} thread{}", r.n_threads, r.n_threads > 1 ? "s" : "") : "");
      points.add(setting, {v.bytes, r.avg_ts, r.stddev_ts, labels[r.variant],
                           fmt::format("{}, {}: {} tokens/s, {}", v.label, setting, with_error(r.avg_ts, r.stddev_ts),
                                       bytes_text(v.bytes))});
      machines.insert({r.cpu, std::isnan(r.n_threads) ? 0 : r.n_threads});
      if (r.read_gbs > 0) bandwidth = std::max(bandwidth, r.read_gbs);
      least = least > 0 ? std::min(least, v.bytes) : v.bytes;
      most = std::max(most, v.bytes);
    }
    if (points.empty()) continue;
    auto series = points.series(Drawn::kPoints);
    std::string description = "Bars are the deviation between repetitions.";
    if (generating && machines.size() == 1 && bandwidth > 0 && most > least) {
      Series limit{fmt::format("{} GB/s", format_number(bandwidth, 3)), {}, Drawn::kDashedLine};
      for (int i = 0; i <= 20; ++i) {
        const double bytes = least * std::pow(most / least, i / 20.0);
        limit.points.push_back({bytes, bandwidth * 1e9 / bytes});
      }
      series.push_back(std::move(limit));
      description +=
          " The line is what the measured read bandwidth could feed, if every token read the whole file once.";
    }
    charts.push_back({generating ? "Generation rate over size" : "Prompt rate over size",
                      description,
                      kBytesAxis,
                      {"tokens/s", generating, !generating},
                      std::move(series)});
  }
  return charts;
}

std::vector<Chart> loss_charts(const Run& run) {
  std::vector<Chart> charts;
  for (const Step& step : run.steps) {
    if (step.losses.size() < 2) continue;
    Series losses{"loss of a step", {}, Drawn::kLine}, smooth{"mean of the last ones", {}, Drawn::kLine};
    const size_t window = std::max<size_t>(1, step.losses.size() / 20);
    double sum = 0;
    for (size_t i = 0; i < step.losses.size(); ++i) {
      losses.points.push_back({static_cast<double>(i + 1), step.losses[i]});
      sum += step.losses[i];
      if (i >= window) sum -= step.losses[i - window];
      if (i + 1 >= window) smooth.points.push_back({static_cast<double>(i + 1), sum / static_cast<double>(window)});
    }
    std::vector<Series> series = {std::move(losses)};
    if (window > 1) series.push_back(std::move(smooth));
    const double best = std::isnan(step.best_step) ? static_cast<double>(step.losses.size()) : step.best_step;
    if (std::isfinite(step.validation_before) && std::isfinite(step.validation_after)) {
      series.push_back({"validation, before and best",
                        {{0, step.validation_before, kNotMeasured, format_number(step.validation_before),
                          "validation before: " + format_number(step.validation_before)},
                         {best, step.validation_after, kNotMeasured, format_number(step.validation_after),
                          "validation, best: " + format_number(step.validation_after)}}});
    }
    const std::string name = step.out == kNone ? step.file : run.variants[step.out].label;
    charts.push_back({(step.command == "rotate" ? "Rotations of " : "Healing of ") + name,
                      "Mean loss a token of each optimizer step.",
                      {"step", false, true},
                      {"loss", false},
                      std::move(series)});
  }
  return charts;
}

std::vector<Chart> time_charts(const Run& run, size_t max) {
  std::vector<Chart> charts;
  for (const VariantId id : display_order(run)) {
    for (const char* what : {"Power", "Temperature", "Frequency"}) {
      Chart chart;
      for (const Rate& r : run.rates) {
        for (const TimeSeries& series : r.over_time) {
          if (r.variant != id || series.name != what || chart.series.size() == kMaxSeries) continue;
          chart.y = {fmt::format("{} ({})", series.name, series.unit), false, series.name == "Power"};
          Series line{r.test(), {}, Drawn::kLine};
          for (const auto& [at, value] : series.points) line.points.push_back({at, value});
          chart.series.push_back(std::move(line));
        }
      }
      if (chart.series.empty()) continue;
      if (charts.size() == max) return charts;
      chart.title = fmt::format("{} over time, {}", what, run.variants[id].label);
      chart.description = what == std::string("Power") ? "" : "Once a repetition.";
      chart.x = {"seconds", false, true};
      charts.push_back(std::move(chart));
    }
  }
  return charts;
}

std::vector<HeatMap> profile_maps(const Run& run) {
  const auto labels = short_labels(run);
  HeatMap map;
  map.title = "Where the time goes";
  map.description = "Share of each kind of step.";
  map.row_title = "test";
  map.value_title = "share";
  for (const Rate& r : run.rates) {
    for (const auto& [op, share] : r.profile) {
      if (std::ranges::find(map.columns, op) == map.columns.end() && map.columns.size() < 24) map.columns.push_back(op);
    }
  }
  for (const VariantId id : display_order(run)) {
    for (const Rate& r : run.rates) {
      if (r.variant != id || r.profile.empty() || map.rows.size() == 200) continue;
      map.rows.push_back(labels[id] + " " + r.test());
      auto& row = map.cells.emplace_back(map.columns.size());
      for (const auto& [op, share] : r.profile) {
        const auto column = std::ranges::find(map.columns, op);
        if (column == map.columns.end()) continue;
        row[static_cast<size_t>(column - map.columns.begin())] = {
            share, fmt::format("{:.0f} %", 100 * share),
            fmt::format("{} {}, {}: {:.2f} %", labels[id], r.test(), op, 100 * share)};
      }
    }
  }
  if (map.rows.empty()) return {};
  return {map};
}

std::vector<HeatMap> sensitivity_maps(const Run& run) {
  std::vector<HeatMap> maps;
  for (const Step& step : run.steps) {
    if (step.sensitivity.empty()) continue;
    std::map<int, std::map<std::string, double>> layers;
    std::vector<std::string> columns;
    std::string outside;
    for (const auto& [name, cost] : step.sensitivity) {
      const auto [layer, matrix] = layer_and_matrix(name);
      if (layer < 0) {
        outside += fmt::format(" {}: {}.", matrix, format_number(cost, 3));
        continue;
      }
      layers[layer][matrix] = cost;
      if (std::ranges::find(columns, matrix) == columns.end() && columns.size() < 32) columns.push_back(matrix);
    }
    // In the order in which a layer has them, whatever the record's order is.
    static const std::vector<std::string> kOrder = {"attn_q",   "attn_k", "attn_v",  "attn_qkv", "attn_output",
                                                    "ffn_gate", "ffn_up", "ffn_down"};
    std::ranges::stable_sort(columns, {},
                             [](const std::string& name) { return std::ranges::find(kOrder, name) - kOrder.begin(); });
    HeatMap map;
    map.title = "Sensitivity" + (step.out == kNone ? "" : " of " + run.variants[step.out].label);
    map.description =
        "KL divergence, in nats a token, that quantizing this one matrix adds to the whole model's." + outside;
    map.row_title = "layer";
    map.value_title = "KL";
    map.log = true;
    for (const std::string& column : columns) map.columns.push_back(short_name(column));
    for (const auto& [layer, costs] : layers) {
      if (map.rows.size() == 400) break;
      map.rows.push_back(std::to_string(layer));
      auto& row = map.cells.emplace_back();
      for (const std::string& column : columns) {
        const auto cost = costs.find(column);
        if (cost == costs.end()) {
          row.emplace_back();
        } else {
          row.push_back({cost->second, format_number(cost->second, 2),
                         fmt::format("layer {} {}: {}", layer, column, format_number(cost->second, 3))});
        }
      }
    }
    if (!map.rows.empty()) maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace shoehorn::report
