#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/checked.h"
#include "base/json.h"

namespace shoehorn::io {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr int kMaxDepth = 16;                      // the format needs 3; `__metadata__` may hold what it likes

struct Entry {
  std::string name;
  std::optional<DType> dtype = {};
  std::vector<uint64_t> shape = {}, offsets = {};
  bool has_shape = false, has_offsets = false;
};

/// Collects the header's entries as the parser meets them. A DOM would take many times the header's size and would hide
/// duplicate keys.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  std::vector<Entry> entries;
  std::string problem;

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t value) override { return number(value < 0 ? "a negative number" : "a number"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_list()) return scalar();
    auto& list = field_ == Field::kShape ? entries.back().shape : entries.back().offsets;
    if (list.size() == kMaxTensorDims) return refuse("more than {} numbers in its {}", kMaxTensorDims, key_);
    list.push_back(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) override { return number(printable(text)); }
  bool string(string_t& value) override {
    if (depth_ == 2 && field_ == Field::kDType) {
      entries.back().dtype = dtype_from_name(value);
      if (!entries.back().dtype) return refuse("dtype {} is not supported", printable(value));
      return true;
    }
    return scalar();
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (depth_ == 1 && !metadata_) entries.push_back(Entry{.name = key_});
    if (depth_ >= 2 && field_ != Field::kOther) return refuse("its {} is an object", key_);
    return descend();
  }
  bool key(string_t& value) override {
    if (depth_ == 1) {
      metadata_ = value == "__metadata__";
      field_ = Field::kOther;
      if (!metadata_) {
        if (entries.size() == kMaxTensors) return refuse_file("more than {} tensors", kMaxTensors);
        if (!names_.insert(value).second) return refuse_file("tensor {} is named twice", printable(value));
      }
      key_ = value;
    } else if (depth_ == 2 && !metadata_) {
      return tensor_key(value);
    }
    return true;
  }
  bool end_object() override {
    if (--depth_ != 1 || metadata_) return true;
    const Entry& entry = entries.back();
    if (!entry.dtype) return refuse("has no dtype");
    if (!entry.has_shape) return refuse("has no shape");
    if (!entry.has_offsets) return refuse("has no data_offsets");
    if (entry.offsets.size() != 2) return refuse("data_offsets has {} numbers, not 2", entry.offsets.size());
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return refuse_file("the header is not a JSON object");
    if (depth_ == 1) return refuse_file("the entry {} is not an object", printable(key_));
    if (!metadata_ && (field_ == Field::kDType || (depth_ > 2 && in_list())))
      return refuse("its {} is malformed", key_);
    if (depth_ == 2 && field_ == Field::kShape) entries.back().has_shape = true;
    if (depth_ == 2 && field_ == Field::kOffsets) entries.back().has_offsets = true;
    return descend();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    return refuse_file("the header is not valid JSON at byte {}", position);
  }

 private:
  enum class Field { kOther, kDType, kShape, kOffsets };

  bool tensor_key(const std::string& value) {
    const auto once = [&](Field field, bool seen) {
      field_ = field;
      key_ = value;
      return !seen || refuse("{} is given twice", value);
    };
    const Entry& entry = entries.back();
    if (value == "dtype") return once(Field::kDType, entry.dtype.has_value());
    if (value == "shape") return once(Field::kShape, entry.has_shape);
    if (value == "data_offsets") return once(Field::kOffsets, entry.has_offsets);
    field_ = Field::kOther;
    return true;
  }
  bool in_list() const { return !metadata_ && depth_ == 3 && (field_ == Field::kShape || field_ == Field::kOffsets); }
  bool number(std::string_view what) {
    if (in_list()) return refuse("its {} holds {}, not a whole number of at most 64 bits", key_, what);
    return scalar();
  }
  bool scalar() {
    if (depth_ == 0) return refuse_file("the header is not a JSON object");
    if (depth_ == 1) return refuse_file("the entry {} is not an object", printable(key_));
    if (!metadata_ && field_ != Field::kOther) return refuse("its {} is malformed", key_);
    return true;
  }
  bool descend() {
    if (++depth_ > kMaxDepth) return refuse_file("the header is nested deeper than {} levels", kMaxDepth);
    return true;
  }
  template <class... Args>
  bool refuse(fmt::format_string<Args...> format, Args&&... args) {
    const std::string_view name = entries.empty() ? std::string_view(key_) : std::string_view(entries.back().name);
    problem = "tensor " + printable(name) + ": " + fmt::format(format, std::forward<Args>(args)...);
    return false;
  }
  template <class... Args>
  bool refuse_file(fmt::format_string<Args...> format, Args&&... args) {
    if (problem.empty()) problem = fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  int depth_ = 0;
  bool metadata_ = false;
  Field field_ = Field::kOther;
  std::string key_;
  std::unordered_set<std::string> names_;
};

/// Checks an entry against the data section and turns it into a tensor.
Expected<StoredTensor> check_entry(Entry&& entry, std::span<const std::byte> data, const std::string& path) {
  const auto where = [&] { return path + ": tensor " + printable(entry.name); };
  const DTypeInfo& info = dtype_info(*entry.dtype);
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  const auto count = element_count(entry.shape);
  const auto bytes = count ? checked_mul(*count, info.bytes) : std::nullopt;
  if (!bytes)
    return fail(ErrorCode::kInvalid, "{}: the size of shape [{}] wraps", where(), fmt::join(entry.shape, ", "));
  if (begin > end) return fail(ErrorCode::kInvalid, "{}: data_offsets [{}, {}] run backwards", where(), begin, end);
  if (end - begin != *bytes) {
    return fail(ErrorCode::kInvalid, "{}: shape [{}] of {} takes {} bytes, data_offsets give {}", where(),
                fmt::join(entry.shape, ", "), info.name, *bytes, end - begin);
  }
  if (end > data.size()) {
    return fail(ErrorCode::kInvalid, "{}: ends at byte {} of the data, the file holds {} (truncated?)", where(), end,
                data.size());
  }
  return StoredTensor{.name = std::move(entry.name),
                      .dtype = *entry.dtype,
                      .shape = std::move(entry.shape),
                      .stride = {},
                      .data = data.subspan(begin, end - begin)};
}

}  // namespace

Expected<std::vector<StoredTensor>> read_safetensors(std::span<const std::byte> bytes, const std::string& path) {
  if (bytes.size() < 8) {
    return fail(ErrorCode::kInvalid, "{}: {} bytes, too short for a safetensors header", path, bytes.size());
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxHeaderBytes) {
    return fail(ErrorCode::kInvalid, "{}: not safetensors: header length {} is over the limit of {}", path,
                header_bytes, kMaxHeaderBytes);
  }
  if (!range_inside(8, header_bytes, bytes.size())) {
    return fail(ErrorCode::kInvalid, "{}: header length {} reaches past the end of the file ({} bytes; truncated?)",
                path, header_bytes, bytes.size());
  }

  HeaderReader reader;
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  if (!Json::sax_parse(text, text + header_bytes, &reader)) {
    return fail(ErrorCode::kInvalid, "{}: {}", path, reader.problem);
  }

  const auto data = bytes.subspan(8 + header_bytes);
  std::vector<StoredTensor> tensors;
  tensors.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) {
    SHOEHORN_TRY(auto tensor, check_entry(std::move(entry), data, path));
    tensors.push_back(std::move(tensor));
  }
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.data.data() != b.data.data() ? a.data.data() < b.data.data() : a.data.size() < b.data.size();
  });
  const StoredTensor* previous = nullptr;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.data.empty()) continue;
    if (previous != nullptr && tensor.data.data() < previous->data.data() + previous->data.size()) {
      return fail(ErrorCode::kInvalid, "{}: tensors {} and {} overlap", path, printable(previous->name),
                  printable(tensor.name));
    }
    previous = &tensor;
  }
  return tensors;
}

}  // namespace shoehorn::io
