#include "io/pytorch_bin.h"

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "io/pickle.h"
#include "io/zip_archive.h"

namespace shoehorn::io {
namespace {

using pickle::Kind;
using pickle::Ref;
using pickle::Value;

constexpr int kMaxDictDepth = 32;
constexpr size_t kMaxListed = 10'000;

/// Keys under which trainers keep the model's state dict.
constexpr auto kWrappers = std::to_array<std::string_view>(
    {"model", "state_dict", "model_state_dict", "model_state", "module", "net", "network", "weights", "params"});

/// What a training checkpoint holds beside the model; nothing when `key` is not known as such.
const char* training_state(std::string_view key) {
  if (key.starts_with("optim")) return "optimizer state";
  if (key.ends_with("scheduler") || key.ends_with("schedulers")) return "scheduler state";
  if (key == "ema" || key.starts_with("ema_") || key.ends_with("_ema")) return "moving average of the weights";
  if (key == "scaler" || key == "grad_scaler" || key == "amp") return "gradient scaler state";
  return nullptr;
}

/// Walks the object graph and collects tensors.
class Flattener {
 public:
  Flattener(const pickle::Pickle& pickle, const ZipArchive& zip, std::string folder, const std::string& path)
      : pickle_(pickle), zip_(zip), folder_(std::move(folder)), path_(path), seen_(pickle.values.size(), false) {}

  Status dict(Ref ref, const std::string& prefix, int depth);

  TorchFile result;

 private:
  Status entry(const std::string& prefix, const Value& key, Ref ref, int depth);
  Status tensor(const std::string& name, const Value& value);
  Expected<std::vector<uint64_t>> sizes(const std::string& name, Ref tuple) const;
  void drop(const std::string& name, std::string_view reason) {
    if (result.dropped.size() < kMaxListed) result.dropped.push_back(fmt::format("{} ({})", printable(name), reason));
  }
  std::string where(std::string_view name) const { return path_ + ": tensor " + printable(name); }

  const pickle::Pickle& pickle_;
  const ZipArchive& zip_;
  std::string folder_;
  const std::string& path_;
  std::vector<bool> seen_;  // dicts met before: they may be shared, or contain themselves
};

Status Flattener::dict(Ref ref, const std::string& prefix, int depth) {
  if (depth > kMaxDictDepth) {
    return fail(ErrorCode::kInvalid, "{}: dicts nested deeper than {}", path_, kMaxDictDepth);
  }
  if (seen_[ref]) return {};
  seen_[ref] = true;
  const auto& items = pickle_[ref].items;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    SHOEHORN_RETURN_IF_ERROR(entry(prefix, pickle_[items[i]], items[i + 1], depth));
  }
  return {};
}

Status Flattener::entry(const std::string& prefix, const Value& key, Ref ref, int depth) {
  std::string name;
  if (key.kind == Kind::kString) {
    name = key.text.substr(0, 1024);
  } else if (key.kind == Kind::kInt) {
    name = std::to_string(key.number);
  } else {
    return fail(ErrorCode::kInvalid, "{}: a dict key that is neither text nor a number", path_);
  }
  if (!std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c <= 0x7e; })) {
    const bool is_weight = pickle_[ref].kind == Kind::kTensor;
    if (is_weight) return fail(ErrorCode::kInvalid, "{}: the name is not printable ASCII", where(name));
    drop(prefix + name, "not a tensor");
    return {};
  }

  const Value& value = pickle_[ref];
  const std::string full = prefix + name;
  if (value.kind == Kind::kTensor) return tensor(full, value);
  if (prefix.empty() && (value.kind == Kind::kDict || value.kind == Kind::kList || value.kind == Kind::kOpaque)) {
    if (const char* reason = training_state(name)) {
      drop(full, reason);
      return {};
    }
  }
  if (value.kind != Kind::kDict) {
    drop(full, "not a tensor");
    return {};
  }
  const bool wrapper = prefix.empty() && std::find(kWrappers.begin(), kWrappers.end(), name) != kWrappers.end();
  const size_t n_tensors = result.tensors.size(), n_dropped = result.dropped.size();
  SHOEHORN_RETURN_IF_ERROR(dict(ref, wrapper ? std::string() : full + ".", depth + 1));
  if (result.tensors.size() == n_tensors) {
    result.dropped.resize(n_dropped);
    drop(full, "no tensors in it");
  }
  return {};
}

Expected<std::vector<uint64_t>> Flattener::sizes(const std::string& name, Ref tuple) const {
  const auto& items = pickle_[tuple].items;
  if (items.size() > kMaxTensorDims) {
    return fail(ErrorCode::kInvalid, "{}: {} dimensions, the limit is {}", where(name), items.size(), kMaxTensorDims);
  }
  std::vector<uint64_t> out;
  for (const Ref ref : items) {
    const Value& value = pickle_[ref];
    if (value.kind != Kind::kInt || value.number < 0) {
      return fail(ErrorCode::kInvalid, "{}: a dimension or stride that is no natural number", where(name));
    }
    out.push_back(static_cast<uint64_t>(value.number));
  }
  return out;
}

Status Flattener::tensor(const std::string& name, const Value& value) {
  if (result.tensors.size() == kMaxTensors) {
    return fail(ErrorCode::kInvalid, "{}: more than {} tensors", path_, kMaxTensors);
  }
  const Value& storage = pickle_[value.items[0]];
  const int64_t first = pickle_[value.items[1]].number;
  SHOEHORN_TRY(auto shape, sizes(name, value.items[2]));
  SHOEHORN_TRY(auto stride, sizes(name, value.items[3]));
  if (shape.size() != stride.size()) {
    return fail(ErrorCode::kInvalid, "{}: {} dimensions but {} strides", where(name), shape.size(), stride.size());
  }
  const uint64_t item_bytes = dtype_info(value.dtype).bytes;
  const std::string entry_name = folder_ + "data/" + std::string(storage.text);
  const auto it = zip_.entries().find(entry_name);
  if (it == zip_.entries().end()) {
    return fail(ErrorCode::kInvalid, "{}: its storage {} is missing", where(name), printable(entry_name));
  }
  const std::span<const std::byte> bytes = it->second;
  const auto declared =
      checked_mul(static_cast<uint64_t>(storage.number), storage.typed ? dtype_info(storage.dtype).bytes : 1);
  if (!declared || *declared > bytes.size()) {
    return fail(ErrorCode::kInvalid, "{}: its storage has {} elements declared, {} bytes in the file", where(name),
                storage.number, bytes.size());
  }

  const auto count = element_count(shape);
  const auto size = count ? checked_mul(*count, item_bytes) : std::nullopt;
  if (!size) return fail(ErrorCode::kInvalid, "{}: the size of shape [{}] wraps", where(name), fmt::join(shape, ", "));
  // One past the last element, in elements of the storage.
  std::optional<uint64_t> end = first < 0 ? std::nullopt : std::optional<uint64_t>(first);
  bool contiguous = true;
  if (*count > 0) {
    uint64_t expected = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] == 1) continue;
      if (stride[i] != expected) contiguous = false;
      expected *= shape[i];
      const auto reach = checked_mul(shape[i] - 1, stride[i]);
      end = end && reach ? checked_add(*end, *reach) : std::nullopt;
    }
    end = end ? checked_add(*end, 1) : std::nullopt;
  }
  const auto end_bytes = end ? checked_mul(*end, item_bytes) : std::nullopt;
  if (!end_bytes || *end_bytes > *declared) {
    return fail(ErrorCode::kInvalid, "{}: shape [{}] with strides [{}] at {} reaches outside its storage of {} bytes",
                where(name), fmt::join(shape, ", "), fmt::join(stride, ", "), first, *declared);
  }
  // An expanded view (stride 0) can claim any size.
  if (*size > *declared) {
    return fail(ErrorCode::kInvalid, "{}: a view of {} bytes of a storage of {}", where(name), *size, *declared);
  }
  const uint64_t offset = static_cast<uint64_t>(first) * item_bytes;
  if (*count == 0) {
    result.tensors.push_back({name, value.dtype, std::move(shape), {}, bytes.first(0)});
  } else if (contiguous) {
    result.tensors.push_back({name, value.dtype, std::move(shape), {}, bytes.subspan(offset, *size)});
  } else {
    result.tensors.push_back(
        {name, value.dtype, std::move(shape), std::move(stride), bytes.subspan(offset, *end_bytes - offset)});
  }
  return {};
}

}  // namespace

bool is_legacy_torch(std::span<const std::byte> bytes) {
  if (bytes.size() < 2 || bytes[0] != std::byte{0x80}) return false;
  const auto protocol = std::to_integer<int>(bytes[1]);
  return protocol >= 1 && protocol <= 5;
}

Expected<TorchFile> read_pytorch_bin(std::span<const std::byte> bytes, const std::string& path) {
  if (is_legacy_torch(bytes)) {
    return fail(ErrorCode::kUnsupported,
                "{}: torch's format from before 1.6 (or a bare pickle); load it with a newer torch and torch.save it "
                "again, or better, save safetensors",
                path);
  }
  SHOEHORN_TRY(const auto zip, ZipArchive::open(bytes, path));
  // All entries lie in one folder, named after the file at the time of saving.
  const std::pair<const std::string_view, std::span<const std::byte>>* pickle_entry = nullptr;
  for (const auto& entry : zip.entries()) {
    if (entry.first != "data.pkl" && !entry.first.ends_with("/data.pkl")) continue;
    if (pickle_entry != nullptr) return fail(ErrorCode::kInvalid, "{}: more than one data.pkl", path);
    pickle_entry = &entry;
  }
  if (pickle_entry == nullptr) {
    return fail(ErrorCode::kInvalid, "{}: a zip without data.pkl, not a torch file", path);
  }
  const std::string folder(pickle_entry->first.substr(0, pickle_entry->first.size() - 8));
  if (zip.entries().contains(folder + "constants.pkl")) {
    return fail(ErrorCode::kUnsupported, "{}: a TorchScript program; save its state_dict() instead", path);
  }
  if (const auto it = zip.entries().find(folder + "byteorder"); it != zip.entries().end()) {
    const std::string_view order(reinterpret_cast<const char*>(it->second.data()), it->second.size());
    if (order != "little") {
      return fail(ErrorCode::kUnsupported, "{}: byte order {}; only little is read", path, printable(order));
    }
  }
  auto pickle = pickle::parse(pickle_entry->second);
  if (!pickle) return annotate(pickle.error(), path);
  if ((*pickle)[pickle->root].kind != Kind::kDict) {
    return fail(ErrorCode::kInvalid, "{}: holds no state dict", path);
  }
  Flattener flattener(*pickle, zip, folder, path);
  SHOEHORN_RETURN_IF_ERROR(flattener.dict(pickle->root, "", 0));
  return std::move(flattener.result);
}

}  // namespace shoehorn::io
