// An importance matrix, as a GGUF or as llama.cpp's older .dat; what is read is written in both forms and read again.
#include "io/imatrix.h"

#include <cstdlib>

#include "fuzz/target.h"
#include "support/support.h"

namespace shoehorn::fuzz {

std::string run_imatrix(std::string_view input) {
  static const Scratch scratch;
  const auto imatrix = io::read_imatrix(scratch.write("imatrix", input));
  if (!imatrix) return message_of(imatrix);
  for (const auto& [name, entry] : imatrix->entries) entry.importance();
  if (!io::merge(*imatrix, *imatrix)) std::abort();
  // Whoever is refused in writing keeps what there was; what is written is read, and written again it is the same.
  const std::string gguf = scratch.path() + "/again.gguf", dat = scratch.path() + "/again.dat";
  if (io::write_imatrix(*imatrix, dat) && !io::read_imatrix(dat)) std::abort();
  if (!io::write_imatrix(*imatrix, gguf)) return "";
  const std::string bytes = test::read_text(gguf);
  const auto again = io::read_imatrix(gguf);
  if (!again || !io::write_imatrix(*again, gguf) || test::read_text(gguf) != bytes) std::abort();
  return "";
}

}  // namespace shoehorn::fuzz
