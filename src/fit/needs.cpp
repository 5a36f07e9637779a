#include "fit/needs.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/disk.h"
#include "base/memory.h"

namespace shoehorn::fit {
namespace {

/// It learns from text or chooses types: a matter of the workshop.
bool is_calibrated(const Stage& stage) {
  const std::string_view method = stage.option("method");
  return (!method.empty() && method != "rtn") || !stage.option("calib").empty() ||
         !stage.option("target-size").empty() || !stage.option("target-bpw").empty();
}

/// The layers that a stage's estimate names, at most as large as they were.
Expected<models::Hparams> narrowed(const models::Hparams& before, const Json& estimate) {
  models::Hparams out = before;
  const auto shapes = estimate.find("layers");
  if (shapes == estimate.end() || !shapes->is_array() || shapes->size() != before.layers.size()) return out;
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const Json& shape = (*shapes)[i];
    if (!shape.is_array() || shape.size() != 3 ||
        !std::ranges::all_of(shape, [](const Json& n) { return n.is_number_unsigned(); }))
      return fail(ErrorCode::kInvalid, "an estimate's layer {} is {}", i, shape.dump());
    models::LayerShape& layer = out.layers[i];
    layer.n_head = std::min(layer.n_head, shape[0].get<uint32_t>());
    layer.n_head_kv = std::min(layer.n_head_kv, shape[1].get<uint32_t>());
    layer.n_ff = std::min(layer.n_ff, shape[2].get<uint32_t>());
  }
  return out;
}

Expected<uint64_t> gguf_bytes(const Stage& stage, const ModelFacts& model, const models::Hparams& hparams) {
  convert::OutputOptions output;
  const std::string_view type = stage.command == "quantize" ? std::string_view(stage.type) : stage.option("type");
  output.mix = quant::find_mix(type.empty() ? "f16" : type);
  if (output.mix == nullptr) return fail(ErrorCode::kInvalid, "there is no type {}", type);
  output.calibrated = is_calibrated(stage) || !stage.option("imatrix").empty();
  for (const auto& [key, value] : stage.options) {
    if (key != "tensor-type") continue;
    SHOEHORN_TRY(auto parsed, convert::parse_type_override(value));
    output.overrides.push_back(std::move(parsed));
  }
  SHOEHORN_TRY(const auto outline, outline_of(model, hparams));
  SHOEHORN_TRY(const auto types, convert::choose_output_types(outline, output));
  return file_bytes_of(model, outline, output, types);
}

/// A float for every column of every matrix, and names.
uint64_t imatrix_bytes(const ModelFacts& model, const models::Hparams& hparams) {
  constexpr uint64_t kPerEntry = 200;
  uint64_t bytes = 0;
  for (const models::TensorSpec& spec : models::tensor_specs(*model.architecture, hparams)) {
    if (spec.shape.size() == 2) bytes += std::max(spec.shape[0], spec.shape[1]) * sizeof(float) + kPerEntry;
  }
  return bytes;
}

class Walk {
 public:
  Walk(const ModelFacts& model, const AskStage& ask) : model_(model), ask_(ask) { shapes_["model"] = model.hparams; }

  Expected<StageNeed> take(const Stage& stage) {
    StageNeed need = {.name = stage.name};
    const models::Hparams before = shapes_.at(stage.in);
    shapes_[stage.name] = before;
    if (stage.writes_checkpoint() || is_calibrated(stage)) {
      SHOEHORN_TRY(const Json estimate, ask_(stage));
      need.memory_bytes = json_or(estimate, "memory_bytes", uint64_t{0});
      need.output_bytes = json_or(estimate, "output_bytes", uint64_t{0});
      need.working_bytes = json_or(estimate, "working_bytes", uint64_t{0});
      need.seconds = json_or(estimate, "seconds", 0.0);
      if (stage.writes_checkpoint()) {
        SHOEHORN_TRY(const models::Hparams after, narrowed(before, estimate));
        SHOEHORN_TRY(const models::Hparams asked, narrowed(model_.hparams, estimate));
        // The estimate is of the recipe's model.
        need.output_bytes =
            static_cast<uint64_t>(static_cast<double>(need.output_bytes) * parameters(after) / parameters(asked));
        shapes_[stage.name] = after;
      }
    } else {
      need.memory_bytes = convert::kStreamingBytes;
    }
    if (stage.command == "imatrix") need.output_bytes = imatrix_bytes(model_, before);
    if (stage.writes_gguf() && stage.option("target-size").empty() && stage.option("target-bpw").empty()) {
      SHOEHORN_TRY(need.output_bytes, gguf_bytes(stage, model_, before));
    }
    return need;
  }

 private:
  double parameters(const models::Hparams& hparams) const {
    return static_cast<double>(models::count_parameters(*model_.architecture, hparams));
  }

  const ModelFacts& model_;
  const AskStage& ask_;
  std::map<std::string, models::Hparams, std::less<>> shapes_;  // of outputs, by name
};

}  // namespace

Status check_disk(const Needs& needs, const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::space_info space = fs::space(nearest_existing(directory), error);
  if (error) return {};
  uint64_t present = 0;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    if (entry->is_regular_file(gone)) present += entry->file_size(gone);
  }
  if (space.available + present >= needs.disk_bytes) return {};
  return fail(
      ErrorCode::kTooLarge,
      "{}: this run takes {} of disk at its most and leaves {}; {} are free there{}. Make room or give another -o",
      directory, format_bytes(needs.disk_bytes), format_bytes(needs.left_bytes), format_bytes(space.available),
      present > 0 ? fmt::format(" beside the {} in it", format_bytes(present)) : "");
}

Expected<Needs> needs_of(const Recipe& recipe, const ModelFacts& model, uint64_t other_bytes, bool keep,
                         const AskStage& ask) {
  Needs out;
  Walk walk(model, ask);
  uint64_t present = other_bytes;
  std::vector<bool> gone(recipe.stages.size());
  for (size_t i = 0; i < recipe.stages.size(); ++i) {
    auto need = walk.take(recipe.stages[i]);
    if (!need)
      return annotate(std::move(need).error(),
                      fmt::format("stage {} of {}, {}", i + 1, recipe.stages.size(), recipe.stages[i].name));
    present += need->output_bytes;
    need->disk_bytes = present + need->working_bytes;
    out.disk_bytes = std::max(out.disk_bytes, need->disk_bytes);
    out.memory_bytes = std::max(out.memory_bytes, need->memory_bytes);
    out.stages.push_back(std::move(*need));
    for (size_t made = 0; made <= i && !keep; ++made) {
      if (gone[made] || !recipe.drops(made, i)) continue;
      present -= out.stages[made].output_bytes;
      gone[made] = true;
    }
  }
  out.left_bytes = present;
  return out;
}

}  // namespace shoehorn::fit
