#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string model, cache;
  int n_parallel = 0;
  bool json = false;
};

Status pull(const Options& o) {
  SHOEHORN_TRY(const auto reference, hub::parse_reference(o.model));
  SHOEHORN_TRY(const hub::Pulled pulled, pull_model(reference, o.cache, o.n_parallel));
  if (o.json) {
    print_json({{"model", hub::to_string(reference)},
                {"path", pulled.path},
                {"commit", pulled.commit},
                {"files", pulled.n_files},
                {"bytes", pulled.bytes},
                {"fetched_bytes", pulled.fetched}});
    return {};
  }
  remark(fmt::format("{}: {} files, {}, {} of it new, commit {}{}", hub::to_string(reference), pulled.n_files,
                     format_bytes(pulled.bytes), format_bytes(pulled.fetched), pulled.commit,
                     pulled.asked ? "" : "; the hub was not asked"));
  print(pulled.path);
  return {};
}

}  // namespace

std::function<Status()> define_pull(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model,
                 "hf:OWNER/NAME[@REVISION][:FILE]; \"hf:\" may be left out. FILE: one file, or a type such as Q4_K_M")
      ->required();
  app.add_option("--cache-dir", o->cache,
                 "Folder of downloads (default: Hugging Face's own, ~/.cache/huggingface/hub)");
  app.add_option("-j,--jobs", o->n_parallel, "Files at once (default: 4)")->check(CLI::Range(1, 32));
  app.add_flag("--json", o->json, "Print path, commit and sizes as one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn pull hf:meta-llama/Llama-3.1-8B\n"
      "  shoehorn pull hf:Qwen/Qwen2.5-0.5B@main --json\n"
      "  shoehorn pull hf:OWNER/NAME-GGUF:Q4_K_M\n"
      "  shoehorn quantize hf:Qwen/Qwen2.5-0.5B qwen.gguf Q4_K_M\n\n"
      "Prints where the model lies. Other commands take hf:... wherever they take a model, and fetch it the same way. "
      "Config, tokenizer and one\n"
      "format of the weights are fetched, several files at once, each checked by its digest; after a kill or a lost "
      "connection the same command\n"
      "goes on. Files lie in Hugging Face's cache layout, which its own tools share.\n"
      "Environment: HF_TOKEN (for models that are not open), HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE=1.");
  return [o] { return pull(*o); };
}

}  // namespace shoehorn::cli
