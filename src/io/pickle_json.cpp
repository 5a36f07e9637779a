#include "io/pickle_json.h"

namespace shoehorn::io::pickle {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxValues = 100'000;
constexpr size_t kMaxTextBytes = size_t{16} << 20;

class Converter {
 public:
  explicit Converter(const Pickle& pickle) : pickle_(pickle) {}

  Expected<Json> value(Ref ref, int depth) {
    if (depth > kMaxDepth) return fail(ErrorCode::kInvalid, "values nested deeper than {}", kMaxDepth);
    if (++n_values_ > kMaxValues) return fail(ErrorCode::kTooLarge, "more than {} values", kMaxValues);
    const Value& value = pickle_[ref];
    switch (value.kind) {
      case Kind::kBool:
        return Json(value.number != 0);
      case Kind::kInt:
        return Json(value.number);
      case Kind::kFloat:
        return Json(value.real());
      case Kind::kString:
      case Kind::kDType: {
        SHOEHORN_TRY(std::string utf8, text(value.text));
        return Json(std::move(utf8));
      }
      case Kind::kTuple:
      case Kind::kList:
      case Kind::kSet: {
        Json array = Json::array();
        for (const Ref item : value.items) {
          SHOEHORN_TRY(Json entry, this->value(item, depth + 1));
          array.push_back(std::move(entry));
        }
        return array;
      }
      case Kind::kDict: {
        Json object = Json::object();
        SHOEHORN_RETURN_IF_ERROR(entries(ref, depth, object));
        return object;
      }
      case Kind::kRecord: {
        Json object;
        for (const Ref dict : attribute_dicts(pickle_, ref)) {
          if (object.is_null()) object = Json::object();
          SHOEHORN_RETURN_IF_ERROR(entries(dict, depth, object));
        }
        return object;
      }
      default:
        return Json();
    }
  }

 private:
  Status entries(Ref dict, int depth, Json& object) {
    const auto& items = pickle_[dict].items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const Value& key = pickle_[items[i]];
      SHOEHORN_TRY(Json entry, value(items[i + 1], depth + 1));
      if (key.kind == Kind::kInt) {
        object[std::to_string(key.number)] = std::move(entry);
      } else if (key.kind == Kind::kString) {
        SHOEHORN_TRY(const std::string name, text(key.text));
        object[name] = std::move(entry);
      }
    }
    return {};
  }

  Expected<std::string> text(std::string_view bytes) {
    text_bytes_ += bytes.size();
    if (text_bytes_ > kMaxTextBytes) return fail(ErrorCode::kTooLarge, "more than {} bytes of text", kMaxTextBytes);
    // There and back, because only writing can replace bytes that are no UTF-8.
    return Json::parse(Json(std::string(bytes)).dump(-1, ' ', false, Json::error_handler_t::replace))
        .get<std::string>();
  }

  const Pickle& pickle_;
  size_t n_values_ = 0, text_bytes_ = 0;
};

}  // namespace

Expected<Json> to_json(const Pickle& pickle, Ref ref) { return Converter(pickle).value(ref, 0); }

}  // namespace shoehorn::io::pickle
