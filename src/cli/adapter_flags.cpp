#include "cli/adapter_flags.h"

namespace shoehorn::cli {

void AdapterFlags::add_to(CLI::App& app) {
  app.add_option("--lora", paths, "LoRA adapter (GGUF) to add to the weights; repeatable");
  app.add_option("--lora-scaled", scaled, "The same with a scale: FILE SCALE; repeatable");
}

Expected<engine::Adapters> AdapterFlags::open(const std::shared_ptr<const engine::Model>& model) const {
  engine::Adapters out;
  std::vector<std::pair<std::string, float>> all;
  for (const std::string& path : paths) all.emplace_back(path, 1.0f);
  all.insert(all.end(), scaled.begin(), scaled.end());
  for (const auto& [path, scale] : all) {
    SHOEHORN_TRY(auto adapter, engine::Adapter::open(path, model));
    out.push_back({std::move(adapter), scale});
  }
  return out;
}

}  // namespace shoehorn::cli
