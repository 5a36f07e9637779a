// A restricted reader of Python pickles: it rebuilds the containers, strings, numbers and tensor descriptions of a
// torch state dict, and nothing else. It never imports or calls anything; a global that is not on its list is an error.
// Format: CPython Lib/pickletools.py, protocol 2 (what torch.save writes); torch/_utils.py for the tensor functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/dtype.h"

namespace shoehorn::io::pickle {

enum class Kind : uint8_t {
  kNone,
  kBool,     // number
  kInt,      // number
  kString,   // text
  kTuple,    // items
  kList,     // items
  kDict,     // items: key, value, key, value ...
  kStorage,  // text = key; number = elements (bytes when untyped); untyped or dtype
  kTensor,   // items: storage, offset, size, stride; dtype when `typed`, else the storage's
  kDType,    // dtype
  kGlobal,   // a listed callable; number = its row
  kOpaque,   // floats, big integers, devices ...: known to be harmless, of no interest here
};

/// Index of a Value in Pickle::values.
using Ref = uint32_t;

struct Value {
  Kind kind = Kind::kNone;
  bool typed = false;  ///< `dtype` is meant
  DType dtype = DType::U8;
  int64_t number = 0;
  std::string_view text = {};  ///< in the pickle's bytes
  std::vector<Ref> items = {};
};

/// The object graph. Containers can share and even contain each other: whoever walks it guards against cycles.
struct Pickle {
  std::vector<Value> values;
  Ref root = 0;
  const Value& operator[](Ref ref) const { return values[ref]; }
};

/// Errors name the opcode's position, or the refused global. `bytes` must outlive the result.
Expected<Pickle> parse(std::span<const std::byte> bytes);

}  // namespace shoehorn::io::pickle
