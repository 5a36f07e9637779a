#include "fit/chosen_recipe.h"

#include <algorithm>
#include <cctype>

#include "convert/naming.h"

namespace shoehorn::fit {

namespace {

/// Beyond this KL divergence, in nats a token, a stage has broken the model: published for Llama-3-8B is 0.33 for Q2_K.
constexpr double kBroken = 1;

}  // namespace

Recipe recipe_of(const ModelFacts& model, const Choice& choice) {
  Recipe out;
  const std::string type(choice.mix->name);
  const bool pruned = choice.width < 1;
  // A whole model keeps its name, with the size that its makers give it.
  convert::ModelName name = {.basename = model.name};
  if (pruned) name = convert::parse_model_name(model.name, choice.parameters);
  if (pruned) {
    const auto [first, end] = pruned_layers(model.hparams.n_layer);
    out.stages.push_back({.command = "prune",
                          .name = "pruned",
                          .in = "model",
                          .max_kl = kBroken,
                          .options = {{"method", "obs"},
                                      {"target", "mlp"},
                                      {"layers", fmt::format("{}-{}", first, end - 1)},
                                      {"ratio", fmt::format("{}", 1 - choice.width)},
                                      {"calib", "@calib"}}});
    out.stages.push_back({.command = "heal",
                          .name = "healed",
                          .in = "pruned",
                          .max_kl = kBroken,
                          .options = {{"data", "@data"}, {"teacher", "@model"}}});
    name.finetune += name.finetune.empty() ? "pruned" : "-pruned";
  }
  std::string file = convert::file_name(name, type);
  file.resize(file.size() - std::string_view(".gguf").size());
  Stage last = {.name = file, .in = pruned ? "healed" : "model", .max_kl = kBroken};
  if (quant::format(choice.mix->base).quantized) {
    last.command = "quantize";
    last.type = type;
    last.options = {{"method", "gptq"}, {"calib", "@calib"}};
  } else {
    last.command = "convert";
    std::string lower = type;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    last.options = {{"type", lower}};
  }
  out.stages.push_back(std::move(last));
  return out;
}

}  // namespace shoehorn::fit
