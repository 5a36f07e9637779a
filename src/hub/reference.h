// hf:owner/name[@revision][:file], the name of a model on the Hugging Face hub.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::hub {

struct Reference {
  std::string repository;         ///< "owner/name", or "name" of the oldest ones
  std::string revision = "main";  ///< branch, tag, commit or refs/pr/N
  std::string file;  ///< of the repository, or a type such as Q4_K_M for the GGUF whose name has it; "": not given
};

/// True for what begins with "hf:".
bool is_reference(std::string_view text);

/// Reads a reference; "hf:" may be left out. Fails with kInvalid and what is expected. What it returns holds no "..",
/// no empty part and none but printable characters, so that it can be part of a path.
Expected<Reference> parse_reference(std::string_view text);

/// A path inside a repository as the hub gives it: relative, no empty or dot parts, no backslash, printable, at most
/// 1024 bytes.
bool is_safe_path(std::string_view path);

/// "hf:owner/name@revision:file" without what is at its default.
std::string to_string(const Reference& reference);

}  // namespace shoehorn::hub
