#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "io/gguf.h"
#include "io/gguf_types.h"
#include "io/tensor_hashes.h"

namespace shoehorn::io {
namespace {

template <class T>
constexpr GgufType type_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::kU8;
  else if constexpr (std::is_same_v<T, int8_t>) return GgufType::kI8;
  else if constexpr (std::is_same_v<T, uint16_t>) return GgufType::kU16;
  else if constexpr (std::is_same_v<T, int16_t>) return GgufType::kI16;
  else if constexpr (std::is_same_v<T, uint32_t>) return GgufType::kU32;
  else if constexpr (std::is_same_v<T, int32_t>) return GgufType::kI32;
  else if constexpr (std::is_same_v<T, float>) return GgufType::kF32;
  else if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  else if constexpr (std::is_same_v<T, std::string>) return GgufType::kString;
  else if constexpr (std::is_same_v<T, uint64_t>) return GgufType::kU64;
  else if constexpr (std::is_same_v<T, int64_t>) return GgufType::kI64;
  else if constexpr (std::is_same_v<T, double>) return GgufType::kF64;
  else return GgufType::kArray;
}

using Bytes = std::vector<std::byte>;

void put_raw(Bytes& out, const void* data, size_t size) {
  const size_t at = out.size();
  out.resize(at + size);
  if (size > 0) std::memcpy(out.data() + at, data, size);
}

template <class T>
void put(Bytes& out, T value) {
  put_raw(out, &value, sizeof value);
}

void put(Bytes& out, const std::string& text) {
  put(out, uint64_t{text.size()});
  put_raw(out, text.data(), text.size());
}

void put_value(Bytes& out, const GgufValue& value);

void put_array(Bytes& out, const GgufArray& array) {
  std::visit(
      [&](const auto& elements) {
        using T = typename std::decay_t<decltype(elements)>::value_type;
        put(out, static_cast<uint32_t>(type_of<T>()));
        put(out, uint64_t{elements.size()});
        for (const auto& element : elements) {
          if constexpr (std::is_same_v<T, bool>) {
            put(out, static_cast<uint8_t>(element ? 1 : 0));
          } else {
            put(out, element);
          }
        }
      },
      array);
}

/// The value without its type tag.
void put_value(Bytes& out, const GgufValue& value) {
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, GgufArray>) {
          put_array(out, v);
        } else if constexpr (std::is_same_v<T, bool>) {
          put(out, static_cast<uint8_t>(v ? 1 : 0));
        } else {
          put(out, v);
        }
      },
      value);
}

}  // namespace

Status GgufWriter::add_tensor(std::string name, quant::Type type, std::vector<uint64_t> shape) {
  const quant::Format& format = quant::format(type);
  uint64_t n = 1;
  for (const uint64_t dim : shape) {
    const auto product = checked_mul(n, dim);
    if (!product) return fail(ErrorCode::kInvalid, "tensor {}: its number of elements overflows", name);
    n = *product;
  }
  for (const Info& other : tensors_) {
    if (other.name == name) return fail(ErrorCode::kInvalid, "tensor {} is declared twice", name);
  }
  if (n == 0) return fail(ErrorCode::kInvalid, "tensor {} has no elements", name);
  if (shape.empty() || shape[0] % format.block_size != 0) {
    return fail(ErrorCode::kInvalid, "tensor {}: row length {} is no multiple of {}'s block of {}", name,
                shape.empty() ? 0 : shape[0], format.name, format.block_size);
  }
  const uint64_t bytes = quant::row_bytes(format, n);
  tensors_.push_back({std::move(name), type, std::move(shape), data_bytes_, bytes});
  data_bytes_ = round_up(data_bytes_ + bytes, kGgufDefaultAlignment);
  return {};
}

std::vector<std::byte> GgufWriter::header() const {
  Bytes out;
  put(out, kGgufMagic);
  put(out, kGgufVersion);
  put(out, uint64_t{tensors_.size()});
  put(out, uint64_t{metadata_.entries().size()});
  for (const auto& [key, value] : metadata_.entries()) {
    put(out, key);
    std::visit([&](const auto& v) { put(out, static_cast<uint32_t>(type_of<std::decay_t<decltype(v)>>())); }, value);
    put_value(out, value);
  }
  for (const Info& info : tensors_) {
    put(out, info.name);
    put(out, static_cast<uint32_t>(info.shape.size()));
    for (const uint64_t dim : info.shape) put(out, dim);
    put(out, static_cast<uint32_t>(info.type));
    put(out, info.offset);
  }
  out.resize(round_up(out.size(), kGgufDefaultAlignment));
  return out;
}

uint64_t GgufWriter::file_bytes() const { return header().size() + data_bytes_; }

Status GgufWriter::begin(const std::string& path) {
  const auto bytes = header();
  SHOEHORN_TRY(out_, OutputFile::create(path, bytes.size() + data_bytes_));
  current_ = 0;
  written_ = 0;
  return out_.write(bytes);
}

void GgufWriter::hash_tensors() {
  hashes_ = true;
  hashed_.clear();
  for (const Info& info : tensors_) hashed_.push_back({std::string(64, '0'), quant::format(info.type).name, info.name});
  // Last, also where the metadata was copied from a file that had hashes: the same file whatever it is made of.
  metadata_.erase(kTensorHashes);
  metadata_.set(kTensorHashes, to_gguf(hashed_));
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
  if (current_ >= tensors_.size() || bytes.size() > tensors_[current_].bytes - written_) {
    return fail(ErrorCode::kInvalid, "more tensor data than declared");
  }
  SHOEHORN_RETURN_IF_ERROR(out_.write(bytes));
  written_ += bytes.size();
  if (hashes_) digest_.add(bytes);
  if (written_ == tensors_[current_].bytes) {
    if (hashes_) hashed_[current_].sha256 = std::exchange(digest_, Digest()).hex();
    const std::vector<std::byte> padding(round_up(written_, kGgufDefaultAlignment) - written_);
    SHOEHORN_RETURN_IF_ERROR(out_.write(padding));
    ++current_;
    written_ = 0;
  }
  return {};
}

Status GgufWriter::complete() {
  if (current_ != tensors_.size()) {
    return fail(ErrorCode::kInvalid, "tensor {} is incomplete: {} of {} bytes", tensors_[current_].name, written_,
                tensors_[current_].bytes);
  }
  if (!hashes_) return {};
  hashes_ = false;
  metadata_.set(kTensorHashes, to_gguf(hashed_));
  return write_header();
}

Status GgufWriter::write_header() { return out_.write_at(0, header()); }

Expected<std::string> GgufWriter::readable_path() {
  SHOEHORN_RETURN_IF_ERROR(complete());
  return out_.readable_path();
}

Status GgufWriter::replace(const std::vector<std::pair<std::string, GgufValue>>& values) {
  const size_t before = header().size();
  for (const auto& [key, value] : values) {
    if (!metadata_.contains(key)) return fail(ErrorCode::kInvalid, "key {} was not declared", key);
    metadata_.set(key, value);
  }
  if (const size_t after = header().size(); after != before)
    return fail(ErrorCode::kInvalid, "the metadata's size changed from {} to {} bytes", before, after);
  return write_header();
}

Status GgufWriter::commit() {
  SHOEHORN_RETURN_IF_ERROR(complete());
  return out_.commit();
}

}  // namespace shoehorn::io
