#include "io/pytorch_bin.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/checked.h"
#include "io/pickle.h"
#include "io/pickle_json.h"
#include "io/zip_archive.h"

namespace shoehorn::io {
namespace {

using pickle::Kind;
using pickle::Ref;
using pickle::Value;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxListed = 10'000;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxAllNameBytes = size_t{128} << 20;

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

/// The last part of a name that only tensors have.
bool is_weight_name(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return last == "weight" || last == "bias";
}

/// What of a torch.nn.Module is of interest. An object without parameters and modules is none.
struct Module {
  std::optional<Ref> parameters, buffers, modules, unsaved_buffers, config;
  int64_t head_dim = 0;
  std::vector<std::pair<std::string_view, Ref>> calls;  // attributes that a function would have made
};

/// Walks the object graph and collects tensors.
class Flattener {
 public:
  Flattener(const pickle::Pickle& pickle, const ZipArchive& zip, std::string folder, const std::string& path)
      : pickle_(pickle), zip_(zip), folder_(std::move(folder)), path_(path), seen_(pickle.values.size(), false) {}

  Status walk();

  TorchFile result;

 private:
  /// What a dict is: one of a state dict's levels, a module's children, or its parameters or buffers.
  enum class Holder : uint8_t { kDict, kModules, kTensors };

  Status dict(Holder holder, Ref ref, const std::string& prefix, int depth,
              const std::set<std::string_view>& unsaved = {});
  Status entry(Holder holder, const std::string& prefix, const Value& key, Ref ref, int depth);
  Module attributes(Ref object);
  Status module(Ref ref, const Module& module, const std::string& prefix, int depth);
  Status describe_model(Ref ref, const Module& module);
  void list_calls();
  Status tensor(const std::string& name, const Value& value);
  Expected<std::vector<uint64_t>> sizes(const std::string& name, Ref tuple) const;
  void drop(std::string_view name, std::string_view reason) {
    if (result.dropped.size() < kMaxListed) result.dropped.push_back(fmt::format("{} ({})", printable(name), reason));
  }
  void drop(std::string_view name, Ref ref) {
    if (result.dropped.size() >= kMaxListed) return;
    drop(name, pickle::describe(pickle_.values, ref));
    if (pickle_[ref].kind == Kind::kRecord) named_.push_back(ref);
  }
  std::string where(std::string_view name) const { return path_ + ": tensor " + printable(name); }

  const pickle::Pickle& pickle_;
  const ZipArchive& zip_;
  std::string folder_;
  const std::string& path_;
  // Dicts and objects met before. They may be shared or contain themselves: each is walked once.
  std::vector<bool> seen_;
  std::vector<Ref> named_;  // records that are listed as dropped
  size_t name_bytes_ = 0, n_unsaved_ = 0;
};

Status Flattener::walk() {
  const Ref root = pickle_.root;
  if (pickle_[root].kind == Kind::kDict) {
    SHOEHORN_RETURN_IF_ERROR(dict(Holder::kDict, root, "", 0));
  } else {
    seen_[root] = true;
    const Module top = attributes(root);
    if (!top.parameters || !top.modules) {
      return fail(ErrorCode::kInvalid, "{}: holds no state dict and no model{}", path_,
                  pickle_[root].kind == Kind::kRecord ? " but " + pickle::describe(pickle_.values, root) : "");
    }
    SHOEHORN_RETURN_IF_ERROR(module(root, top, "", 0));
  }
  list_calls();
  return {};
}

Status Flattener::dict(Holder holder, Ref ref, const std::string& prefix, int depth,
                       const std::set<std::string_view>& unsaved) {
  if (depth > kMaxDepth) return fail(ErrorCode::kInvalid, "{}: nested deeper than {}", path_, kMaxDepth);
  if (seen_[ref]) return {};
  seen_[ref] = true;
  const auto& items = pickle_[ref].items;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const Value& key = pickle_[items[i]];
    if (key.kind == Kind::kString && unsaved.contains(key.text)) {
      drop(prefix + std::string(key.text.substr(0, kMaxNameBytes)), "a buffer that state_dict() leaves out");
      continue;
    }
    SHOEHORN_RETURN_IF_ERROR(entry(holder, prefix, key, items[i + 1], depth));
  }
  return {};
}

Status Flattener::entry(Holder holder, const std::string& prefix, const Value& key, Ref ref, int depth) {
  std::string name;
  if (key.kind == Kind::kString) {
    name = key.text.substr(0, kMaxNameBytes);
  } else if (key.kind == Kind::kInt) {
    name = std::to_string(key.number);
  } else {
    return fail(ErrorCode::kInvalid, "{}: a dict key that is neither text nor a number", path_);
  }
  const Value& value = pickle_[ref];
  const bool readable = std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c <= 0x7e; });
  if (!readable || prefix.size() + name.size() >= kMaxNameBytes) {
    if (value.kind == Kind::kTensor) {
      return fail(ErrorCode::kInvalid, "{}: the name {}", where(name),
                  readable ? fmt::format("has more than {} bytes", kMaxNameBytes - 1) : "is not printable ASCII");
    }
    drop(prefix + name, ref);
    return {};
  }

  const std::string full = prefix + name;
  if (value.kind == Kind::kTensor) return tensor(full, value);
  if (value.kind == Kind::kNone && holder != Holder::kDict) return {};  // such as a bias that is not there
  if (holder == Holder::kTensors || (holder == Holder::kDict && value.kind == Kind::kRecord && is_weight_name(name))) {
    return fail(ErrorCode::kUnsupported, "{}: something else in its place: {}", where(full),
                pickle::describe(pickle_.values, ref));
  }
  const bool top = holder == Holder::kDict && prefix.empty();
  if (top && (value.kind == Kind::kDict || value.kind == Kind::kList || value.kind == Kind::kRecord)) {
    if (const char* reason = training_state(name)) {
      drop(full, reason);
      return {};
    }
  }
  const bool wrapper = top && std::find(kWrappers.begin(), kWrappers.end(), name) != kWrappers.end();
  const std::string inner = wrapper ? std::string() : full + ".";
  if (value.kind == Kind::kRecord) {
    if (seen_[ref]) {
      drop(full, "an object met before");
      return {};
    }
    seen_[ref] = true;
    const Module found = attributes(ref);
    if (found.parameters && found.modules) return module(ref, found, inner, depth + 1);
  }
  if (value.kind != Kind::kDict || holder != Holder::kDict) {
    drop(full, ref);
    return {};
  }
  const size_t n_tensors = result.tensors.size(), n_dropped = result.dropped.size(), n_named = named_.size();
  SHOEHORN_RETURN_IF_ERROR(dict(Holder::kDict, ref, inner, depth + 1));
  if (result.tensors.size() == n_tensors) {
    result.dropped.resize(n_dropped);
    named_.resize(n_named);
    drop(full, "no tensors in it");
  }
  return {};
}

/// A dict of attributes that belongs to several objects counts for the first only, so that each is read once.
Module Flattener::attributes(Ref object) {
  Module out;
  for (const Ref dict : pickle::attribute_dicts(pickle_, object)) {
    if (seen_[dict]) continue;
    seen_[dict] = true;
    const auto& items = pickle_[dict].items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const Value& key = pickle_[items[i]];
      const Ref ref = items[i + 1];
      const Value& value = pickle_[ref];
      if (key.kind != Kind::kString) continue;
      if (value.kind == Kind::kDict) {
        if (key.text == "_parameters") out.parameters = ref;
        if (key.text == "_buffers") out.buffers = ref;
        if (key.text == "_modules") out.modules = ref;
      } else if (value.kind == Kind::kSet && key.text == "_non_persistent_buffers_set") {
        out.unsaved_buffers = ref;
      } else if (value.kind == Kind::kInt && key.text == "head_dim") {
        out.head_dim = value.number;
      } else if (value.kind == Kind::kRecord && key.text == "config") {
        out.config = ref;
      } else if (value.kind == Kind::kRecord && value.number == 1 && out.calls.size() < kMaxListed) {
        out.calls.emplace_back(key.text.substr(0, kMaxNameBytes), ref);
      }
    }
  }
  return out;
}

Status Flattener::module(Ref ref, const Module& module, const std::string& prefix, int depth) {
  if (depth > kMaxDepth) return fail(ErrorCode::kInvalid, "{}: nested deeper than {}", path_, kMaxDepth);
  SHOEHORN_RETURN_IF_ERROR(describe_model(ref, module));
  std::set<std::string_view> unsaved;
  if (module.unsaved_buffers) {
    const auto& names = pickle_[*module.unsaved_buffers].items;
    n_unsaved_ += names.size();
    if (n_unsaved_ > kMaxTensors) return fail(ErrorCode::kTooLarge, "{}: more than {} buffers", path_, kMaxTensors);
    for (const Ref name : names) {
      const Value& value = pickle_[name];
      if (value.kind == Kind::kString && value.text.size() < kMaxNameBytes) unsaved.insert(value.text);
    }
  }
  SHOEHORN_RETURN_IF_ERROR(dict(Holder::kTensors, *module.parameters, prefix, depth));
  if (module.buffers) SHOEHORN_RETURN_IF_ERROR(dict(Holder::kTensors, *module.buffers, prefix, depth, unsaved));
  SHOEHORN_RETURN_IF_ERROR(dict(Holder::kModules, *module.modules, prefix, depth));
  for (const auto& [name, call] : module.calls) drop(prefix + std::string(name), call);
  return {};
}

/// The outermost module with a configuration is the model.
Status Flattener::describe_model(Ref ref, const Module& module) {
  const bool first = !result.model;
  if (first) result.model.emplace();
  PickledModel& model = *result.model;
  if (model.head_dim == 0) model.head_dim = module.head_dim;
  if (!first && (!module.config || !model.config.is_null())) return {};
  model.class_name = printable(pickle_[pickle_[ref].items[0]].text);
  if (!module.config) return {};
  auto config = pickle::to_json(pickle_, *module.config);
  if (!config) return annotate(config.error(), path_ + ": the model's configuration");
  if (!config->is_object()) return {};
  // transformers keeps to itself what begins with an underscore, and so does its config.json.
  for (auto it = config->begin(); it != config->end();) {
    it = it.key().starts_with('_') ? config->erase(it) : std::next(it);
  }
  model.config = std::move(*config);
  return {};
}

/// Functions that the pickle calls somewhere inside of what is not read.
void Flattener::list_calls() {
  const std::set<Ref> named(named_.begin(), named_.end());
  std::set<std::pair<std::string_view, std::string_view>> functions;
  for (Ref ref = 0; ref < pickle_.values.size() && functions.size() < kMaxListed; ++ref) {
    const Value& value = pickle_[ref];
    if (value.kind != Kind::kRecord || value.number != 1 || named.contains(ref)) continue;
    const Value& function = pickle_[value.items[0]];
    // No more than a message shows: comparing millions of long names would take hours.
    functions.emplace(pickle_[function.items[0]].text.substr(0, 120), function.text.substr(0, 120));
  }
  for (const auto& [module, name] : functions) {
    if (result.dropped.size() >= kMaxListed) return;
    result.dropped.push_back(
        fmt::format("{}.{} (called inside of what is not read: not called here)", printable(module), printable(name)));
  }
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
  name_bytes_ += name.size();
  if (name_bytes_ > kMaxAllNameBytes) {
    return fail(ErrorCode::kTooLarge, "{}: more than {} bytes of tensor names", path_, kMaxAllNameBytes);
  }
  const Value& storage = pickle_[value.items[0]];
  const int64_t first = pickle_[value.items[1]].number;
  SHOEHORN_TRY(auto shape, sizes(name, value.items[2]));
  SHOEHORN_TRY(auto stride, sizes(name, value.items[3]));
  if (shape.size() != stride.size()) {
    return fail(ErrorCode::kInvalid, "{}: {} dimensions but {} strides", where(name), shape.size(), stride.size());
  }
  const uint64_t item_bytes = dtype_info(value.dtype).bytes;
  if (storage.text.size() > kMaxNameBytes) {
    return fail(ErrorCode::kInvalid, "{}: its storage has a name of {} bytes", where(name), storage.text.size());
  }
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
  Flattener flattener(*pickle, zip, folder, path);
  SHOEHORN_RETURN_IF_ERROR(flattener.walk());
  return std::move(flattener.result);
}

}  // namespace shoehorn::io
