#include "cli/write_model.h"

#include <filesystem>

#include "base/memory.h"
#include "cli/command.h"

namespace shoehorn::cli {
namespace {

Expected<std::vector<convert::TypeOverride>> parse_overrides(const std::vector<std::string>& texts) {
  std::vector<convert::TypeOverride> overrides;
  for (const std::string& text : texts) {
    const size_t equals = text.rfind('=');
    const quant::Format* format = equals == std::string::npos ? nullptr : quant::find_format(text.substr(equals + 1));
    if (format == nullptr) {
      return fail(ErrorCode::kInvalid, "--tensor-type {}: expected REGEX=TYPE with a type such as Q4_K", text);
    }
    overrides.push_back({text.substr(0, equals), format->type});
  }
  return overrides;
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

}  // namespace

std::string mix_names() {
  std::string names;
  for (const quant::Mix& mix : quant::mixes()) names += (names.empty() ? "" : ", ") + std::string(mix.name);
  return names;
}

Status write_model(const WriteOptions& o, const ModelWriter& writer) {
  if (same_file(o.in, o.out)) return fail(ErrorCode::kInvalid, "{}: input and output are the same file", o.out);
  convert::OutputOptions options;
  options.mix = quant::find_mix(o.type);
  if (options.mix == nullptr) return fail(ErrorCode::kInvalid, "unknown type {}; there are {}", o.type, mix_names());
  SHOEHORN_TRY(options.overrides, parse_overrides(o.tensor_types));
  options.allow_requantize = o.allow_requantize;
  options.n_threads = o.n_threads;
  io::Imatrix imatrix;
  if (!o.imatrix.empty()) {
    SHOEHORN_TRY(imatrix, io::read_imatrix(o.imatrix));
    options.imatrix = &imatrix;
    options.imatrix_path = o.imatrix;
  }

  const auto progress = make_progress();
  const auto stream = [&](const convert::OutputOptions& output, Progress& p) -> Expected<convert::OutputReport> {
    SHOEHORN_TRY(const auto source, convert::ModelSource::open(o.in, p));
    return convert::write_gguf(source, o.out, output, p);
  };
  SHOEHORN_TRY(const auto report, writer ? writer(options, *progress) : stream(options, *progress));
  const double mb_per_second = 1e-6 * static_cast<double>(report.input_bytes) / report.seconds;
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
    print_json({{"in", o.in},
                {"out", o.out},
                {"type", std::string(options.mix->name)},
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
                {"tensors", std::move(tensors)}});
    return {};
  }
  print(fmt::format("{}: {} as {}, {} parameters, {} ({:.3f} bits per weight), {:.1f} s, peak memory {}", o.out,
                    report.architecture, options.mix->name, report.parameters, format_bytes(report.file_bytes),
                    report.bits_per_weight, report.seconds, format_bytes(peak_resident_bytes())));
  return {};
}

}  // namespace shoehorn::cli
