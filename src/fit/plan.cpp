#include "fit/plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "engine/kv_cache.h"
#include "fit/speed.h"
#include "models/gguf_hparams.h"
#include "models/hf_config.h"
#include "tokenizer/vocab.h"

namespace shoehorn::fit {

const char* const kPublishedSource = "Llama-3-8B, WikiText-2, llama.cpp's table (perplexity 6.233 as F16)";

namespace {
namespace fs = std::filesystem;

struct Published {
  std::string_view mix;
  double loss;
};

/// llama.cpp, examples/quantize/README.md and discussion of Llama-3: files without an importance matrix.
constexpr std::array kPublished = {Published{"F16", 0.0}, Published{"Q4_K_M", 6.407 / 6.233 - 1},
                                   Published{"Q3_K_M", 6.888 / 6.233 - 1}, Published{"Q2_K", 9.752 / 6.233 - 1}};

constexpr size_t kBatch = 512;
constexpr uint64_t kProgramBytes = uint64_t{14} << 20;  // the program itself
constexpr uint64_t kBytesPerToken = 260;                // of a vocabulary that is open
constexpr uint64_t kMetadataPerToken = 60;              // of a tokenizer that was not there to be looked at
constexpr double kLeastGoodBits = 2.9;  // below, bits cost more than width (published and docs/quantization.md)

std::optional<double> published(const quant::Mix& mix) {
  for (const Published& entry : kPublished) {
    if (entry.mix == mix.name) return entry.loss;
  }
  return std::nullopt;
}

models::Hparams narrowed(models::Hparams h, double width) {
  constexpr uint32_t kMultiple = 256;
  const auto [first, end] = pruned_layers(h.layers.size());
  for (size_t i = first; i < end; ++i) {
    const double wanted = width * h.layers[i].n_ff / kMultiple;
    h.layers[i].n_ff = std::min(h.layers[i].n_ff, std::max(1u, static_cast<uint32_t>(std::lround(wanted))) * kMultiple);
  }
  return h;
}

/// Resident memory: what of the file a conversation touches, keys and values, a pass's buffers (engine/forward,
/// products).
uint64_t resident_bytes(const convert::ModelSource& source, uint64_t file_bytes, const std::vector<quant::Type>& types,
                        size_t n_ctx) {
  const models::Hparams& h = source.hparams();
  uint64_t bytes = kProgramBytes + h.n_vocab * kBytesPerToken + file_bytes;
  for (size_t i = 0; i < types.size(); ++i) {
    // Of an embedding that is no output, too, a few rows are read.
    if (source.tensors()[i].name == "token_embd.weight" && !h.tied_embeddings) {
      bytes -= source.tensors()[i].n_rows() * quant::row_bytes(quant::format(types[i]), source.tensors()[i].n_cols());
    }
  }
  bytes += engine::KvCache::bytes(h, n_ctx, {});
  uint64_t n_kv = 0;
  for (const models::LayerShape& layer : h.layers) n_kv = std::max<uint64_t>(n_kv, layer.n_head_kv);
  const uint64_t n_q = uint64_t{h.max_n_head()} * h.head_dim, widest = std::max<uint64_t>(h.max_n_ff(), n_q);
  const uint64_t floats = uint64_t{2} * h.n_embd + 2 * n_q + 2 * n_kv * h.head_dim + h.max_n_ff() + h.n_rot + (h.n_expert > 0 ? 2 * h.n_embd + h.n_expert : 0);
  return bytes + kBatch * (floats * 4 + widest * 5 / 4) + uint64_t{h.n_vocab} * 4;
}

/// Larger in bits and width, and faster or as fast.
bool beats(const Choice& a, const Choice& b) {
  const bool as_good = a.bits_per_weight() >= b.bits_per_weight() && a.width >= b.width &&
                       a.tokens_per_s >= b.tokens_per_s && a.ttft_s <= b.ttft_s;
  return as_good && (a.bits_per_weight() > b.bits_per_weight() || a.width > b.width ||
                     a.tokens_per_s > b.tokens_per_s || a.ttft_s < b.ttft_s);
}

void recommend(Plan& plan, const PlanOptions& o, const Device& device) {
  // Full width before pruned, many bits before few: what a size loses is known only when it is measured, but in this
  // order.
  const auto better = [&](size_t a, size_t b) {
    const Choice &x = plan.choices[a], &y = plan.choices[b];
    // Beyond 8 bits nothing is gained that could be measured.
    const bool x_quantized = quant::format(x.mix->base).quantized, y_quantized = quant::format(y.mix->base).quantized;
    if (x_quantized != y_quantized) return x_quantized;
    const bool x_good = x.bits_per_weight() >= kLeastGoodBits, y_good = y.bits_per_weight() >= kLeastGoodBits;
    if (x_good != y_good) return x_good;
    if (x.width != y.width) return x.width > y.width;
    return x.bits_per_weight() > y.bits_per_weight();
  };
  bool any_fits = false;
  for (size_t i = 0; i < plan.choices.size(); ++i) {
    any_fits |= plan.choices[i].fits;
    if (!plan.choices[i].fits || !plan.choices[i].fast_enough) continue;
    if (!plan.recommended || better(i, *plan.recommended)) plan.recommended = i;
  }
  const std::string bound =
      device.measured()
          ? ""
          : " (bounds from the data sheet, not measurements: shoehorn probe on the device gives better ones)";
  if (!plan.recommended) {
    plan.reason =
        any_fits
            ? "nothing that fits is fast enough: lower --min-tps, raise --max-ttft, or take a smaller model" + bound
            : "no size fits: take a smaller model or --ctx, or a device with more memory";
    return;
  }
  const Choice& c = plan.choices[*plan.recommended];
  if (c.width < 1) {
    const bool for_speed = std::ranges::any_of(plan.choices, [](const Choice& other) {
      return other.width == 1 && other.fits && !other.fast_enough && other.bits_per_weight() >= kLeastGoodBits;
    });
    plan.reason =
        for_speed
            ? "every unpruned size that fits is too slow: pruning cuts the multiplications that a prompt is bound by"
            : fmt::format(
                  "unpruned sizes that fit have fewer than {} bits per weight, where more width costs more than it "
                  "gives",
                  kLeastGoodBits);
  } else {
    plan.reason = "the most bits per weight that fit";
    if (o.min_tokens_per_s > 0 || o.max_ttft_s > 0) plan.reason += " and are fast enough";
    plan.reason +=
        "; unpruned, because down to 2.9 bits a weight fewer bits lose less than fewer neurons: prune only for the "
        "prompt's speed";
  }
  plan.reason += bound;
}

}  // namespace

std::pair<size_t, size_t> pruned_layers(size_t n_layer) {
  const size_t kept = std::min<size_t>(4, std::max<size_t>(1, n_layer / 8));
  return {kept, n_layer - std::min(n_layer, kept)};
}

Expected<ModelFacts> read_model_facts(const std::string& path) {
  ModelFacts out;
  std::error_code ignored;
  const bool is_config = fs::path(path).filename() == "config.json";
  if (!is_config && !fs::is_directory(path, ignored)) {
    SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
    SHOEHORN_TRY(const auto model, models::read_gguf_model(file));
    out.architecture = model.architecture;
    out.hparams = model.hparams;
    out.name = fs::path(path).stem().string();
    for (const auto& [key, value] : file.metadata().entries()) {
      if (key.starts_with("tokenizer.")) out.tokenizer.set(key, value);
    }
    out.has_tokenizer = true;
    return out;
  }
  const std::string directory = is_config ? fs::absolute(path).parent_path().string() : path;
  SHOEHORN_TRY(const auto config, models::read_model_config(directory));
  out.architecture = config.architecture;
  out.hparams = config.hparams;
  out.name = fs::absolute(directory).lexically_normal().filename().string();
  if (out.name.empty()) out.name = fs::absolute(directory).lexically_normal().parent_path().filename().string();
  if (const auto vocab = tokenizer::vocab_from_directory(directory, out.hparams.n_vocab)) {
    tokenizer::vocab_to_gguf(*vocab, out.tokenizer);
    out.has_tokenizer = true;
  }
  return out;
}

Expected<convert::ModelSource> outline_of(const ModelFacts& model, const models::Hparams& h) {
  const models::Architecture* architecture = model.architecture;
  if (!h.uniform() && !architecture->per_layer_keys) {
    architecture = architecture->jagged_as == nullptr ? nullptr : models::find_architecture(architecture->jagged_as);
    if (architecture == nullptr) {
      return fail(ErrorCode::kUnsupported, "{}: stock llama.cpp reads no {} whose layers differ in width", model.name,
                  model.architecture->name);
    }
  }
  return convert::ModelSource::outline(*architecture, h, model.name, model.tokenizer);
}

Expected<uint64_t> file_bytes_of(const ModelFacts& model, const convert::ModelSource& outline,
                                 const convert::OutputOptions& output, const std::vector<quant::Type>& types) {
  SHOEHORN_TRY(const uint64_t bytes, convert::output_file_bytes(outline, types, output));
  return model.has_tokenizer ? bytes : bytes + outline.hparams().n_vocab * kMetadataPerToken;
}

Expected<Choice> evaluate_choice(const ModelFacts& model, const Device& device, const PlanOptions& o,
                                 const quant::Mix& mix, double width) {
  const models::Hparams h = width < 1 ? narrowed(model.hparams, width) : model.hparams;
  SHOEHORN_TRY(const auto source, outline_of(model, h));
  convert::OutputOptions output;
  output.mix = &mix;
  SHOEHORN_TRY(const auto types, convert::choose_output_types(source, output));
  Choice out;
  out.mix = &mix;
  out.width = width;
  out.parameters = models::count_parameters(source.architecture(), h);
  for (size_t i = 0; i < types.size(); ++i) {
    const convert::SourceTensor& tensor = source.tensors()[i];
    out.tensor_bytes += tensor.n_rows() * quant::row_bytes(quant::format(types[i]), tensor.n_cols());
  }
  SHOEHORN_TRY(out.file_bytes, file_bytes_of(model, source, output, types));
  out.ram_bytes = resident_bytes(source, out.file_bytes, types, o.n_ctx);
  const Speed speed(device, source, types);
  out.ttft_s = speed.prompt_seconds(o.n_prompt);
  out.tokens_per_s = speed.tokens_per_second(o.n_prompt, o.n_answer);
  out.ttlt_s = out.ttft_s + static_cast<double>(o.n_answer) / out.tokens_per_s;
  out.published_loss = width < 1 ? std::nullopt : published(mix);
  out.fits = out.ram_bytes <= (o.ram > 0 ? o.ram : device.usable_ram());
  out.fast_enough = out.tokens_per_s >= o.min_tokens_per_s && (o.max_ttft_s <= 0 || out.ttft_s <= o.max_ttft_s);
  return out;
}

Expected<Plan> make_plan(const ModelFacts& model, const Device& device, const PlanOptions& o) {
  constexpr std::array kWidths = {1.0, 0.875, 0.75, 0.625, 0.5};
  // Pruned, a few sizes say what there is to say.
  constexpr std::array<std::string_view, 4> kPrunedMixes = {"Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K"};
  Plan plan;
  for (const double width : kWidths) {
    if (width < 1 && narrowed(model.hparams, width).layers == model.hparams.layers) continue;
    std::vector<Choice> choices;
    for (const quant::Mix& mix : quant::mixes()) {
      // Ternary types are for models that were trained so.
      const bool unsuited =
          mix.base == quant::Type::TQ1_0 || mix.base == quant::Type::TQ2_0 || mix.base == quant::Type::F32;
      const bool wanted = width == 1 || std::ranges::find(kPrunedMixes, mix.name) != kPrunedMixes.end();
      if (unsuited || !wanted) continue;
      const auto choice = evaluate_choice(model, device, o, mix, width);
      if (!choice && choice.error().code == ErrorCode::kUnsupported) break;
      if (!choice) return tl::unexpected(choice.error());
      choices.push_back(*choice);
    }
    std::ranges::stable_sort(choices, std::greater<>(), &Choice::file_bytes);
    plan.choices.insert(plan.choices.end(), choices.begin(), choices.end());
  }
  for (Choice& choice : plan.choices) {
    choice.pareto = choice.fits && std::ranges::none_of(plan.choices, [&](const Choice& other) {
                      return other.fits && beats(other, choice);
                    });
  }
  recommend(plan, o, device);
  return plan;
}

}  // namespace shoehorn::fit
