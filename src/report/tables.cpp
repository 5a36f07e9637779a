#include "report/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "base/memory.h"
#include "report/axis.h"

namespace shoehorn::report {
namespace {

/// A path as one would type it behind the command; the report's reader knows where it is.
std::string name_of(const Variant& v) { return v.path.empty() ? v.label : v.path; }

std::string how_to_bench(const Variant& v, const char* options) {
  return fmt::format("shoehorn bench -m {} {} -o json > bench.json", v.gguf ? name_of(v) : "MODEL.gguf", options);
}

constexpr const char* kOldRecord = "the record does not have it";
constexpr size_t kMaxLabel = 40;
const Cell kDoesNotApply{"–", true};

std::string no_energy(const Rate& r) {
  if (!r.power_trouble.empty()) return r.power_trouble;
  return r.power_source.empty() ? "no source of energy figures on that machine" : kOldRecord;
}

Cell label_cell(const Variant& v) { return {v.label, false, {}, v.inside ? "" : "not in the directory"}; }

Cell label_cell(const Run& run, VariantId id) { return id == kNone ? Cell{"?", false} : label_cell(run.variants[id]); }

bool has_bench(const Run& run, VariantId id) {
  return std::ranges::any_of(run.rates, [&](const Rate& r) { return r.variant == id; });
}

/// Tests of one model on one machine with as many threads.
using Setting = std::tuple<std::string, double>;
Setting setting_of(const Rate& r) { return {r.cpu, std::isnan(r.n_threads) ? 0 : r.n_threads}; }

const Rate* find_rate(const std::vector<const Rate*>& rates, bool prompt, bool gen) {
  const auto found = std::ranges::find_if(
      rates, [&](const Rate* r) { return (r->n_prompt > 0) == prompt && (r->n_gen > 0) == gen && r->n_depth <= 0; });
  return found == rates.end() ? nullptr : *found;
}

/// The settings of a run, and what tells them apart: nothing where all tests had the same.
class Settings {
 public:
  explicit Settings(const Run& run) {
    for (const Rate& r : run.rates) {
      settings_.insert(setting_of(r));
      cpus_.insert(r.cpu);
    }
  }

  std::string text(const Setting& setting) const {
    const auto& [cpu, n_threads] = setting;
    if (settings_.size() < 2) return "";
    std::string text = n_threads > 0 ? fmt::format("{:.0f} thread{}", n_threads, n_threads > 1 ? "s" : "") : "";
    if (cpus_.size() > 1) text = (cpu.empty() ? "unknown machine" : cpu) + (text.empty() ? "" : ", " + text);
    return text;
  }

 private:
  std::set<Setting> settings_;
  std::set<std::string> cpus_;
};

Cell seconds_cell(double ms, const std::string& why) { return number_cell(ms / 1000, why, 3); }

double size_of(const Variant& v) { return std::isnan(v.bytes) ? -1 : v.bytes; }

/// How many steps made it, as far as is known.
int depth_of(const Run& run, VariantId id) {
  int depth = 0;
  for (const Step* step = run.maker(id); step != nullptr && step->in != kNone && depth < 32; step = run.maker(step->in))
    ++depth;
  return depth;
}

/// "Q4_K", or "Q4_K x 6, Q6_K x 2" where the layers differ.
std::string types_of(const ModelLayers& model, const std::string& matrix) {
  std::vector<std::pair<std::string, size_t>> counts;
  const auto count = [&](const std::string& type) {
    const auto known = std::ranges::find(counts, type, &std::pair<std::string, size_t>::first);
    if (known == counts.end()) {
      counts.emplace_back(type, 1);
    } else {
      ++known->second;
    }
  };
  for (const Layer& layer : model.layers) {
    if (const Part* part = layer.find(matrix)) count(part->type);
  }
  for (const Part& part : model.outside) {
    if (part.name == matrix) count(part.type);
  }
  std::string out;
  for (const auto& [type, n] : counts) {
    out += (out.empty() ? "" : ", ") + (counts.size() == 1 ? type : fmt::format("{} × {}", type, n));
  }
  return out.empty() ? "none" : out;
}

}  // namespace

std::string format_of(const Variant& v) {
  const std::string format = v.format.empty() ? "not recorded" : v.format;
  return v.method.empty() ? format : fmt::format("{}, {}", format, v.method);
}

std::vector<std::string> short_labels(const Run& run) {
  std::vector<std::string> labels;
  std::string prefix;
  bool first = true;
  for (const Variant& v : run.variants) {
    labels.push_back(v.label);
    if (!v.gguf || !v.inside) continue;
    if (first) prefix = v.label;
    first = false;
    const auto differs = std::ranges::mismatch(prefix, v.label).in1;
    prefix.erase(differs, prefix.end());
  }
  prefix.erase(prefix.find_last_of("-_. ") + 1);
  for (std::string& label : labels) {
    if (label.size() > prefix.size() && label.starts_with(prefix)) label.erase(0, prefix.size());
    if (label.size() > kMaxLabel) label = label.substr(0, kMaxLabel - 3) + "...";
  }
  return labels;
}

std::vector<VariantId> display_order(const Run& run) {
  std::vector<std::tuple<bool, double, int, VariantId>> keys;
  for (VariantId id = 0; id < run.variants.size(); ++id) {
    const Variant& v = run.variants[id];
    // Checkpoints in the order in which they came to be, GGUFs from large to small.
    keys.emplace_back(v.gguf, v.gguf ? -size_of(v) : 0, depth_of(run, id), id);
  }
  std::ranges::sort(keys);
  std::vector<VariantId> order;
  for (const auto& key : keys) order.push_back(std::get<3>(key));
  return order;
}

Table types_table(const Run& run) {
  constexpr size_t kMaxColumns = 40;
  Table table{"Table 1. Types per kind of tensor", "How many layers have which, where they differ.", {"tensor"}, {}};
  std::vector<const Variant*> variants;
  std::vector<std::string> names;
  for (const VariantId id : display_order(run)) {
    const Variant& v = run.variants[id];
    if (!v.layers || variants.size() == kMaxColumns) continue;
    variants.push_back(&v);
    table.columns.push_back(v.label);
    const auto add = [&](const std::string& name) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    for (const std::string& name : v.layers->matrix_names()) add(name);
    for (const Part& part : v.layers->outside) add(part.name);
  }
  for (const std::string& name : names) {
    auto& row = table.rows.emplace_back(std::vector<Cell>{{name}});
    for (const Variant* v : variants) row.push_back({types_of(*v->layers, name)});
  }
  auto& bits = table.rows.emplace_back(std::vector<Cell>{{"bits per weight, mean"}});
  for (const Variant* v : variants) bits.push_back({format_number(v->bits_per_weight)});
  if (variants.empty()) table.rows.clear();
  return table;
}

Table response_table(const Run& run) {
  Table table{"Table 2. Response times and memory",
              "Time to the first token (TTFT: the prompt is read) and to the last (TTLM), generated tokens per second, "
              "peak memory.",
              {"model", "prompt + answer", "TTFT (s)", "TTLM (s)", "tokens/s", "memory", "KV cache", "J/token"},
              {}};
  const Settings all_settings(run);
  for (const VariantId id : display_order(run)) {
    const Variant& v = run.variants[id];
    std::map<Setting, std::vector<const Rate*>> settings;
    for (const Rate& r : run.rates) {
      if (r.variant == id) settings[setting_of(r)].push_back(&r);
    }
    if (settings.empty()) {
      if (!v.gguf) continue;
      const std::string why = "run " + how_to_bench(v, "-pg 512,128");
      table.rows.push_back({label_cell(v),
                            {"", false, why},
                            {"", true, why},
                            {"", true, why},
                            {"", true, why},
                            {"", true, why},
                            {"", true, why},
                            {"", true, why}});
      continue;
    }
    for (const auto& [setting, rates] : settings) {
      Cell label = label_cell(v);
      if (const std::string text = all_settings.text(setting); !text.empty()) label.detail = text;
      const auto row = [&](std::string test, Cell ttft, Cell ttlt, Cell tps, const Rate& of) {
        table.rows.push_back({label,
                              {std::move(test)},
                              std::move(ttft),
                              std::move(ttlt),
                              std::move(tps),
                              bytes_cell(of.peak_rss, kOldRecord, false),
                              bytes_cell(of.kv_bytes, kOldRecord, false),
                              number_cell(of.joules_per_token, no_energy(of))});
      };
      bool any = false;
      for (const Rate* r : rates) {
        if (r->n_prompt <= 0 || r->n_gen <= 0) continue;
        any = true;
        const double answer_ms = r->ttlt_ms - r->ttft_ms;
        const double tps = std::isnan(r->answer_ts) && answer_ms > 0 ? r->n_gen * 1000 / answer_ms : r->answer_ts;
        row(fmt::format("{:.0f} + {:.0f}", r->n_prompt, r->n_gen), seconds_cell(r->ttft_ms, kOldRecord),
            seconds_cell(r->ttlt_ms, kOldRecord), number_cell(tps, kOldRecord), *r);
      }
      if (any) continue;
      const Rate* prompt = find_rate(rates, true, false);
      const Rate* answer = find_rate(rates, false, true);
      const Rate* either = answer != nullptr ? answer : prompt;
      if (either == nullptr) continue;
      const std::string why = "only prompt and answer in one test tell: run " + how_to_bench(v, "-pg 512,128");
      row(fmt::format("{} + {}", prompt == nullptr ? "-" : fmt::format("{:.0f}", prompt->n_prompt),
                      answer == nullptr ? "-" : fmt::format("{:.0f}", answer->n_gen)),
          seconds_cell(prompt == nullptr ? kNotMeasured : prompt->ttft_ms, "run " + how_to_bench(v, "-p 512")),
          {"", true, why},
          answer == nullptr ? number_cell(kNotMeasured, "run " + how_to_bench(v, "-n 128"))
                            : number_cell_with_error(answer->avg_ts, answer->stddev_ts, kOldRecord),
          *either);
    }
  }
  return table;
}

Table sizes_table(const Run& run) {
  Table table{"Table 3. Sizes",
              "Of GGUFs the whole file, of checkpoints the weights.",
              {"model", "format", "size", "of the largest", "bits per weight", "parameters"},
              {}};
  double largest = 0;
  for (const Variant& v : run.variants) largest = std::max(largest, size_of(v));
  for (const VariantId id : display_order(run)) {
    const Variant& v = run.variants[id];
    const std::string why = fmt::format(
        "the model is not in the directory: put it there, or the output of shoehorn inspect {} --json", name_of(v));
    table.rows.push_back({label_cell(v),
                          {format_of(v)},
                          bytes_cell(v.bytes, why),
                          std::isnan(v.bytes)
                              ? Cell{"", true, why}
                              : Cell{fmt::format("{:.1f} %", 100 * v.bytes / std::max(largest, 1.0)), true},
                          number_cell(v.bits_per_weight, why),
                          count_cell(v.parameters, why)});
  }
  return table;
}

namespace {

using Measured = std::map<VariantId, std::vector<const Quality*>>;

/// A measurement that `id` was the base of; nullptr when there is none.
const Quality* base_of_another(const Measured& measured, VariantId id) {
  for (const auto& [variant, all] : measured) {
    for (const Quality* q : all) {
      if (q->base == id) return q;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<Table> quality_tables(const Run& run) {
  std::map<std::pair<std::string, double>, Measured> by_text;
  for (const Quality& q : run.qualities) by_text[{q.text, std::isnan(q.n_ctx) ? 0 : q.n_ctx}][q.variant].push_back(&q);
  if (by_text.empty()) by_text[{"", 0}];
  std::set<VariantId> bases;
  for (const Quality& q : run.qualities) bases.insert(q.base);
  std::vector<Table> tables;
  for (const auto& [protocol, measured] : by_text) {
    if (tables.size() == kMaxProtocols) break;
    const auto& [text, n_ctx] = protocol;
    Table table{"Table 4. Quality",
                "Perplexity; KL divergence from the base (nats a token: what compression changed) and how often both "
                "have the same most likely token. "
                "± is one standard error.",
                {"model", "perplexity", "KL divergence", "KL, 99 %", "same top token", "base", "tokens"},
                {}};
    if (!text.empty())
      table.title += " on " + file_name(text) + (n_ctx > 0 ? fmt::format(", {:.0f} tokens of context", n_ctx) : "");
    for (const VariantId id : display_order(run)) {
      const Variant& v = run.variants[id];
      const auto found = measured.find(id);
      if (found == measured.end()) {
        // The base was measured together with what is compared with it.
        if (const Quality* beside = base_of_another(measured, id)) {
          table.rows.push_back({label_cell(v),
                                number_cell(beside->base_ppl, kOldRecord, 5),
                                kDoesNotApply,
                                kDoesNotApply,
                                kDoesNotApply,
                                {"is the base"},
                                count_cell(beside->tokens, kOldRecord)});
          continue;
        }
        if (!v.gguf) continue;
        const std::string why =
            fmt::format("run shoehorn perplexity -m {} -f {} --kl-base BASE.gguf --json > perplexity.json", name_of(v),
                        text.empty() ? "TEXT" : file_name(text));
        std::vector<Cell> row = {label_cell(v)};
        for (size_t c = 1; c < table.columns.size(); ++c) row.push_back({"", c != 5, why});
        table.rows.push_back(std::move(row));
        continue;
      }
      for (const Quality* q : found->second) {
        std::vector<Cell> row = {label_cell(v), number_cell_with_error(q->ppl, q->ppl_err, kOldRecord, 5)};
        if (q->base == kNone && bases.contains(id)) {
          row.insert(row.end(), {kDoesNotApply, kDoesNotApply, kDoesNotApply, {"is the base"}});
        } else {
          const std::string why = "it was measured without --kl-base";
          row.insert(row.end(), {number_cell_with_error(q->kld_mean, q->kld_err, why), number_cell(q->kld_p99, why),
                                 percent_cell(q->top1, why),
                                 q->base == kNone ? Cell{"", false, why} : Cell{run.variants[q->base].label}});
        }
        row.push_back(count_cell(q->tokens, kOldRecord));
        table.rows.push_back(std::move(row));
      }
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

Table checks_table(const Run& run) {
  Table table{"Checks of the output",
              "What quantize measured against its source before the file got its name, and how the model goes on.",
              {"model", "KL divergence", "same top token", "perplexity", "of the source", "on", "sentence"},
              {}};
  for (const VariantId id : display_order(run)) {
    const Variant& v = run.variants[id];
    if (!v.check) continue;
    const Check& c = *v.check;
    Cell on = count_cell(c.tokens, kOldRecord);
    on.text += " tokens";
    on.detail = c.text;
    Cell sentence = c.sentence.empty() ? Cell{"", false, "no sentence was written"} : Cell{c.prompt + c.sentence};
    sentence.wide = true;
    table.rows.push_back({label_cell(v), number_cell_with_error(c.kld_mean, c.kld_err, kOldRecord),
                          percent_cell(c.top1, kOldRecord), number_cell(c.ppl, kOldRecord),
                          number_cell(c.source_ppl, kOldRecord), on, sentence});
  }
  return table;
}

Table scores_table(const Run& run) {
  Table table{
      "Tasks",
      "Scores of eval with 95 % intervals; the difference is to the other model on the same items, with its p-value.",
      {"model", "task", "metric", "score", "interval", "items", "difference", "of", "p"},
      {}};
  const auto interval = [](double low, double high, const std::string& why) {
    if (std::isnan(low) || std::isnan(high)) return Cell{"", true, why};
    return Cell{fmt::format("{} to {}", format_number(low), format_number(high)), true};
  };
  for (const VariantId id : display_order(run)) {
    for (const Score& s : run.scores) {
      if (s.variant != id) continue;
      const std::string alone = "eval was run without --compare";
      Cell difference = number_cell(s.difference, alone, 3);
      if (difference.missing.empty()) difference.detail = interval(s.difference_low, s.difference_high, "").text;
      table.rows.push_back({label_cell(run, id),
                            {s.task, false, {}, file_name(s.data)},
                            {s.metric},
                            number_cell(s.value, kOldRecord),
                            interval(s.low, s.high, kOldRecord),
                            count_cell(s.items, kOldRecord),
                            difference,
                            s.compared == kNone ? Cell{"", false, alone} : Cell{run.variants[s.compared].label},
                            number_cell(s.p, alone, 2)});
    }
  }
  return table;
}

Table parameters_table(const Run& run) {
  Table table{"Table 5. Parameters before and after pruning",
              "",
              {"pruned", "before", "after", "fewer", "what went", "KL to the source"},
              {}};
  for (const Step& step : run.steps) {
    if (std::isnan(step.parameters_before) || std::isnan(step.parameters_after)) continue;
    const auto changed = std::ranges::find(step.facts, "changed", &std::pair<std::string, std::string>::first);
    const auto method = std::ranges::find(step.facts, "method", &std::pair<std::string, std::string>::first);
    std::string what = changed == step.facts.end() ? "" : changed->second;
    if (method != step.facts.end()) what += " (" + method->second + ")";
    table.rows.push_back({label_cell(run, step.out),
                          count_cell(step.parameters_before, kOldRecord),
                          count_cell(step.parameters_after, kOldRecord),
                          {fmt::format("{:.2f} %", 100 * (1 - step.parameters_after / step.parameters_before)), true},
                          {what},
                          number_cell_with_error(step.kld_mean, step.kld_err, "it was pruned with --no-check")});
  }
  return table;
}

Table efficiency_table(const Run& run) {
  Table table{"Table 6. Hardware efficiency",
              "Every test of bench: pp N reads a prompt of N tokens, tg N generates N. MBU: the share of the measured "
              "read bandwidth that weights and KV cache take "
              "at that rate; above 100 % the caches hold part of a small model. ± is the deviation between repetitions.",
              {"model", "test", "tokens/s", "TTFT (s)", "TTLM (s)", "MBU", "bandwidth read"},
              {}};
  const Settings all_settings(run);
  for (const VariantId id : display_order(run)) {
    for (const Rate& r : run.rates) {
      if (r.variant != id) continue;
      Cell label = label_cell(run, id);
      if (const std::string text = all_settings.text(setting_of(r)); !text.empty()) label.detail = text;
      Cell test{r.test()};
      test.detail = r.taints;
      table.rows.push_back(
          {label, test, number_cell_with_error(r.avg_ts, r.stddev_ts, kOldRecord), seconds_cell(r.ttft_ms, kOldRecord),
           r.n_gen > 0 ? seconds_cell(r.ttlt_ms, kOldRecord) : kDoesNotApply, percent_cell(r.mbu, kOldRecord),
           std::isnan(r.mbu * r.read_gbs) ? Cell{"", true, kOldRecord}
                                          : Cell{format_number(r.mbu * r.read_gbs, 3) + " GB/s", true}});
    }
    if (!has_bench(run, id) && run.variants[id].gguf) {
      const std::string why = "run " + how_to_bench(run.variants[id], "-p 512 -n 128");
      std::vector<Cell> row = {label_cell(run, id)};
      for (size_t c = 1; c < table.columns.size(); ++c) row.push_back({"", c > 1, why});
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

Table energy_table(const Run& run) {
  Table table{
      "Energy",
      "Active: beyond what the machine takes when idle.",
      {"model", "test", "J/token", "tokens/J", "tokens/J, active", "power", "idle", "words per battery", "source"},
      {}};
  for (const VariantId id : display_order(run)) {
    for (const Rate& r : run.rates) {
      if (r.variant != id || (r.power_source.empty() && std::isnan(r.joules_per_token) && std::isnan(r.watts)))
        continue;
      const auto watts = [](double value, const std::string& why) {
        Cell cell = number_cell(value, why, 3);
        if (cell.missing.empty()) cell.text += " W";
        return cell;
      };
      const std::string why = no_energy(r), no_idle = "the idle machine was not measured";
      table.rows.push_back({label_cell(run, id),
                            {r.test()},
                            number_cell(r.joules_per_token, why),
                            number_cell(r.tokens_per_joule, why),
                            number_cell(r.active_tokens_per_joule, no_idle),
                            watts(r.watts, why),
                            watts(r.idle_watts, no_idle),
                            count_cell(r.words_per_battery, "bench was run without the battery's size"),
                            {r.power_source}});
    }
  }
  return table;
}

Table machines_table(const Run& run) {
  Table table{
      "Machines", "", {"processor", "instruction set", "threads", "reads", "multiplies", "program", "measured"}, {}};
  std::set<std::tuple<std::string, std::string, double, std::string>> seen;
  for (const Rate& r : run.rates) {
    const double n_threads = std::isnan(r.n_threads) ? 0 : r.n_threads;
    if (!seen.insert({r.cpu, r.isa, n_threads, r.build}).second) continue;
    table.rows.push_back(
        {{r.cpu.empty() ? "unknown" : r.cpu},
         {r.isa},
         {n_threads > 0 ? fmt::format("{:.0f}", n_threads) : "", true},
         std::isnan(r.read_gbs) ? Cell{"", true, kOldRecord} : Cell{format_number(r.read_gbs, 3) + " GB/s", true},
         std::isnan(r.int8_gmacs) ? Cell{"", true, kOldRecord} : Cell{format_number(r.int8_gmacs, 3) + " GMAC/s", true},
         {"shoehorn " + r.build},
         {r.time}});
  }
  return table;
}

}  // namespace shoehorn::report
