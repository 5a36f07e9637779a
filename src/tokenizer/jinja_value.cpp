#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_callable.h"
#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer::jinja {

Accounted::~Accounted() {
  if (heap != nullptr) heap->release(bytes);
}

Value Value::literal(std::string bytes) {
  auto text = std::make_shared<Text>();
  text->value = std::move(bytes);
  return Value(std::shared_ptr<const Text>(std::move(text)));
}

const std::string& Value::text() const { return (*std::get_if<std::shared_ptr<const Text>>(&data_))->value; }

double Value::number() const {
  if (is(Kind::kBool)) return boolean() ? 1 : 0;
  if (is(Kind::kInt)) return static_cast<double>(integer());
  return real();
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return boolean();
    case Kind::kInt:
      return integer() != 0;
    case Kind::kFloat:
      return real() != 0;
    case Kind::kText:
      return !text().empty();
    case Kind::kList:
      return !list()->items.empty();
    case Kind::kDict:
      return !dict().table.entries().empty();
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kCallable:
      return true;
  }
  return false;
}

const char* Value::type_name() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "none";
    case Kind::kBool:
      return "a boolean";
    case Kind::kInt:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kText:
      return "a string";
    case Kind::kList:
      return "a list";
    case Kind::kDict:
      return "a mapping";
    case Kind::kNamespace:
      return "a namespace";
    case Kind::kLoop:
      return "the loop variable";
    case Kind::kCallable:
      return "a function";
  }
  return "";
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kList:
      return list()->depth;
    case Kind::kDict:
      return dict().depth;
    case Kind::kLoop:
      return loop().items->depth + 1;
    case Kind::kCallable:
      return callable()->self.depth() + 1;
    default:
      return 0;
  }
}

size_t Table::position(std::string_view key) const {
  if (!index_.empty()) {
    const auto it = index_.find(std::string(key));
    return it == index_.end() ? entries_.size() : it->second;
  }
  const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  return static_cast<size_t>(it - entries_.begin());
}

const Value* Table::find(std::string_view key) const {
  const size_t at = position(key);
  return at < entries_.size() ? &entries_[at].value : nullptr;
}

void Table::set(std::string key, Value value, bool integer_key) {
  if (const size_t at = position(key); at < entries_.size()) {
    entries_[at].value = std::move(value);
    return;
  }
  constexpr size_t kIndexFrom = 16;
  if (!index_.empty()) {
    index_.emplace(key, entries_.size());
  } else if (entries_.size() == kIndexFrom) {
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].key, i);
    index_.emplace(key, entries_.size());
  }
  entries_.push_back({std::move(key), std::move(value), integer_key});
}

Heap::~Heap() {
  // Emptied before anything is destroyed, so that no destructor runs into another container of the same chain or cycle.
  std::vector<std::vector<Value>> contents;
  for (auto& list : pinned_) contents.push_back(std::move(list->items));
  for (auto& ns : namespaces_) {
    for (auto& entry : ns->table.entries()) contents.push_back({entry.value});
    ns->table = Table();
  }
  contents.clear();
  pinned_.clear();
}

Status Heap::charge(size_t bytes) {
  if (bytes > limits::kLiveBytes || live_bytes_ > limits::kLiveBytes - bytes) {
    return fail(ErrorCode::kTooLarge, "the template's values take more than {} MiB", limits::kLiveBytes >> 20);
  }
  live_bytes_ += bytes;
  return {};
}

Status Heap::work(uint64_t units) {
  if (units > limits::kWork || work_ > limits::kWork - units) {
    return fail(ErrorCode::kTooLarge, "the template takes more than {} steps", limits::kWork);
  }
  work_ += units;
  return {};
}

Expected<Value> Heap::text(std::string bytes) {
  if (bytes.size() > limits::kTextBytes) {
    return fail(ErrorCode::kTooLarge, "a string of {} bytes; the limit is {}", bytes.size(), limits::kTextBytes);
  }
  SHOEHORN_RETURN_IF_ERROR(work(bytes.size() / 64));
  constexpr size_t kControlBlock = 32;
  const size_t cost = bytes.size() + sizeof(Text) + kControlBlock;
  SHOEHORN_RETURN_IF_ERROR(charge(cost));
  auto text = std::make_shared<Text>();
  text->heap = this;
  text->bytes = cost;
  text->value = std::move(bytes);
  return Value(std::shared_ptr<const Text>(std::move(text)));
}

namespace {

Expected<int> depth_above(int depth, const Value& child) {
  const int d = std::max(depth, child.depth() + 1);
  if (d > limits::kValueDepth) {
    return fail(ErrorCode::kTooLarge, "lists and mappings nest deeper than {}", limits::kValueDepth);
  }
  return d;
}

}  // namespace

Expected<Value> Heap::list(std::vector<Value> items) {
  SHOEHORN_RETURN_IF_ERROR(work(items.size()));
  int depth = 1;
  for (const Value& item : items) {
    SHOEHORN_TRY(depth, depth_above(depth, item));
  }
  const size_t cost = items.size() * sizeof(Value) + sizeof(List);
  SHOEHORN_RETURN_IF_ERROR(charge(cost));
  auto list = std::make_shared<List>();
  list->heap = this;
  list->bytes = cost;
  list->items = std::move(items);
  list->depth = depth;
  return Value(std::move(list));
}

Expected<Value> Heap::dict(Table table) {
  SHOEHORN_RETURN_IF_ERROR(work(table.entries().size()));
  int depth = 1;
  size_t cost = sizeof(Dict);
  for (const Table::Entry& entry : table.entries()) {
    SHOEHORN_TRY(depth, depth_above(depth, entry.value));
    cost += 2 * (entry.key.size() + sizeof(Table::Entry));  // twice: the index has a copy of the key
  }
  SHOEHORN_RETURN_IF_ERROR(charge(cost));
  auto dict = std::make_shared<Dict>();
  dict->heap = this;
  dict->bytes = cost;
  dict->table = std::move(table);
  dict->depth = depth;
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Expected<Value> Heap::key(const Table::Entry& entry) {
  if (!entry.integer_key) return text(entry.key);
  int64_t integer = 0;
  std::from_chars(entry.key.data(), entry.key.data() + entry.key.size(), integer);
  return Value(integer);
}

namespace {

template <class T>
Expected<std::shared_ptr<T>> make_accounted(Heap& heap) {
  SHOEHORN_RETURN_IF_ERROR(heap.charge(sizeof(T)));
  auto object = std::make_shared<T>();
  object->heap = &heap;
  object->bytes = sizeof(T);
  return object;
}

}  // namespace

Expected<std::shared_ptr<Callable>> Heap::make_callable() { return make_accounted<Callable>(*this); }
Expected<std::shared_ptr<Loop>> Heap::make_loop() { return make_accounted<Loop>(*this); }

Expected<Value> Heap::make_namespace(Table table) {
  auto ns = std::make_unique<Namespace>();
  Namespace* raw = ns.get();
  SHOEHORN_RETURN_IF_ERROR(charge(sizeof(Namespace) + sizeof(void*)));
  namespaces_.push_back(std::move(ns));
  for (const Table::Entry& entry : table.entries()) SHOEHORN_RETURN_IF_ERROR(assign(*raw, entry.key, entry.value));
  return Value(raw);
}

Expected<Value> Heap::from_json(const OrderedJson& json, int depth) {
  if (depth > limits::kValueDepth) {
    return fail(ErrorCode::kTooLarge, "JSON nests deeper than {}", limits::kValueDepth);
  }
  switch (json.type()) {
    case OrderedJson::value_t::null:
      return Value(None{});
    case OrderedJson::value_t::boolean:
      return Value(json.get<bool>());
    case OrderedJson::value_t::number_integer:
      return Value(json.get<int64_t>());
    case OrderedJson::value_t::number_unsigned: {
      const auto n = json.get<uint64_t>();
      return n <= static_cast<uint64_t>(INT64_MAX) ? Value(static_cast<int64_t>(n)) : Value(static_cast<double>(n));
    }
    case OrderedJson::value_t::number_float:
      return Value(json.get<double>());
    case OrderedJson::value_t::string:
      return text(json.get_ref<const std::string&>());
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) {
        SHOEHORN_TRY(Value value, from_json(item, depth + 1));
        items.push_back(std::move(value));
      }
      SHOEHORN_TRY(Value made, list(std::move(items)));
      made.list()->read_only = true;
      return made;
    }
    case OrderedJson::value_t::object: {
      Table table;
      for (const auto& [key, item] : json.items()) {
        SHOEHORN_TRY(Value value, from_json(item, depth + 1));
        table.set(key, std::move(value));
      }
      return dict(std::move(table));
    }
    default:
      return fail(ErrorCode::kInvalid, "JSON of type {} cannot be given to a template", json.type_name());
  }
}

Status Heap::insert(const std::shared_ptr<List>& list, size_t at, Value item) {
  if (list->read_only) return fail(ErrorCode::kInvalid, "a list of the inputs cannot be changed");
  SHOEHORN_TRY(list->depth, depth_above(list->depth, item));
  const size_t cost = 2 * sizeof(Value);  // twice: a vector grows by doubling
  SHOEHORN_RETURN_IF_ERROR(charge(cost));
  list->bytes += cost;
  SHOEHORN_RETURN_IF_ERROR(work((list->items.size() - at) / 8));
  if (item.depth() > 0 && !list->pinned) {
    list->pinned = true;
    pinned_.push_back(list);
  }
  list->items.insert(list->items.begin() + static_cast<std::ptrdiff_t>(at), std::move(item));
  return {};
}

Status Heap::assign(Namespace& ns, const std::string& name, Value value) {
  if (ns.table.find(name) == nullptr) {
    SHOEHORN_RETURN_IF_ERROR(charge(2 * (name.size() + sizeof(Table::Entry))));
  }
  ns.table.set(name, std::move(value));
  return {};
}

Expected<bool> equal(Heap& heap, const Value& a, const Value& b, int depth) {
  SHOEHORN_RETURN_IF_ERROR(heap.work(1));
  const auto absent = [](const Value& v) { return v.is(Kind::kUndefined) || v.is(Kind::kNone); };
  if (absent(a) || absent(b)) return absent(a) && absent(b);
  if (a.is_numeric() && b.is_numeric()) {
    if (!a.is(Kind::kFloat) && !b.is(Kind::kFloat)) {
      const auto whole = [](const Value& v) { return v.is(Kind::kBool) ? int64_t{v.boolean()} : v.integer(); };
      return whole(a) == whole(b);
    }
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kText:
      SHOEHORN_RETURN_IF_ERROR(heap.work(std::min(a.text().size(), b.text().size()) / 64));
      return a.text() == b.text();
    case Kind::kDict:
      return &a.dict() == &b.dict();
    case Kind::kNamespace:
      return &a.ns() == &b.ns();
    case Kind::kLoop:
      return &a.loop() == &b.loop();
    case Kind::kCallable:
      return a.callable() == b.callable();
    case Kind::kList: {
      if (a.list() == b.list()) return true;
      if (depth > limits::kValueDepth)
        return fail(ErrorCode::kTooLarge, "lists nest deeper than {}", limits::kValueDepth);
      const auto& left = a.list()->items;
      const auto& right = b.list()->items;
      if (left.size() != right.size()) return false;
      for (size_t i = 0; i < left.size(); ++i) {
        SHOEHORN_TRY(const bool same, equal(heap, left[i], right[i], depth + 1));
        if (!same) return false;
      }
      return true;
    }
    default:
      return false;
  }
}

Expected<bool> less(const Value& a, const Value& b) {
  if (a.is_numeric() && b.is_numeric()) {
    if (a.is(Kind::kInt) && b.is(Kind::kInt)) return a.integer() < b.integer();
    return a.number() < b.number();
  }
  // Bytes of UTF-8 are ordered as its code points are.
  if (a.is(Kind::kText) && b.is(Kind::kText)) return a.text() < b.text();
  return fail(ErrorCode::kInvalid, "cannot compare {} with {}", a.type_name(), b.type_name());
}

namespace {

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}

  Status write(const Value& value, int depth) {
    SHOEHORN_RETURN_IF_ERROR(heap_.work(1));
    if (depth > limits::kValueDepth) {
      return fail(ErrorCode::kTooLarge, "lists and mappings nest deeper than {}", limits::kValueDepth);
    }
    switch (value.kind()) {
      case Kind::kUndefined:
        return put(style_.undefined_as_null ? "null" : "undefined");
      case Kind::kNone:
        return put("null");
      case Kind::kBool:
        return put(value.boolean() ? "true" : "false");
      case Kind::kInt:
        return put(std::to_string(value.integer()));
      case Kind::kFloat:
        return put(std::isfinite(value.real()) ? format_double(value.real(), true) : "null");
      case Kind::kText:
        return write_string(value.text());
      case Kind::kList: {
        const auto& items = value.list()->items;
        SHOEHORN_RETURN_IF_ERROR(put("["));
        for (size_t i = 0; i < items.size(); ++i) {
          if (i > 0) SHOEHORN_RETURN_IF_ERROR(put(style_.item_separator));
          SHOEHORN_RETURN_IF_ERROR(new_line(depth + 1));
          SHOEHORN_RETURN_IF_ERROR(write(items[i], depth + 1));
        }
        if (!items.empty()) SHOEHORN_RETURN_IF_ERROR(new_line(depth));
        return put("]");
      }
      case Kind::kDict:
        return write_table(value.dict().table, depth);
      case Kind::kNamespace:
        return write_table(value.ns().table, depth);
      case Kind::kLoop:
      case Kind::kCallable:
        return fail(ErrorCode::kInvalid, "{} cannot be written as text", value.type_name());
    }
    return {};
  }

  std::string take() { return std::move(out_); }

 private:
  Status put(std::string_view text) {
    if (text.size() > limits::kTextBytes - out_.size()) {
      return fail(ErrorCode::kTooLarge, "JSON text of more than {} bytes", limits::kTextBytes);
    }
    out_ += text;
    return {};
  }

  Status new_line(int depth) {
    if (style_.indent == 0) return {};
    const auto spaces = static_cast<size_t>(depth) * static_cast<size_t>(style_.indent);
    SHOEHORN_RETURN_IF_ERROR(put("\n"));
    if (spaces > limits::kTextBytes) return fail(ErrorCode::kTooLarge, "an indentation of {} spaces", spaces);
    return put(std::string(spaces, ' '));
  }

  Status write_table(const Table& table, int depth) {
    std::vector<const Table::Entry*> order;
    for (const auto& entry : table.entries()) order.push_back(&entry);
    if (style_.sort_keys) {
      std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->key < b->key; });
    }
    SHOEHORN_RETURN_IF_ERROR(put("{"));
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) SHOEHORN_RETURN_IF_ERROR(put(style_.item_separator));
      SHOEHORN_RETURN_IF_ERROR(new_line(depth + 1));
      SHOEHORN_RETURN_IF_ERROR(write_string(order[i]->key));
      SHOEHORN_RETURN_IF_ERROR(put(style_.key_separator));
      SHOEHORN_RETURN_IF_ERROR(write(order[i]->value, depth + 1));
    }
    if (!order.empty()) SHOEHORN_RETURN_IF_ERROR(new_line(depth));
    return put("}");
  }

  Status write_string(std::string_view text) {
    SHOEHORN_RETURN_IF_ERROR(heap_.work(text.size() / 64));
    if (text.size() > limits::kTextBytes - out_.size()) return put(text);
    out_ += '"';
    for (size_t pos = 0; pos < text.size();) {
      const size_t n = char_bytes(text, pos);
      append_escaped(text.substr(pos, n));
      pos += n;
    }
    return put("\"");
  }

  void append_escaped(std::string_view character) {
    if (out_.size() >= limits::kTextBytes) return;  // the closing quote reports it
    const auto c = static_cast<unsigned char>(character[0]);
    if (character.size() == 1 && c < 0x7F) {
      switch (c) {
        case '"':
          out_ += "\\\"";
          return;
        case '\\':
          out_ += "\\\\";
          return;
        case '\n':
          out_ += "\\n";
          return;
        case '\r':
          out_ += "\\r";
          return;
        case '\t':
          out_ += "\\t";
          return;
        case '\b':
          out_ += "\\b";
          return;
        case '\f':
          out_ += "\\f";
          return;
        default:
          break;
      }
      if (c < 0x20) {
        out_ += fmt::format("\\u{:04x}", c);
      } else {
        out_ += static_cast<char>(c);
      }
      return;
    }
    if (!style_.ensure_ascii) {
      out_ += character;
      return;
    }
    uint32_t code = c;
    if (character.size() > 1) {
      code = c & (0xFFu >> (character.size() + 1));
      for (size_t i = 1; i < character.size(); ++i)
        code = code << 6 | (static_cast<unsigned char>(character[i]) & 0x3Fu);
    }
    if (code < 0x10000) {
      out_ += fmt::format("\\u{:04x}", code);
    } else {
      code -= 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF));
    }
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Expected<std::string> to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  JsonWriter writer(heap, style);
  SHOEHORN_RETURN_IF_ERROR(writer.write(value, 0));
  return writer.take();
}

Expected<std::string> to_text(Heap& heap, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return std::string();
    case Kind::kText:
      return value.text();
    case Kind::kFloat:
      return format_double(value.real(), true);
    default: {
      JsonStyle style;
      style.undefined_as_null = false;
      return to_json(heap, value, style);
    }
  }
}

}  // namespace shoehorn::tokenizer::jinja
