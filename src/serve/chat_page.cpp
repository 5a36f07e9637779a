#include "serve/chat_page.h"

// As it is, byte for byte: the script's hash is of it.
asm(R"(
  .pushsection .rodata
  .global shoehorn_chat_page, shoehorn_chat_page_end
  .hidden shoehorn_chat_page, shoehorn_chat_page_end
shoehorn_chat_page:
  .incbin ")" SHOEHORN_CHAT_PAGE R"("
shoehorn_chat_page_end:
  .popsection
)");

extern "C" const char shoehorn_chat_page[], shoehorn_chat_page_end[];

namespace shoehorn::serve {

std::string_view chat_page() {
  return {shoehorn_chat_page, static_cast<size_t>(shoehorn_chat_page_end - shoehorn_chat_page)};
}

std::string chat_page_policy() {
  // The page says it of itself, too; who may put it into a frame can be said in a header only.
  constexpr std::string_view kBegin = "Content-Security-Policy\" content=\"";
  const size_t begin = chat_page().find(kBegin) + kBegin.size();
  return std::string(chat_page().substr(begin, chat_page().find('"', begin) - begin)) + "; frame-ancestors 'none'";
}

}  // namespace shoehorn::serve
