// Helpers that every test program uses.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

namespace shoehorn::test {

/// The repository's root.
std::string source_dir();

/// PATH under ../shared, or "" when it is absent.
std::string shared_path(const std::string& relative);

/// A fresh directory removed at the end of the process.
std::string temp_dir();

std::vector<std::byte> read_bytes(const std::string& path);
void write_bytes(const std::string& path, const std::vector<std::byte>& bytes);
std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);

/// True when skipping for want of ../shared must count as a failure (SHOEHORN_REQUIRE_SHARED=1).
bool require_shared();

}  // namespace shoehorn::test

/// Sets `var` to a path under ../shared, or skips the test (fails it under SHOEHORN_REQUIRE_SHARED=1).
#define SHOEHORN_SHARED(var, relative)                                              \
  const std::string var = ::shoehorn::test::shared_path(relative);                  \
  if (var.empty()) {                                                                \
    if (::shoehorn::test::require_shared()) FAIL() << "../shared/" << relative << " is absent"; \
    GTEST_SKIP() << "../shared/" << relative << " is absent";                       \
  }

/// The value of an Expected, or a test failure with its message.
#define ASSERT_EXPECTED(lhs, expr) ASSERT_EXPECTED_INNER(SHOEHORN_CONCAT(expected_, __LINE__), lhs, expr)
#define ASSERT_EXPECTED_INNER(tmp, lhs, expr)          \
  auto tmp = (expr);                                   \
  ASSERT_TRUE(tmp.has_value()) << tmp.error().message; \
  lhs = std::move(*tmp)
