#include "cli/chat_input.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <clocale>
#include <cwchar>
#include <filesystem>
#include <iostream>
#include <string_view>

#include "base/environment.h"
#include "cli/command.h"

namespace shoehorn::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxHistory = 1000;
constexpr int kLookMs = 100;  // how often it is seen that the process was asked to end
constexpr wchar_t kCtrlC = 3;
constexpr const wchar_t* kPrompt = L"> ";
// Between the marks what takes no room on the screen.
constexpr wchar_t kMark = 1;
constexpr const wchar_t* kColouredPrompt = L"\1\033[1;32m\1> \1\033[0m\1";
constexpr const wchar_t* kMorePrompt = L"";

std::string history_path() {
  const std::string state = environment("XDG_STATE_HOME"), home = environment("HOME");
  if (state.empty() && home.empty()) return "";
  const fs::path directory = (state.empty() ? fs::path(home) / ".local/state" : fs::path(state)) / "shoehorn";
  std::error_code error;
  fs::create_directories(directory, error);
  return error ? "" : (directory / "history").string();
}

/// Whether something has been typed, or pasted, within so many milliseconds.
bool has_input(int milliseconds = 0) {
  pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return poll(&input, 1, milliseconds) > 0;
}

/// Whether stdout may be coloured: a terminal, and no NO_COLOR (no-color.org) in the environment.
bool may_colour() { return isatty(STDOUT_FILENO) != 0 && environment("NO_COLOR").empty(); }

std::wstring wide_of(const std::string& text) {
  std::wstring wide(text.size(), L'\0');
  const char* from = text.c_str();
  std::mbstate_t state = {};
  const size_t n = std::mbsrtowcs(wide.data(), &from, wide.size(), &state);
  wide.resize(n == static_cast<size_t>(-1) ? 0 : n);
  return wide;
}

std::string narrow_of(const wchar_t* wide) {
  std::string text;
  std::mbstate_t state = {};
  std::array<char, MB_LEN_MAX> bytes;
  for (; *wide != L'\0'; ++wide) {
    const size_t n = std::wcrtomb(bytes.data(), *wide, &state);
    if (n != static_cast<size_t>(-1)) text.append(bytes.data(), n);
  }
  return text;
}

}  // namespace

/// libedit with the terminal kept from reading by lines between ours: it would make a NUL of a Ctrl-D, and show what is
/// typed within the answer.
class LineEditor {
 public:
  /// How a line ended: it was entered; Ctrl-C dropped what had been typed of it, or nothing; no more will come.
  enum class End : uint8_t { kEntered, kDropped, kDroppedEmpty, kClosed };

  LineEditor() {
    std::setlocale(LC_CTYPE, "");
    if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = el_init("shoehorn", stdin, stdout, stderr);
    history_ = history_winit();
    HistEventW event;
    history_w(history_, &event, H_SETSIZE, kMaxHistory);
    history_path_ = history_path();
    if (!history_path_.empty()) history_w(history_, &event, H_LOAD, history_path_.c_str());
    el_wset(edit_, EL_CLIENTDATA, this);
    el_wset(edit_, EL_EDITOR, L"emacs");
    el_wset(edit_, EL_HIST, history_w, history_);
    el_wset(edit_, EL_PROMPT_ESC, &LineEditor::prompt, kMark);
    el_wset(edit_, EL_GETCFN, &LineEditor::read_character);
    el_wset(edit_, EL_ADDFN, L"drop-line", L"drop what was typed", &LineEditor::drop_line);
    el_wset(edit_, EL_BIND, L"^C", L"drop-line", nullptr);
    el_wset(edit_, EL_BIND, L"^I", L"ed-insert", nullptr);
    el_wset(edit_, EL_SETTY, L"-x", L"-icanon", L"-echo", nullptr);
  }
  ~LineEditor() {
    if (!history_path_.empty()) {
      const mode_t before = umask(0077);
      HistEventW event;
      history_w(history_, &event, H_SAVE, history_path_.c_str());
      umask(before);
    }
    history_wend(history_);
    el_end(edit_);
  }
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// The next line; empty unless it was entered.
  End read_line(const wchar_t* prompt, std::string& line) {
    prompt_ = prompt;
    end_ = End::kEntered;
    el_resize(edit_);
    int n = 0;
    const wchar_t* typed = el_wgets(edit_, &n);
    line.clear();
    if (end_ != End::kEntered) {
      el_reset(edit_);
      return end_;
    }
    if (typed == nullptr || n <= 0) return End::kClosed;
    line = narrow_of(typed);
    if (line.ends_with('\n')) line.pop_back();
    return End::kEntered;
  }

  void remember(const std::string& message) {
    HistEventW event;
    history_w(history_, &event, H_ENTER, wide_of(message).c_str());
  }

 private:
  static LineEditor& self(EditLine* edit) {
    void* editor = nullptr;
    el_wget(edit, EL_CLIENTDATA, &editor);
    return *static_cast<LineEditor*>(editor);
  }
  static wchar_t* prompt(EditLine* edit) { return const_cast<wchar_t*>(self(edit).prompt_); }

  static unsigned char drop_line(EditLine* edit, wint_t) {
    const LineInfoW* line = el_wline(edit);
    self(edit).end_ = line->buffer == line->lastchar ? End::kDroppedEmpty : End::kDropped;
    std::fputs("^C\n", stdout);
    return CC_NEWLINE;
  }

  /// One character; a Ctrl-C, which is a signal, as the key. libedit: 1, or 0 at the end.
  static int read_character(EditLine*, wchar_t* character) {
    std::mbstate_t state = {};
    for (;;) {
      if (interrupted()) {
        clear_interrupt();
        *character = kCtrlC;
        return interrupted() ? 0 : 1;
      }
      if (!has_input(kLookMs)) continue;
      char byte = 0;
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return 0;
      const size_t used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<size_t>(-2)) continue;  // more bytes to come
      if (used == static_cast<size_t>(-1)) *character = L'\uFFFD';
      return 1;
    }
  }

  EditLine* edit_ = nullptr;
  HistoryW* history_ = nullptr;
  std::string history_path_;  // empty: none
  const wchar_t* prompt_ = kPrompt;
  End end_ = End::kEntered;
};

ChatInput::ChatInput() {
  if (isatty(STDIN_FILENO) != 0) editor_ = std::make_unique<LineEditor>();
}
ChatInput::~ChatInput() = default;

std::optional<std::string> ChatInput::read() {
  std::string message;
  if (!editor_) {
    if (!std::getline(std::cin, message)) return std::nullopt;
    return message;
  }
  using End = LineEditor::End;
  for (bool again = false; !closed_;) {
    End end = editor_->read_line(may_colour() ? kColouredPrompt : kPrompt, message);
    bool whole = false;
    while (end == End::kEntered && !whole) {
      const bool goes_on = message.ends_with('\\');
      if (goes_on) message.pop_back();
      whole = !goes_on && !has_input();
      std::string more;
      if (!whole) end = editor_->read_line(kMorePrompt, more);
      if (!whole && end == End::kEntered) message += "\n" + more;
    }
    closed_ = end == End::kClosed || (end == End::kDroppedEmpty && again);
    if (whole || (end == End::kClosed && !message.empty())) {
      if (!message.empty()) editor_->remember(message);
      return message;
    }
    again = end == End::kDroppedEmpty;
    if (again && !closed_) remark("Ctrl-C once more, or Ctrl-D, ends the chat.");
  }
  return std::nullopt;
}

}  // namespace shoehorn::cli
