#include "cli/model_option.h"

#include <vector>

#include "cli/command.h"
#include "hub/cache.h"

namespace shoehorn::cli {
namespace {

/// The options of all commands; those of commands that were not given are empty.
std::vector<std::string*>& models() {
  static std::vector<std::string*> all;
  return all;
}

}  // namespace

CLI::Option* add_model_option(CLI::App& app, const std::string& names, std::string& model, const std::string& help) {
  models().push_back(&model);
  return app.add_option(names, model, help + ", or hf:OWNER/NAME[@REVISION][:FILE]");
}

Status fetch_models() {
  for (std::string* model : models()) {
    if (!hub::is_reference(*model)) continue;
    SHOEHORN_TRY(const auto reference, hub::parse_reference(*model));
    SHOEHORN_TRY(const auto pulled, pull_model(reference, "", 0));
    *model = pulled.path;
  }
  return {};
}

Expected<hub::Pulled> pull_model(const hub::Reference& reference, const std::string& cache, int n_parallel) {
  hub::PullOptions options;
  options.reference = reference;
  options.endpoint = hub::endpoint_from_environment();
  options.cache = cache;
  if (cache.empty()) {
    SHOEHORN_TRY(options.cache, hub::default_cache());
  }
  if (n_parallel > 0) options.n_parallel = n_parallel;
  const auto progress = make_progress();
  return hub::pull(options, *progress);
}

}  // namespace shoehorn::cli
