# Texts that the program brings along, from public-domain books: one to measure models on, one to learn from.
set(text_functions "")
foreach(row "bundled_text;eval.txt;15000" "bundled_calibration_text;calib.txt;60000")
  list(GET row 0 function)
  list(GET row 1 file)
  list(GET row 2 limit)
  set(text_source ${CMAKE_SOURCE_DIR}/models/fable-10m/${file})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${text_source})
  file(READ ${text_source} text LIMIT ${limit})
  # Whole lines only: the limit has cut one in two, and file(READ) has put a line's end there.
  foreach(end IN ITEMS cut whole)
    string(FIND "${text}" "\n" last REVERSE)
    string(SUBSTRING "${text}" 0 ${last} text)
  endforeach()
  string(APPEND text_functions
         "std::string_view ${function}() {\n  static constexpr char kText[] = R\"book(${text})book\";\n  return {kText, sizeof kText - 1};\n}\n\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/bundled_text.cpp @ONLY CONTENT
     "#include \"eval/bundled_text.h\"\n\nnamespace shoehorn::eval {\n\n@text_functions@}  // namespace shoehorn::eval\n")
target_sources(shoehorn_eval PRIVATE ${CMAKE_BINARY_DIR}/generated/bundled_text.cpp)
