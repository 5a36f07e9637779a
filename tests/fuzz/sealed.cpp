// A sealed file, by whom does not have the key; and the same sealed here, so that what is behind the check is reached
// too.
#include <cstdlib>

#include "fuzz/target.h"
#include "seal/sealed_file.h"

namespace shoehorn::fuzz {

std::string run_sealed(std::string_view input) {
  static const Scratch scratch;
  static const seal::Key key = {seal::Secret(std::string(seal::kKeyBytes, 'k')), false};
  const std::string path = scratch.write("sealed", input), out = scratch.path() + "/out",
                    plain = scratch.path() + "/plain";
  static const std::string plain_file = scratch.write("not-sealed", "some bytes");
  NoProgress progress;
  const auto file = MappedFile::open(path);
  if (!file) return message_of(file);
  if (!seal::is_sealed(file->bytes())) {
    if (!seal::seal_file(path, out, key, progress) || !seal::unseal_file(out, plain, key, progress)) std::abort();
    const auto again = MappedFile::open(plain);
    if (!again || again->bytes().size() != file->bytes().size()) std::abort();
    return "not a sealed file";
  }
  const auto opened = seal::open_sealed(*file, key);
  // As every reader opens files, with the key of this process.
  seal::set_key({seal::Secret(std::string(seal::kKeyBytes, 'k')), false});
  for (const FileMode mode : {FileMode::kMap, FileMode::kCopy}) {
    if (seal::open_file(path, mode).has_value() != opened.has_value() || !seal::open_file(plain_file, mode))
      std::abort();
  }
  if (seal::unseal_file(path, plain, key, progress).has_value() != opened.has_value()) std::abort();
  return message_of(opened);
}

}  // namespace shoehorn::fuzz
