// Texts for measuring a model, and for learning from, when none is given.
#pragma once

#include <string_view>

namespace shoehorn::eval {

/// The name under which results say that they were measured on it.
inline constexpr const char* kBundledTextName = "bundled";

/// Some 15 kB of English prose from a public-domain book (the beginning of models/fable-10m/eval.txt).
std::string_view bundled_text();

/// Some 60 kB from other books (the beginning of models/fable-10m/calib.txt).
std::string_view bundled_calibration_text();

}  // namespace shoehorn::eval
