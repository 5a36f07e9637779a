#include "cli/model_option.h"

#include <vector>

#include "base/environment.h"
#include "cli/command.h"
#include "hub/cache.h"
#include "io/i2s.h"
#include "seal/key.h"

namespace shoehorn::cli {
namespace {

constexpr const char* kSealKey = "--seal-key";
constexpr const char* kI2sLayout = "--i2s-layout";

struct ModelOption {
  std::string* model;
  const bool* outline_only;
};

/// The options of all commands; those of commands that were not given are empty.
std::vector<ModelOption>& models() {
  static std::vector<ModelOption> all;
  return all;
}

}  // namespace

CLI::Option* add_model_option(CLI::App& app, const std::string& names, std::string& model, const std::string& help,
                              const bool* outline_only) {
  models().push_back({&model, outline_only});
  if (app.get_option_no_throw(kSealKey) == nullptr) {
    app.add_option(kSealKey, common().seal_key,
                   "What sealed models are opened with: a key file, keyring:NAME, or prompt (default: what SHOEHORN_SEAL_KEY says)");
    app.add_option(kI2sLayout, common().i2s_layout, "Files of bitnet.cpp with I2_S tensors: the machine that wrote them, x86 or arm")
        ->check(CLI::IsMember({"x86", "arm"}));
  }
  return app.add_option(names, model, help + ", or hf:OWNER/NAME[@REVISION][:FILE]");
}

Status fetch_models() {
  for (const auto& [model, outline_only] : models()) {
    if (!hub::is_reference(*model)) continue;
    SHOEHORN_TRY(const auto reference, hub::parse_reference(*model));
    const bool outline = outline_only != nullptr && *outline_only;
    SHOEHORN_TRY(const auto pulled, pull_model(reference, "", 0, outline ? hub::Extent::kOutline : hub::Extent::kWhole));
    *model = pulled.path;
  }
  return {};
}

Status apply_model_options(const CLI::App& command) {
  if (command.get_option_no_throw(kSealKey) == nullptr) return {};
  if (const std::string& layout = common().i2s_layout; !layout.empty()) io::set_i2s_layout(layout == "x86" ? io::I2sLayout::kX86 : io::I2sLayout::kArm);
  const std::string source = !common().seal_key.empty() ? common().seal_key : environment("SHOEHORN_SEAL_KEY");
  if (source.empty()) return {};
  SHOEHORN_TRY(auto key, seal::read_key(source));
  seal::set_key(std::move(key));
  return {};
}

Expected<hub::Pulled> pull_model(const hub::Reference& reference, const std::string& cache, int n_parallel,
                                 hub::Extent extent) {
  hub::PullOptions options;
  options.reference = reference;
  options.extent = extent;
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
