#include "cli/fit_results.h"

#include <algorithm>
#include <filesystem>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"
#include "fit/speed.h"
#include "fit/tokenizer_check.h"
#include "report/page.h"

namespace shoehorn::cli {
namespace {
namespace fs = std::filesystem;

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
/// Of the text that tokenizers are compared on.
constexpr size_t kCheckedBytes = size_t{1} << 20;

std::string error_text(double predicted, double measured) {
  return predicted > 0 && measured > 0 ? fmt::format("{:+.0f} %", 100 * (predicted / measured - 1)) : "";
}

struct Figures {
  std::vector<std::vector<std::string>> rows;
  Json json = Json::array();
};

Status add(const fit::Result& r, const fit::Needs& needs, const std::optional<fit::Device>& device, Figures& out) {
  const bool is_source = r.name == "source";
  std::vector<std::string> row = {r.name, format_bytes(r.bytes), fmt::format("{}", r.parameters),
                                  fmt::format("{:.3f}", 8.0 * static_cast<double>(r.bytes) /
                                                            static_cast<double>(std::max<uint64_t>(r.parameters, 1))),
                                  fmt::format("{:.3f} +/- {:.3f}", r.ppl, r.ppl_err)};
  Json json = {{"name", r.name}, {"path", r.path},       {"bytes", r.bytes},  {"parameters", r.parameters},
               {"ppl", r.ppl},   {"ppl_err", r.ppl_err}, {"tokens", r.tokens}};
  row.push_back(is_source ? "" : fmt::format("{:.5f} +/- {:.5f}", r.kl, r.kl_err));
  row.push_back(is_source ? "" : fmt::format("{:.2f} %", 100 * r.top1));
  if (!is_source) json.update({{"kld_mean", r.kl}, {"kld_err", r.kl_err}, {"top1", r.top1}});
  if (const auto need = std::ranges::find(needs.stages, r.name, &fit::StageNeed::name); need != needs.stages.end())
    json["predicted_bytes"] = need->output_bytes;
  if (!r.bench.empty()) {
    SHOEHORN_TRY(const Rates rates, rates_of(r, device));
    row.insert(row.end(), {seconds_text(rates.prompt_s), seconds_text(rates.ttlt_s),
                           fmt::format("{:.4g}", rates.tokens_per_s), fmt::format("{:.0f} %", 100 * rates.mbu),
                           format_bytes(rates.memory), error_text(rates.predicted_prompt_s, rates.prompt_s),
                           error_text(rates.predicted_tokens_per_s, rates.tokens_per_s)});
    json.update(json_of(rates, device.has_value()));
  }
  out.rows.push_back(std::move(row));
  out.json.push_back(std::move(json));
  return {};
}

}  // namespace

std::string seconds_text(double seconds) {
  return seconds < 90     ? fmt::format("{:.3g} s", seconds)
         : seconds < 5400 ? fmt::format("{:.1f} min", seconds / 60)
                          : fmt::format("{:.1f} h", seconds / 3600);
}

Expected<Rates> rates_of(const fit::Result& result, const std::optional<fit::Device>& device) {
  Rates out;
  size_t n_prompt = 0, n_gen = 0;
  for (const Json& test : result.bench) {
    const auto prompt = json_or(test, "n_prompt", uint64_t{0}), gen = json_or(test, "n_gen", uint64_t{0});
    if (gen == 0) {
      n_prompt = prompt;
      out.prompt_s = json_or(test, "ttft_ms", 0.0) / 1e3;
    }
    if (prompt == 0) {
      n_gen = gen;
      out.tokens_per_s = json_or(test, "avg_ts", 0.0);
      out.mbu = json_or(test, "mbu", 0.0);
    }
    if (prompt > 0 && gen > 0) out.ttlt_s = json_or(test, "ttlt_ms", 0.0) / 1e3;
    out.memory = std::max(out.memory, json_or(test, "peak_rss", uint64_t{0}));
  }
  if (!device) return out;
  NoProgress silent;
  SHOEHORN_TRY(const auto source, convert::ModelSource::open(result.path, silent));
  std::vector<quant::Type> types;
  for (const auto& tensor : source.tensors()) types.push_back(*tensor.type);
  const fit::Speed speed(*device, source, types);
  if (n_prompt > 0) out.predicted_prompt_s = speed.prompt_seconds(n_prompt);
  if (n_gen > 0) out.predicted_tokens_per_s = speed.tokens_per_second(0, n_gen);
  return out;
}

Json json_of(const Rates& rates, bool predicted) {
  return {{"ttft_s", rates.prompt_s},
          {"ttlt_s", rates.ttlt_s},
          {"tokens_per_second", rates.tokens_per_s},
          {"mbu", rates.mbu},
          {"peak_rss", rates.memory},
          {"predicted_ttft_s", predicted ? Json(rates.predicted_prompt_s) : Json()},
          {"predicted_tokens_per_second", predicted ? Json(rates.predicted_tokens_per_s) : Json()}};
}

Expected<std::string> write_page(const std::string& directory, Progress& progress) {
  const std::string page = directory + "/report.html";
  SHOEHORN_TRY(const auto run, report::read_run(directory, page, progress));
  SHOEHORN_RETURN_IF_ERROR(write_file(page, report::page(run)));
  return page;
}

Status conclude_run(const ConcludeOptions& o, const fit::Recipe& recipe, const fit::Needs& needs,
                    const std::vector<fit::Result>& results, const std::optional<fit::Device>& device) {
  Figures figures;
  figures.rows = {{"", "size", "parameters", "bits", "perplexity", "KL", "same top-1", "TTFT", "TTLT", "tokens/s",
                   "MBU", "memory", "TTFT predicted", "tokens/s predicted"}};
  SHOEHORN_TRY(std::string text, read_file(recipe.eval, kMaxTextBytes));
  // Whole lines, so that no character is cut.
  if (text.size() > kCheckedBytes) text.resize(std::min(text.size(), text.find('\n', kCheckedBytes)));
  std::string last;
  Json tokenizers = Json::object();
  for (const fit::Result& result : results) {
    SHOEHORN_RETURN_IF_ERROR(add(result, needs, device, figures));
    if (!result.is_gguf) continue;
    last = result.path;
    SHOEHORN_TRY(const auto check, fit::check_tokenizer(recipe.model, result.path, text));
    if (!check.same) {
      return fail(ErrorCode::kInvalid, "{}: its tokenizer reads {} otherwise than the model's, from token {} on",
                  result.path, recipe.eval, check.differs_at);
    }
    tokenizers[result.name] = {{"tokens", check.tokens}, {"same", check.same}, {"same_template", check.same_template}};
  }
  const Json document = {{"results", figures.json},
                         {"model", last},
                         {"tokenizer", tokenizers},
                         {"predicted_disk_bytes", needs.disk_bytes},
                         {"predicted_memory_bytes", needs.memory_bytes}};
  SHOEHORN_RETURN_IF_ERROR(write_file(o.directory + "/results.json", document.dump(2)));
  const auto progress = make_progress();
  SHOEHORN_TRY(const std::string page, write_page(o.directory, *progress));
  if (o.json) {
    print_json(document);
    return {};
  }
  print(format_table(figures.rows));
  print(
      fmt::format("{}: the page of this run. Perplexity and KL on {} predictions each.", page, results.front().tokens));
  if (!last.empty()) {
    print(fmt::format("The files' tokenizers read {} as the model's does.", recipe.eval));
    print(fmt::format("On the device: shoehorn run -m {}", fs::path(last).filename().string()));
  }
  return {};
}

}  // namespace shoehorn::cli
