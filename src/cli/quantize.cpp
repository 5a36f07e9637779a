#include <memory>

#include "cli/command.h"
#include "cli/write_model.h"

namespace shoehorn::cli {

std::function<Status()> define_quantize(CLI::App& app) {
  const auto o = std::make_shared<WriteOptions>();
  app.add_option("IN", o->in, "GGUF or checkpoint directory")->required();
  app.add_option("OUT", o->out, "GGUF to write")->required();
  app.add_option("TYPE", o->type, "Mix: " + mix_names())->required();
  app.add_option("--imatrix", o->imatrix, "Importance matrix (GGUF or .dat): errors count by what the columns do");
  app.add_option("--tensor-type", o->tensor_types, "REGEX=TYPE: tensors whose name matches get this type; repeatable, the last match wins");
  app.add_flag("--allow-requantize", o->allow_requantize, "Accept an IN that is already quantized; loses quality");
  app.add_option("-t,--threads", o->n_threads, "Threads (default: the CPUs this process may use)")->check(CLI::Range(1, 1024));
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn quantize Llama-3.2-1B model-Q4_K_M.gguf Q4_K_M\n"
             "  shoehorn quantize model-F16.gguf small.gguf Q3_K_M --tensor-type 'ffn_down=Q4_K'\n"
             "  shoehorn quantize model-F16.gguf small.gguf IQ4_XS --imatrix imatrix.gguf");
  return [o] { return write_model(*o); };
}

}  // namespace shoehorn::cli
