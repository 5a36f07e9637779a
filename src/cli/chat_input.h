// What the user types in a chat.
#pragma once

#include <termios.h>

#include <optional>
#include <string>

namespace shoehorn::cli {

/// Messages from stdin. On a terminal lines can be edited, and earlier ones come back with the arrow keys, those of
/// earlier chats too ($XDG_STATE_HOME/shoehorn/history, only this user's); lines that were pasted together, and lines
/// that end with a backslash, are one message; what is typed during an answer, Ctrl-D too, waits for its end.
/// Otherwise each line is a message.
class ChatInput {
 public:
  ChatInput();
  ~ChatInput();
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;

  bool is_terminal() const { return terminal_; }
  /// Nothing at the end of input, or on Ctrl-C.
  std::optional<std::string> read();

 private:
  std::optional<std::string> read_line(const char* prompt);

  const bool terminal_;
  termios found_ = {};  // the terminal's modes as they were
  bool ended_ = false;
  std::string history_;  // file; empty: none
};

}  // namespace shoehorn::cli
