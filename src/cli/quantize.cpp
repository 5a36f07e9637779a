#include <memory>

#include "cli/command.h"
#include "cli/workshop_flags.h"
#include "cli/write_model.h"
#include "compress/calibrate/gptq.h"

namespace shoehorn::cli {
namespace {

struct Options {
  WriteOptions write;
  std::string method = "rtn";
  compress::GptqOptions gptq;
};

#ifdef SHOEHORN_WORKSHOP
Status quantize_with_gptq(Options& o) {
  o.gptq.model = o.write.in;
  o.gptq.out = o.write.out;
  return write_model(o.write,
                     [&](const auto& output, Progress& progress) { return compress::gptq(o.gptq, output, progress); });
}
#else
Status quantize_with_gptq(Options&) { return hand_over_to_workshop(); }
#endif

Status run(Options& o) {
  if (o.method == "gptq") return quantize_with_gptq(o);
  if (!o.gptq.calib.empty())
    return fail(ErrorCode::kInvalid, "--calib is what --method gptq learns from; rtn takes none");
  return write_model(o.write);
}

}  // namespace

std::function<Status()> define_quantize(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  WriteOptions& w = o->write;
  compress::GptqOptions& g = o->gptq;
  app.add_option("IN", w.in, "Checkpoint directory, or (rtn) a GGUF")->required();
  app.add_option("OUT", w.out, "GGUF to write")->required();
  app.add_option("TYPE", w.type, "Mix: " + mix_names())->required();
  app.add_option("--method", o->method,
                 "rtn: every weight to the nearest value, with the best scales; gptq: the least error at each matrix's "
                 "output on --calib text, minutes to hours instead of seconds")
      ->check(CLI::IsMember({"rtn", "gptq"}))
      ->capture_default_str();
  app.add_option("--imatrix", w.imatrix, "Importance matrix (GGUF or .dat): errors count by what the columns do");
  app.add_option("--tensor-type", w.tensor_types,
                 "REGEX=TYPE: tensors whose name matches get this type; repeatable, the last match wins");
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
  add_workshop_flags(app, {&g.dtype, &g.device, &w.n_threads, &g.ram, &g.resume});
  app.add_flag("--json", w.json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn quantize Llama-3.2-1B model-Q4_K_M.gguf Q4_K_M\n"
      "  shoehorn quantize model-F16.gguf small.gguf IQ4_XS --imatrix imatrix.gguf\n"
      "  shoehorn quantize Llama-3.2-1B model-Q3_K_M.gguf Q3_K_M --method gptq --calib wiki.txt\n"
      "  shoehorn quantize model-F16.gguf small.gguf Q3_K_M --tensor-type 'ffn_down=Q4_K'\n"
      "An interrupted gptq goes on with --resume.");
  return [o] { return run(*o); };
}

}  // namespace shoehorn::cli
