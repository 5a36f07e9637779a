#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/checked.h"
#include "base/json.h"
#include "io/safetensors.h"

namespace shoehorn::io {
namespace {
namespace fs = std::filesystem;

/// Mapped data then starts on a cache line; the reference implementation pads to 8.
constexpr uint64_t kHeaderAlignment = 64;

constexpr const char* kIndexName = "model.safetensors.index.json";

bool is_weights_file(const std::string& name) {
  return name.ends_with(".safetensors") || name == kIndexName ||
         (name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".bin.index.json")));
}

std::string quoted(const std::string& name) { return Json(name).dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Status SafetensorsWriter::add_tensor(std::string name, DType dtype, std::vector<uint64_t> shape) {
  const auto count = element_count(shape);
  const auto bytes = count ? checked_mul(*count, dtype_info(dtype).bytes) : std::nullopt;
  const auto total = bytes ? checked_add(total_bytes_, *bytes) : std::nullopt;
  if (!total) return fail(ErrorCode::kInvalid, "{}: the size of shape [{}] wraps", name, fmt::join(shape, ", "));
  total_bytes_ = *total;
  tensors_.push_back({std::move(name), dtype, std::move(shape), *bytes, 0});
  return {};
}

size_t SafetensorsWriter::assign_shards(uint64_t max_shard_bytes) {
  size_t shard = 0;
  uint64_t in_shard = 0;
  for (Info& info : tensors_) {
    if (max_shard_bytes > 0 && in_shard > 0 && info.bytes > max_shard_bytes - std::min(in_shard, max_shard_bytes)) {
      ++shard;
      in_shard = 0;
    }
    info.shard = shard;
    in_shard += info.bytes;
  }
  return shard + 1;
}

std::string SafetensorsWriter::shard_name(size_t shard) const {
  if (n_shards_ == 1) return file_name_;
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, n_shards_);
}

std::string SafetensorsWriter::header(size_t shard) const {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  uint64_t offset = 0;
  for (const Info& info : tensors_) {
    if (info.shard != shard) continue;
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", quoted(info.name),
                        dtype_info(info.dtype).name, fmt::join(info.shape, ","), offset, offset + info.bytes);
    offset += info.bytes;
  }
  text += '}';
  text.resize(round_up(8 + text.size(), kHeaderAlignment) - 8, ' ');
  return text;
}

Status SafetensorsWriter::check_names() const {
  std::set<std::string_view> names;
  for (const Info& info : tensors_) {
    if (!names.insert(info.name).second) return fail(ErrorCode::kInvalid, "tensor {} is declared twice", info.name);
  }
  return {};
}

Status SafetensorsWriter::begin_file(const std::string& path) {
  SHOEHORN_RETURN_IF_ERROR(check_names());
  const fs::path target(path);
  directory_ = target.has_parent_path() ? target.parent_path().string() : ".";
  file_name_ = target.filename().string();
  n_shards_ = assign_shards(0);
  return start();
}

Status SafetensorsWriter::begin(const std::string& directory, uint64_t max_shard_bytes) {
  SHOEHORN_RETURN_IF_ERROR(check_names());
  directory_ = directory;
  n_shards_ = assign_shards(max_shard_bytes);

  std::set<std::string> own;
  for (size_t shard = 0; shard < n_shards_; ++shard) own.insert(shard_name(shard));
  if (n_shards_ > 1) own.insert(kIndexName);
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (is_weights_file(name) && !own.contains(name)) {
      return fail(ErrorCode::kInvalid,
                  "{} already holds {}, which would be mixed up with the new weights; remove it first", directory,
                  name);
    }
  }
  if (error) return fail(ErrorCode::kIo, "{}: {}", directory, error.message());
  const fs::space_info space = fs::space(directory, error);
  if (!error && total_bytes_ > space.available) {
    return fail(ErrorCode::kTooLarge, "{}: the weights take {} bytes, the disk has {} free", directory, total_bytes_,
                static_cast<uint64_t>(space.available));
  }
  return start();
}

Status SafetensorsWriter::start() {
  shards_.clear();
  current_ = 0;
  written_ = 0;
  SHOEHORN_RETURN_IF_ERROR(open_shard(0));
  return skip_empty();
}

Status SafetensorsWriter::open_shard(size_t shard) {
  const std::string text = header(shard);
  uint64_t bytes = 8 + text.size();
  for (const Info& info : tensors_) bytes += info.shard == shard ? info.bytes : 0;
  SHOEHORN_TRY(auto file, OutputFile::create((fs::path(directory_) / shard_name(shard)).string(), bytes));
  const uint64_t length = text.size();
  SHOEHORN_RETURN_IF_ERROR(file.write(std::as_bytes(std::span(&length, 1))));
  SHOEHORN_RETURN_IF_ERROR(file.write(std::as_bytes(std::span(text.data(), text.size()))));
  shards_.push_back(std::move(file));
  return {};
}

/// Moves past tensors that are complete, opening the next shard where one starts.
Status SafetensorsWriter::skip_empty() {
  while (current_ < tensors_.size() && written_ == tensors_[current_].bytes) {
    ++current_;
    written_ = 0;
    if (current_ < tensors_.size() && tensors_[current_].shard == shards_.size()) {
      SHOEHORN_RETURN_IF_ERROR(open_shard(shards_.size()));
    }
  }
  return {};
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (shards_.empty()) return fail(ErrorCode::kInvalid, "append before begin");
  if (bytes.empty()) return {};
  if (current_ == tensors_.size()) return fail(ErrorCode::kInvalid, "{} bytes more than declared", bytes.size());
  const Info& info = tensors_[current_];
  if (bytes.size() > info.bytes - written_) {
    return fail(ErrorCode::kInvalid, "tensor {} takes {} bytes, {} were given", info.name, info.bytes,
                written_ + bytes.size());
  }
  SHOEHORN_RETURN_IF_ERROR(shards_.back().write(bytes));
  written_ += bytes.size();
  return skip_empty();
}

Status SafetensorsWriter::commit() {
  if (shards_.empty()) return fail(ErrorCode::kInvalid, "commit before begin");
  if (current_ < tensors_.size()) {
    return fail(ErrorCode::kInvalid, "tensor {} has {} of its {} bytes", tensors_[current_].name, written_,
                tensors_[current_].bytes);
  }
  // Without an index no reader takes a mix of old and new shards for a checkpoint, should this be interrupted.
  std::error_code ignored;
  if (n_shards_ > 1) fs::remove(fs::path(directory_) / kIndexName, ignored);
  for (OutputFile& shard : shards_) SHOEHORN_RETURN_IF_ERROR(shard.commit());
  if (n_shards_ == 1) return {};
  Json index;
  index["metadata"]["total_size"] = total_bytes_;
  Json& map = index["weight_map"] = Json::object();
  for (const Info& info : tensors_) map[info.name] = shard_name(info.shard);
  return write_file((fs::path(directory_) / kIndexName).string(),
                    index.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace shoehorn::io
