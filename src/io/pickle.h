// A restricted reader of Python pickles: it rebuilds containers, strings, numbers and torch's descriptions of tensors.
// It never imports or calls anything: objects of all other classes, and what other functions would have returned,
// become records of what was asked for. Format: CPython Lib/pickletools.py, protocols 2 (what torch.save writes) to 5;
// torch/_utils.py for the tensor functions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/dtype.h"

namespace shoehorn::io::pickle {

enum class Kind : uint8_t {
  kNone,
  kBool,     // number
  kInt,      // number
  kFloat,    // real()
  kString,   // text
  kTuple,    // items
  kList,     // items
  kSet,      // items
  kDict,     // items: key, value, key, value ...
  kStorage,  // text = key; number = elements (bytes when untyped); untyped or dtype
  kTensor,   // items: storage, offset, size, stride; dtype when `typed`, else the storage's
  kDType,    // dtype; text = torch's name for it
  kGlobal,   // text = name; items: module; number = its row among those known here, or -1
  kRecord,   // items: the class or function (kGlobal), its arguments, and the state if it was given one;
             // number = 1 for what a call would have returned, 0 for an object
  kOpaque,   // bytes and big integers: of no interest here
};

/// Index of a Value in Pickle::values.
using Ref = uint32_t;

struct Value {
  Kind kind = Kind::kNone;
  bool typed = false;  ///< `dtype` is meant
  DType dtype = DType::U8;
  int64_t number = 0;
  std::string_view text = {};  ///< in the pickle's bytes, or a constant
  std::vector<Ref> items = {};
  double real() const { return std::bit_cast<double>(number); }
};

/// The object graph. Containers can share and even contain each other: whoever walks it guards against cycles.
struct Pickle {
  std::vector<Value> values;
  Ref root = 0;
  const Value& operator[](Ref ref) const { return values[ref]; }
};

/// Errors name the opcode's position. `bytes` must outlive the result.
Expected<Pickle> parse(std::span<const std::byte> bytes);

/// "posix.system", printable.
std::string global_name(std::span<const Value> values, Ref global);

/// What a value is that is no tensor: "a call of posix.system, not made".
std::string describe(std::span<const Value> values, Ref ref);

/// The dicts of an object's attributes: its state, or both of a (__dict__, slots) pair.
std::vector<Ref> attribute_dicts(const Pickle& pickle, Ref record);

}  // namespace shoehorn::io::pickle
