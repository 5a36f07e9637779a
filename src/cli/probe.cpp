#include "fit/probe.h"

#include <filesystem>
#include <memory>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string out, storage, name;
  std::vector<std::string> formats;
  int n_threads = 0;
  bool json = false;
};

Json json_of(const fit::Device& device) {
  Json formats = Json::object();
  for (const auto& [type, rates] : device.formats)
    formats[quant::format(type).name] = {{"read_gbs", rates.read / 1e9}, {"gmacs", rates.macs / 1e9}};
  Json out = {{"name", device.name},        {"about", device.about}, {"isa", device.isa},
              {"cores", device.cores},      {"ram", device.ram},     {"read_gbs", device.read / 1e9},
              {"gmacs", device.macs / 1e9}, {"formats", formats}};
  out["storage_mbs"] = device.storage > 0 ? Json(device.storage / 1e6) : Json();
  return out;
}

std::string table_of(const fit::Device& device) {
  std::vector<std::vector<std::string>> rows = {{"weights", "GB/s, one token", "GMAC/s, batch"}};
  for (const auto& [type, rates] : device.formats) {
    rows.push_back(
        {quant::format(type).name, fmt::format("{:.1f}", rates.read / 1e9), fmt::format("{:.0f}", rates.macs / 1e9)});
  }
  return format_table(rows);
}

Status probe(const Options& o) {
  fit::ProbeOptions options;
  options.n_threads = o.n_threads;
  for (const std::string& name : o.formats) {
    const quant::Format* format = quant::find_format(name);
    if (format == nullptr) return fail(ErrorCode::kInvalid, "--format {}: there is no such format", name);
    options.formats.push_back(format->type);
  }
  // The disk that the file goes to is the one that models will lie on, as good a guess as any.
  options.storage = o.storage;
  if (options.storage.empty())
    options.storage =
        o.out.empty() ? "." : std::filesystem::path(std::filesystem::absolute(o.out)).parent_path().string();
  const auto progress = make_progress();
  SHOEHORN_TRY(fit::Device device, fit::probe(options, *progress));
  if (!o.name.empty()) device.name = o.name;
  if (!o.out.empty()) SHOEHORN_RETURN_IF_ERROR(write_file(o.out, fit::to_toml(device)));
  if (o.json) {
    print_json(json_of(device));
    return {};
  }
  print(fmt::format(
      "{}\n{} kernels, {} threads, {} of memory, reads {:.1f} GB/s, multiplies {:.0f} GMAC/s, disk {:.0f} MB/s",
      device.about, device.isa, device.cores, format_bytes(device.ram), device.read / 1e9, device.macs / 1e9,
      device.storage / 1e6));
  print(table_of(device));
  if (o.out.empty()) remark("-o FILE keeps this for fit --device FILE");
  return {};
}

}  // namespace

std::function<Status()> define_probe(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("-o,--output", o->out, "Device file to write (TOML)");
  app.add_option("--name", o->name, "The device's name in it");
  app.add_option("-t,--threads", o->n_threads, "Threads (default: the CPUs this process may use)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--format", o->formats, "Measure only these formats of weights; repeatable");
  app.add_option("--storage", o->storage, "Folder on the disk to measure (default: the output's)");
  app.add_flag("--json", o->json, "Print the figures as one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn probe -o board.toml\n"
      "  shoehorn fit MODEL --device board.toml --plan\n\n"
      "Times products with every format of weights, attention and what lies between, with matrices of no meaning that "
      "no cache holds; a second\n"
      "or so per format. Nothing else should run meanwhile.");
  return [o] { return probe(*o); };
}

}  // namespace shoehorn::cli
