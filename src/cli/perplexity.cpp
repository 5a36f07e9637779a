#include "eval/perplexity.h"

#include <memory>
#include <optional>

#include "base/output_file.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/session_flags.h"
#include "cli/size_option.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

struct Options {
  SessionFlags session;
  eval::PerplexityOptions measure;
  std::string text_path, kl_base;
  int activation_bits = 0;
  bool json = false;
};

Status perplexity(const Options& o) {
  SHOEHORN_TRY(const std::string text, read_file(o.text_path, kMaxTextBytes));
  SHOEHORN_TRY(auto session, o.session.open());
  session.round_activations(o.activation_bits);
  std::optional<engine::Session> base;
  if (!o.kl_base.empty()) {
    // What is measured is compared with the base as it is: its keys and values are kept as F16.
    SessionFlags plain = o.session;
    plain.cache_type_k = plain.cache_type_v = "f16";
    plain.cache_rotation = engine::CacheRotation::kNever;
    SHOEHORN_TRY(base, plain.open(o.kl_base));
  }
  const auto progress = make_progress();
  eval::PerplexityOptions measure = o.measure;
  measure.n_ctx = static_cast<size_t>(o.session.n_ctx);
  auto result = eval::perplexity(session, base ? &*base : nullptr, text, measure, *progress);
  if (!result) return annotate(result.error(), o.text_path);
  if (o.json) {
    const engine::Model& model = session.model();
    Json json = {{"model", o.session.model_path},
                 {"bytes", model.file().file_bytes()},
                 {"parameters", models::count_parameters(model.architecture(), model.hparams())},
                 {"file", o.text_path},       {"n_ctx", o.session.n_ctx},
                 {"activation_bits", o.activation_bits == 0 ? Json() : Json(o.activation_bits)},
                 {"cache", session.cache().types().describe()},
                 {"ppl", result->ppl},              {"ppl_err", result->ppl_err}, {"tokens", result->tokens},
                 {"chunks", result->chunks},        {"seconds", result->seconds},
                 {"tokens_per_second", result->tokens_per_second}};
    if (result->has_base) {
      json.update({{"kl_base", o.kl_base},
                   {"base_ppl", result->base_ppl},
                   {"kld_mean", result->kld_mean},
                   {"kld_err", result->kld_err},
                   {"kld_p99", result->kld_p99},
                   {"kld_max", result->kld_max},
                   {"top1", result->top1}});
    }
    print_json(json);
    return {};
  }
  print(fmt::format("perplexity  {:.4f} +/- {:.4f}  ({} predictions in {} chunks of {}, {:.0f} tokens/s)", result->ppl,
                    result->ppl_err, result->tokens, result->chunks, o.session.n_ctx, result->tokens_per_second));
  if (result->has_base) {
    print(fmt::format("base        {:.4f}", result->base_ppl));
    print(fmt::format("mean KL     {:.6f} +/- {:.6f}   99 % {:.6f}   max {:.6f}", result->kld_mean, result->kld_err,
                      result->kld_p99, result->kld_max));
    print(fmt::format("same top-1  {:.2f} %", result->top1 * 100));
  }
  return {};
}

}  // namespace

std::function<Status()> define_perplexity(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->session.add_to(app, 512, "Tokens per chunk");
  app.add_option("-f,--file", o->text_path, "Text to measure on (UTF-8)")->required();
  app.add_option("--activation-bits", o->activation_bits,
                 "Round what the matrices of the layers read to this many bits, with a scale per token: what that would cost on "
                 "hardware that does so (not the base)")
      ->check(CLI::Range(2, 16));
  app.add_option("--chunks", o->measure.max_chunks, "At most this many chunks (default: all)");
  add_model_option(app, "--kl-base", o->kl_base, "Measure KL(base || model) and top-1 agreement: the base, a GGUF or checkpoint");
  app.add_option("--states", o->measure.states,
                 "File that keeps the base's last activations on this text (without a base, the model's own): the next "
                 "comparison takes them from there");
  add_size_option(app, "--ram", o->measure.ram,
                  "Memory that may be used, as 6G (default: what is free); models that do not fit are read a layer at "
                  "a time for many chunks together");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Example: shoehorn perplexity -m model-Q4_K_M.gguf -f wiki.test.raw --kl-base model-F16.gguf\n\n"
             "The protocol is llama.cpp's: whole chunks, the second half of each is predicted.");
  return [o] { return perplexity(*o); };
}

}  // namespace shoehorn::cli
