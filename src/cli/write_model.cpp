#include "cli/write_model.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/output_check.h"

namespace shoehorn::cli {
namespace {

/// A row per block, a column per matrix of a block; what belongs to no block in front.
std::string table_of_types(const convert::OutputReport& report) {
  std::vector<std::string> columns;
  std::map<int, std::map<std::string, std::string>> blocks;
  std::string text;
  for (const convert::OutputTensor& tensor : report.tensors) {
    if (tensor.shape.size() < 2) continue;
    const std::string type = quant::format(tensor.to).name;
    std::string name = tensor.name;
    if (name.ends_with(".weight")) name.resize(name.size() - 7);
    int block = -1, length = 0;
    if (std::sscanf(name.c_str(), "blk.%d.%n", &block, &length) != 1 || length == 0) {
      text += fmt::format("{}: {}\n", name, type);
      continue;
    }
    name.erase(0, static_cast<size_t>(length));
    if (std::ranges::find(columns, name) == columns.end()) columns.push_back(name);
    blocks[block][name] = type;
  }
  std::vector<std::vector<std::string>> rows = {{"block"}};
  rows.front().insert(rows.front().end(), columns.begin(), columns.end());
  for (auto& [block, types] : blocks) {
    rows.push_back({std::to_string(block)});
    for (const std::string& column : columns) rows.back().push_back(types[column]);
  }
  return text + format_table(rows);
}

}  // namespace

std::string mix_names() {
  std::string names;
  for (const quant::Mix& mix : quant::mixes()) names += (names.empty() ? "" : ", ") + std::string(mix.name);
  return names;
}

ModelWriter streaming_writer(const WriteOptions& o) {
  const auto write = [&o](const convert::OutputOptions& output, Progress& progress) -> Expected<convert::OutputReport> {
    SHOEHORN_TRY(const auto source, convert::ModelSource::open(o.in, progress));
    return convert::write_gguf(source, o.out, output, progress);
  };
  const auto estimate = [&o](const convert::OutputOptions& output, Progress& progress) -> Expected<Json> {
    SHOEHORN_TRY(const auto source, convert::ModelSource::open(o.in, progress));
    SHOEHORN_TRY(const auto types, convert::choose_output_types(source, output));
    SHOEHORN_TRY(const uint64_t bytes, convert::output_file_bytes(source, types, output));
    return Json{{"memory_bytes", convert::kStreamingBytes}, {"output_bytes", bytes}, {"working_bytes", 0}};
  };
  return {write, estimate};
}

Status write_model(const WriteOptions& o, const ModelWriter& writer) {
  SHOEHORN_RETURN_IF_ERROR(refuse_same_file(o.in, o.out));
  convert::OutputOptions options;
  options.mix = quant::find_mix(o.type);
  if (options.mix == nullptr && !(o.choose_types && o.type == "auto"))
    return fail(ErrorCode::kInvalid, "unknown type {}; there are {}", o.type, mix_names());
  for (const std::string& text : o.tensor_types) {
    SHOEHORN_TRY(auto parsed, convert::parse_type_override(text));
    options.overrides.push_back(std::move(parsed));
  }
  options.allow_requantize = o.allow_requantize;
  options.n_threads = o.n_threads;
  io::Imatrix imatrix;
  if (!o.imatrix.empty()) {
    SHOEHORN_TRY(imatrix, io::read_imatrix(o.imatrix));
    options.imatrix = &imatrix;
    options.imatrix_path = o.imatrix;
  }

  const auto progress = make_progress();
  OutputCheck check(o.in, o.check_text, o.n_threads);
  if (o.check) {
    options.remarks = check.unmeasured();
    options.check = [&](const std::string& path) { return check.run(path, *progress); };
  }
  if (o.estimate) {
    SHOEHORN_TRY(const Json estimate, writer.estimate(options, *progress));
    print_json(estimate);
    return {};
  }
  SHOEHORN_TRY(const auto report, writer.write(options, *progress));
  const double mb_per_second = 1e-6 * static_cast<double>(report.input_bytes) / report.write_seconds;
  remark(fmt::format("read {} at {:.1f} MB/s", format_bytes(report.input_bytes), mb_per_second));
  if (o.json) {
    Json tensors = Json::array();
    for (const auto& tensor : report.tensors) {
      tensors.push_back({{"name", tensor.name},
                         {"shape", tensor.shape},
                         {"from", tensor.from},
                         {"to", quant::format(tensor.to).name},
                         {"bytes", tensor.bytes}});
    }
    Json used;
    if (options.imatrix != nullptr) {
      used = {{"file", o.imatrix}, {"entries", imatrix.entries.size()}, {"chunks", imatrix.chunk_count}, {"datasets", imatrix.datasets}};
    }
    Json sensitivity;
    if (report.costs) sensitivity = {{"kld_mean", report.costs->kl}, {"tokens", report.costs->tokens}, {"costs", report.costs->of}};
    print_json({{"in", o.in},
                {"out", o.out},
                {"type", std::string(report.mix->name)},
                {"imatrix", std::move(used)},
                {"architecture", report.architecture},
                {"parameters", report.parameters},
                {"tensor_bytes", report.tensor_bytes},
                {"file_bytes", report.file_bytes},
                {"bits_per_weight", report.bits_per_weight},
                {"input_bytes", report.input_bytes},
                {"mb_per_second", mb_per_second},
                {"seconds", report.seconds},
                {"peak_rss", peak_resident_bytes()},
                {"check", check.json()},
                {"sensitivity", std::move(sensitivity)},
                {"tensors", std::move(tensors)}});
    return {};
  }
  if (o.choose_types) print(table_of_types(report));
  print(fmt::format("{}: {} as {}, {} parameters, {} ({:.3f} bits per weight), {:.1f} s, peak memory {}", o.out,
                    report.architecture, report.mix->name, report.parameters, format_bytes(report.file_bytes),
                    report.bits_per_weight, report.seconds, format_bytes(peak_resident_bytes())));
  if (const std::string summary = check.summary(); !summary.empty()) print(summary);
  return {};
}

}  // namespace shoehorn::cli
