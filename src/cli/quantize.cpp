#include <memory>

#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/size_option.h"
#include "cli/workshop_flags.h"
#include "cli/write_model.h"
#include "compress/calibrate/calibrated.h"

namespace shoehorn::cli {
namespace {

struct Options {
  WriteOptions write;
  compress::CalibratedOptions calibrated;
};

#ifdef SHOEHORN_WORKSHOP
Status quantize_calibrated(Options& o) {
  o.calibrated.model = o.write.in;
  o.calibrated.out = o.write.out;
  return write_model(o.write, {.write = [&](const auto& output, Progress& progress) {
                                 return compress::quantize_calibrated(o.calibrated, output, progress);
                               },
                               .estimate = [&](const auto& output, Progress& progress) {
                                 return compress::estimate_calibrated(o.calibrated, output, progress);
                               }});
}
#else
Status quantize_calibrated(Options&) { return hand_over_to_workshop(); }
#endif

Status run(Options& o) {
  const compress::CalibratedOptions& c = o.calibrated;
  const bool targeted = c.target_bytes > 0 || c.target_bpw > 0, calibrated = c.method != "rtn" || !c.calib.empty();
  o.write.choose_types = targeted;
  return calibrated || targeted ? quantize_calibrated(o) : write_model(o.write, streaming_writer(o.write));
}

}  // namespace

std::function<Status()> define_quantize(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  WriteOptions& w = o->write;
  compress::CalibratedOptions& g = o->calibrated;
  add_model_option(app, "IN", w.in, "Checkpoint directory or GGUF")->required();
  app.add_option("OUT", w.out, "GGUF to write")->required();
  app.add_option("TYPE", w.type, "Mix: " + mix_names() + "; with a target also auto")->required();
  g.method = "rtn";
  w.check = true;
  app.add_option("--method", g.method,
                 "rtn: every weight to the nearest value, with the best scales; gptq: the least error at each matrix's "
                 "output on --calib text, minutes to hours instead of seconds; awq: rtn after columns with large inputs "
                 "on that text were scaled up")
      ->check(CLI::IsMember({"rtn", "awq", "gptq"}))
      ->capture_default_str();
  app.add_option("--imatrix", w.imatrix, "Importance matrix (GGUF or .dat): errors count by what the columns do");
  app.add_option("--tensor-type", w.tensor_types,
                 "REGEX=TYPE: tensors whose name matches get this type; repeatable, the last match wins");
  add_size_option(app, "--target-size", g.target_bytes,
                  "Size of the file, as 3.3G or 600M: each tensor gets the type that is best for the model's KL "
                  "divergence on --calib text; TYPE is where the search begins");
  app.add_option("--target-bpw", g.target_bpw, "The same as bits per weight")
      ->check(CLI::Range(1.0, 32.0))
      ->excludes("--target-size");
  app.add_option("--rounds", g.rounds, "Choices of types that are tried, each by what was measured on the one before")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_flag("--allow-requantize", w.allow_requantize, "Accept an IN that is already quantized; loses quality");
  add_calibration_flags(app, {&g.calib, &g.samples, &g.seq_len, &g.seed});
  app.add_option("--damping", g.damping, "gptq: ridge, as a share of the mean of the inputs' squares")
      ->check(CLI::Range(1e-9, 1e3))
      ->capture_default_str();
  app.add_option("--sweeps", g.sweeps, "gptq: rounds of improving codes and scales one by one, at most")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  app.add_option("--micro-batch", g.micro_batch, "gptq: samples computed at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  add_workshop_flags(app, {&g.dtype, &g.device, &w.n_threads, &g.ram, &g.resume, &w.estimate});
  app.add_flag("!--no-check", w.check,
               "Do not run the output beside IN on a slice of text, which tells how far it is from it, nor have it say a sentence")
      ->capture_default_str();
  app.add_option("--check-file", w.check_text, "Text for this (default: some pages of a novel that come with the program)");
  app.add_flag("--json", w.json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn quantize Llama-3.2-1B model-Q4_K_M.gguf Q4_K_M\n"
      "  shoehorn quantize model-F16.gguf small.gguf IQ4_XS --imatrix imatrix.gguf\n"
      "  shoehorn quantize Llama-3.2-1B model-Q3_K_M.gguf Q3_K_M --method gptq --calib wiki.txt\n"
      "  shoehorn quantize model-F16.gguf small.gguf Q3_K_M --tensor-type 'ffn_down=Q4_K'\n"
      "  shoehorn quantize Llama-3.1-8B small.gguf auto --target-size 3.3G --method gptq --calib wiki.txt\n"
      "What learns from --calib text goes on with --resume when it was interrupted. Tensors are the same bytes on every machine; --no-check\n"
      "leaves out the measured figures, which are not.");
  return [o] { return run(*o); };
}

}  // namespace shoehorn::cli
