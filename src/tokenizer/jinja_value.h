// The values a chat template computes with, and the memory and work that one rendering may take.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace shoehorn::tokenizer::jinja {

using OrderedJson = nlohmann::ordered_json;

/// Templates come from files of strangers: everything they can make grow has a ceiling. The largest real template is
/// some 20 KiB, and a prompt of a million tokens some 4 MiB.
namespace limits {
inline constexpr size_t kTemplateBytes = size_t{1} << 20;
inline constexpr size_t kTextBytes = size_t{16} << 20;   ///< one string, also the whole output
inline constexpr size_t kLiveBytes = size_t{128} << 20;  ///< all values alive at one time
inline constexpr uint64_t kWork = 10'000'000;            ///< evaluated nodes, and 64-byte pieces of text touched
inline constexpr uint64_t kIterations = 1'000'000;       ///< of all loops together
inline constexpr int64_t kRange = 100'000;               ///< elements of one range()
inline constexpr size_t kPieces = 1'000'000;             ///< strings that one string is cut into
inline constexpr int kNesting = 100;                     ///< blocks and brackets inside one another in the source
inline constexpr int kHeight = 250;      ///< of an expression tree: a + b + c + ... is as high as it is long
inline constexpr int kDepth = 600;       ///< nodes under evaluation at one time, each a recursion on our stack
inline constexpr int kCalls = 100;       ///< macros inside one another
inline constexpr int kValueDepth = 200;  ///< lists and mappings inside one another
}  // namespace limits

class Heap;
class Value;
struct Text;
struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;

struct Undefined {};
struct None {};

enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kText, kList, kDict, kNamespace, kLoop, kCallable };

/// Cheap to copy: containers are shared. Lists are the only containers that change after they are made (append, pop),
/// and namespaces, which belong to the heap.
class Value {
 public:
  Value() = default;
  Value(None) : data_(None{}) {}
  explicit Value(bool b) : data_(b) {}
  explicit Value(int64_t i) : data_(i) {}
  explicit Value(double d) : data_(d) {}
  explicit Value(std::shared_ptr<const Text> text) : data_(std::move(text)) {}
  explicit Value(std::shared_ptr<List> list) : data_(std::move(list)) {}
  explicit Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}
  explicit Value(Namespace* ns) : data_(ns) {}
  explicit Value(std::shared_ptr<Loop> loop) : data_(std::move(loop)) {}
  explicit Value(std::shared_ptr<Callable> callable) : data_(std::move(callable)) {}

  /// A string that no heap accounts for: literals of the template.
  static Value literal(std::string bytes);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const { return kind() == k; }
  /// bool, int or float.
  bool is_numeric() const { return is(Kind::kBool) || is(Kind::kInt) || is(Kind::kFloat); }

  // The caller has checked the kind.
  bool boolean() const { return *std::get_if<bool>(&data_); }
  int64_t integer() const { return *std::get_if<int64_t>(&data_); }
  double real() const { return *std::get_if<double>(&data_); }
  const std::string& text() const;
  const std::shared_ptr<List>& list() const { return *std::get_if<std::shared_ptr<List>>(&data_); }
  const Dict& dict() const { return **std::get_if<std::shared_ptr<const Dict>>(&data_); }
  Namespace& ns() const { return **std::get_if<Namespace*>(&data_); }
  const Loop& loop() const { return **std::get_if<std::shared_ptr<Loop>>(&data_); }
  const std::shared_ptr<Callable>& callable() const { return *std::get_if<std::shared_ptr<Callable>>(&data_); }
  /// bool, int or float as a double.
  double number() const;

  /// Python's bool().
  bool truthy() const;
  /// "a string", "undefined", ...: for messages.
  const char* type_name() const;
  /// How deep containers nest under this value; 0 for scalars.
  int depth() const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<List>,
               std::shared_ptr<const Dict>, Namespace*, std::shared_ptr<Loop>, std::shared_ptr<Callable>>
      data_;
};

/// Gives its bytes back to the heap's account when it dies.
struct Accounted {
  Accounted() = default;
  Accounted(const Accounted&) = delete;
  Accounted& operator=(const Accounted&) = delete;
  ~Accounted();
  Heap* heap = nullptr;
  size_t bytes = 0;
};

struct Text : Accounted {
  std::string value;
};

struct List : Accounted {
  std::vector<Value> items;
  int depth = 1;
  bool read_only = false;  ///< part of the inputs
  bool pinned = false;     ///< kept by the heap until the rendering ends
};

/// Keys in order of insertion, as Python's dict.
class Table {
 public:
  struct Entry {
    std::string key;
    Value value;
    bool integer_key = false;  ///< the key is written as a number: {0: "a"}
  };
  const Value* find(std::string_view key) const;
  /// Replaces the value of a key that is there already.
  void set(std::string key, Value value, bool integer_key = false);
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  size_t position(std::string_view key) const;  // entries_.size() when it is not there

  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;  // filled once the table is large
};

struct Dict : Accounted {
  Table table;
  int depth = 1;
};

struct Namespace {
  Table table;
};

/// What `loop` is inside a for.
struct Loop : Accounted {
  std::shared_ptr<List> items;
  size_t index = 0;
  int depth = 1;
};

/// Makes values and keeps account of them. It must outlive every value it made.
class Heap {
 public:
  Heap() = default;
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  /// kTooLarge when the live values would pass limits::kLiveBytes.
  Status charge(size_t bytes);
  void release(size_t bytes) { live_bytes_ -= bytes; }
  /// kTooLarge when the rendering has done limits::kWork.
  Status work(uint64_t units);

  Expected<Value> text(std::string bytes);
  Expected<Value> list(std::vector<Value> items);
  Expected<Value> dict(Table table);
  /// The key of an entry as a value.
  Expected<Value> key(const Table::Entry& entry);
  Expected<Value> make_namespace(Table table);
  Expected<std::shared_ptr<Callable>> make_callable();
  Expected<std::shared_ptr<Loop>> make_loop();
  /// Lists made from JSON cannot be changed by the template.
  Expected<Value> from_json(const OrderedJson& json, int depth = 0);

  /// Inserts before items[at].
  Status insert(const std::shared_ptr<List>& list, size_t at, Value item);
  Status assign(Namespace& ns, const std::string& name, Value value);

 private:
  size_t live_bytes_ = 0;
  uint64_t work_ = 0;
  // What can take part in a cycle, or in a chain too long for recursive destruction, lives here until the end.
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::shared_ptr<List>> pinned_;
};

/// Python's ==, with two exceptions taken from @huggingface/jinja 0.5.11: none equals undefined, and mappings are equal
/// when they are the same object (templates ask "is this message the last one?").
Expected<bool> equal(Heap& heap, const Value& a, const Value& b, int depth = 0);

/// a < b for two numbers or two strings; kInvalid for anything else.
Expected<bool> less(const Value& a, const Value& b);

struct JsonStyle {
  int indent = 0;  ///< spaces; 0: one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool undefined_as_null = true;  ///< else "undefined"
};

/// Python's json.dumps. Functions cannot be written.
Expected<std::string> to_json(Heap& heap, const Value& value, const JsonStyle& style);

/// What {{ value }} prints, in the manner of @huggingface/jinja: nothing for none and undefined, true and false in
/// lower case, containers as JSON.
Expected<std::string> to_text(Heap& heap, const Value& value);

}  // namespace shoehorn::tokenizer::jinja
