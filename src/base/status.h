// Errors as values. Every function that can fail on input returns Expected<T>; the library neither prints nor exits.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace shoehorn {

enum class ErrorCode {
  kInvalid,      // bytes or values that break a format or a limit
  kUnsupported,  // well-formed, but something we do not do; the message names it
  kNotFound,     // a file, tensor or key that is not there
  kIo,           // the operating system refused
  kTooLarge,     // does not fit in memory, context or disk; the message has the numbers
  kCancelled,    // stopped by the user
};

struct Error {
  ErrorCode code;
  std::string message;
};

template <class T>
using Expected = tl::expected<T, Error>;
using Status = Expected<void>;

/// Builds a failure: `return fail(ErrorCode::kInvalid, "{}: n_dims is {}", name, n);`
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

/// Puts "context: " before the message, so that the reader learns which file or tensor it was.
[[nodiscard]] inline tl::unexpected<Error> annotate(Error error, std::string_view context) {
  error.message = fmt::format("{}: {}", context, error.message);
  return tl::unexpected<Error>(std::move(error));
}

/// The same unless the message begins with it already: for errors of several functions, some of which know the file's name.
[[nodiscard]] inline tl::unexpected<Error> annotate_once(Error error, std::string_view context) {
  if (error.message.starts_with(context)) return tl::unexpected<Error>(std::move(error));
  return annotate(std::move(error), context);
}

}  // namespace shoehorn

#define SHOEHORN_CONCAT_INNER(a, b) a##b
#define SHOEHORN_CONCAT(a, b) SHOEHORN_CONCAT_INNER(a, b)

/// `SHOEHORN_TRY(auto x, expr)`: x = *expr, or return its error from the enclosing function.
#define SHOEHORN_TRY(lhs, expr) SHOEHORN_TRY_INNER(SHOEHORN_CONCAT(try_, __LINE__), lhs, expr)
#define SHOEHORN_TRY_INNER(tmp, lhs, expr)                                      \
  auto tmp = (expr);                                                            \
  if (!tmp) return ::tl::unexpected<::shoehorn::Error>(std::move(tmp).error()); \
  lhs = std::move(*tmp)

/// Returns the error of a Status from the enclosing function.
#define SHOEHORN_RETURN_IF_ERROR(expr)                                                                               \
  do {                                                                                                               \
    if (auto status_ = (expr); !status_) return ::tl::unexpected<::shoehorn::Error>(std::move(status_).error());     \
  } while (0)
