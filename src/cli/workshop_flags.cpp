#include "cli/workshop_flags.h"

#include <charconv>

#include "cli/size_option.h"

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
  add_size_option(app, "--ram", *flags.ram, "Memory to stay within, as 6G or 600M; activations beyond it go to disk (default: what is free)");
  app.add_option("--recipe")->description("TOML file whose table of this command's name gives options that the command line does not");
  app.add_flag("--estimate", *flags.estimate, "Only say what it would take, as one JSON object: memory, disk, time");
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

}  // namespace shoehorn::cli
