// A Hugging Face checkpoint under a GGUF's names, where it lies: for running it without writing a file.
#pragma once

#include <string>

#include "base/progress.h"
#include "io/gguf.h"

namespace shoehorn::convert {

/// The checkpoint's tensors in their own mapped bytes, with the metadata that its GGUF would have. Rows of q and k are as
/// Hugging Face has them, so that whoever runs it uses NEOX rope whatever the architecture says. What a GGUF has no type for (F64,
/// F8) or lies at odd addresses is copied as floats, kTooLarge when memory does not suffice for that. Fails as open_checkpoint()
/// does.
Expected<io::GgufFile> view_checkpoint(const std::string& directory, Progress& progress);

}  // namespace shoehorn::convert
