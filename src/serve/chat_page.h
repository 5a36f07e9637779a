// The chat page that comes with the program.
#pragma once

#include <string>
#include <string_view>

namespace shoehorn::serve {

/// web/page.html.
std::string_view chat_page();

/// What a browser is to let the page do: its one script, known by its hash, and requests to where it came from
/// (Content-Security-Policy Level 3, www.w3.org/TR/CSP3).
std::string chat_page_policy();

}  // namespace shoehorn::serve
