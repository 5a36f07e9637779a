// Options whose value is a number of bytes.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace shoehorn::cli {

/// "3.3G" (GiB), "600M", "123456": bytes.
Expected<uint64_t> parse_size(const std::string& text);

/// An option that parse_size reads; `bytes` must live as long as `app`.
CLI::Option* add_size_option(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& help);

}  // namespace shoehorn::cli
