// An importance matrix, as a GGUF or as llama.cpp's older .dat.
#include "io/imatrix.h"

#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_imatrix(std::string_view input) {
  static const Scratch scratch;
  const auto imatrix = io::read_imatrix(scratch.write("imatrix", input));
  if (!imatrix) return message_of(imatrix);
  for (const auto& [name, entry] : imatrix->entries) entry.importance();
  return "";
}

}  // namespace shoehorn::fuzz
