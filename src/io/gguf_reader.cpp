#include <algorithm>
#include <bit>
#include <deque>
#include <set>

#include "base/checked.h"
#include "io/cursor.h"
#include "io/gguf.h"
#include "io/gguf_types.h"
#include "io/i2s.h"
#include "seal/sealed_file.h"

namespace shoehorn::io {
namespace {

// Limits far above any real model, low enough that a hostile header cannot make us allocate much more than its own size.
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensors = 1u << 20;
constexpr uint64_t kMaxKeys = 1u << 20;
constexpr uint64_t kMaxStringArray = 1u << 24;
constexpr uint64_t kMaxMetadataBytes = uint64_t{256} << 20;  // of a value, and of all; it is copied, where weights are not
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxAlignment = 1u << 20;
constexpr uint64_t kMaxParts = 99999;

Expected<bool> as_bool(uint8_t byte) {
  if (byte > 1) return fail(ErrorCode::kInvalid, "a boolean holds {}", byte);
  return byte == 1;
}

template <class T>
Expected<GgufValue> read_scalar(Cursor& in) {
  SHOEHORN_TRY(const T value, in.read<T>("a value"));
  return GgufValue(value);
}

Status check_length(uint64_t count, uint64_t value_bytes) {
  if (count <= kMaxMetadataBytes / value_bytes) return {};
  return fail(ErrorCode::kInvalid, "an array of {} values is over the limit of {} bytes", count, kMaxMetadataBytes);
}

template <class T>
Expected<GgufValue> read_numbers(Cursor& in, uint64_t count) {
  SHOEHORN_RETURN_IF_ERROR(check_length(count, sizeof(T)));
  SHOEHORN_TRY(auto values, in.read_array<T>("an array", count));
  return GgufValue(GgufArray(std::move(values)));
}

Expected<GgufValue> read_array(Cursor& in) {
  SHOEHORN_TRY(const auto type, in.read<uint32_t>("an array's type"));
  SHOEHORN_TRY(const auto count, in.read<uint64_t>("an array's length"));
  switch (static_cast<GgufType>(type)) {
    case GgufType::kU8: return read_numbers<uint8_t>(in, count);
    case GgufType::kI8: return read_numbers<int8_t>(in, count);
    case GgufType::kU16: return read_numbers<uint16_t>(in, count);
    case GgufType::kI16: return read_numbers<int16_t>(in, count);
    case GgufType::kU32: return read_numbers<uint32_t>(in, count);
    case GgufType::kI32: return read_numbers<int32_t>(in, count);
    case GgufType::kF32: return read_numbers<float>(in, count);
    case GgufType::kU64: return read_numbers<uint64_t>(in, count);
    case GgufType::kI64: return read_numbers<int64_t>(in, count);
    case GgufType::kF64: return read_numbers<double>(in, count);
    case GgufType::kBool: {
      SHOEHORN_RETURN_IF_ERROR(check_length(count, 1));
      SHOEHORN_TRY(const auto raw, in.read_array<uint8_t>("an array", count));
      std::vector<bool> values;
      values.reserve(raw.size());
      for (const uint8_t byte : raw) {
        SHOEHORN_TRY(const bool value, as_bool(byte));
        values.push_back(value);
      }
      return GgufValue(GgufArray(std::move(values)));
    }
    case GgufType::kString: {
      if (count > kMaxStringArray || count > in.remaining() / sizeof(uint64_t)) {
        return fail(ErrorCode::kInvalid, "an array of {} strings does not fit (limit {}, {} bytes are left)", count,
                    kMaxStringArray, in.remaining());
      }
      std::vector<std::string> values;
      values.reserve(count);
      for (uint64_t i = 0; i < count; ++i) {
        SHOEHORN_TRY(auto text, in.read_string("a string in an array", kMaxMetadataBytes));
        values.push_back(std::move(text));
      }
      return GgufValue(GgufArray(std::move(values)));
    }
    case GgufType::kArray: return fail(ErrorCode::kUnsupported, "arrays of arrays are not supported");
  }
  return fail(ErrorCode::kInvalid, "unknown array type {}", type);
}

Expected<GgufValue> read_value(Cursor& in) {
  SHOEHORN_TRY(const auto type, in.read<uint32_t>("a value's type"));
  switch (static_cast<GgufType>(type)) {
    case GgufType::kU8: return read_scalar<uint8_t>(in);
    case GgufType::kI8: return read_scalar<int8_t>(in);
    case GgufType::kU16: return read_scalar<uint16_t>(in);
    case GgufType::kI16: return read_scalar<int16_t>(in);
    case GgufType::kU32: return read_scalar<uint32_t>(in);
    case GgufType::kI32: return read_scalar<int32_t>(in);
    case GgufType::kF32: return read_scalar<float>(in);
    case GgufType::kU64: return read_scalar<uint64_t>(in);
    case GgufType::kI64: return read_scalar<int64_t>(in);
    case GgufType::kF64: return read_scalar<double>(in);
    case GgufType::kBool: {
      SHOEHORN_TRY(const auto byte, in.read<uint8_t>("a boolean"));
      SHOEHORN_TRY(const bool value, as_bool(byte));
      return GgufValue(value);
    }
    case GgufType::kString: {
      SHOEHORN_TRY(auto text, in.read_string("a string", kMaxMetadataBytes));
      return GgufValue(std::move(text));
    }
    case GgufType::kArray: return read_array(in);
  }
  return fail(ErrorCode::kInvalid, "unknown value type {}", type);
}

struct RawTensor {
  GgufTensor tensor;
  uint64_t offset = 0, bytes = 0;
  bool i2s = false;  ///< its bytes are I2_S and become TQ2_0
};

Expected<RawTensor> read_tensor_info(Cursor& in) {
  RawTensor raw;
  SHOEHORN_TRY(raw.tensor.name, in.read_string("a tensor's name", kMaxKeyBytes));
  const auto bad = [&](std::string why) { return fail(ErrorCode::kInvalid, "tensor {}: {}", raw.tensor.name, why); };
  SHOEHORN_TRY(const auto n_dims, in.read<uint32_t>("a tensor's n_dims"));
  if (n_dims > kMaxDims) return bad(fmt::format("n_dims is {}, at most {} are allowed", n_dims, kMaxDims));
  uint64_t n_elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    SHOEHORN_TRY(const auto dim, in.read<uint64_t>("a tensor's shape"));
    const auto product = checked_mul(n_elements, dim);
    if (!product || *product > uint64_t{INT64_MAX}) return bad("its number of elements overflows");
    if (dim == 0) return bad("a dimension is 0");
    n_elements = *product;
    raw.tensor.shape.push_back(dim);
  }
  SHOEHORN_TRY(const auto type, in.read<uint32_t>("a tensor's type"));
  SHOEHORN_TRY(raw.offset, in.read<uint64_t>("a tensor's offset"));
  const quant::Format* format = quant::find_format(type);
  if (type == kI2sId && i2s_layout()) {
    raw.i2s = true;
    format = &quant::format(quant::Type::TQ2_0);
  } else if (type == kI2sId) {
    return fail(ErrorCode::kUnsupported,
                "tensor {}: type 36 is I2_S of bitnet.cpp, whose files do not say how it lies in them: --i2s-layout x86 or arm does, as the machine "
                "was that wrote it (in old files of llama.cpp it is IQ4_NL_4_4, which is retired)",
                raw.tensor.name);
  } else if (format == nullptr) {
    const std::string_view name = quant::foreign_type_name(type);
    if (name.empty()) return bad(fmt::format("type id {} does not exist", type));
    return fail(ErrorCode::kUnsupported, "tensor {}: type {} is not supported", raw.tensor.name, name);
  }
  raw.tensor.type = format->type;
  if (raw.tensor.n_cols() % format->block_size != 0) {
    return bad(fmt::format("row length {} is no multiple of {}'s block of {}", raw.tensor.n_cols(), format->name,
                           format->block_size));
  }
  const auto bytes = raw.i2s ? i2s_bytes(n_elements) : checked_mul(n_elements / format->block_size, format->block_bytes);
  if (!bytes) return bad("its size in bytes overflows");
  raw.bytes = *bytes;
  return raw;
}

/// Tensors that are in a file otherwise than they are read.
using Transcoded = std::deque<std::vector<std::byte>>;

/// "DIR/NAME-00001-of-00003.gguf" -> part number, count and the name of any part. Nothing when it is no split name.
struct SplitName {
  std::string prefix;
  uint64_t number = 0, count = 0;
  std::string part(uint64_t i) const { return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, count); }
};
std::optional<SplitName> parse_split_name(const std::string& path) {
  constexpr std::string_view kShape = "-00000-of-00000.gguf";
  if (path.size() <= kShape.size()) return std::nullopt;
  const std::string tail = path.substr(path.size() - kShape.size());
  for (size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = kShape[i] == '0';
    if (digit ? (tail[i] < '0' || tail[i] > '9') : tail[i] != kShape[i]) return std::nullopt;
  }
  return SplitName{path.substr(0, path.size() - kShape.size()), std::stoull(tail.substr(1, 5)),
                   std::stoull(tail.substr(10, 5))};
}

}  // namespace

GgufTensor GgufTensor::rows(uint64_t first, uint64_t n) const {
  GgufTensor out = *this;
  const bool vector = shape.size() == 1;
  const uint64_t row_bytes = data.size() / (vector ? n_cols() : n_rows());
  out.shape = vector ? std::vector<uint64_t>{n} : std::vector<uint64_t>{n_cols(), n};
  out.data = data.subspan(first * row_bytes, n * row_bytes);
  return out;
}

uint64_t GgufTensor::n_rows() const {
  uint64_t n = 1;
  for (size_t i = 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

Expected<GgufFile> GgufFile::open(const std::string& path, FileMode mode) {
  GgufFile file;
  file.path_ = path;
  const auto with_path = [](const std::string& name, Status status) -> Status {
    if (status) return status;
    return annotate_once(status.error(), name);
  };
  SHOEHORN_RETURN_IF_ERROR(with_path(path, file.open_part(path, mode, true)));
  const uint64_t count = file.metadata_.get_uint("split.count").value_or(1);
  if (count <= 1) return file;

  const auto split = parse_split_name(path);
  if (!split || split->count != count || count > kMaxParts) {
    return fail(ErrorCode::kInvalid, "{}: is part of a split of {} files; its name must end in -00001-of-{:05}.gguf", path,
                count, count);
  }
  if (split->number != 1 || file.metadata_.get_uint("split.no").value_or(0) != 0) {
    return fail(ErrorCode::kInvalid, "{}: is not the first part of a split; open {}", path, split->part(1));
  }
  for (uint64_t i = 2; i <= count; ++i) {
    SHOEHORN_RETURN_IF_ERROR(with_path(split->part(i), file.open_part(split->part(i), mode, false)));
  }
  if (const auto total = file.metadata_.get_uint("split.tensors.count"); total && *total != file.tensors_.size()) {
    return fail(ErrorCode::kInvalid, "{}: the split announces {} tensors, its parts hold {}", path, *total,
                file.tensors_.size());
  }
  return file;
}

GgufFile GgufFile::of(std::string path, GgufMetadata metadata, std::vector<GgufTensor> tensors,
                      std::shared_ptr<const void> owner) {
  GgufFile file;
  file.path_ = std::move(path);
  file.version_ = kGgufVersion;
  file.metadata_ = std::move(metadata);
  file.tensors_ = std::move(tensors);
  file.owner_ = std::move(owner);
  for (size_t i = 0; i < file.tensors_.size(); ++i) file.index_.emplace(file.tensors_[i].name, i);
  return file;
}

Status GgufFile::open_part(const std::string& path, FileMode mode, bool first) {
  static_assert(std::endian::native == std::endian::little, "GGUF is little-endian");
  SHOEHORN_TRY(auto mapped, seal::open_file(path, mode));
  files_.push_back(std::make_unique<MappedFile>(std::move(mapped)));
  const MappedFile* source = files_.back().get();
  Cursor in(source->bytes());
  SHOEHORN_TRY(const auto magic, in.read<uint32_t>("the magic"));
  if (magic != kGgufMagic) return fail(ErrorCode::kInvalid, "not a GGUF file (magic {:#010x})", magic);
  SHOEHORN_TRY(const auto version, in.read<uint32_t>("the version"));
  if (version != 2 && version != 3) {
    const bool swapped = __builtin_bswap32(version) <= 3;
    return fail(ErrorCode::kUnsupported, "GGUF version {} is not supported{}", version,
                swapped ? " (a big-endian file)" : " (2 and 3 are)");
  }
  version_ = version;
  SHOEHORN_TRY(const auto n_tensors, in.read<uint64_t>("the tensor count"));
  SHOEHORN_TRY(const auto n_keys, in.read<uint64_t>("the key count"));
  if (n_tensors > kMaxTensors || n_tensors > in.remaining() / 24) {
    return fail(ErrorCode::kInvalid, "announces {} tensors (limit {}, {} bytes are left)", n_tensors, kMaxTensors,
                in.remaining());
  }
  if (n_keys > kMaxKeys || n_keys > in.remaining() / 13) {
    return fail(ErrorCode::kInvalid, "announces {} keys (limit {}, {} bytes are left)", n_keys, kMaxKeys, in.remaining());
  }

  GgufMetadata metadata;
  for (uint64_t i = 0; i < n_keys; ++i) {
    SHOEHORN_TRY(auto key, in.read_string("a key", kMaxKeyBytes));
    if (metadata.contains(key)) return fail(ErrorCode::kInvalid, "key {} appears twice", key);
    auto value = read_value(in);
    if (!value) return annotate(value.error(), fmt::format("key {}", key));
    metadata.set(std::move(key), std::move(*value));
    if (in.position() > kMaxMetadataBytes) {
      return fail(ErrorCode::kInvalid, "the metadata is over the limit of {} bytes", kMaxMetadataBytes);
    }
  }
  uint64_t alignment = kGgufDefaultAlignment;
  if (const GgufValue* value = metadata.find("general.alignment")) {
    const auto* given = std::get_if<uint32_t>(value);
    if (given == nullptr || !std::has_single_bit(*given) || *given > kMaxAlignment) {
      return fail(ErrorCode::kInvalid, "general.alignment must be a power of two of type UINT32, at most {}", kMaxAlignment);
    }
    alignment = *given;
  }

  std::vector<RawTensor> raw;
  raw.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    SHOEHORN_TRY(auto info, read_tensor_info(in));
    raw.push_back(std::move(info));
  }
  const auto data_start = round_up(in.position(), alignment);
  const uint64_t total = source->bytes().size();
  if (n_tensors > 0 && data_start > total) return fail(ErrorCode::kInvalid, "truncated before the tensor data");

  std::set<std::pair<uint64_t, uint64_t>> ranges;
  for (RawTensor& info : raw) {
    GgufTensor& tensor = info.tensor;
    if (info.offset % alignment != 0) {
      return fail(ErrorCode::kInvalid, "tensor {}: offset {} is not aligned to {}", tensor.name, info.offset, alignment);
    }
    if (!range_inside(info.offset, info.bytes, total - data_start)) {
      return fail(ErrorCode::kInvalid, "tensor {}: {} bytes at offset {} reach past the end of the file ({} data bytes)",
                  tensor.name, info.bytes, info.offset, total - data_start);
    }
    const auto next = ranges.lower_bound({info.offset, 0});
    if ((next != ranges.end() && next->first < info.offset + info.bytes) ||
        (next != ranges.begin() && std::prev(next)->second > info.offset)) {
      return fail(ErrorCode::kInvalid, "tensor {}: its data at offset {} overlaps another tensor's", tensor.name,
                  info.offset);
    }
    ranges.insert({info.offset, info.offset + info.bytes});
    tensor.data = source->bytes().subspan(data_start + info.offset, info.bytes);
    tensor.file = source;
    if (info.i2s) {
      auto blocks = i2s_to_tq2_0(tensor.data, tensor.n_elements(), *i2s_layout());
      if (!blocks) return annotate(blocks.error(), "tensor " + tensor.name);
      if (owner_ == nullptr) owner_ = std::make_shared<Transcoded>();
      // Of a file that was opened here it is nothing else.
      auto& kept = *static_cast<Transcoded*>(const_cast<void*>(owner_.get()));
      kept.push_back(std::move(*blocks));
      tensor.data = kept.back();
      tensor.file = nullptr;
      source->release(source->bytes().subspan(data_start + info.offset, info.bytes));
    }
    if (!index_.try_emplace(tensor.name, tensors_.size()).second) {
      return fail(ErrorCode::kInvalid, "tensor {} appears twice", tensor.name);
    }
    tensors_.push_back(std::move(tensor));
  }
  if (first) metadata_ = std::move(metadata);
  return {};
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Status GgufFile::lock() const {
  for (const auto& file : files_) SHOEHORN_RETURN_IF_ERROR(file->lock());
  return {};
}

uint64_t GgufFile::file_bytes() const {
  uint64_t total = 0;
  for (const auto& file : files_) total += file->bytes().size();
  if (files_.empty()) {
    for (const GgufTensor& tensor : tensors_) total += tensor.data.size();
  }
  return total;
}

}  // namespace shoehorn::io
