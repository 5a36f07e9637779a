#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "convert/check.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string file;
  int n_threads = 0;
  bool json = false;
};

Status verify(const Options& o) {
  const auto progress = make_progress();
  const auto result = convert::check_model(o.file, o.n_threads, *progress);
  if (o.json) {
    Json json = {{"file", o.file}, {"ok", result.has_value()}};
    if (result) {
      json.update({{"architecture", result->architecture}, {"tensors", result->tensors}, {"bytes", result->bytes}});
    } else {
      json["reason"] = result.error().message;
    }
    print_json(json);
  }
  if (!result) return tl::unexpected<Error>(result.error());
  if (!o.json) {
    print(fmt::format("{}: good ({}, {} tensors, {} of weights, every value finite)", o.file, result->architecture,
                      result->tensors, format_bytes(result->bytes)));
  }
  return {};
}

}  // namespace

std::function<Status()> define_verify(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "FILE", o->file, "GGUF file or checkpoint directory")->required();
  app.add_option("-t,--threads", o->n_threads, "Threads (default: the CPUs this process may use)")->check(CLI::Range(1, 1024));
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Checks structure, bounds, types, shapes, tokenizer and that every weight is finite. Exit 1 and the reason when bad.\n"
             "Example: shoehorn verify model-Q4_K_M.gguf");
  return [o] { return verify(*o); };
}

}  // namespace shoehorn::cli
