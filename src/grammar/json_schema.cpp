#include "grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "grammar/code_points.h"
#include "grammar/number_range.h"
#include "grammar/string_pattern.h"

namespace shoehorn::grammar {
namespace {

using Json = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

constexpr size_t kMaxDepth = 64, kMaxSteps = 20'000;
constexpr int64_t kMostRepetitions = 65'536;

// What every schema may use. White space is a blank, or a line and an indentation: a model that is free to write more
// of it sometimes never stops. Digits are as many as a double has, and \u makes whole characters only.
struct Primitive {
  const char* name;
  const char* body;
  std::initializer_list<const char*> uses;
};
const Primitive kPrimitives[] = {
    {"space", R"(" "? | "\n" " "{0,40})", {}},
    {"hex", "[0-9a-fA-F]", {}},
    {"escape", R"([0-9abcefABCEF] hex{3} | [dD] ([0-7] hex{2} | [89abAB] hex{2} "\\u" [dD] [c-fC-F] hex{2}))", {"hex"}},
    {"char", R"([^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" escape))", {"escape"}},
    {"string", R"("\"" char* "\"")", {"char"}},
    {"whole", "\"-\"? (\"0\" | [1-9] [0-9]{0,15})", {}},
    {"fraction", "\".\" [0-9]{1,16}", {}},
    {"number", "whole fraction? ([eE] [-+]? [0-9]{1,2})?", {"whole", "fraction"}},
    {"boolean", R"("true" | "false")", {}},
    {"null", "\"null\"", {}},
    {"object",
     R"("{" space (string ":" space value ("," space string ":" space value)* space)? "}")",
     {"space", "string", "value"}},
    {"array", R"("[" space (value ("," space value)* space)? "]")", {"space", "value"}},
    {"value",
     "object | array | string | number | boolean | null",
     {"object", "array", "string", "number", "boolean", "null"}},
};

/// What stands beside a keyword without saying anything about values.
bool is_annotation(const std::string& key) {
  static constexpr const char* kAnnotations[] = {"title",    "description", "default", "examples",    "$schema",
                                                 "$id",      "$comment",    "$defs",   "definitions", "deprecated",
                                                 "readOnly", "writeOnly",   "strict",  "$anchor"};
  return std::ranges::find(kAnnotations, key) != std::end(kAnnotations);
}

bool is_type(const Json& value, std::string_view type) {
  return type == "string"    ? value.is_string()
         : type == "integer" ? value.is_number_integer()
         : type == "number"  ? value.is_number()
         : type == "boolean" ? value.is_boolean()
         : type == "null"    ? value.is_null()
         : type == "object"  ? value.is_object()
                             : value.is_array();
}

std::string joined(const Strings& alternatives) {
  return alternatives.size() == 1 ? alternatives[0] : fmt::format("({})", fmt::join(alternatives, " | "));
}

class Converter {
 public:
  explicit Converter(const Json& schema) : schema_(schema) {}

  Expected<std::string> convert() {
    SHOEHORN_TRY(const std::string whole, visit(schema_, "whole", 0));
    return text(whole);
  }

  std::string any_object() { return text(primitive("object")); }

 private:
  std::string text(const std::string& root) const {
    std::string out = fmt::format("root ::= {}\n", root);
    for (const auto& [name, body] : rules_) out += fmt::format("{} ::= {}\n", name, body);
    return out;
  }

  /// The name of a rule with this body; the same body is the same rule.
  std::string rule(std::string_view hint, std::string body) {
    const auto known = by_body_.find(body);
    if (known != by_body_.end()) return known->second;
    const std::string name = new_name(hint);
    by_body_.emplace(body, name);
    rules_.emplace_back(name, std::move(body));
    return name;
  }

  std::string new_name(std::string_view hint) {
    std::string out;
    for (const char c : hint.substr(0, 40)) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      out += plain ? c : '-';
    }
    return fmt::format("{}-{}", out, ++n_names_);
  }

  std::string primitive(std::string_view name) {
    for (const Primitive& known : kPrimitives) {
      if (known.name != name) continue;
      if (!std::exchange(has_[known.name], true)) {
        rules_.emplace_back(known.name, known.body);
        for (const char* used : known.uses) primitive(used);
      }
    }
    return std::string(name);
  }

  template <class... Args>
  static tl::unexpected<Error> unsupported(fmt::format_string<Args...> format, Args&&... args) {
    return fail(ErrorCode::kUnsupported, "schema: {}", fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  static tl::unexpected<Error> invalid(fmt::format_string<Args...> format, Args&&... args) {
    return fail(ErrorCode::kInvalid, "schema: {}", fmt::format(format, std::forward<Args>(args)...));
  }

  /// What the values of a schema look like: a rule's name, or an expression that can stand anywhere.
  Expected<std::string> visit(const Json& schema, std::string_view hint, size_t depth) {
    if (depth > kMaxDepth) return invalid("nested deeper than {}", kMaxDepth);
    SHOEHORN_RETURN_IF_ERROR(count_step());
    if (schema.is_boolean()) {
      if (schema.get<bool>()) return primitive("value");
      return unsupported("false, which nothing is valid under");
    }
    if (!schema.is_object()) return invalid("an object is expected for {}, or true", hint);
    for (const char* key : {"not", "if", "then", "else"}) {
      if (schema.contains(key)) return unsupported("\"{}\" cannot be a grammar", key);
    }
    if (schema.contains("$ref")) return reference(schema, hint, depth);
    if (schema.contains("allOf")) return all_of(schema, hint, depth);
    for (const char* key : {"anyOf", "oneOf"}) {
      if (schema.contains(key)) return any_of(schema, key, hint, depth);
    }
    if (schema.contains("const")) return literals(Json::array({schema["const"]}), schema, "const");
    if (schema.contains("enum")) return literals(schema["enum"], schema, "enum");
    if (schema.contains("type") && schema["type"].is_array()) {
      Strings ways;
      for (const Json& type : schema["type"]) {
        Json one = schema;
        one["type"] = type;
        SHOEHORN_TRY(std::string way, visit(one, hint, depth + 1));
        ways.push_back(std::move(way));
      }
      if (ways.empty()) return invalid("\"type\" of {} is an empty list", hint);
      return rule(hint, joined(ways));
    }
    SHOEHORN_TRY(const std::string type, type_of(schema, hint));
    if (type == "object") return object(schema, hint, depth);
    if (type == "array") return array(schema, hint, depth);
    if (type == "string") return string(schema, hint);
    if (type == "number" || type == "integer") return number(schema, hint, type == "integer");
    if (type == "boolean" || type == "null" || type == "value") return primitive(type);
    return invalid("\"{}\" is no type", type.substr(0, 40));
  }

  /// What refers to itself from many places would take forever otherwise.
  Status count_step() {
    if (++n_steps_ > kMaxSteps)
      return fail(ErrorCode::kTooLarge,
                  "schema: it has more than {} parts, those that are referred to counted each time", kMaxSteps);
    return {};
  }

  /// The type, or that which the keywords speak of.
  Expected<std::string> type_of(const Json& schema, std::string_view hint) {
    if (schema.contains("type")) {
      if (!schema["type"].is_string()) return invalid("\"type\" of {} must be a string or a list of them", hint);
      return schema["type"].get<std::string>();
    }
    struct Speaks {
      const char* type;
      std::initializer_list<const char*> keys;
    };
    static const Speaks kSpeaks[] = {
        {"object",
         {"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
          "maxProperties"}},
        {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"}},
        {"string", {"minLength", "maxLength", "pattern", "format"}},
        {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}}};
    for (const Speaks& speaks : kSpeaks) {
      for (const char* key : speaks.keys) {
        if (schema.contains(key)) return std::string(speaks.type);
      }
    }
    return std::string("value");
  }

  /// The part of the schema that a reference names.
  Expected<const Json*> resolve(const Json& ref) const {
    if (!ref.is_string() || !ref.get<std::string>().starts_with('#'))
      return unsupported("\"$ref\" reaches into the schema itself only (#/...)");
    try {
      return &schema_.at(Json::json_pointer(ref.get<std::string>().substr(1)));
    } catch (const Json::exception&) {
      return invalid("\"$ref\": there is no {}", ref.get<std::string>().substr(0, 80));
    }
  }

  /// What says something about values beside `key`.
  static Json beside(const Json& schema, std::string_view key) {
    Json out = Json::object();
    for (const auto& [name, value] : schema.items()) {
      if (name != key && !is_annotation(name)) out[name] = value;
    }
    return out;
  }

  Expected<std::string> reference(const Json& schema, std::string_view hint, size_t depth) {
    if (const Json rest = beside(schema, "$ref"); !rest.empty()) {
      Json both = rest;
      SHOEHORN_RETURN_IF_ERROR(merge(both, Json{{"$ref", schema["$ref"]}}, depth));
      return visit(both, hint, depth + 1);
    }
    SHOEHORN_TRY(const Json* target, resolve(schema["$ref"]));
    const std::string pointer = schema["$ref"];
    if (const auto known = references_.find(pointer); known != references_.end()) return known->second;
    // Named before it is looked at: it can hold itself.
    const std::string name = new_name(pointer.substr(pointer.rfind('/') + 1));
    references_.emplace(pointer, name);
    SHOEHORN_TRY(std::string body, visit(*target, hint, depth + 1));
    rules_.emplace_back(name, std::move(body));
    return name;
  }

  /// Makes `into` say what both say.
  Status merge(Json& into, const Json& other, size_t depth) {
    if (depth > kMaxDepth) return invalid("\"allOf\" and \"$ref\" lead deeper than {}", kMaxDepth);
    SHOEHORN_RETURN_IF_ERROR(count_step());
    if (other.is_boolean() && other.get<bool>()) return {};
    if (!other.is_object()) return invalid("an object is expected in \"allOf\"");
    for (const auto& [key, value] : other.items()) {
      if (is_annotation(key)) continue;
      if (key == "$ref") {
        SHOEHORN_TRY(const Json* target, resolve(value));
        SHOEHORN_RETURN_IF_ERROR(merge(into, *target, depth + 1));
      } else if (key == "allOf") {
        if (!value.is_array()) return invalid("\"allOf\" must be a list");
        for (const Json& part : value) SHOEHORN_RETURN_IF_ERROR(merge(into, part, depth + 1));
      } else if (!into.contains(key)) {
        into[key] = value;
      } else if (key == "properties" && value.is_object() && into[key].is_object()) {
        for (const auto& [name, property] : value.items()) {
          Json& known = into[key][name];
          if (known.is_null()) {
            known = property;
          } else if (known != property) {
            known = Json{{"allOf", Json::array({known, property})}};
          }
        }
      } else if (key == "required" && value.is_array() && into[key].is_array()) {
        for (const Json& name : value) {
          if (std::ranges::find(into[key], name) == into[key].end()) into[key].push_back(name);
        }
      } else if (into[key] != value) {
        return unsupported("two different \"{}\" that must both hold", key.substr(0, 40));
      }
    }
    return {};
  }

  Expected<std::string> all_of(const Json& schema, std::string_view hint, size_t depth) {
    Json merged = Json::object();
    SHOEHORN_RETURN_IF_ERROR(merge(merged, schema, depth));
    return visit(merged, hint, depth + 1);
  }

  Expected<std::string> any_of(const Json& schema, const char* key, std::string_view hint, size_t depth) {
    if (!schema[key].is_array() || schema[key].empty()) return invalid("\"{}\" must be a list of schemas", key);
    const Json rest = beside(schema, key);
    Strings ways;
    for (const Json& option : schema[key]) {
      Json both = rest;
      if (!rest.empty()) SHOEHORN_RETURN_IF_ERROR(merge(both, option, depth));
      SHOEHORN_TRY(std::string way, visit(rest.empty() ? option : both, hint, depth + 1));
      ways.push_back(std::move(way));
    }
    return rule(hint, joined(ways));
  }

  Expected<std::string> literals(const Json& values, const Json& schema, const char* key) {
    const Json rest = beside(schema, key);
    for (const auto& [other, value] : rest.items()) {
      if (other != "type") return unsupported("\"{}\" beside \"{}\"", other.substr(0, 40), key);
    }
    if (!values.is_array()) return invalid("\"enum\" must be a list");
    Strings ways;
    for (const Json& value : values) {
      const Json types = schema.contains("type") ? schema["type"] : Json();
      const bool fits = types.is_null() || (types.is_string() && is_type(value, types.get<std::string>())) ||
                        (types.is_array() && std::ranges::any_of(types, [&](const Json& type) {
                           return type.is_string() && is_type(value, type.get<std::string>());
                         }));
      if (fits) ways.push_back(gbnf_literal(value.dump()));
    }
    if (ways.empty()) return invalid("\"{}\" has no value of the type", key);
    return rule(key, joined(ways));
  }

  /// A whole number from 0 to `most` under a key.
  static Expected<std::optional<int64_t>> count(const Json& schema, const char* key, int64_t most) {
    if (!schema.contains(key)) return std::nullopt;
    const Json& value = schema[key];
    if (!value.is_number() || value.get<double>() < 0 || value.get<double>() != std::floor(value.get<double>()))
      return invalid("\"{}\" must be a whole number", key);
    if (value.get<double>() > static_cast<double>(most))
      return unsupported("\"{}\": {} is more than {}", key, value.dump(), most);
    return static_cast<int64_t>(value.get<double>());
  }

  static std::string repetition(int64_t least, std::optional<int64_t> most) {
    return most ? fmt::format("{{{},{}}}", least, *most) : fmt::format("{{{},}}", least);
  }

  Expected<std::string> string(const Json& schema, std::string_view hint) {
    SHOEHORN_TRY(const auto least, count(schema, "minLength", kMostRepetitions));
    SHOEHORN_TRY(const auto most, count(schema, "maxLength", kMostRepetitions));
    if (schema.contains("pattern")) {
      if (least || most) return unsupported("\"pattern\" beside \"minLength\" or \"maxLength\"");
      if (!schema["pattern"].is_string()) return invalid("\"pattern\" must be a string");
      SHOEHORN_TRY(const std::string inside, gbnf_of_pattern(schema["pattern"].get<std::string>(), primitive("char")));
      return rule(hint, fmt::format(R"("\"" {} "\"")", inside));
    }
    if (least || most) {
      if (most && *most < least.value_or(0)) return invalid("\"maxLength\" of {} is less than \"minLength\"", hint);
      return rule(hint, fmt::format(R"("\"" {}{} "\"")", primitive("char"), repetition(least.value_or(0), most)));
    }
    // Other formats are annotations, as JSON Schema has them by default.
    static const std::map<std::string, const char*> kFormats = {
        {"date", R"([0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]))"},
        {"time",
         R"(([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,9})? ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]))"},
        {"uuid", R"([0-9a-f]{8} ("-" [0-9a-f]{4}){3} "-" [0-9a-f]{12})"}};
    const std::string format =
        schema.contains("format") && schema["format"].is_string() ? schema["format"].get<std::string>() : "";
    if (format == "date-time")
      return rule(hint, fmt::format(R"("\"" {} "T" {} "\"")", rule("date", kFormats.at("date")),
                                    rule("time", kFormats.at("time"))));
    if (const auto known = kFormats.find(format); known != kFormats.end())
      return rule(hint, fmt::format(R"("\"" {} "\"")", rule(format, known->second)));
    return primitive("string");
  }

  Expected<std::string> number(const Json& schema, std::string_view hint, bool whole) {
    if (schema.contains("multipleOf")) return unsupported("\"multipleOf\" cannot be a grammar");
    std::optional<int64_t> least, most;
    for (const auto& [key, exclusive, lower] :
         {std::tuple("minimum", false, true), std::tuple("exclusiveMinimum", true, true),
          std::tuple("maximum", false, false), std::tuple("exclusiveMaximum", true, false)}) {
      if (!schema.contains(key)) continue;
      if (!schema[key].is_number()) return invalid("\"{}\" must be a number", key);
      const double value = schema[key];
      if (!(std::abs(value) <= static_cast<double>(kMostWhole)))
        return unsupported("\"{}\": {} is beyond 16 digits", key, value);
      if (!whole && (exclusive || value != std::floor(value)))
        return unsupported("\"{}\" of type number: whole bounds, and minimum and maximum, are known", key);
      const double bound = lower ? (exclusive ? std::floor(value) + 1 : std::ceil(value))
                                 : (exclusive ? std::ceil(value) - 1 : std::floor(value));
      std::optional<int64_t>& of = lower ? least : most;
      const auto rounded = static_cast<int64_t>(bound);
      of = !of ? rounded : lower ? std::max(*of, rounded) : std::min(*of, rounded);
    }
    if (!least && !most) return primitive(whole ? "whole" : "number");
    if (least && most && *least > *most) return invalid("no number is from {} to {}", *least, *most);
    const std::string body =
        whole ? gbnf_of_whole_numbers(least, most) : gbnf_of_numbers(least, most, primitive("fraction"));
    return rule(hint, body);
  }

  Expected<std::string> array(const Json& schema, std::string_view hint, size_t depth) {
    if (schema.contains("contains")) return unsupported("\"contains\" cannot be a grammar");
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != false)
      return unsupported("\"uniqueItems\" cannot be a grammar");
    SHOEHORN_TRY(const auto given_least, count(schema, "minItems", kMostRepetitions));
    SHOEHORN_TRY(const auto most, count(schema, "maxItems", kMostRepetitions));
    const int64_t least = given_least.value_or(0);
    if (most && *most < least) return invalid("\"maxItems\" of {} is less than \"minItems\"", hint);
    const std::string space = primitive("space"), comma = fmt::format("\",\" {} ", space);

    // A list begins with all of prefixItems, unless it may not be so long.
    Strings first;
    if (schema.contains("prefixItems")) {
      if (!schema["prefixItems"].is_array()) return invalid("\"prefixItems\" must be a list");
      for (const Json& item : schema["prefixItems"]) {
        if (most && static_cast<int64_t>(first.size()) >= *most) break;
        SHOEHORN_TRY(std::string way, visit(item, fmt::format("{}-{}", hint, first.size()), depth + 1));
        first.push_back(std::move(way));
      }
    }
    const auto n_first = static_cast<int64_t>(first.size());
    const bool more = schema.contains("items") ? schema["items"] != false : first.empty();
    if (!more && least > n_first) return invalid("\"minItems\" of {} is more than there can be", hint);
    std::string rest;  // items behind the first ones, or all of them
    if (more && (!most || *most > n_first)) {
      SHOEHORN_TRY(rest, schema.contains("items") ? visit(schema["items"], fmt::format("{}-item", hint), depth + 1)
                                                  : Expected<std::string>(primitive("value")));
    }
    if (first.empty()) {
      if (rest.empty()) return rule(hint, fmt::format("\"[\" {} \"]\"", space));
      const auto after = most ? std::optional(*most - 1) : std::nullopt;
      const std::string items =
          fmt::format("({} ({}{}){} {})", rest, comma, rest, repetition(std::max<int64_t>(least - 1, 0), after), space);
      return rule(hint, fmt::format("\"[\" {} {}{} \"]\"", space, items, least == 0 ? "?" : ""));
    }
    std::string body = fmt::format("\"[\" {} {}", space, fmt::join(first, " " + comma));
    if (!rest.empty()) {
      const auto after = most ? std::optional(*most - n_first) : std::nullopt;
      body += fmt::format(" ({}{}){}", comma, rest, repetition(std::max<int64_t>(least - n_first, 0), after));
    }
    return rule(hint, fmt::format("{} {} \"]\"", body, space));
  }

  Expected<std::string> object(const Json& schema, std::string_view hint, size_t depth) {
    for (const char* key :
         {"patternProperties", "propertyNames", "dependentSchemas", "dependentRequired", "dependencies"}) {
      if (schema.contains(key)) return unsupported("\"{}\" cannot be a grammar", key);
    }
    struct Property {
      std::string pair;
      bool required;
    };
    const Json properties = schema.contains("properties") ? schema["properties"] : Json::object();
    Json required = schema.contains("required") ? schema["required"] : Json::array();
    if (!properties.is_object()) return invalid("\"properties\" of {} must be an object", hint);
    if (!required.is_array() || !std::ranges::all_of(required, [](const Json& name) { return name.is_string(); }))
      return invalid("\"required\" of {} must be a list of names", hint);
    const std::string space = primitive("space");
    const auto pair = [&](const std::string& key, const std::string& value) {
      return fmt::format("{} \":\" {} {}", key, space, value);
    };

    const Json none = true;
    const Json& others = schema.contains("additionalProperties") ? schema["additionalProperties"] : none;
    // A list of properties is all that there are, unless it says otherwise; a name that is required is one of them.
    const bool open = others != false && (schema.contains("additionalProperties") || properties.empty());
    std::vector<Property> all;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, const Json& value) -> Status {
      SHOEHORN_TRY(const std::string way, visit(value, name, depth + 1));
      const bool must = std::ranges::find(required, Json(name)) != required.end();
      all.push_back({rule(name + "-pair", pair(gbnf_literal(Json(name).dump()), way)), must});
      names.push_back(name);
      return {};
    };
    for (const auto& [name, value] : properties.items()) SHOEHORN_RETURN_IF_ERROR(add(name, value));
    for (const Json& name : required) {
      if (!properties.contains(name.get<std::string>())) {
        if (!open)
          return invalid("{} requires \"{}\", which it may not have", hint, name.get<std::string>().substr(0, 80));
        SHOEHORN_RETURN_IF_ERROR(add(name, others));
      }
    }
    SHOEHORN_TRY(const auto least, count(schema, "minProperties", kMostRepetitions));
    SHOEHORN_TRY(const auto most, count(schema, "maxProperties", kMostRepetitions));
    const auto n_required = std::ranges::count_if(all, &Property::required);
    if (least.value_or(0) > n_required) return unsupported("\"minProperties\" beyond those that are required");
    if (most && (open || *most < static_cast<int64_t>(all.size())))
      return unsupported("\"maxProperties\" below those that there can be");
    std::string other;
    if (open) {
      SHOEHORN_TRY(const std::string way, visit(others, fmt::format("{}-other", hint), depth + 1));
      other = rule(fmt::format("{}-other-pair", hint), pair(name_other_than(names), way));
    }

    // after[i]: what can follow from property i on, when another one is there already.
    std::vector<std::string> after(all.size() + 1);
    if (open) after.back() = rule(fmt::format("{}-others", hint), fmt::format("(\",\" {} {})*", space, other));
    for (size_t i = all.size(); i-- > 0;) {
      const std::string one = fmt::format("\",\" {} {}", space, all[i].pair);
      after[i] = rule(fmt::format("{}-rest", hint), all[i].required ? fmt::format("{} {}", one, after[i + 1])
                                                                    : fmt::format("({})? {}", one, after[i + 1]));
    }
    // The first one: any up to the first that is required.
    Strings first;
    bool may_be_empty = true;
    for (size_t i = 0; i < all.size() && may_be_empty; ++i) {
      first.push_back(fmt::format("{} {}", all[i].pair, after[i + 1]));
      may_be_empty = !all[i].required;
    }
    if (may_be_empty && open) first.push_back(fmt::format("{} {}", other, after.back()));
    if (first.empty()) return rule(hint, fmt::format("\"{{\" {} \"}}\"", space));
    return rule(hint, fmt::format("\"{{\" {} ({} {}){} \"}}\"", space, joined(first), space, may_be_empty ? "?" : ""));
  }

  /// A string that is none of these: a rule for each of their beginnings, which is left by a character that none goes
  /// on with, or by ending there.
  std::string name_other_than(const std::vector<std::string>& names) {
    const std::string any = primitive("char");
    if (names.empty()) return primitive("string");
    struct Node {
      std::map<uint32_t, size_t> next;
      bool whole = false;
    };
    std::vector<Node> nodes(1);
    for (const std::string& name : names) {
      size_t at = 0;
      bool written = true;
      for (const uint32_t c : code_points(name)) {
        // In JSON it stands behind a backslash, which leaves no rule below.
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) {
          written = false;
          break;
        }
        const auto [entry, is_new] = nodes[at].next.emplace(c, nodes.size());
        at = entry->second;
        if (is_new) nodes.emplace_back();
      }
      if (written) nodes[at].whole = true;
    }
    Strings rules(nodes.size());
    // A node's children have larger numbers.
    for (size_t i = nodes.size(); i-- > 0;) {
      std::string others = "[^\"\\\\\\x00-\\x1F\\x7F";
      Strings ways;
      for (const auto& [c, node] : nodes[i].next) {
        others += gbnf_escaped(c);
        ways.push_back(fmt::format("[{}] {}", gbnf_escaped(c), rules[node]));
      }
      ways.push_back(fmt::format("{}] {}*", others, any));
      if (!nodes[i].whole) ways.push_back("\"\"");
      rules[i] = rule("name", joined(ways));
    }
    return fmt::format(R"("\"" {} "\"")", rules[0]);
  }

  const Json& schema_;
  std::vector<std::pair<std::string, std::string>> rules_;  // name, body
  std::map<std::string, std::string> by_body_, references_;
  std::map<std::string, bool> has_;
  size_t n_names_ = 0, n_steps_ = 0;
};

}  // namespace

Expected<std::string> gbnf_of_schema(const Json& schema) { return Converter(schema).convert(); }

std::string gbnf_of_any_object() {
  const Json nothing;
  return Converter(nothing).any_object();
}

}  // namespace shoehorn::grammar
