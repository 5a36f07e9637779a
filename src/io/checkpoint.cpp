#include "io/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/json.h"
#include "io/pytorch_bin.h"
#include "io/safetensors.h"
#include "io/sanitize.h"
#include "io/zip_archive.h"

namespace shoehorn::io {
namespace {
namespace fs = std::filesystem;

bool starts_with(std::span<const std::byte> bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(bytes.data()));
}

/// Reads one weights file of either format, told apart by content.
Expected<TorchFile> read_weights(const MappedFile& file) {
  const auto bytes = file.bytes();
  if (bytes.empty()) return fail(ErrorCode::kInvalid, "{}: the file is empty", file.path());
  if (starts_with(bytes, "version https://git-lfs")) {
    return fail(ErrorCode::kInvalid, "{}: a Git LFS pointer, not the weights; fetch them with git lfs pull",
                file.path());
  }
  if (starts_with(bytes, "GGUF")) {
    return fail(ErrorCode::kUnsupported, "{}: a GGUF file, not a checkpoint", file.path());
  }
  TorchFile contents;
  if (ZipArchive::is_zip(bytes) || is_legacy_torch(bytes)) {
    SHOEHORN_TRY(contents, read_pytorch_bin(bytes, file.path()));
  } else {
    SHOEHORN_TRY(contents.tensors, read_safetensors(bytes, file.path()));
  }
  for (StoredTensor& tensor : contents.tensors) tensor.file = &file;
  return contents;
}

/// "weight_map" of an index: tensor name -> file name.
Expected<std::map<std::string, std::string>> read_weight_map(const std::string& path) {
  SHOEHORN_TRY(const Json index, read_json(path));
  const auto it = index.is_object() ? index.find("weight_map") : index.end();
  if (it == index.end() || !it->is_object() || it->empty()) {
    return fail(ErrorCode::kInvalid, "{}: no weight_map in it", path);
  }
  if (it->size() > kMaxTensors) return fail(ErrorCode::kInvalid, "{}: more than {} tensors", path, kMaxTensors);
  std::map<std::string, std::string> map;
  for (const auto& [name, shard] : it->items()) {
    if (!shard.is_string()) {
      return fail(ErrorCode::kInvalid, "{}: weight_map gives no file for tensor {}", path, printable(name));
    }
    const auto& file = shard.get_ref<const std::string&>();
    // Shards lie beside their index: a path could reach any file of the machine.
    if (file.empty() || file.find_first_of("/\\") != std::string::npos || file == "." || file == "..") {
      return fail(ErrorCode::kInvalid, "{}: weight_map names {}, which is not a plain file name", path,
                  printable(file));
    }
    map.emplace(name, file);
  }
  return map;
}

/// The weights file or index to open for `path`.
Expected<std::string> choose(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (!fs::exists(path, error)) return fail(ErrorCode::kNotFound, "{}: no such file or directory", path);
    return path;
  }
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const fs::path candidate = fs::path(path) / name;
    if (fs::exists(candidate, error)) return candidate.string();
  }
  return fail(ErrorCode::kNotFound, "{}: holds neither model.safetensors nor pytorch_model.bin, nor an index of either",
              path);
}

}  // namespace

Expected<Checkpoint> Checkpoint::open(const std::string& path, const PackedConfig& packing) {
  SHOEHORN_TRY(const std::string chosen, choose(path));
  std::map<std::string, std::string> weight_map;
  std::set<std::string> paths;
  if (chosen.ends_with(".index.json")) {
    SHOEHORN_TRY(weight_map, read_weight_map(chosen));
    for (auto& [name, file] : weight_map) {
      file = (fs::path(chosen).parent_path() / file).string();
      paths.insert(file);
    }
  } else {
    paths.insert(chosen);
  }

  Checkpoint checkpoint;
  checkpoint.path_ = path;
  std::vector<StoredTensor> stored;
  std::set<std::pair<std::string_view, std::string_view>> seen;  // file, tensor
  for (const std::string& file_path : paths) {
    auto mapped = MappedFile::open(file_path);
    if (!mapped && mapped.error().code == ErrorCode::kNotFound && !weight_map.empty()) {
      return fail(ErrorCode::kNotFound, "{}: shard {} is missing", chosen, fs::path(file_path).filename().string());
    }
    if (!mapped) return tl::unexpected<Error>(mapped.error());
    checkpoint.files_.push_back(std::make_unique<MappedFile>(std::move(*mapped)));
    SHOEHORN_TRY(auto part, read_weights(*checkpoint.files_.back()));
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(stored));
    std::move(part.dropped.begin(), part.dropped.end(), std::back_inserter(checkpoint.dropped_));
    if (!checkpoint.model_) checkpoint.model_ = std::move(part.model);
  }
  if (!weight_map.empty()) {
    for (const StoredTensor& tensor : stored) seen.emplace(tensor.file->path(), tensor.name);
    for (const auto& [name, file] : weight_map) {
      if (!seen.contains({file, name})) {
        return fail(ErrorCode::kInvalid, "{}: tensor {} is not in {}, where weight_map has it", chosen, printable(name),
                    fs::path(file).filename().string());
      }
    }
  }
  seen.clear();  // its views die with `stored`

  std::vector<CheckpointTensor> unpacked;
  if (packing.packing != nullptr) {
    auto set = StoredSet::of(std::move(stored));
    if (!set) return annotate(set.error(), path);
    auto matrices = packing.packing->unpack(packing.quantization, *set);
    if (!matrices) return annotate(matrices.error(), path);
    unpacked = std::move(*matrices);
    stored = std::move(*set).rest();
  }
  auto clean = sanitize(std::move(stored));
  if (!clean) return annotate(clean.error(), path);
  checkpoint.tensors_ = std::move(clean->tensors);
  std::move(unpacked.begin(), unpacked.end(), std::back_inserter(checkpoint.tensors_));
  checkpoint.owned_ = std::move(clean->owned);
  std::move(clean->dropped.begin(), clean->dropped.end(), std::back_inserter(checkpoint.dropped_));
  for (size_t i = 0; i < checkpoint.tensors_.size(); ++i) {
    if (!checkpoint.index_.emplace(checkpoint.tensors_[i].name, i).second) {
      return fail(ErrorCode::kInvalid, "{}: tensor {} is there twice", path, printable(checkpoint.tensors_[i].name));
    }
  }
  return checkpoint;
}

const CheckpointTensor* Checkpoint::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

uint64_t Checkpoint::file_bytes() const {
  uint64_t total = 0;
  for (const auto& file : files_) total += file->bytes().size();
  return total;
}

}  // namespace shoehorn::io
