// The text of an answer while its tokens come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoehorn::engine {

/// Pieces of tokens, which can be parts of characters, put together; texts that end the answer are looked for wherever
/// tokens part them.
class AnswerText {
 public:
  /// `stops`: an answer ends before the first of them; empty ones are passed over.
  explicit AnswerText(std::vector<std::string> stops = {});

  /// Adds a piece. False when a stop came up: it and what follows are cut off, and nothing may be added any more.
  bool add(std::string_view piece);

  /// All of the answer so far.
  const std::string& text() const { return text_; }
  /// What take() has not given yet and nothing that comes can change: whole characters, none that could begin a stop.
  std::string take();
  /// What is left at the end. A character that never became whole is U+FFFD.
  std::string rest();

 private:
  size_t safe_end() const;

  std::vector<std::string> stops_;
  std::string text_;
  size_t taken_ = 0;
};

/// Text with every byte that belongs to no UTF-8 character replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace shoehorn::engine
