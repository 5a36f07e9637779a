#include "cli/open_model.h"

#include <filesystem>

#include "convert/checkpoint_view.h"

namespace shoehorn::cli {

Expected<std::shared_ptr<const engine::Model>> open_model(const std::string& path, FileMode mode) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return engine::Model::open(path, mode);
  NoProgress silent;
  SHOEHORN_TRY(auto view, convert::view_checkpoint(path, silent));
  return engine::Model::create(std::move(view), models::RopeType::kNeox);
}

}  // namespace shoehorn::cli
