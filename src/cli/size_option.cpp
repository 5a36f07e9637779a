#include "cli/size_option.h"

#include <charconv>
#include <cmath>

namespace shoehorn::cli {

Expected<uint64_t> parse_size(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  double factor = 0;
  if (unit.empty()) factor = 1;
  for (const auto& [name, bytes] : {std::pair<std::string_view, double>{"K", 1024.0},
                                    {"M", 1048576.0},
                                    {"G", 1073741824.0},
                                    {"T", 1099511627776.0}}) {
    if (unit == name) factor = bytes;
  }
  if (error != std::errc() || factor == 0 || !(value > 0) || value * factor > 1e18) {
    return fail(ErrorCode::kInvalid, "\"{}\" is no size; write 3.3G (GiB), 600M or a number of bytes", text);
  }
  return static_cast<uint64_t>(std::llround(value * factor));
}

CLI::Option* add_size_option(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& help) {
  return app.add_option_function<std::string>(
      name,
      [name, &bytes](const std::string& text) {
        const auto parsed = parse_size(text);
        if (!parsed) throw CLI::ValidationError(name, parsed.error().message);
        bytes = *parsed;
      },
      help);
}

}  // namespace shoehorn::cli
