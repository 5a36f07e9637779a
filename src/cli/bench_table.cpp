#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>

#include "base/memory.h"
#include "cli/bench_report.h"
#include "cli/command.h"

namespace shoehorn::cli {
namespace {

struct Column {
  std::string title;
  bool right;
};

/// Columns of text, not bytes: what follows the first byte of a UTF-8 sequence takes none.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string markdown(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
  const auto padded = [](const std::string& text, size_t width, bool right) {
    const std::string space(width - width_of(text), ' ');
    return right ? space + text : text + space;
  };
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns.size(); ++c) {
    size_t width = std::max<size_t>(2, width_of(columns[c].title));
    for (const auto& row : rows) width = std::max(width, width_of(row[c]));
    widths.push_back(width);
  }
  std::string text = "|", rule = "\n|";
  for (size_t c = 0; c < columns.size(); ++c) {
    text += " " + padded(columns[c].title, widths[c], columns[c].right) + " |";
    rule += fmt::format(" {:-<{}}{} |", "", widths[c] - 1, columns[c].right ? ":" : "-");
  }
  text += rule;
  for (const auto& row : rows) {
    text += "\n|";
    for (size_t c = 0; c < columns.size(); ++c) text += " " + padded(row[c], widths[c], columns[c].right) + " |";
  }
  return text;
}

/// llama-bench's columns, then ours.
std::string tests_table(const BenchReport& report) {
  struct Cell {
    Column column;
    std::function<std::string(const BenchRow&)> text;
  };
  std::vector<Cell> cells;
  const auto add = [&](const char* title, bool right, std::function<std::string(const BenchRow&)> text) {
    cells.push_back({{title, right}, std::move(text)});
  };
  const auto any = [&](auto predicate) { return std::ranges::any_of(report.rows, predicate); };
  const auto percent = [](double share) { return fmt::format("{:.0f} %", 100 * share); };

  add("model", false, [&](const BenchRow&) { return report.model_type; });
  add("size", true, [&](const BenchRow&) { return format_bytes(report.model_bytes); });
  add("isa", false, [&](const BenchRow&) { return report.isa; });
  add("threads", true, [](const BenchRow& r) { return fmt::format("{}", r.setting.n_threads); });
  if (report.show_batch) add("n_batch", true, [](const BenchRow& r) { return fmt::format("{}", r.setting.n_batch); });
  if (report.show_ubatch)
    add("n_ubatch", true, [](const BenchRow& r) { return fmt::format("{}", r.setting.n_ubatch); });
  if (report.show_type_k) add("type_k", false, [](const BenchRow& r) { return r.setting.type_k; });
  if (report.show_type_v) add("type_v", false, [](const BenchRow& r) { return r.setting.type_v; });
  add("test", true, [](const BenchRow& r) { return r.result.test.name(); });
  add("t/s", true,
      [](const BenchRow& r) { return fmt::format("{:.2f} ± {:.2f}", r.result.avg_ts, r.result.stddev_ts); });
  add("ttft ms", true, [](const BenchRow& r) { return fmt::format("{:.1f}", r.result.ttft_ms); });
  add("ttlt ms", true, [](const BenchRow& r) { return fmt::format("{:.1f}", r.result.ttlt_ms); });
  if (any([](const BenchRow& r) { return r.result.answer_ts() > 0; })) {
    add("answer t/s", true,
        [](const BenchRow& r) { return r.result.answer_ts() > 0 ? fmt::format("{:.2f}", r.result.answer_ts()) : ""; });
  }
  add("kv", true, [](const BenchRow& r) { return format_bytes(r.result.kv_bytes); });
  add("mbu", true, [&](const BenchRow& r) { return percent(r.result.mbu(r.ceilings.read_bytes)); });
  if (report.peak_gbs > 0)
    add("mbu peak", true, [&](const BenchRow& r) { return percent(r.result.mbu(report.peak_gbs * 1e9)); });
  if (any([](const BenchRow& r) { return r.energy.joules.has_value(); })) {
    const auto number = [](const std::optional<double>& value) {
      return value ? fmt::format("{:.3g}", *value) : std::string("n/a");
    };
    add("W", true, [=](const BenchRow& r) { return number(r.energy.watts); });
    add("J/token", true, [=](const BenchRow& r) { return number(r.energy.joules_per_token); });
    add("tokens/J", true, [=](const BenchRow& r) { return number(r.energy.tokens_per_joule); });
    if (any([](const BenchRow& r) { return r.energy.active_tokens_per_joule.has_value(); }))
      add("active tokens/J", true, [=](const BenchRow& r) { return number(r.energy.active_tokens_per_joule); });
    if (report.battery_wh > 0) {
      add("words/battery", true, [](const BenchRow& r) {
        return r.energy.words_per_battery ? fmt::format("{:.0f}", *r.energy.words_per_battery) : std::string("n/a");
      });
    }
  }
  if (any([](const BenchRow& r) { return r.n_tainted() > 0; })) {
    add("tainted", true,
        [](const BenchRow& r) { return fmt::format("{}/{}", r.n_tainted(), r.result.conditions.size()); });
  }

  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows(report.rows.size());
  for (const Cell& cell : cells) {
    columns.push_back(cell.column);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].push_back(cell.text(report.rows[i]));
  }
  return markdown(columns, rows);
}

/// Where the time of a repetition went. Bytes and products are compared with what the machine can do at most.
std::string profile_table(const BenchRow& row) {
  double total = 0;
  for (const eval::ProfileEntry& entry : row.result.profile) total += entry.seconds;
  const auto rate = [](uint64_t amount, double seconds) { return static_cast<double>(amount) / seconds; };
  std::vector<std::vector<std::string>> rows;
  for (const eval::ProfileEntry& entry : row.result.profile) {
    std::vector<std::string> cells = {eval::step_name(entry.step), fmt::format("{}", entry.calls),
                                      fmt::format("{:.2f}", entry.seconds * 1e3),
                                      fmt::format("{:.1f} %", 100 * entry.seconds / total)};
    const double bytes = rate(entry.bytes, entry.seconds), macs = rate(entry.macs, entry.seconds);
    cells.push_back(entry.bytes > 0 ? fmt::format("{:.2f}", bytes * 1e-9) : "");
    cells.push_back(entry.bytes > 0 ? fmt::format("{:.0f} %", 100 * bytes / row.ceilings.read_bytes) : "");
    cells.push_back(entry.macs > 0 ? fmt::format("{:.1f}", macs * 1e-9) : "");
    cells.push_back(entry.macs > 0 ? fmt::format("{:.0f} %", 100 * macs / row.ceilings.macs) : "");
    rows.push_back(std::move(cells));
  }
  rows.push_back({"all", "", fmt::format("{:.2f}", total * 1e3), "", "", "", "", ""});
  return markdown({{row.result.test.name() + fmt::format(", {} threads", row.setting.n_threads), false},
                   {"calls", true},
                   {"ms", true},
                   {"share", true},
                   {"GB/s", true},
                   {"of read", true},
                   {"GMAC/s", true},
                   {"of int8", true}},
                  rows);
}

std::string energy_line(const BenchReport& report) {
  if (report.power_source.empty()) {
    return "energy unavailable: " + (report.power_trouble.empty()
                                         ? std::string("no power source was found (--power-csv takes a meter's log)")
                                         : report.power_trouble);
  }
  std::string line = fmt::format("energy by {}: {}", report.power_source, report.power_measures);
  const auto idle =
      std::ranges::find_if(report.rows, [](const BenchRow& row) { return row.energy.idle_watts.has_value(); });
  if (idle != report.rows.end()) line += fmt::format("; idle {:.3g} W", *idle->energy.idle_watts);
  if (report.battery_wh > 0)
    line += fmt::format("; a battery of {} Wh at {:.3f} words per token", report.battery_wh, report.words_per_token);
  if (!report.power_trouble.empty()) line += "; " + report.power_trouble;
  return line;
}

}  // namespace

void print_bench_table(const BenchReport& report) {
  print(tests_table(report));
  for (const BenchRow& row : report.rows) {
    if (!row.result.profile.empty()) print("\n" + profile_table(row));
  }
  std::map<std::string, eval::Ceilings> ceilings;
  std::vector<std::string> hashes;
  uint64_t peak = 0;
  for (const BenchRow& row : report.rows) {
    ceilings[fmt::format("{} thread{}", row.setting.n_threads, row.setting.n_threads == 1 ? "" : "s")] = row.ceilings;
    const std::string hash = fmt::format("{:016x}", row.logits_hash);
    if (std::ranges::find(hashes, hash) == hashes.end()) hashes.push_back(hash);
    peak = std::max(peak, row.result.peak_rss);
  }
  print(fmt::format("\nlogits hash {}", fmt::join(hashes, " ")));
  std::vector<std::string> can;
  for (const auto& [threads, most] : ceilings) {
    can.push_back(fmt::format("with {} reads {:.1f} GB/s, multiplies {:.0f} GMAC/s", threads, most.read_bytes * 1e-9,
                              most.macs * 1e-9));
  }
  print(fmt::format("{} {}; peak memory {}; shoehorn {}", eval::cpu_name(), fmt::join(can, ", "), format_bytes(peak),
                    SHOEHORN_VERSION));
  print(
      fmt::format("{} of weights per generated token; load {:.0f} ms, to the first token {:.0f} ms ({}: {:.0f} % of "
                  "the file in the page cache)",
                  format_bytes(report.rows.front().result.weight_bytes), report.load.open_ms,
                  report.load.first_token_ms, report.load.state(), 100 * report.load.cached));
  print(energy_line(report));
  for (const BenchRow& row : report.rows) {
    if (!row.energy.trouble.empty()) print(fmt::format("{}: {}", row.result.test.name(), row.energy.trouble));
    if (row.n_tainted() > 0) {
      print(fmt::format("tainted: {} in {} of {} repetitions: {}", row.result.test.name(), row.n_tainted(),
                        row.result.conditions.size(), fmt::join(row.taints(), "; ")));
    }
  }
}

}  // namespace shoehorn::cli
