// Good inputs that the fuzzer begins with, and the small model that some targets read them for.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/session.h"

namespace shoehorn::fuzz {

/// A tiny checkpoint's directory; the model of it, as F32; a session of 16 positions.
const std::string& small_checkpoint();
const std::shared_ptr<const engine::Model>& small_model();
engine::Session small_session();

/// The small model as a split file's two parts.
const std::pair<std::string, std::string>& split_model();

struct Seed {
  std::string name, bytes;
};

/// Inputs that the target takes: made here, and of the repository's files and those of ../shared, where it is, at most
/// kMaxSeed bytes each.
std::vector<Seed> seeds(std::string_view target);
inline constexpr size_t kMaxSeed = 200'000;

}  // namespace shoehorn::fuzz
