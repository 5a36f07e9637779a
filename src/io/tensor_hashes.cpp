#include "io/tensor_hashes.h"

#include <algorithm>
#include <filesystem>

#include "base/lines.h"
#include "base/output_file.h"

namespace shoehorn::io {
namespace {

constexpr size_t kDigits = 64;
constexpr uint64_t kMaxManifestBytes = uint64_t{64} << 20;

/// The text before the next space, which is taken away with the spaces behind it.
std::string_view take_word(std::string_view& line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(' ', word.size())));
  return word;
}

}  // namespace

GgufValue to_gguf(const std::vector<TensorHash>& hashes) {
  std::vector<std::string> lines;
  for (const TensorHash& hash : hashes) lines.push_back(fmt::format("{} {} {}", hash.sha256, hash.type, hash.name));
  return GgufArray(std::move(lines));
}

Expected<std::vector<TensorHash>> tensor_hashes(const GgufMetadata& metadata) {
  std::vector<TensorHash> out;
  if (!metadata.contains(kTensorHashes)) return out;
  const auto* lines = metadata.get_strings(kTensorHashes);
  if (lines == nullptr) return fail(ErrorCode::kInvalid, "{}: not a list of texts", kTensorHashes);
  for (std::string_view line : *lines) {
    const std::string_view hex = take_word(line), type = take_word(line);
    if (!is_hex(hex, kDigits) || type.empty() || line.empty()) {
      return fail(ErrorCode::kInvalid, "{}[{}]: not a SHA-256, a type and a name", kTensorHashes, out.size());
    }
    out.push_back({std::string(hex), std::string(type), std::string(line)});
  }
  return out;
}

std::string manifest_path(const std::string& model) {
  const std::filesystem::path path = model;
  return (path.has_filename() ? path : path.parent_path()).string() + ".manifest";  // also of "DIRECTORY/"
}

Expected<Manifest> read_manifest(const std::string& path) {
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxManifestBytes));
  Manifest out;
  size_t number = 0;
  for (std::string_view line : lines_of(text)) {
    ++number;
    if (take_word(line) != "sha256") continue;
    const std::string_view hex = take_word(line);
    if (!is_hex(hex, kDigits) || line.empty())
      return fail(ErrorCode::kInvalid, "{}: line {}: not \"sha256 DIGITS FILE:TENSOR\"", path, number);
    // A tensor's name has no colon, the file's may.
    if (const size_t colon = line.rfind(':'); colon != std::string_view::npos) {
      out.tensors.push_back({std::string(hex), "", std::string(line.substr(colon + 1))});
    } else {
      out.all = hex;
    }
  }
  if (out.tensors.empty() && out.all.empty()) return fail(ErrorCode::kInvalid, "{}: there is no SHA-256 in it", path);
  return out;
}

Status write_manifest(const Manifest& manifest, const std::string& file, const std::string& path) {
  std::string text;
  for (const TensorHash& tensor : manifest.tensors)
    text += fmt::format("{:<8}  {}  {}:{}\n", "sha256", tensor.sha256, file, tensor.name);
  if (!manifest.all.empty()) text += fmt::format("{:<8}  {}  {}\n", "sha256", manifest.all, file);
  return write_file(path, text);
}

}  // namespace shoehorn::io
