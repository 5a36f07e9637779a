// GSM8K's answers (Cobbe et al. 2021): the number behind "####", or the last one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoehorn::eval {

/// The number behind the first "#### ", as written; nothing when there is none.
std::optional<std::string> strict_answer(std::string_view text);
/// The last number of a text, as written.
std::optional<std::string> flexible_answer(std::string_view text);
/// A number without "," and "$" and without a "." at its end: what is compared.
std::string normal_number(std::string_view number);

}  // namespace shoehorn::eval
