#include "eval/model_identity.h"

#include <filesystem>

namespace shoehorn::eval {
namespace fs = std::filesystem;

Json model_identity(const engine::Model& model) {
  std::error_code error;
  const std::string& path = model.file().path();
  return {fs::absolute(path, error).lexically_normal().string(), model.file().file_bytes(),
          fs::last_write_time(path, error).time_since_epoch().count()};
}

}  // namespace shoehorn::eval
