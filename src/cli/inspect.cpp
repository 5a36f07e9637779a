#include <filesystem>
#include <map>
#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "convert/model_source.h"
#include "report/model_layers.h"
#include "tokenizer/vocab.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string model;
  bool tensors = false, json = false;
};

/// Collects remarks of the library instead of showing them.
class Notes : public NoProgress {
 public:
  void note(std::string_view text) override { texts.emplace_back(text); }
  std::vector<std::string> texts;
};

std::string per_layer_summary(const models::Hparams& h, uint32_t models::LayerShape::*field) {
  std::string out;
  for (size_t begin = 0; begin < h.layers.size();) {
    size_t end = begin;
    while (end < h.layers.size() && h.layers[end].*field == h.layers[begin].*field) ++end;
    if (begin == 0 && end == h.layers.size()) return std::to_string(h.layers[0].*field);
    out += fmt::format("{}{} (layer {})", out.empty() ? "" : ", ", h.layers[begin].*field,
                       end - begin == 1 ? std::to_string(begin) : fmt::format("{}-{}", begin, end - 1));
    begin = end;
  }
  return out;
}

std::string experts_summary(const models::Hparams& h) {
  if (h.n_expert == 0) return "";
  const std::string shared = h.n_ff_shared > 0 ? fmt::format(" and a shared one of {}", h.n_ff_shared) : "";
  return fmt::format(" of each of {} experts{}, {} of them for a token", h.n_expert, shared, h.n_expert_used);
}

Json to_json(const models::Hparams& h) {
  Json per_layer = {{"n_ff", Json::array()}, {"n_head", Json::array()}, {"n_head_kv", Json::array()}};
  for (const models::LayerShape& layer : h.layers) {
    per_layer["n_ff"].push_back(layer.n_ff);
    per_layer["n_head"].push_back(layer.n_head);
    per_layer["n_head_kv"].push_back(layer.n_head_kv);
  }
  Json out = {{"n_layer", h.n_layer},         {"n_embd", h.n_embd},         {"n_vocab", h.n_vocab},
              {"head_dim", h.head_dim},       {"n_ctx_train", h.n_ctx_train}, {"rope_theta", h.rope_theta},
              {"rms_eps", h.norm_eps},         {"tied_embeddings", h.tied_embeddings}, {"jagged", !h.uniform()},
              {"per_layer", std::move(per_layer)}};
  if (h.n_expert > 0) out["n_expert"] = h.n_expert, out["n_expert_used"] = h.n_expert_used;
  if (h.n_ff_shared > 0) out["n_ff_shared"] = h.n_ff_shared;
  return out;
}

Status inspect(const Options& o) {
  Notes notes;
  SHOEHORN_TRY(const auto source, convert::ModelSource::open(o.model, notes));
  SHOEHORN_TRY(const auto vocab, tokenizer::vocab_from_gguf(source.metadata(), source.path()));
  const models::Hparams& h = source.hparams();

  struct Total {
    uint64_t tensors = 0, parameters = 0, bytes = 0;
  };
  std::map<std::string, Total> by_type;
  Total all;
  Json tensors = Json::array();
  for (const auto& tensor : source.tensors()) {
    const uint64_t n = tensor.n_cols() * tensor.n_rows();
    // Computed tensors are not in a checkpoint.
    if (tensor.data.empty()) continue;
    for (Total* total : {&by_type[tensor.stored_as], &all}) {
      ++total->tensors;
      if (tensor.name != "rope_freqs.weight") total->parameters += n;
      total->bytes += tensor.data.size();
    }
    tensors.push_back({{"name", tensor.source_name}, {"shape", tensor.shape}, {"type", tensor.stored_as}, {"bytes", tensor.data.size()}});
  }
  const double bits = 8.0 * static_cast<double>(all.bytes) / static_cast<double>(all.parameters);
  const std::string* name = source.metadata().get_string("general.name");
  const char* model_kind = vocab.model == tokenizer::Model::kBpe ? "bpe" : "spm";

  if (o.json) {
    Json types = Json::object();
    for (const auto& [type, total] : by_type) {
      types[type] = {{"tensors", total.tensors}, {"parameters", total.parameters}, {"bytes", total.bytes}};
    }
    const auto id = [](const std::optional<tokenizer::Token>& token) { return token ? Json(*token) : Json(nullptr); };
    print_json({{"path", o.model},
                {"format", source.from_gguf() ? "gguf" : "hf"},
                {"architecture", models::gguf_name(source.architecture(), source.hparams())},
                {"name", name == nullptr ? "" : *name},
                {"parameters", all.parameters},
                {"bytes", all.bytes},
                {"bits_per_weight", bits},
                {"hparams", to_json(h)},
                {"types", std::move(types)},
                {"layers", report::layers_json(report::model_layers(source))},
                {"tensors", std::move(tensors)},
                {"tokenizer", {{"model", model_kind}, {"pre", vocab.pre}, {"n_vocab", vocab.tokens.size()}, {"bos", id(vocab.bos)},
                               {"eos", id(vocab.eos)}, {"eog", vocab.eog}, {"add_bos", vocab.add_bos}}},
                {"chat_template", vocab.chat_template},
                {"notes", notes.texts}});
    return {};
  }

  print(fmt::format("{}: {}{}", o.model, source.from_gguf() ? "GGUF" : "Hugging Face checkpoint",
                    name == nullptr || name->empty() ? "" : " of " + *name));
  std::vector<std::vector<std::string>> facts = {
      {"architecture", fmt::format("{}{}", models::gguf_name(source.architecture(), source.hparams()), h.uniform() ? "" : " (jagged)")},
      {"parameters", fmt::format("{}", all.parameters)},
      {"size", fmt::format("{} ({} bytes, {:.3f} bits per weight)", format_bytes(all.bytes), all.bytes, bits)},
      {"layers", fmt::format("{}", h.n_layer)},
      {"embedding", fmt::format("{}", h.n_embd)},
      {"MLP width", per_layer_summary(h, &models::LayerShape::n_ff) + experts_summary(h)},
      {"heads", per_layer_summary(h, &models::LayerShape::n_head) + " of " + std::to_string(h.head_dim)},
      {"KV heads", per_layer_summary(h, &models::LayerShape::n_head_kv)},
      {"context", fmt::format("{} (rope theta {})", h.n_ctx_train, h.rope_theta)},
      {"vocabulary", fmt::format("{}{}", h.n_vocab, h.tied_embeddings ? ", output tied to the embedding" : "")},
      {"tokenizer", fmt::format("{}{}{}", model_kind, vocab.pre.empty() ? "" : ", pre-tokenizer ", vocab.pre)},
      {"chat template", vocab.chat_template.empty() ? "none" : fmt::format("{} bytes", vocab.chat_template.size())},
  };
  for (const auto& fact : facts) print(fmt::format("  {:<14} {}", fact[0], fact[1]));
  std::vector<std::vector<std::string>> table = {{"type", "tensors", "parameters", "bytes"}};
  for (const auto& [type, total] : by_type) {
    table.push_back({type, std::to_string(total.tensors), std::to_string(total.parameters), std::to_string(total.bytes)});
  }
  print("\n" + format_table(table));
  print(report::draw_as_text(report::model_layers(source)));
  if (o.tensors) {
    std::vector<std::vector<std::string>> rows = {{"tensor", "shape", "type", "bytes"}};
    for (const Json& tensor : tensors) {
      rows.push_back({tensor["name"].get<std::string>(), tensor["shape"].dump(), tensor["type"].get<std::string>(), tensor["bytes"].dump()});
    }
    print(format_table(rows));
  }
  for (const std::string& note : notes.texts) remark(note);
  return {};
}

}  // namespace

std::function<Status()> define_inspect(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "MODEL", o->model, "Checkpoint directory or GGUF file")->required();
  app.add_flag("--tensors", o->tensors, "List every tensor");
  app.add_flag("--json", o->json, "Print one JSON object, tensors included");
  app.footer("Example: shoehorn inspect models/fable-10m\n\n"
             "The drawing at the end has a row for each run of equal layers: query/KV heads, MLP width, types (q k ... share a column where\n"
             "they have the same types in all layers), bytes of a layer.");
  return [o] { return inspect(*o); };
}

}  // namespace shoehorn::cli
