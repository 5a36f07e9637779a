#include "io/pickle.h"

#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <unordered_map>

#include "base/checked.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io::pickle {
namespace {

// A state dict of 1000 tensors takes some 20,000 values and 100 KB; a tokenizer written in Python, a million values.
constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr size_t kMaxValues = size_t{4} << 20;
constexpr size_t kMaxStack = size_t{1} << 20;
constexpr size_t kMaxMemo = size_t{4} << 20;
constexpr size_t kMaxMarks = 1000;
constexpr size_t kMaxCopiedItems = size_t{8} << 20;  // a list can be used again for one byte or two

enum class Role : uint8_t {
  kDict,         // called: an empty dict, or one from a list of pairs
  kSet,          // called: an empty set, or one from a list
  kTensorV2,     // storage, offset, size, stride, requires_grad, hooks[, metadata]
  kTensorV3,     // storage, offset, size, stride, requires_grad, hooks, dtype[, metadata]
  kParameter,    // tensor, requires_grad, hooks[, state]
  kTypedTensor,  // one of the three above, class, its arguments, state
  kStorageType,  // storage class of `dtype`
  kUntypedStorage,
  kDType,  // a constant
};

struct Global {
  std::string_view module, name;
  Role role;
  DType dtype = DType::U8;
};

constexpr auto kGlobals = std::to_array<Global>({
    {"collections", "OrderedDict", Role::kDict},
    {"collections", "defaultdict", Role::kDict},
    {"__builtin__", "set", Role::kSet},
    {"__builtin__", "frozenset", Role::kSet},
    {"builtins", "set", Role::kSet},
    {"builtins", "frozenset", Role::kSet},
    {"torch._utils", "_rebuild_tensor", Role::kTensorV2},
    {"torch._utils", "_rebuild_tensor_v2", Role::kTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", Role::kTensorV3},
    {"torch._utils", "_rebuild_parameter", Role::kParameter},
    {"torch._utils", "_rebuild_parameter_with_state", Role::kParameter},
    {"torch._tensor", "_rebuild_from_type_v2", Role::kTypedTensor},
    {"torch", "DoubleStorage", Role::kStorageType, DType::F64},
    {"torch", "FloatStorage", Role::kStorageType, DType::F32},
    {"torch", "HalfStorage", Role::kStorageType, DType::F16},
    {"torch", "BFloat16Storage", Role::kStorageType, DType::BF16},
    {"torch", "LongStorage", Role::kStorageType, DType::I64},
    {"torch", "IntStorage", Role::kStorageType, DType::I32},
    {"torch", "ShortStorage", Role::kStorageType, DType::I16},
    {"torch", "CharStorage", Role::kStorageType, DType::I8},
    {"torch", "ByteStorage", Role::kStorageType, DType::U8},
    {"torch", "BoolStorage", Role::kStorageType, DType::BOOL},
    {"torch.storage", "UntypedStorage", Role::kUntypedStorage},
    {"torch", "UntypedStorage", Role::kUntypedStorage},
    {"torch", "float64", Role::kDType, DType::F64},
    {"torch", "float32", Role::kDType, DType::F32},
    {"torch", "float16", Role::kDType, DType::F16},
    {"torch", "bfloat16", Role::kDType, DType::BF16},
    {"torch", "float8_e4m3fn", Role::kDType, DType::F8_E4M3},
    {"torch", "float8_e5m2", Role::kDType, DType::F8_E5M2},
    {"torch", "int64", Role::kDType, DType::I64},
    {"torch", "int32", Role::kDType, DType::I32},
    {"torch", "int16", Role::kDType, DType::I16},
    {"torch", "int8", Role::kDType, DType::I8},
    {"torch", "uint64", Role::kDType, DType::U64},
    {"torch", "uint32", Role::kDType, DType::U32},
    {"torch", "uint16", Role::kDType, DType::U16},
    {"torch", "uint8", Role::kDType, DType::U8},
    {"torch", "bool", Role::kDType, DType::BOOL},
});

/// Reading position in the pickle.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  size_t position() const { return position_; }

  template <class T>
  Expected<T> number() {
    SHOEHORN_TRY(const auto raw, take(sizeof(T)));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  Expected<std::string_view> take(uint64_t count) {
    if (!range_inside(position_, count, bytes_.size())) {
      return fail(ErrorCode::kInvalid, "pickle truncated: {} bytes wanted at byte {} of {}", count, position_,
                  bytes_.size());
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + position_, count);
    position_ += count;
    return text;
  }
  Expected<std::string_view> line() {
    const auto rest = bytes_.subspan(position_);
    const void* end = rest.empty() ? nullptr : std::memchr(rest.data(), '\n', rest.size());
    if (end == nullptr) return fail(ErrorCode::kInvalid, "pickle truncated inside a name at byte {}", position_);
    const auto length = static_cast<size_t>(static_cast<const std::byte*>(end) - rest.data());
    SHOEHORN_TRY(const auto text, take(length + 1));
    return text.substr(0, length);
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

class Machine {
 public:
  explicit Machine(std::span<const std::byte> bytes) : in_(bytes) {}

  Expected<Pickle> run() {
    while (!done_) {
      const size_t at = in_.position();
      SHOEHORN_TRY(const auto opcode, in_.number<uint8_t>());
      if (auto status = step(opcode); !status) {
        return fail(status.error().code, "{} (pickle byte {})", status.error().message, at);
      }
    }
    return std::move(out_);
  }

 private:
  Status step(uint8_t opcode);
  Status push_global(Ref module, std::string_view name);
  Status call(Ref callee, Ref arguments);
  Status rebuild(Role role, Ref arguments);
  Status instantiate(Ref type, Ref arguments);
  Status push_record(Ref callee, Ref arguments, bool is_call);
  Status build(Ref state);
  Status make_storage();
  Status make_dict(Ref arguments);
  Status make_set(Ref arguments);
  Status make_tensor(Ref arguments, bool v3);
  Status set_items(Ref target, std::span<const Ref> items, Kind wanted);

  /// The row of a listed global; nullptr for everything else.
  const Global* listed(Ref ref) const {
    const Value& value = values_[ref];
    return value.kind == Kind::kGlobal && value.number >= 0 ? &kGlobals[static_cast<size_t>(value.number)] : nullptr;
  }
  Status count_copies(size_t n) {
    copied_items_ += n;
    if (copied_items_ > kMaxCopiedItems) return fail(ErrorCode::kTooLarge, "more than {} dict items", kMaxCopiedItems);
    return {};
  }

  // Values.
  Expected<Ref> add(Value value) {
    if (values_.size() == kMaxValues)
      return fail(ErrorCode::kTooLarge, "more than {} values in the pickle", kMaxValues);
    values_.push_back(std::move(value));
    return static_cast<Ref>(values_.size() - 1);
  }
  Status push(Ref ref) {
    if (stack_.size() == kMaxStack) return fail(ErrorCode::kTooLarge, "pickle stack deeper than {}", kMaxStack);
    stack_.push_back(ref);
    return {};
  }
  Status push_new(Value value) {
    SHOEHORN_TRY(const Ref ref, add(std::move(value)));
    return push(ref);
  }
  Status push_number(Kind kind, int64_t number) { return push_new(Value{.kind = kind, .number = number}); }
  Status push_text(uint64_t length) {
    SHOEHORN_TRY(const auto text, in_.take(length));
    return push_new(Value{.kind = Kind::kString, .text = text});
  }
  Status push_bytes(uint64_t length) {
    SHOEHORN_RETURN_IF_ERROR(in_.take(length));
    return push_new(Value{.kind = Kind::kOpaque});
  }
  Status push_long(uint64_t length) {
    SHOEHORN_TRY(const auto text, in_.take(length));
    if (length > 8) return push_new(Value{.kind = Kind::kOpaque});
    uint64_t bits = !text.empty() && (text.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
    if (!text.empty()) std::memcpy(&bits, text.data(), text.size());
    return push_number(Kind::kInt, static_cast<int64_t>(bits));
  }

  // Stack. Nothing is popped from below the last mark.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Expected<Ref> pop() {
    if (stack_.size() <= floor()) return fail(ErrorCode::kInvalid, "pickle stack underflow");
    const Ref ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  Expected<Ref> top() const {
    if (stack_.size() <= floor()) return fail(ErrorCode::kInvalid, "pickle stack underflow");
    return stack_.back();
  }
  Expected<std::vector<Ref>> pop_to_mark() {
    if (marks_.empty()) return fail(ErrorCode::kInvalid, "pickle mark missing");
    std::vector<Ref> items(stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  Status push_tuple(size_t n) {
    std::vector<Ref> items(n);
    for (size_t i = n; i-- > 0;) {
      SHOEHORN_TRY(items[i], pop());
    }
    return push_new(Value{.kind = Kind::kTuple, .items = std::move(items)});
  }

  // Memo.
  Status put(uint32_t index) {
    SHOEHORN_TRY(const Ref ref, top());
    if (memo_.size() == kMaxMemo) return fail(ErrorCode::kTooLarge, "more than {} memo entries", kMaxMemo);
    memo_[index] = ref;
    return {};
  }
  Status get(uint32_t index) {
    const auto it = memo_.find(index);
    if (it == memo_.end()) return fail(ErrorCode::kInvalid, "memo {} was never set", index);
    return push(it->second);
  }

  Cursor in_;
  Pickle out_;
  std::vector<Value>& values_ = out_.values;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // stack sizes
  std::unordered_map<uint32_t, Ref> memo_;
  size_t copied_items_ = 0;
  bool done_ = false;
};

Status Machine::push_global(Ref module, std::string_view name) {
  Value value{.kind = Kind::kGlobal, .number = -1, .text = name, .items = {module}};
  for (size_t i = 0; i < kGlobals.size(); ++i) {
    const Global& row = kGlobals[i];
    if (row.module != values_[module].text || row.name != name) continue;
    if (row.role == Role::kDType) {
      return push_new(Value{.kind = Kind::kDType, .typed = true, .dtype = row.dtype, .text = row.name});
    }
    value.number = static_cast<int64_t>(i);
  }
  return push_new(std::move(value));
}

/// Storages are the only objects torch keeps outside the pickle:
/// ('storage', class, key, location, number of elements).
Status Machine::make_storage() {
  SHOEHORN_TRY(const Ref ref, pop());
  const Value& id = values_[ref];
  const auto item = [&](size_t i) -> const Value& { return values_[id.items[i]]; };
  if (id.kind != Kind::kTuple || id.items.size() < 5 || item(0).kind != Kind::kString || item(0).text != "storage" ||
      item(1).kind != Kind::kGlobal || item(2).kind != Kind::kString || item(4).kind != Kind::kInt) {
    return fail(ErrorCode::kInvalid, "a persistent id that is no storage");
  }
  const Global* type = listed(id.items[1]);
  if (type == nullptr || (type->role != Role::kStorageType && type->role != Role::kUntypedStorage)) {
    return fail(ErrorCode::kInvalid, "{} is no storage class", global_name(values_, id.items[1]));
  }
  if (item(4).number < 0) return fail(ErrorCode::kInvalid, "a storage of {} elements", item(4).number);
  return push_new(Value{.kind = Kind::kStorage,
                        .typed = type->role == Role::kStorageType,
                        .dtype = type->dtype,
                        .number = item(4).number,
                        .text = item(2).text});
}

Status Machine::make_tensor(Ref arguments, bool v3) {
  const std::vector<Ref>& items = values_[arguments].items;
  const auto is = [&](size_t i, Kind kind) { return i < items.size() && values_[items[i]].kind == kind; };
  if (!is(0, Kind::kStorage) || !is(1, Kind::kInt) || !is(2, Kind::kTuple) || !is(3, Kind::kTuple) ||
      (v3 && !is(6, Kind::kDType))) {
    return fail(ErrorCode::kInvalid, "a tensor with malformed arguments");
  }
  Value tensor{.kind = Kind::kTensor, .items = {items.begin(), items.begin() + 4}};
  const Value& type = values_[items[v3 ? 6 : 0]];
  if (!type.typed) return fail(ErrorCode::kInvalid, "a tensor without an element type");
  tensor.typed = true;
  tensor.dtype = type.dtype;
  return push_new(std::move(tensor));
}

/// OrderedDict(), OrderedDict([(key, value), ...]), defaultdict(factory).
Status Machine::make_dict(Ref arguments) {
  Value dict{.kind = Kind::kDict};
  const std::vector<Ref>& items = values_[arguments].items;
  if (!items.empty() && values_[items[0]].kind == Kind::kList) {
    const auto& pairs = values_[items[0]].items;
    SHOEHORN_RETURN_IF_ERROR(count_copies(pairs.size()));
    for (const Ref ref : pairs) {
      const Value& pair = values_[ref];
      if ((pair.kind != Kind::kTuple && pair.kind != Kind::kList) || pair.items.size() != 2) {
        return fail(ErrorCode::kInvalid, "a dict made of something else than pairs");
      }
      dict.items.insert(dict.items.end(), pair.items.begin(), pair.items.end());
    }
  }
  return push_new(std::move(dict));
}

/// set(), set([value, ...]).
Status Machine::make_set(Ref arguments) {
  Value set{.kind = Kind::kSet};
  const std::vector<Ref>& items = values_[arguments].items;
  if (!items.empty() && values_[items[0]].kind == Kind::kList) {
    const auto& members = values_[items[0]].items;
    SHOEHORN_RETURN_IF_ERROR(count_copies(members.size()));
    set.items = members;
  }
  return push_new(std::move(set));
}

Status Machine::rebuild(Role role, Ref arguments) {
  if (role != Role::kParameter) return make_tensor(arguments, role == Role::kTensorV3);
  const auto& items = values_[arguments].items;
  if (items.empty() || values_[items[0]].kind != Kind::kTensor) {
    return fail(ErrorCode::kInvalid, "a parameter made of no tensor{}",
                items.empty() ? "" : " but of this: " + describe(values_, items[0]));
  }
  return push(items[0]);
}

Status Machine::call(Ref callee, Ref arguments) {
  if (values_[arguments].kind != Kind::kTuple) {
    return fail(ErrorCode::kInvalid, "a call with something else than a tuple of arguments");
  }
  const Global* row = listed(callee);
  if (row == nullptr) return push_record(callee, arguments, true);
  switch (row->role) {
    case Role::kDict:
      return make_dict(arguments);
    case Role::kSet:
      return make_set(arguments);
    case Role::kTensorV2:
    case Role::kTensorV3:
    case Role::kParameter:
      return rebuild(row->role, arguments);
    case Role::kTypedTensor: {
      const auto& items = values_[arguments].items;
      const Global* function = items.size() >= 3 ? listed(items[0]) : nullptr;
      const bool rebuilds =
          function != nullptr && (function->role == Role::kTensorV2 || function->role == Role::kTensorV3 ||
                                  function->role == Role::kParameter);
      if (!rebuilds || values_[items[2]].kind != Kind::kTuple) return push_record(callee, arguments, true);
      return rebuild(function->role, items[2]);
    }
    default:
      return fail(ErrorCode::kInvalid, "a call of {}.{}, which is no function", row->module, row->name);
  }
}

Status Machine::instantiate(Ref type, Ref arguments) {
  if (listed(type) != nullptr || values_[arguments].kind != Kind::kTuple) {
    return fail(ErrorCode::kInvalid, "an object of something that is no class");
  }
  return push_record(type, arguments, false);
}

Status Machine::push_record(Ref callee, Ref arguments, bool is_call) {
  // What a call would have returned can itself be called: the record names the function at the bottom of it.
  if (values_[callee].kind == Kind::kRecord) callee = values_[callee].items[0];
  if (values_[callee].kind != Kind::kGlobal) {
    return fail(ErrorCode::kInvalid, "a call of something that is no function");
  }
  return push_new(Value{.kind = Kind::kRecord, .number = is_call ? 1 : 0, .items = {callee, arguments}});
}

/// Attributes for the value on the stack: kept by records; an OrderedDict's _metadata and the like are not needed.
Status Machine::build(Ref state) {
  SHOEHORN_TRY(const Ref target, top());
  Value& value = values_[target];
  if (value.kind == Kind::kRecord) {
    value.items.resize(2);
    value.items.push_back(state);
  } else if (value.kind != Kind::kDict && value.kind != Kind::kTensor) {
    return fail(ErrorCode::kInvalid, "attributes for a value that has none");
  }
  return {};
}

Status Machine::set_items(Ref target, std::span<const Ref> items, Kind wanted) {
  if (wanted == Kind::kDict && items.size() % 2 != 0) return fail(ErrorCode::kInvalid, "a dict key without a value");
  Value& container = values_[target];
  if (container.kind == Kind::kRecord) return {};  // of a class derived from dict or list
  if (container.kind != wanted) {
    return fail(ErrorCode::kInvalid, "items for something that is no {}",
                wanted == Kind::kDict   ? "dict"
                : wanted == Kind::kList ? "list"
                                        : "set");
  }
  container.items.insert(container.items.end(), items.begin(), items.end());
  return {};
}

Status Machine::step(uint8_t opcode) {
  switch (opcode) {
    case 0x80: {  // PROTO
      SHOEHORN_TRY(const auto version, in_.number<uint8_t>());
      if (version > 5) return fail(ErrorCode::kUnsupported, "pickle protocol {}; 2 to 5 are read", version);
      return {};
    }
    case '.': {  // STOP
      SHOEHORN_TRY(out_.root, pop());
      done_ = true;
      return {};
    }
    case '(':  // MARK
      if (marks_.size() == kMaxMarks) return fail(ErrorCode::kTooLarge, "pickle nested deeper than {}", kMaxMarks);
      marks_.push_back(stack_.size());
      return {};
    case '0': {  // POP
      if (stack_.size() <= floor() && !marks_.empty()) {
        marks_.pop_back();
        return {};
      }
      return pop().map([](Ref) {});
    }
    case '1':  // POP_MARK
      return pop_to_mark().map([](const std::vector<Ref>&) {});
    case '2': {  // DUP
      SHOEHORN_TRY(const Ref ref, top());
      return push(ref);
    }

    case 'N':
      return push_number(Kind::kNone, 0);
    case 0x88:  // NEWTRUE
      return push_number(Kind::kBool, 1);
    case 0x89:  // NEWFALSE
      return push_number(Kind::kBool, 0);
    case 'J': {  // BININT
      SHOEHORN_TRY(const auto n, in_.number<int32_t>());
      return push_number(Kind::kInt, n);
    }
    case 'K': {  // BININT1
      SHOEHORN_TRY(const auto n, in_.number<uint8_t>());
      return push_number(Kind::kInt, n);
    }
    case 'M': {  // BININT2
      SHOEHORN_TRY(const auto n, in_.number<uint16_t>());
      return push_number(Kind::kInt, n);
    }
    case 0x8a: {  // LONG1
      SHOEHORN_TRY(const auto length, in_.number<uint8_t>());
      return push_long(length);
    }
    case 0x8b: {  // LONG4
      SHOEHORN_TRY(const auto length, in_.number<int32_t>());
      if (length < 0) return fail(ErrorCode::kInvalid, "an integer of {} bytes", length);
      return push_long(static_cast<uint64_t>(length));
    }
    case 'G': {  // BINFLOAT: an IEEE double, the only number that is big-endian
      SHOEHORN_TRY(const auto bits, in_.number<int64_t>());
      return push_number(Kind::kFloat, __builtin_bswap64(bits));
    }
    case 'X': {  // BINUNICODE
      SHOEHORN_TRY(const auto length, in_.number<uint32_t>());
      return push_text(length);
    }
    case 'T': {  // BINSTRING
      SHOEHORN_TRY(const auto length, in_.number<int32_t>());
      if (length < 0) return fail(ErrorCode::kInvalid, "a string of {} bytes", length);
      return push_text(static_cast<uint64_t>(length));
    }
    case 'U':     // SHORT_BINSTRING
    case 0x8c: {  // SHORT_BINUNICODE
      SHOEHORN_TRY(const auto length, in_.number<uint8_t>());
      return push_text(length);
    }
    case 0x8d: {  // BINUNICODE8
      SHOEHORN_TRY(const auto length, in_.number<uint64_t>());
      return push_text(length);
    }
    case 'C': {  // SHORT_BINBYTES
      SHOEHORN_TRY(const auto length, in_.number<uint8_t>());
      return push_bytes(length);
    }
    case 'B': {  // BINBYTES
      SHOEHORN_TRY(const auto length, in_.number<uint32_t>());
      return push_bytes(length);
    }
    case 0x8e:    // BINBYTES8
    case 0x96: {  // BYTEARRAY8
      SHOEHORN_TRY(const auto length, in_.number<uint64_t>());
      return push_bytes(length);
    }

    case ')':  // EMPTY_TUPLE
      return push_tuple(0);
    case 0x85:  // TUPLE1
      return push_tuple(1);
    case 0x86:  // TUPLE2
      return push_tuple(2);
    case 0x87:  // TUPLE3
      return push_tuple(3);
    case 't': {  // TUPLE
      SHOEHORN_TRY(auto items, pop_to_mark());
      return push_new(Value{.kind = Kind::kTuple, .items = std::move(items)});
    }
    case ']':  // EMPTY_LIST
      return push_new(Value{.kind = Kind::kList});
    case 'l': {  // LIST
      SHOEHORN_TRY(auto items, pop_to_mark());
      return push_new(Value{.kind = Kind::kList, .items = std::move(items)});
    }
    case '}':  // EMPTY_DICT
      return push_new(Value{.kind = Kind::kDict});
    case 'd': {  // DICT
      SHOEHORN_TRY(auto items, pop_to_mark());
      SHOEHORN_RETURN_IF_ERROR(push_new(Value{.kind = Kind::kDict}));
      return set_items(stack_.back(), items, Kind::kDict);
    }
    case 0x8f:  // EMPTY_SET
      return push_new(Value{.kind = Kind::kSet});
    case 0x91: {  // FROZENSET
      SHOEHORN_TRY(auto items, pop_to_mark());
      return push_new(Value{.kind = Kind::kSet, .items = std::move(items)});
    }
    case 'a': {  // APPEND
      SHOEHORN_TRY(const Ref item, pop());
      SHOEHORN_TRY(const Ref target, top());
      return set_items(target, {&item, 1}, Kind::kList);
    }
    case 'e': {  // APPENDS
      SHOEHORN_TRY(const auto items, pop_to_mark());
      SHOEHORN_TRY(const Ref target, top());
      return set_items(target, items, Kind::kList);
    }
    case 0x90: {  // ADDITEMS
      SHOEHORN_TRY(const auto items, pop_to_mark());
      SHOEHORN_TRY(const Ref target, top());
      return set_items(target, items, Kind::kSet);
    }
    case 's': {  // SETITEM
      std::array<Ref, 2> item;
      SHOEHORN_TRY(item[1], pop());
      SHOEHORN_TRY(item[0], pop());
      SHOEHORN_TRY(const Ref target, top());
      return set_items(target, item, Kind::kDict);
    }
    case 'u': {  // SETITEMS
      SHOEHORN_TRY(const auto items, pop_to_mark());
      SHOEHORN_TRY(const Ref target, top());
      return set_items(target, items, Kind::kDict);
    }

    case 'q': {  // BINPUT
      SHOEHORN_TRY(const auto index, in_.number<uint8_t>());
      return put(index);
    }
    case 'r': {  // LONG_BINPUT
      SHOEHORN_TRY(const auto index, in_.number<uint32_t>());
      return put(index);
    }
    case 0x94:  // MEMOIZE
      return put(static_cast<uint32_t>(memo_.size()));
    case 'h': {  // BINGET
      SHOEHORN_TRY(const auto index, in_.number<uint8_t>());
      return get(index);
    }
    case 'j': {  // LONG_BINGET
      SHOEHORN_TRY(const auto index, in_.number<uint32_t>());
      return get(index);
    }

    case 'c': {  // GLOBAL
      SHOEHORN_TRY(const auto module_text, in_.line());
      SHOEHORN_TRY(const auto name, in_.line());
      SHOEHORN_TRY(const Ref module, add(Value{.kind = Kind::kString, .text = module_text}));
      return push_global(module, name);
    }
    case 0x93: {  // STACK_GLOBAL
      SHOEHORN_TRY(const Ref name, pop());
      SHOEHORN_TRY(const Ref module, pop());
      if (values_[module].kind != Kind::kString || values_[name].kind != Kind::kString) {
        return fail(ErrorCode::kInvalid, "a global whose name is no text");
      }
      return push_global(module, values_[name].text);
    }
    case 'Q':  // BINPERSID
      return make_storage();
    case 'R': {  // REDUCE
      SHOEHORN_TRY(const Ref arguments, pop());
      SHOEHORN_TRY(const Ref callee, pop());
      return call(callee, arguments);
    }
    case 0x92:  // NEWOBJ_EX: keyword arguments on top
      SHOEHORN_RETURN_IF_ERROR(pop());
      [[fallthrough]];
    case 0x81: {  // NEWOBJ
      SHOEHORN_TRY(const Ref arguments, pop());
      SHOEHORN_TRY(const Ref type, pop());
      return instantiate(type, arguments);
    }
    case 'b': {  // BUILD
      SHOEHORN_TRY(const Ref state, pop());
      return build(state);
    }
    case 0x95:  // FRAME: how far to read ahead
      SHOEHORN_RETURN_IF_ERROR(in_.take(8));
      return {};
    default:
      return fail(ErrorCode::kUnsupported, "pickle opcode 0x{:02x} has no place in a state dict or a model: refused",
                  opcode);
  }
}

}  // namespace

Expected<Pickle> parse(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxBytes) {
    return fail(ErrorCode::kTooLarge, "a pickle of {} bytes; the limit is {}", bytes.size(), kMaxBytes);
  }
  return Machine(bytes).run();
}

std::string global_name(std::span<const Value> values, Ref global) {
  const Value& value = values[global];
  return printable(values[value.items[0]].text) + "." + printable(value.text);
}

std::string describe(std::span<const Value> values, Ref ref) {
  const Value& value = values[ref];
  if (value.kind == Kind::kGlobal) return fmt::format("a reference to {}, not imported", global_name(values, ref));
  if (value.kind != Kind::kRecord) return "not a tensor";
  const std::string name = global_name(values, value.items[0]);
  return value.number == 1 ? fmt::format("a call of {}, not made", name) : fmt::format("an object of {}", name);
}

std::vector<Ref> attribute_dicts(const Pickle& pickle, Ref record) {
  const Value& value = pickle[record];
  if (value.kind != Kind::kRecord || value.items.size() < 3) return {};
  const Value& state = pickle[value.items[2]];
  if (state.kind == Kind::kDict) return {value.items[2]};
  std::vector<Ref> dicts;
  if (state.kind == Kind::kTuple && state.items.size() == 2) {
    for (const Ref ref : state.items) {
      if (pickle[ref].kind == Kind::kDict) dicts.push_back(ref);
    }
  }
  return dicts;
}

}  // namespace shoehorn::io::pickle
