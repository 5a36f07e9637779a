// What the user types in a chat.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace shoehorn::cli {

class LineEditor;

/// Messages from stdin. On a terminal lines can be edited, and earlier ones come back with the arrow keys, those of
/// earlier chats too ($XDG_STATE_HOME/shoehorn/history, only this user's); lines that were pasted together, and lines
/// that end with a backslash, are one message; Ctrl-C drops what was typed; what is typed during an answer, Ctrl-D too,
/// waits for its end. Otherwise each line is a message.
class ChatInput {
 public:
  ChatInput();
  ~ChatInput();
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;

  bool is_terminal() const { return editor_ != nullptr; }
  /// Nothing at the end of input, when Ctrl-C is pressed twice, or when the process is asked to end.
  std::optional<std::string> read();

 private:
  std::unique_ptr<LineEditor> editor_;  // on a terminal
  bool closed_ = false;
};

}  // namespace shoehorn::cli
