#include "report/run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/output_file.h"
#include "convert/gguf_output.h"
#include "io/imatrix.h"
#include "quant/mix.h"
#include "report/axis.h"
#include "report/records.h"

namespace shoehorn::report {
namespace {
namespace fs = std::filesystem;

constexpr int kMaxDepth = 3;
constexpr uint64_t kMaxJsonLinesBytes = uint64_t{64} << 20, kMaxRecipeBytes = uint64_t{64} << 10;
constexpr size_t kMaxFacts = 100, kMaxFactBytes = 2000;

/// Passes nothing on: what opening a model remarks is `inspect`'s to say.
class Silence : public NoProgress {};

std::string to_text(const io::GgufValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string>) {
          return v.substr(0, kMaxFactBytes);
        } else if constexpr (std::is_same_v<T, bool>) {
          return v ? "true" : "false";
        } else if constexpr (std::is_floating_point_v<T>) {
          return format_number(v, 6);
        } else if constexpr (std::is_same_v<T, io::GgufArray>) {
          return std::visit([](const auto& array) { return fmt::format("{} values", array.size()); }, v);
        } else {
          return std::to_string(v);
        }
      },
      value);
}

/// The type that most bytes are stored in.
std::string main_type(const ModelLayers& model) {
  std::map<std::string, uint64_t> bytes;
  for (const Layer& layer : model.layers) {
    for (const Part& part : layer.matrices) bytes[part.type] += part.bytes;
  }
  for (const Part& part : model.outside) bytes[part.type] += part.bytes;
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? "" : most->first;
}

/// Nothing where the file was not checked.
std::optional<Check> read_check(const io::GgufMetadata& metadata) {
  const auto key = [](const char* name) { return std::string(convert::kCheckPrefix) + name; };
  const auto number = [&](const char* name) {
    const double value = metadata.get_float(key(name)).value_or(kNotMeasured);
    return std::isfinite(value) ? value : kNotMeasured;
  };
  const auto text = [&](const char* name) {
    const std::string* value = metadata.get_string(key(name));
    return value == nullptr ? std::string() : value->substr(0, kMaxFactBytes);
  };
  const auto tokens = metadata.get_uint(key("tokens"));
  if (!tokens || *tokens == 0) return std::nullopt;
  return Check{text("text"),  text("prompt"),       text("sentence"),   static_cast<double>(*tokens),
               number("ppl"), number("source_ppl"), number("kld_mean"), number("kld_err"),
               number("top1")};
}

bool is_model_directory(const fs::path& dir) {
  std::error_code ignored;
  if (fs::exists(dir / "adapter_config.json", ignored)) return false;
  if (fs::exists(dir / "pytorch_model.bin", ignored) || fs::exists(dir / "model.safetensors.index.json", ignored))
    return true;
  return fs::exists(dir / "config.json", ignored);
}

/// Of the files beside the weights, those that a record might be taken for.
bool belongs_to_checkpoint(const std::string& name) {
  for (const char* part : {"config.json", "tokenizer", "vocab.json", "special_tokens_map.json", "added_tokens.json",
                           "index.json", "shoehorn.json"}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

class Scan {
 public:
  Scan(const std::string& directory, const std::string& ignore, Progress& progress)
      : root_(directory), progress_(progress) {
    std::error_code error;
    ignore_ = fs::weakly_canonical(ignore, error);
    run_.directory = directory;
    const fs::path absolute = fs::absolute(root_).lexically_normal();
    run_.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
  }

  Expected<Run> run() {
    std::error_code error;
    fs::directory_iterator probe(root_, error);
    if (error) return fail(ErrorCode::kIo, "{}: {}", root_.string(), error.message());
    root_is_model_ = is_model_directory(root_);
    if (root_is_model_) add_checkpoint(root_);
    collect(root_, 0);
    std::ranges::sort(paths_);
    progress_.begin("reading " + root_.string(), paths_.size());
    // Models first: records are joined to them by name.
    for (const fs::path& path : paths_) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      if (path.extension() == ".gguf") add_gguf(path);
    }
    VariantNames names(run_, root_.string());
    for (const fs::path& path : paths_) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      if (path.extension() != ".gguf") add_file(path, names);
      progress_.advance(1);
    }
    for (const auto& [path, id] : checkpoint_records_) {
      const auto json = read_json(path.string(), kMaxJsonBytes);
      if (!json) {
        bad(path, json.error().message);
        continue;
      }
      const Status added = add_checkpoint_record(*json, relative(path), id, run_);
      if (added) {
        good(path, "what made " + run_.variants[id].label);
      } else {
        bad(path, added.error().message);
      }
    }
    progress_.end();
    std::ranges::stable_sort(run_.files, {}, &RunFile::path);
    return std::move(run_);
  }

 private:
  std::string relative(const fs::path& path) const {
    const std::string text = path.lexically_relative(root_).string();
    return text.empty() ? path.string() : text;
  }

  void good(const fs::path& path, std::string what) { run_.files.push_back({relative(path), std::move(what), false}); }

  void bad(const fs::path& path, const std::string& reason) {
    // The reader sees the path beside the reason.
    std::string text = reason;
    const std::string prefix = path.string() + ": ";
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    progress_.note(fmt::format("{}: {}", path.string(), text));
    run_.files.push_back({relative(path), std::move(text), true});
  }

  void collect(const fs::path& dir, int depth) {
    std::error_code error;
    std::vector<fs::path> folders;
    for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
      std::error_code ignored;
      const fs::path& path = it->path();
      if (fs::weakly_canonical(path, ignored) == ignore_) continue;
      if (it->is_directory(ignored)) {
        if (it->is_symlink(ignored)) {
          good(path, "a link to a folder: not followed");
        } else {
          folders.push_back(path);
        }
      } else if (it->is_regular_file(ignored)) {
        if (paths_.size() == kMaxFiles) {
          if (!full_) bad(dir, fmt::format("more than {} files: the others were not looked at", kMaxFiles));
          full_ = true;
          return;
        }
        paths_.push_back(path);
      } else if (it->is_symlink(ignored)) {
        bad(path, "a link to what is not there");
      } else {
        good(path, "no regular file: not read");
      }
    }
    if (error) bad(dir, error.message());
    std::ranges::sort(folders);
    for (const fs::path& folder : folders) {
      const std::string name = folder.filename().string();
      if (is_model_directory(folder)) {
        add_checkpoint(folder);
      } else if (name.ends_with(".partial") || name.ends_with(".state")) {
        good(folder, "unfinished work: not read");
      } else if (std::error_code ignored; fs::exists(folder / "adapter_config.json", ignored)) {
        good(folder, "an adapter");
      } else if (depth == kMaxDepth) {
        good(folder, "too deep: not read");
      } else {
        collect(folder, depth + 1);
      }
    }
  }

  /// A new variant of the directory, its label unlike the others'.
  Variant& add_variant(const fs::path& path, const std::string& label, const ModelLayers& layers) {
    Variant variant;
    variant.path = relative(path);
    variant.label = label;
    if (std::ranges::find(run_.variants, label, &Variant::label) != run_.variants.end()) variant.label = variant.path;
    variant.inside = true;
    variant.parameters = static_cast<double>(layers.parameters);
    variant.bits_per_weight = layers.bits_per_weight();
    variant.bytes = static_cast<double>(layers.bytes);
    variant.layers = layers;
    run_.variants.push_back(std::move(variant));
    return run_.variants.back();
  }

  void add_checkpoint(const fs::path& dir) {
    Silence silence;
    const auto source = convert::ModelSource::open(dir.string(), silence);
    if (!source) return bad(dir, source.error().message);
    const ModelLayers layers = model_layers(*source);
    const std::string name = dir == root_ ? run_.name : dir.filename().string();
    Variant& variant = add_variant(dir, name, layers);
    variant.format = main_type(layers) + " checkpoint";
    good(dir, fmt::format("checkpoint, {}, {} parameters", layers.architecture, format_count(layers.parameters)));
    std::error_code ignored;
    if (fs::is_regular_file(dir / "shoehorn.json", ignored))
      checkpoint_records_.emplace_back(dir / "shoehorn.json", run_.variants.size() - 1);
  }

  void add_gguf(const fs::path& path) {
    const std::string stem = path.stem().string();
    if (const size_t of = stem.rfind("-of-");
        of != std::string::npos && of >= 6 && stem.substr(of - 6, 6) != "-00001") {
      return good(path, "a part of a split GGUF");
    }
    const auto file = io::GgufFile::open(path.string());
    if (!file) return bad(path, file.error().message);
    const std::string* type = file->metadata().get_string("general.type");
    if (type != nullptr && *type == "imatrix") return add_imatrix(path);
    if (type != nullptr && *type != "model") return good(path, "GGUF of type " + *type);
    Silence silence;
    const auto source = convert::ModelSource::open(path.string(), silence);
    if (!source) return bad(path, source.error().message);
    const ModelLayers layers = model_layers(*source);
    Variant& variant = add_variant(path, stem, layers);
    variant.gguf = true;
    variant.bytes = static_cast<double>(file->file_bytes());
    describe(file->metadata(), layers, variant);
    good(path, fmt::format("GGUF, {} {}, {} parameters", layers.architecture, variant.format,
                           format_count(layers.parameters)));
  }

  static void describe(const io::GgufMetadata& metadata, const ModelLayers& layers, Variant& variant) {
    variant.format = main_type(layers);
    if (const auto file_type = metadata.get_uint("general.file_type")) {
      for (const quant::Mix& mix : quant::mixes()) {
        if (mix.file_type == *file_type) variant.format = mix.name;
      }
    }
    for (const auto& [key, value] : metadata.entries()) {
      if (!key.starts_with("shoehorn.") && !key.starts_with("quantize.")) continue;
      if (key.starts_with("shoehorn.tokenizer.") || key.starts_with(convert::kCheckPrefix) ||
          variant.facts.size() == kMaxFacts)
        continue;
      variant.facts.emplace_back(key, to_text(value));
    }
    variant.check = read_check(metadata);
    const std::string* method = metadata.get_string("shoehorn.quantize.method");
    const std::string* imatrix = metadata.get_string("quantize.imatrix.file");
    if (method != nullptr) variant.method = *method;
    if (imatrix != nullptr) variant.method += variant.method.empty() ? "imatrix" : ", imatrix";
  }

  void add_imatrix(const fs::path& path) {
    const auto imatrix = io::read_imatrix(path.string());
    if (!imatrix) return bad(path, imatrix.error().message);
    good(path, fmt::format("importance matrix, {} entries, {} tokens", imatrix->entries.size(),
                           format_count(imatrix->tokens())));
  }

  void add_file(const fs::path& path, VariantNames& names) {
    const std::string extension = path.extension().string();
    if (root_is_model_ && path.parent_path() == root_ && belongs_to_checkpoint(path.filename().string()))
      return good(path, "of the checkpoint");
    if (extension == ".json") return add_json(path, names);
    if (extension == ".jsonl") return add_json_lines(path, names);
    if (extension == ".dat") return add_imatrix(path);
    if (extension == ".toml") {
      const auto text = read_file(path.string(), kMaxRecipeBytes);
      if (!text) return bad(path, text.error().message);
      run_.recipes.emplace_back(relative(path), *text);
      return good(path, "recipe");
    }
    good(path, "not read: no JSON, GGUF, importance matrix or recipe");
  }

  void add_json(const fs::path& path, VariantNames& names) {
    const auto json = read_json(path.string(), kMaxJsonBytes);
    if (!json) return bad(path, json.error().message);
    const auto what = add_record(*json, relative(path), names, run_);
    if (!what) return bad(path, what.error().message);
    good(path, what->empty() ? "JSON of something else" : *what);
  }

  void add_json_lines(const fs::path& path, VariantNames& names) {
    size_t known = 0, others = 0;
    const Status read = for_each_json_line(
        path.string(),
        [&](const Json& json) -> Status {
          SHOEHORN_TRY(const std::string what, add_record(json, relative(path), names, run_));
          ++(what.empty() ? others : known);
          return {};
        },
        kMaxJsonLinesBytes);
    if (!read) return bad(path, read.error().message);
    if (known == 0) return good(path, fmt::format("{} lines of something else", others));
    good(path,
         fmt::format("{} records{}", known, others == 0 ? "" : fmt::format(", {} lines of something else", others)));
  }

  fs::path root_, ignore_;
  Progress& progress_;
  Run run_;
  std::vector<fs::path> paths_;
  std::vector<std::pair<fs::path, VariantId>> checkpoint_records_;
  bool full_ = false, root_is_model_ = false;
};

}  // namespace

std::string file_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string Rate::test() const {
  std::string name;
  if (n_prompt > 0) name += fmt::format("pp{:.0f}", n_prompt);
  if (n_gen > 0) name += fmt::format("{}tg{:.0f}", name.empty() ? "" : "+", n_gen);
  if (n_depth > 0) name += fmt::format(" @ d{:.0f}", n_depth);
  return name;
}

void Run::add(Step step) {
  makers_.try_emplace(step.out, steps.size());
  steps.push_back(std::move(step));
}

const Step* Run::maker(VariantId variant) const {
  const auto found = makers_.find(variant);
  return variant == kNone || found == makers_.end() ? nullptr : &steps[found->second];
}

size_t Run::n_bad() const { return static_cast<size_t>(std::ranges::count(files, true, &RunFile::bad)); }

Expected<Run> read_run(const std::string& directory, const std::string& ignore, Progress& progress) {
  return Scan(directory, ignore, progress).run();
}

}  // namespace shoehorn::report
