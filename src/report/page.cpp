#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/memory.h"
#include "report/lineage.h"
#include "report/model_drawing.h"
#include "report/plots.h"
#include "report/style.h"
#include "report/tables.h"

namespace shoehorn::report {
namespace {

constexpr size_t kMaxDrawings = 24;
constexpr size_t kMaxRecipeChars = 20'000;

std::string bytes_text(double bytes) {
  return bytes >= 0 && bytes < 1e18 ? format_bytes(static_cast<uint64_t>(bytes)) : "unknown size";
}

/// The model that a variant was made of in the beginning.
VariantId origin(const Run& run, VariantId id) {
  int steps = 0;
  for (const Step* step = run.maker(id); step != nullptr && step->in != kNone && steps < 32;
       step = run.maker(id), ++steps)
    id = step->in;
  return id;
}

class Page {
 public:
  explicit Page(const Run& run) : run_(run), order_(display_order(run)) {}

  std::string html() {
    section("lineage", "Lineage", lineage_section());
    section("quality", "Quality", quality_section());
    section("size", "Size", size_section());
    section("speed", "Speed", speed_section());
    section("models", "Models, layer by layer", models_section());
    section("sensitivity", "Sensitivity", sensitivity_section());
    section("healing", "Learning", charts(loss_charts(run_)));
    section("recipe", "Recipe", recipe_section());
    section("machine", "Machine", table_or_nothing(machines_table(run_)));
    section("files", "Files", files_section());

    const std::string title = run_.name.empty() ? "Shoehorn report" : run_.name + ": Shoehorn report";
    Markup out;
    out.open("html", {{"lang", "en"}}).open("head");
    out.empty("meta", {{"charset", "utf-8"}});
    out.empty("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
    out.empty("meta", {{"name", "color-scheme"}, {"content", "light dark"}});
    out.element("title", title);
    out.open("style").verbatim(kStyle).close().close();
    out.open("body").element("a", "Skip to the content", {{"class", "skip"}, {"href", "#content"}});
    out.open("header").element("h1", title);
    out.element("p", headline(), {{"class", "soft"}});
    out.open("nav", {{"aria-label", "Sections"}}).open("ul");
    for (const Section& s : sections_) out.open("li").element("a", s.title, {{"href", "#" + s.id}}).close();
    out.close().close().close();
    out.open("main", {{"id", "content"}}).add(tiles());
    for (const Section& s : sections_) {
      out.open("section", {{"id", s.id}, {"aria-labelledby", s.id + "-title"}});
      out.element("h2", s.title, {{"id", s.id + "-title"}}).add(s.content).close();
    }
    out.close();
    out.element("footer",
                "Made by shoehorn report. “Not measured” is what no record in the directory tells; nothing here is "
                "estimated. Tables 1 to 6 are numbered as in the study that Shoehorn grew from.");
    out.close().close();
    return "<!DOCTYPE html>\n" + out.str() + "\n";
  }

 private:
  struct Section {
    std::string id, title;
    Markup content;
  };

  void section(const char* id, const char* title, Markup content) {
    if (!content.is_empty()) sections_.push_back({id, title, std::move(content)});
  }

  /// The smallest model of the directory.
  VariantId smallest() const {
    VariantId found = kNone;
    for (VariantId id = 0; id < run_.variants.size(); ++id) {
      const Variant& v = run_.variants[id];
      if (v.inside && v.bytes > 0 && (found == kNone || v.bytes < run_.variants[found].bytes)) found = id;
    }
    return found;
  }

  std::string headline() const {
    const size_t n = run_.variants.size(), bad = run_.n_bad();
    std::string text = fmt::format("{} model{}, {} measurement{} of quality, {} of speed.", n, n == 1 ? "" : "s",
                                   run_.qualities.size() + run_.scores.size(),
                                   run_.qualities.size() + run_.scores.size() == 1 ? "" : "s", run_.rates.size());
    if (bad > 0) text += fmt::format(" {} file{} could not be read: see Files.", bad, bad == 1 ? "" : "s");
    return text;
  }

  Markup tiles() const {
    Markup out;
    const auto tile = [&](const std::string& value, const std::string& text) {
      out.open("li").element("b", value).element("span", text).close();
    };
    const Variant* largest = nullptr;
    for (const Variant& v : run_.variants) {
      if (v.bytes > 0 && (largest == nullptr || v.bytes > largest->bytes)) largest = &v;
    }
    const VariantId smallest_id = smallest();
    if (smallest_id == kNone || largest == nullptr) return out;
    const Variant* smallest = &run_.variants[smallest_id];
    out.open("ul", {{"class", "tiles"}});
    tile(bytes_text(smallest->bytes),
         largest == smallest
             ? smallest->label
             : fmt::format("{}, the smallest: {:.1f} % of {} ({})", smallest->label,
                           100 * smallest->bytes / largest->bytes, bytes_text(largest->bytes), largest->label));
    const auto kl = std::ranges::find_if(run_.qualities,
                                         [&](const Quality& q) { return q.variant == smallest_id && q.kld_mean >= 0; });
    if (kl != run_.qualities.end()) {
      tile(format_number(kl->kld_mean, 3), fmt::format("KL divergence of {} from {}, nats a token", smallest->label,
                                                       kl->base == kNone ? "its base" : run_.variants[kl->base].label));
    }
    const Rate* fastest = nullptr;
    for (const Rate& r : run_.rates) {
      if (r.n_gen > 0 && r.n_prompt <= 0 && (fastest == nullptr || r.avg_ts > fastest->avg_ts)) fastest = &r;
    }
    if (fastest != nullptr)
      tile(format_number(fastest->avg_ts, 3) + " tokens/s",
           fmt::format("generated by {}, the fastest ({})", run_.variants[fastest->variant].label, fastest->test()));
    const Step* pruned = nullptr;
    for (const Step& step : run_.steps) {
      if (!std::isnan(step.parameters_after)) pruned = &step;
    }
    if (pruned != nullptr)
      tile(fmt::format("{:.2f} %", 100 * (1 - pruned->parameters_after / pruned->parameters_before)),
           "of the parameters were pruned");
    out.close();
    return out;
  }

  static Markup table_or_nothing(const Table& table) { return table.rows.empty() ? Markup() : table.draw(); }

  static Markup charts(const std::vector<Chart>& all) {
    Markup out;
    if (all.empty()) return out;
    out.open("div", {{"class", "grid"}});
    for (const Chart& chart : all) out.add(draw(chart));
    out.close();
    return out;
  }

  static Markup maps(const std::vector<HeatMap>& all) {
    Markup out;
    if (all.empty()) return out;
    out.open("div", {{"class", "grid"}});
    for (const HeatMap& map : all) out.add(draw(map));
    return std::move(out.close());
  }

  Markup lineage_section() const {
    Markup out;
    if (run_.variants.empty()) return out;
    out.element("p", "What was made of what, as the records in the directory tell.", {{"class", "soft"}});
    return out.add(lineage(run_));
  }

  Markup quality_section() const {
    Markup out = charts(quality_charts(run_));
    for (const Table& table : quality_tables(run_)) out.add(table_or_nothing(table));
    return out.add(table_or_nothing(checks_table(run_))).add(table_or_nothing(scores_table(run_)));
  }

  Markup size_section() const {
    return table_or_nothing(sizes_table(run_)).add(table_or_nothing(parameters_table(run_)));
  }

  Markup speed_section() const {
    Markup out = charts(rate_charts(run_));
    return out.add(table_or_nothing(response_table(run_)))
        .add(table_or_nothing(efficiency_table(run_)))
        .add(table_or_nothing(energy_table(run_)))
        .add(maps(profile_maps(run_)))
        .add(charts(time_charts(run_)));
  }

  Markup models_section() const {
    Markup out = table_or_nothing(types_table(run_));
    size_t drawn = 0;
    for (const VariantId id : order_) {
      const Variant& v = run_.variants[id];
      if (!v.layers) continue;
      if (drawn == kMaxDrawings) {
        out.element("p", fmt::format("Only the first {} models are drawn.", kMaxDrawings), {{"class", "soft"}});
        break;
      }
      const VariantId from = origin(run_, id);
      const ModelLayers* dense = from == id || !run_.variants[from].layers ? nullptr : &*run_.variants[from].layers;
      ++drawn;
      if (id == smallest()) {
        out.open("details", {{"open", "open"}});
      } else {
        out.open("details");
      }
      out.open("summary")
          .text(v.label + " ")
          .element("span", fmt::format("{}, {}, {} bits per weight", format_of(v), bytes_text(v.bytes),
                                       format_number(v.bits_per_weight, 4)))
          .close();
      out.open("div").open("div", {{"class", "grid"}});
      out.add(draw_widths(v.label, *v.layers, dense)).add(draw(type_map(v.label, *v.layers))).close();
      if (!v.facts.empty()) {
        out.open("dl");
        for (const auto& [key, value] : v.facts) out.element("dt", key).element("dd", value);
        out.close();
      }
      out.close().close();
    }
    return out;
  }

  Markup sensitivity_section() const { return maps(sensitivity_maps(run_)); }

  Markup recipe_section() const {
    Markup out;
    for (const auto& [file, text] : run_.recipes) {
      out.element("h3", file).open("pre").open("code").text(text, kMaxRecipeChars).close().close();
    }
    if (run_.steps.empty()) return out;
    Table table{"Steps",
                "As the commands recorded them.",
                {"step", "of", "to", "settings and results", "seconds", "peak memory", "record"},
                {}};
    for (const Step& step : run_.steps) {
      std::string facts;
      for (const auto& [name, value] : step.facts)
        facts += fmt::format("{}{}: {}", facts.empty() ? "" : "; ", name, value);
      const std::string why = "shoehorn.json does not have it; the command's --json output does";
      table.rows.push_back({{step.command},
                            step.in == kNone ? Cell{"not recorded"} : Cell{run_.variants[step.in].label},
                            step.out == kNone ? Cell{"not recorded"} : Cell{run_.variants[step.out].label},
                            {facts},
                            number_cell(step.seconds, why),
                            bytes_cell(step.peak_rss, why),
                            {step.file}});
    }
    return out.add(table.draw());
  }

  Markup files_section() const {
    Table table{"Files of the directory", "", {"file", "what it is"}, {}};
    Markup out;
    if (run_.files.empty()) {
      out.element("p", "The directory is empty.");
      return out;
    }
    const size_t bad = run_.n_bad();
    if (bad > 0) {
      out.element("p", fmt::format("{} of {} could not be read:", bad, run_.files.size()), {{"class", "bad"}});
      out.open("ul", {{"class", "bad"}});
      for (const RunFile& file : run_.files) {
        if (file.bad) out.open("li").element("b", file.path).text(": " + file.what).close();
      }
      out.close();
    }
    for (const RunFile& file : run_.files) {
      if (!file.bad) table.rows.push_back({{file.path}, {file.what}});
    }
    if (table.rows.size() <= 12) return out.add(table_or_nothing(table));
    out.open("details").element(
        "summary", fmt::format("The {} files of the directory, and what they were taken for", table.rows.size()));
    return std::move(out.open("div").add(table.draw()).close().close());
  }

  const Run& run_;
  std::vector<VariantId> order_;
  std::vector<Section> sections_;
};

/// null for what was not measured.
Json json_number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

std::string page(const Run& run) { return Page(run).html(); }

Json summary(const Run& run) {
  const auto label = [&](VariantId id) { return id == kNone ? Json(nullptr) : Json(run.variants[id].label); };
  Json all = Json::array();
  for (const VariantId id : display_order(run)) {
    const Variant& v = run.variants[id];
    const Step* step = run.maker(id);
    Json perplexity = Json::array(), bench = Json::array(), scores = Json::array();
    for (const Quality& q : run.qualities) {
      if (q.variant != id) continue;
      perplexity.push_back({{"text", q.text},
                            {"n_ctx", json_number(q.n_ctx)},
                            {"tokens", json_number(q.tokens)},
                            {"ppl", json_number(q.ppl)},
                            {"ppl_err", json_number(q.ppl_err)},
                            {"base", label(q.base)},
                            {"kld_mean", json_number(q.kld_mean)},
                            {"kld_err", json_number(q.kld_err)},
                            {"kld_p99", json_number(q.kld_p99)},
                            {"top1", json_number(q.top1)},
                            {"record", q.file}});
    }
    for (const Rate& r : run.rates) {
      if (r.variant != id) continue;
      bench.push_back({{"test", r.test()},
                       {"cpu", r.cpu},
                       {"n_threads", json_number(r.n_threads)},
                       {"avg_ts", json_number(r.avg_ts)},
                       {"stddev_ts", json_number(r.stddev_ts)},
                       {"ttft_ms", json_number(r.ttft_ms)},
                       {"ttlt_ms", json_number(r.ttlt_ms)},
                       {"mbu", json_number(r.mbu)},
                       {"peak_rss", json_number(r.peak_rss)},
                       {"answer_ts", json_number(r.answer_ts)},
                       {"joules_per_token", json_number(r.joules_per_token)},
                       {"record", r.file}});
    }
    for (const Score& s : run.scores) {
      if (s.variant != id) continue;
      scores.push_back({{"task", s.task},
                        {"metric", s.metric},
                        {"value", json_number(s.value)},
                        {"low", json_number(s.low)},
                        {"high", json_number(s.high)},
                        {"items", json_number(s.items)},
                        {"compared_with", label(s.compared)},
                        {"difference", json_number(s.difference)},
                        {"p", json_number(s.p)},
                        {"record", s.file}});
    }
    all.push_back({{"name", v.label},
                   {"path", v.path},
                   {"in_directory", v.inside},
                   {"format", format_of(v)},
                   {"bytes", json_number(v.bytes)},
                   {"parameters", json_number(v.parameters)},
                   {"bits_per_weight", json_number(v.bits_per_weight)},
                   {"made_by", step == nullptr ? Json(nullptr) : Json(step->command)},
                   {"from", step == nullptr ? Json(nullptr) : label(step->in)},
                   {"perplexity", std::move(perplexity)},
                   {"bench", std::move(bench)},
                   {"scores", std::move(scores)}});
  }
  Json files = Json::array(), problems = Json::array();
  for (const RunFile& file : run.files) {
    (file.bad ? problems : files).push_back({{"path", file.path}, {file.bad ? "reason" : "what", file.what}});
  }
  return {{"directory", run.directory},
          {"models", std::move(all)},
          {"files", std::move(files)},
          {"problems", std::move(problems)}};
}

}  // namespace shoehorn::report
