#include <memory>

#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/write_model.h"

namespace shoehorn::cli {
std::function<Status()> define_convert(CLI::App& app) {
  const auto o = std::make_shared<WriteOptions>();
  o->type = "f16";
  add_model_option(app, "MODEL", o->in, "Checkpoint directory (config.json, weights, tokenizer)")->required();
  app.add_option("OUT", o->out, "GGUF to write")->required();
  app.add_option("--type,--outtype", o->type, "Type of the matrices")
      ->check(CLI::IsMember({"f16", "bf16", "f32"}, CLI::ignore_case))
      ->capture_default_str();
  app.add_option("-t,--threads", o->n_threads, "Threads (default: the CPUs this process may use)")->check(CLI::Range(1, 1024));
  app.add_flag("--estimate", o->estimate, "Only say what it would take, as one JSON object: memory, disk");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Example: shoehorn convert Llama-3.2-1B model-F16.gguf --type bf16");
  return [o] { return write_model(*o, streaming_writer(*o)); };
}

}  // namespace shoehorn::cli
