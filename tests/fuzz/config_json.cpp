// A model's configuration.
#include "fuzz/target.h"
#include "models/hf_config.h"

namespace shoehorn::fuzz {

std::string run_config_json(std::string_view input) {
  const auto json = parse_json(input);
  if (!json) return message_of(json);
  const auto config = models::parse_model_config(*json);
  if (!config) return message_of(config);
  constexpr uint32_t kMaxLayers = 512;  // names of all tensors are made: of a few is enough
  if (config->hparams.n_layer <= kMaxLayers) models::count_parameters(*config->architecture, config->hparams);
  return "";
}

}  // namespace shoehorn::fuzz
