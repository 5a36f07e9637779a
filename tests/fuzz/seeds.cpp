#include "fuzz/seeds.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <tuple>

#include "engine/session_file.h"
#include "fuzz/target.h"
#include "io/imatrix.h"
#include "io/model_fixture.h"
#include "io/safetensors.h"
#include "io/torch_fixture.h"
#include "seal/minisign.h"
#include "seal/sealed_file.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"
#include "tokenizer/sentencepiece_fixture.h"

namespace shoehorn::fuzz {
namespace {
namespace fs = std::filesystem;

/// One layer, 32 wide, 260 tokens.
Json smallest_config() {
  Json config = test::tiny_config();
  config["vocab_size"] = 260;
  config["hidden_size"] = 32;
  config["head_dim"] = 8;
  config["num_hidden_layers"] = 1;
  config["intermediate_size"] = 32;
  return config;
}

/// Seeds are made of what cannot fail.
void must(const Status& status) {
  if (!status) std::abort();
}

std::string read(const std::string& path) { return test::read_text(path); }

class Collection {
 public:
  void add(std::string name, std::string bytes) {
    if (bytes.size() <= kMaxSeed) out_.push_back({std::move(name), std::move(bytes)});
  }
  /// The files of a directory, with those below it, whose names end so.
  void add_files(const std::string& directory, const std::string& suffix) {
    std::error_code error;
    std::vector<std::string> paths;
    if (directory.empty()) return;
    for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
      if (it->is_regular_file() && it->path().string().ends_with(suffix) && it->file_size() <= kMaxSeed)
        paths.push_back(it->path().string());
    }
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths)
      add(fs::path(path).parent_path().filename().string() + "-" + fs::path(path).filename().string(), read(path));
  }
  std::vector<Seed> take() { return std::move(out_); }

 private:
  std::vector<Seed> out_;
};

std::string gguf_of(const Json& config, const char* mix) {
  return read(test::to_gguf(test::make_tiny_checkpoint(config).directory, mix));
}

/// A model with the vocabulary of a tokenizer.model.
std::string sentencepiece_model() {
  namespace sp = tokenizer::test;
  const std::string directory = test::make_tiny_checkpoint(smallest_config()).directory;
  fs::remove(directory + "/tokenizer.json");
  test::write_text(directory + "/tokenizer.model", sp::model(sp::base_pieces() + sp::piece("<0x0A>", 0, 6) + sp::piece("user", 0, 4)));
  return read(test::to_gguf(directory, "Q8_0"));
}

/// Metadata of every type, alone and in arrays, and one tensor.
std::string every_kind_of_value() {
  io::GgufWriter writer;
  const auto add = [&]<class T>(const char* name, T value) {
    writer.set(std::string("one.") + name, value);
    writer.set(std::string("many.") + name, io::GgufArray(std::vector<T>{value, value}));
  };
  add("u8", uint8_t{1});
  add("i8", int8_t{-1});
  add("u16", uint16_t{1});
  add("i16", int16_t{-1});
  add("u32", uint32_t{1});
  add("i32", int32_t{-1});
  add("u64", uint64_t{1});
  add("i64", int64_t{-1});
  add("f32", 0.5f);
  add("f64", 0.5);
  add("bool", true);
  add("text", std::string("a"));
  writer.set("general.alignment", uint32_t{32});
  writer.set("general.architecture", std::string("llama"));
  must(writer.add_tensor("a", quant::Type::F32, {4}));
  const std::string path = test::temp_dir() + "/values.gguf";
  must(writer.begin(path));
  must(writer.append(std::vector<std::byte>(16)));
  must(writer.commit());
  return read(path);
}

void add_models(Collection& out) {
  for (const char* mix : {"F32", "F16", "Q8_0", "Q4_0"}) out.add(mix, gguf_of(smallest_config(), mix));
  for (const models::Architecture* architecture : models::architectures()) {
    out.add(architecture->name, gguf_of(test::as_architecture(smallest_config(), architecture->hf_architectures.front()), "Q8_0"));
  }
  Json config = smallest_config();
  config["num_hidden_layers"] = 2;
  config["intermediate_size"] = {32, 64};
  config["tie_word_embeddings"] = true;
  config["mlp_bias"] = true;
  out.add("jagged", gguf_of(config, "Q4_0"));
  config["architectures"] = {"RotatedLlamaForCausalLM"};
  out.add("rotated", gguf_of(config, "Q8_0"));
  config = smallest_config();
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 64}};
  out.add("llama3", gguf_of(config, "F16"));
  for (const char* kind : {"linear", "yarn"}) {
    config["rope_scaling"] = {{"rope_type", kind}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
    out.add(kind, gguf_of(config, "Q8_0"));
  }
  out.add("pieces", sentencepiece_model());
  out.add("split", split_model().first);
  out.add("not-a-model", every_kind_of_value());
  out.add_files(test::shared_path("data/tokenizers"), ".gguf");
}

/// An adapter GGUF for the small model's matrices.
std::string adapter_gguf() {
  io::GgufWriter writer;
  writer.set("general.type", std::string("adapter"));
  writer.set("general.architecture", std::string("llama"));
  writer.set("adapter.type", std::string("lora"));
  writer.set("adapter.lora.alpha", 4.0f);
  std::vector<std::vector<float>> parts;
  for (const io::GgufTensor& tensor : small_model()->file().tensors()) {
    if (!tensor.name.starts_with("blk.") || tensor.shape.size() != 2) continue;
    must(writer.add_tensor(tensor.name + ".lora_a", quant::Type::F32, {tensor.n_cols(), 2}));
    parts.emplace_back(tensor.n_cols() * 2, 0.5f);
    must(writer.add_tensor(tensor.name + ".lora_b", quant::Type::F32, {2, tensor.n_rows()}));
    parts.emplace_back(tensor.n_rows() * 2, 0.25f);
  }
  const std::string path = test::temp_dir() + "/adapter.gguf";
  must(writer.begin(path));
  for (const auto& part : parts) must(writer.append(std::as_bytes(std::span(part))));
  must(writer.commit());
  return read(path);
}

std::string imatrix_file(const std::string& name) {
  io::Imatrix imatrix;
  imatrix.datasets = {"a.txt"};
  imatrix.chunk_count = 3;
  imatrix.entries["blk.0.attn_q.weight"] = {.in_sum2 = {24, 0, 6, 12}, .counts = {24}};
  imatrix.entries["blk.0.ffn_down_exps.weight"] = {.in_sum2 = {5, 10, 0, 0}, .counts = {20, 0}};
  const std::string path = test::temp_dir() + "/" + name;
  must(io::write_imatrix(imatrix, path));
  return read(path);
}

std::string peft() {
  Json config = {{"peft_type", "LORA"}, {"r", 2},
                 {"lora_alpha", 4},     {"target_modules", {"q_proj", "down_proj"}},
                 {"bias", "none"},      {"lora_dropout", 0.0}};
  io::SafetensorsWriter writer;
  const std::string base = "base_model.model.model.layers.0.";
  const std::vector<std::pair<std::string, std::vector<uint64_t>>> tensors = {
      {"mlp.down_proj.lora_A.weight", {2, 32}},
      {"mlp.down_proj.lora_B.weight", {32, 2}},
      {"self_attn.q_proj.lora_A.weight", {2, 32}},
      {"self_attn.q_proj.lora_B.weight", {32, 2}}};
  for (const auto& [name, shape] : tensors) must(writer.add_tensor(base + name, io::DType::F32, shape));
  const std::string path = test::temp_dir() + "/adapter.safetensors";
  must(writer.begin_file(path));
  for (const auto& [name, shape] : tensors) must(writer.append(std::vector<std::byte>(shape[0] * shape[1] * 4)));
  must(writer.commit());
  return config.dump() + std::string(1, '\0') + read(path);
}

using PackedTensors = std::vector<std::tuple<const char*, io::DType, std::vector<uint64_t>>>;

/// A quantized matrix of zeros, or of what `text` says.
std::string packed(const char* config, const PackedTensors& tensors, const std::string& text = "") {
  io::SafetensorsWriter writer;
  for (const auto& [name, dtype, shape] : tensors) must(writer.add_tensor(std::string("m") + name, dtype, shape));
  const std::string path = test::temp_dir() + "/packed.safetensors";
  must(writer.begin_file(path));
  for (const auto& [name, dtype, shape] : tensors) {
    uint64_t n = io::dtype_info(dtype).bytes;
    for (const uint64_t extent : shape) n *= extent;
    std::vector<std::byte> bytes(n);
    const bool is_state = std::string_view(name).find("quant_state") != std::string_view::npos;
    if (is_state) std::memcpy(bytes.data(), text.data(), std::min<size_t>(n, text.size()));
    if (std::string_view(name) == ".weight_shape") bytes[0] = std::byte{4}, bytes[8] = std::byte{32};
    if (std::string_view(name) == ".weight_scale" && n == 2) bytes[1] = std::byte{0x3c};
    must(writer.append(bytes));
  }
  must(writer.commit());
  return config + std::string(1, '\0') + read(path);
}

void add_packed(Collection& out) {
  using io::DType;
  const PackedTensors gptq = {{".g_idx", DType::I32, {32}}, {".qweight", DType::I32, {4, 32}}, {".qzeros", DType::I32, {1, 4}}, {".scales", DType::F16, {1, 32}}};
  out.add("gptq", packed(R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true, "checkpoint_format": "gptq_v2"}})", gptq));
  out.add("gptq-3", packed(R"({"quantization_config": {"quant_method": "gptq", "bits": 3, "group_size": -1, "sym": false}})",
                           {{".qweight", DType::I32, {3, 32}}, {".qzeros", DType::I32, {1, 3}}, {".scales", DType::BF16, {1, 32}}}));
  out.add("awq", packed(R"({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}})",
                        {{".qweight", DType::I32, {32, 1}}, {".qzeros", DType::I32, {1, 1}}, {".scales", DType::F16, {1, 8}}}));
  const std::string state = R"({"blocksize": 64, "shape": [4, 32], "nested_blocksize": 256, "nested_offset": 0.5, "dtype": "float16"})";
  out.add("nf4", packed(R"({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}})",
                        {{".weight", DType::U8, {64, 1}}, {".weight.absmax", DType::U8, {2}}, {".weight.nested_absmax", DType::F32, {1}},
                         {".weight.nested_quant_map", DType::F32, {256}}, {".weight.quant_map", DType::F32, {16}},
                         {".weight.quant_state.bitsandbytes__nf4", DType::U8, {state.size()}}}, state));
  out.add("fp4", packed(R"({"quantization_config": {"load_in_4bit": true}})",
                        {{".weight", DType::U8, {64, 1}}, {".weight.absmax", DType::F32, {2}}, {".weight.quant_map", DType::F32, {16}},
                         {".weight.quant_state.bitsandbytes__fp4", DType::U8, {state.size()}}}, state));
  out.add("int8", packed(R"({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": true}})",
                         {{".SCB", DType::F32, {4}}, {".weight", DType::I8, {4, 8}}, {".weight_format", DType::U8, {1}}}));
  const char* groups = R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4}}}}})";
  out.add("compressed", packed(groups, {{".weight_g_idx", DType::I32, {32}}, {".weight_packed", DType::I32, {4, 4}}, {".weight_scale", DType::F16, {4, 1}},
                                        {".weight_shape", DType::I64, {2}}, {".weight_zero_point", DType::I32, {1, 1}}}));
  out.add("compressed-plain", packed(groups, {{".weight_packed", DType::I32, {4, 4}}, {".weight_scale", DType::F16, {4, 1}}, {".weight_shape", DType::I64, {2}}}));
  out.add("float8", packed(groups, {{".input_scale", DType::F32, {1}}, {".weight", DType::F8_E4M3, {4, 8}}, {".weight_scale", DType::BF16, {4, 1}}}));
  out.add("int8-zeros", packed(groups, {{".weight", DType::I8, {4, 8}}, {".weight_scale", DType::F16, {1}}, {".weight_zero_point", DType::I8, {4, 1}}}));
  out.add("mlx", packed(R"({"quantization": {"group_size": 32, "bits": 4}})",
                        {{".biases", DType::F16, {4, 2}}, {".scales", DType::F16, {4, 2}}, {".weight", DType::U32, {4, 8}}}));
  out.add("bitnet", packed(R"({"quantization_config": {"quant_method": "bitnet", "linear_class": "bitlinear"}})",
                           {{".weight", DType::U8, {2, 16}}, {".weight_scale", DType::F16, {1}}}));
  out.add("not-shaped", packed(R"({"quantization_config": {"quant_method": "awq", "bits": 4}})", gptq));
}

void add_texts(Collection& out, std::initializer_list<std::pair<const char*, const char*>> texts) {
  for (const auto& [name, text] : texts) out.add(name, text);
}

void add_vocabularies(Collection& out) {
  out.add("byte-level", test::tiny_tokenizer_json(300));
  out.add_files(test::shared_path("data/tokenizers"), "tokenizer.json");
  out.add_files(test::shared_path("models"), "tokenizer.json");
  add_texts(
      out,
      {{"bpe", R"({"added_tokens": [{"id": 6, "content": "<s>", "special": true}], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "post_processor": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5}, "merges": ["a b", ["ab", "c"]]}})"},
       {"byte-fallback",
        R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true, "lstrip": true, "rstrip": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": {"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "▁a": 4}, "merges": ["▁ a"]}})"},
       {"not-split",
        R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated"},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})"}});
}

void add_sentencepiece(Collection& out) {
  namespace sp = tokenizer::test;
  out.add("pieces", sp::model(sp::base_pieces()));
  out.add("bytes", sp::model(sp::base_pieces() + sp::piece("<0x0A>", 0, 6) + sp::piece("user", 0, 4), 2,
                             sp::number(3, 0) + sp::bytes(1, "nmt_nfkc")));
  out.add("not-unigram", sp::model(sp::base_pieces(), 1));
  out.add_files(test::shared_path("models"), "tokenizer.model");
  out.add_files(test::shared_path("data/models"), "tokenizer.model");
  std::string ranks;
  const char* const base64[] = {"YQ==", "Yg==", "Yw==", "YWI=", "IA==", "YWJj"};
  for (size_t i = 0; i < std::size(base64); ++i) ranks += fmt::format("{} {}\n", base64[i], i);
  out.add("not-tiktoken", ranks);
}

void add_templates(Collection& out) {
  out.add_files(test::shared_path("data/templates"), ".jinja");
  add_texts(out, {{"chatml",
                   "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' ~ (m['content'] or '') ~ "
                   "'<|im_end|>\n' }}{% endfor %}"
                   "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif %}"},
                  {"macro",
                   "{%- macro f(a, b=1) -%}{{ a ~ b }}{%- endmacro -%}{%- set ns = namespace(x=0) -%}"
                   "{%- for i in range(3) if i != 1 -%}{%- set ns.x = ns.x + i -%}{{ f(i, b=loop.index) }}{%- else "
                   "-%}none{%- endfor -%}{{ ns.x | string | upper }}"},
                  {"filters",
                   "{{ messages | map(attribute='role') | list | join(', ') }}{{ [3,1,2] | sort | reverse | list | "
                   "tojson(indent=2) }}"
                   "{{ {'a': 1}.items() | list }}{{ 'abc'[::-1] }}{{ strftime_now('%Y') }}{{ 'x' if tools is defined "
                   "and tools is not none else 'y' }}"},
                  {"not-raise", "{{ raise_exception('no') }}"},
                  {"generation",
                   "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% "
                   "endgeneration %}{% continue %}{% endif %}{% break %}{% endfor %}"}});
}

void add_grammars(Collection& out) {
  add_texts(
      out,
      {{"list", "root ::= item+\nitem ::= \"- \" [^\\r\\n]+ \"\\n\" # a line\n"},
       {"arithmetic",
        "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" ws expr "
        "\")\" ws\n"
        "ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*\n"},
       {"unicode",
        "root ::= [ぁ-ゟァ-ヿ一-龯]{2,4} \"\\u00e9\\x41\\U0001F600\" . (\"a\"? | \"b\"{3} | \"c\"{0,2} | \"d\"{2,})"},
       {"nested",
        "root ::= object\nobject ::= \"{\" (pair (\",\" pair)*)? \"}\"\npair ::= \"\\\"\" [a-z]* \"\\\":\" "
        "value\nvalue ::= object | \"1\""}});
  out.add("text", std::string("root ::= \"a\"+ [b-d]*\0aaabcd", 28));
}

void add_schemas(Collection& out) {
  add_texts(
      out,
      {{"object",
        R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"integer","minimum":-3,"maximum":1205}},"b":{"enum":["x",1,null]}},"required":["a"],"additionalProperties":{"type":"string"}})"},
       {"choices",
        R"({"anyOf":[{"const":{"k":[1,2]}},{"oneOf":[{"type":["string","null"]},{"type":"number"}]},{"allOf":[{"properties":{"x":{"type":"boolean"}}},{"properties":{"y":{}}}]}]})"},
       {"strings",
        R"({"type":"object","properties":{"p":{"type":"string","pattern":"^[a-z]{2,5}(-\\d+|x?y*)$"},"d":{"format":"date-time"},"u":{"format":"uuid"},"l":{"type":"string","minLength":2,"maxLength":9}}})"},
       {"references",
        R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"next":{"$ref":"#/$defs/node"},"v":{"type":"integer","exclusiveMinimum":0}}}}})"},
       {"arrays",
        R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false,"minItems":1,"maxItems":2})"}});
}

void add_requests(Collection& out) {
  out.add("not-so-long", "GET /x HTTP/1.1\r\nHost: a\r\nX: " + std::string(3000, 'x') + "\r\n\r\n");
  add_texts(
      out,
      {{"get",
        "GET /v1/models?x=%41 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\nConnection: close\r\n\r\n"},
       {"post",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        "14\r\n\r\n{\"prompt\":\"a\"}"},
       {"chunked",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: "
        "100-continue\r\n\r\n4;x=y\r\nabcd\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.0\r\n\r\n"},
       {"stream", "POST /stream?a=%5a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /dropped HTTP/1.1\r\nHost: a\r\n\r\n"},
       {"stream-1.0", "POST /stream HTTP/1.0\r\nContent-Length: 1\r\n\r\na"},
       {"escapes", "GET /%76%31/%e4%2F HTTP/1.1\r\nHost: a\r\n\r\n"},
       {"not-escapes", "GET /%76%31/%e4%00 HTTP/1.1\r\nHost: a\r\n\r\nGET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
       {"not-so-large", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"},
       {"options", "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\nX-Api-Key: k\r\n\r\n"}});
}

void add_bodies(Collection& out) {
  add_texts(
      out,
      {{"completion",
        R"({"prompt":["a b",[1,2,3]],"max_tokens":5,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"seed":7,"stop":["x"],"n":2,"logprobs":3,"stream":true,"stream_options":{"include_usage":true},"repeat_penalty":1.1,"grammar":"root ::= \"a\""})"},
       {"chat",
        R"({"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_completion_tokens":9,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"integer"}}}}}})"},
       {"tools",
        R"({"messages":[{"role":"user","content":"w"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c1","content":"3"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}],"tool_choice":"auto","logit_bias":{"5":-100}})"},
       {"call", R"({"messages":[{"role":"user","content":"w"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}],"tool_choice":{"type":"function","function":{"name":"f"}}})"},
       {"required", R"({"messages":[{"role":"user","content":"w"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","chat_template_kwargs":{"enable_thinking":false}})"},
       {"object", R"({"messages":[{"role":"user","content":"w"}],"response_format":{"type":"json_object","schema":{"type":"object"}},"user":"u"})"},
       {"not-there", R"({"prompt":"a","lora":[{"id":0,"scale":0.5}]})"},
       {"schema", R"({"prompt":[1,2,3],"json_schema":{"type":"array","items":{"type":"integer"}},"n_predict":4,"logit_bias":{"7":1.5},"stop":["a","b"],"echo":true})"},
       {"several", R"({"prompt":["a","b"],"n":2,"logprobs":1})"},
       {"not-both", R"({"prompt":"a","grammar":"root ::= \"a\"","json_schema":{}})"},
       {"not-functions", R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}],"functions":[]})"}});
}

const std::map<std::string_view, std::function<void(Collection&)>>& makers() {
  static const std::map<std::string_view, std::function<void(Collection&)>> all = {
      {"gguf", add_models},
      {"adapter_gguf", [](Collection& out) { out.add("adapter", adapter_gguf()); }},
      {"session_file",
       [](Collection& out) {
         engine::Session session = small_session();
         const std::vector<tokenizer::Token> tokens = {1, 2, 3, 4};
         session.eval(tokens).value();
         const std::string path = test::temp_dir() + "/cache";
         must(engine::save_session(session, tokens, path));
         out.add("four", read(path));
       }},
      {"safetensors",
       [](Collection& out) {
         out.add("model", read(test::make_tiny_checkpoint(smallest_config()).directory + "/model.safetensors"));
         const std::string both = peft();
         out.add("adapter", both.substr(both.find('\0') + 1));
       }},
      {"safetensors_index",
       [](Collection& out) {
         add_texts(
             out,
             {{"index",
               R"({"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})"},
              {"not-twice", R"({"weight_map":{"a":"model-00001-of-00002.safetensors","c":"again.safetensors"}})"},
              {"not-a-pointer", R"({"weight_map":{"a":"pointer.safetensors"}})"},
              {"not-a-gguf", R"({"weight_map":{"a":"gguf.safetensors"}})"},
              {"not-a-name", R"({"weight_map":{"a":7,"b":"../b.safetensors","c":"gone.safetensors"}})"}});
       }},
      {"pytorch_bin",
       [](Collection& out) {
         out.add("dict", test::small_torch_file());
         const test::ModelFile object = test::model_file(test::small_model());
         out.add("object", test::torch_file(object.pickle, object.storages));
         out.add("zip64", test::torch_file(object.pickle, object.storages, true));
       }},
      {"config_json",
       [](Collection& out) {
         out.add("tiny", test::tiny_config().dump());
         out.add("fable", read(test::source_dir() + "/models/fable-10m/config.json"));
         add_texts(
             out,
             {{"deci",
               R"({"architectures":["DeciLMForCausalLM"],"hidden_size":64,"num_attention_heads":4,"num_hidden_layers":2,"vocab_size":300,"rms_norm_eps":1e-5,"block_configs":[{"attention":{"n_heads_in_group":2},"ffn":{"ffn_mult":1.5}},{"attention":{"no_op":true},"ffn":{"no_op":true}}]})"},
              {"yarn",
               R"({"architectures":["Qwen2ForCausalLM"],"hidden_size":64,"num_attention_heads":4,"num_key_value_heads":[2,1],"intermediate_size":[64,32],"num_hidden_layers":2,"vocab_size":300,"rope_parameters":{"rope_theta":1e6,"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768},"sliding_window":4096,"use_sliding_window":false})"}});
       }},
      {"tokenizer_json", add_vocabularies},
      {"tokenizer_model", add_sentencepiece},
      {"imatrix",
       [](Collection& out) {
         out.add("gguf", imatrix_file("i.gguf"));
         out.add("dat", imatrix_file("i.dat"));
       }},
      {"chat_template", add_templates},
      {"gbnf", add_grammars},
      {"json_schema", add_schemas},
      {"http", add_requests},
      {"chat_request", add_bodies},
      {"recipe", [](Collection& out) { out.add_files(test::source_dir() + "/recipes", ".toml"); }},
      {"manifest",
       [](Collection& out) {
         const std::string hex(64, 'a');
         out.add("sha256", "sha256    " + hex + "  model.gguf:blk.0.attn_q.weight\nsha256    " + hex + "  model.gguf\n");
         out.add("all", "xxh64     0123  a:b\nsha1      4567  a:b\r\nsha256    " + hex + "  a:b\r\n");
       }},
      {"sealed",
       [](Collection& out) {
         NoProgress progress;
         const std::string dir = test::temp_dir();
         test::write_text(dir + "/plain", "some bytes of a model");
         const std::pair<const char*, seal::Key> keys[] = {{"key", {seal::Secret(std::string(seal::kKeyBytes, 'k')), false}},
                                                           {"not-this-key", {seal::Secret(std::string(seal::kKeyBytes, 'x')), false}},
                                                           {"not-a-key", {seal::Secret("correct horse"), true}}};
         for (const auto& [name, key] : keys) {
           must(seal::seal_file(dir + "/plain", dir + "/" + name, key, progress));
           out.add(name, read(dir + "/" + name));
         }
         out.add("not-sealed", "some bytes of a model");
       }},
      {"minisig",
       [](Collection& out) {
         NoProgress progress;
         const std::string dir = test::temp_dir();
         test::write_text(dir + "/file", "what is signed");
         must(seal::make_signing_key(dir + "/key"));
         must(seal::sign_file(dir + "/file", dir + "/key", "seed", progress));
         const std::string zero(1, '\0');
         out.add("signature", read(dir + "/file.minisig") + zero + read(dir + "/key.pub") + zero + read(dir + "/key"));
       }},
      {"packed", add_packed},
      {"peft", [](Collection& out) { out.add("adapter", peft()); }},
  };
  return all;
}

}  // namespace

const std::pair<std::string, std::string>& split_model() {
  static const std::pair<std::string, std::string> parts = [] {
    const io::GgufFile& file = small_model()->file();
    const size_t n = file.tensors().size();
    const auto part = [&](uint16_t number, size_t begin, size_t end) {
      io::GgufWriter writer;
      if (number == 0) {
        for (const auto& [key, value] : file.metadata().entries()) writer.set(key, value);
        writer.set("split.tensors.count", static_cast<int32_t>(n));
      }
      writer.set("split.no", number);
      writer.set("split.count", uint16_t{2});
      for (size_t i = begin; i < end; ++i) {
        const io::GgufTensor& tensor = file.tensors()[i];
        must(writer.add_tensor(tensor.name, tensor.type, tensor.shape));
      }
      const std::string path = test::temp_dir() + "/part.gguf";
      must(writer.begin(path));
      for (size_t i = begin; i < end; ++i) must(writer.append(file.tensors()[i].data));
      must(writer.commit());
      return read(path);
    };
    return std::pair(part(0, 0, n / 2), part(1, n / 2, n));
  }();
  return parts;
}

const std::string& small_checkpoint() {
  static const std::string directory = test::make_tiny_checkpoint(smallest_config()).directory;
  return directory;
}

const std::shared_ptr<const engine::Model>& small_model() {
  static const auto model = engine::Model::open(test::to_gguf(small_checkpoint())).value();
  return model;
}

engine::Session small_session() {
  return std::move(*engine::Session::create(small_model(), {.n_ctx = 16, .n_threads = 1}));
}

std::vector<Seed> seeds(std::string_view target) {
  Collection out;
  if (const auto found = makers().find(target); found != makers().end()) found->second(out);
  return out.take();
}

}  // namespace shoehorn::fuzz
