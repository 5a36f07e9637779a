# Text that the program brings along: the beginning of a public-domain book, to measure models on.
set(text_source ${CMAKE_SOURCE_DIR}/models/fable-10m/eval.txt)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${text_source})
file(READ ${text_source} text LIMIT 15000)
# Whole lines only: the limit has cut one in two, and file(READ) has put a line's end there.
foreach(end IN ITEMS cut whole)
  string(FIND "${text}" "\n" last REVERSE)
  string(SUBSTRING "${text}" 0 ${last} text)
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/bundled_text.cpp @ONLY CONTENT
     "#include \"eval/bundled_text.h\"\n\nnamespace shoehorn::eval {\n\nstd::string_view bundled_text() {\n  static constexpr char kText[] = R\"book(@text@)book\";\n  return {kText, sizeof kText - 1};\n}\n\n}  // namespace shoehorn::eval\n")
target_sources(shoehorn_eval PRIVATE ${CMAKE_BINARY_DIR}/generated/bundled_text.cpp)
