#include "cli/workshop_flags.h"

#include <charconv>
#include <cmath>

namespace shoehorn::cli {

void add_calibration_flags(CLI::App& app, CalibrationFlags flags) {
  app.add_option("--calib", *flags.file, "Text to learn from: a text file, or .jsonl with \"text\" in each line");
  app.add_option("--samples", *flags.samples, "Sequences of it (default: the method's)")->check(CLI::Range(1, 1 << 24));
  app.add_option("--seq-len", *flags.seq_len, "Tokens in each (default: the method's)")->check(CLI::Range(2, 1 << 20));
  app.add_option("-s,--seed", *flags.seed, "Which sequences")->capture_default_str();
}

void add_workshop_flags(CLI::App& app, WorkshopFlags flags, const char* compute_dtype) {
  app.add_option(compute_dtype, *flags.dtype, "What blocks are computed in: auto, bf16 or f32 (auto: bf16 where the CPU is fast at it)")
      ->check(CLI::IsMember({"auto", "bf16", "f32"}))->capture_default_str();
  app.add_option("--device", *flags.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("-t,--threads", *flags.n_threads, "Threads (default: the CPUs this process may use)")->check(CLI::Range(1, 1024));
  app.add_option_function<std::string>("--ram", [ram = flags.ram](const std::string& text) {
    const auto bytes = parse_size(text);
    if (!bytes) throw CLI::ValidationError("--ram", bytes.error().message);
    *ram = *bytes;
  }, "Memory to stay within, as 6G or 600M; activations beyond it go to disk (default: what is free)");
  app.add_option("--recipe")->description("TOML file whose table of this command's name gives options that the command line does not");
  app.add_flag("--resume", *flags.resume, "Go on where an interrupted run with the same options stopped");
}

Status parse_layers(const std::string& text, int& first, int& last) {
  if (text.empty()) return {};
  const size_t dash = text.find('-');
  const auto number = [](std::string_view part, int& out) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), out);
    return error == std::errc() && end == part.data() + part.size() && out >= 0;
  };
  const std::string_view view = text;
  const bool ok = number(view.substr(0, dash), first) && number(dash == std::string::npos ? view : view.substr(dash + 1), last);
  if (!ok || first > last) return fail(ErrorCode::kInvalid, "--layers {}: expected a range such as 4-27", text);
  return {};
}

Expected<uint64_t> parse_size(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  double factor = 0;
  if (unit.empty()) factor = 1;
  for (const auto& [name, bytes] : {std::pair<std::string_view, double>{"K", 1024.0}, {"M", 1048576.0}, {"G", 1073741824.0}, {"T", 1099511627776.0}}) {
    if (unit == name) factor = bytes;
  }
  if (error != std::errc() || factor == 0 || !(value > 0) || value * factor > 1e18) {
    return fail(ErrorCode::kInvalid, "\"{}\" is no size; write 3.3G (GiB), 600M or a number of bytes", text);
  }
  return static_cast<uint64_t>(std::llround(value * factor));
}

}  // namespace shoehorn::cli
