// Writes a Hugging Face checkpoint with random weights: any shape, any size, in little memory.
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "io/safetensors.h"
#include "model_presets.h"
#include "outliers.h"
#include "recut.h"
#include "synthetic_tokenizer.h"
#include "variates.h"

namespace shoehorn::tools {
namespace {
namespace fs = std::filesystem;

constexpr uint64_t kChunkBytes = uint64_t{4} << 20;

/// Looks up four elements of T per 64 random bits; `first`, the index of the first element, is a multiple of 4.
template <class T>
void fill(const std::vector<std::byte>& table, uint64_t key, uint64_t first, std::span<std::byte> out) {
  const auto* values = reinterpret_cast<const T*>(table.data());
  const size_t n = out.size() / sizeof(T);
  const auto draw = [&](size_t i) {
    const uint64_t bits = mix(key + (first + i) / 4 * 0x9e3779b97f4a7c15ull);
    return std::array<T, 4>{values[bits & 0xffff], values[(bits >> 16) & 0xffff], values[(bits >> 32) & 0xffff],
                            values[bits >> 48]};
  };
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const auto group = draw(i);
    std::memcpy(out.data() + i * sizeof(T), group.data(), sizeof group);
  }
  if (i < n) {
    const auto group = draw(i);
    std::memcpy(out.data() + i * sizeof(T), group.data(), (n - i) * sizeof(T));
  }
}

Status write_weights(io::SafetensorsWriter& writer, const std::vector<TensorPlan>& tensors, io::DType dtype,
                     uint64_t seed) {
  const auto quantiles = normal_quantiles();
  const uint64_t item = io::dtype_info(dtype).bytes;
  std::vector<float> scaled(kQuantiles);
  std::vector<std::byte> table(kQuantiles * item), chunk(kChunkBytes);
  float mean = NAN, stddev = NAN;  // what `table` is for
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorPlan& tensor = tensors[i];
    if (tensor.mean != mean || tensor.stddev != stddev) {
      mean = tensor.mean;
      stddev = tensor.stddev;
      for (size_t q = 0; q < kQuantiles; ++q) scaled[q] = mean + stddev * quantiles[q];
      io::encode_floats(dtype, scaled.data(), kQuantiles, table.data());
    }
    const uint64_t key = mix(mix(seed) + i);
    const uint64_t n = *io::element_count(tensor.shape);
    for (uint64_t first = 0; first < n;) {
      const uint64_t count = std::min(kChunkBytes / item, n - first);
      const auto bytes = std::span(chunk).first(count * item);
      if (item == 4) {
        fill<uint32_t>(table, key, first, bytes);
      } else {
        fill<uint16_t>(table, key, first, bytes);
      }
      SHOEHORN_RETURN_IF_ERROR(writer.append(bytes));
      first += count;
    }
  }
  return {};
}

Status write_json(const fs::path& path, const Json& json, int indent) {
  return write_file(path.string(), json.dump(indent) + "\n");
}

struct Options {
  std::string like, from, directory;
  double outliers = 0;
  Overrides overrides;
  uint64_t seed = 1, max_shard_bytes = io::SafetensorsWriter::kDefaultShardBytes;
  bool plan_only = false;
};

Status run_on_another(const Options& options) {
  if (options.overrides.head_dim) {
    SHOEHORN_TRY(const uint64_t n,
                 recut_heads(options.from, options.directory, static_cast<uint32_t>(*options.overrides.head_dim)));
    std::printf("%s\n", Json{{"parameters", n}}.dump().c_str());
    return {};
  }
  SHOEHORN_TRY(const uint64_t n, write_outliers({options.from, options.directory, options.outliers, options.seed,
                                                 options.overrides.dtype, options.max_shard_bytes}));
  std::printf("%s\n", Json{{"parameters", n}}.dump().c_str());
  return {};
}

Status run(const Options& options) {
  if (!options.from.empty()) return run_on_another(options);
  SHOEHORN_TRY(const ModelPlan plan, make_plan(options.like, options.overrides));
  SHOEHORN_TRY(const auto tensors, tensor_plan(plan.config));
  const std::string dtype_name = json_or<std::string>(plan.config, "torch_dtype", "");
  const io::DType dtype = dtype_name == "float32"   ? io::DType::F32
                          : dtype_name == "float16" ? io::DType::F16
                                                    : io::DType::BF16;
  io::SafetensorsWriter writer;
  for (const TensorPlan& tensor : tensors)
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(tensor.name, dtype, tensor.shape));
  const uint64_t n_parameters = writer.total_bytes() / io::dtype_info(dtype).bytes;
  const Json summary = {{"parameters", n_parameters}, {"bytes", writer.total_bytes()}, {"tensors", tensors.size()}};
  if (options.plan_only) {
    std::printf("%s\n", summary.dump().c_str());
    return {};
  }

  std::error_code error;
  fs::create_directories(options.directory, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", options.directory, error.message());
  const auto start = std::chrono::steady_clock::now();
  SHOEHORN_RETURN_IF_ERROR(writer.begin(options.directory, options.max_shard_bytes));
  const fs::path directory = options.directory;
  SHOEHORN_RETURN_IF_ERROR(write_json(directory / "config.json", plan.config, 2));
  SHOEHORN_RETURN_IF_ERROR(write_json(directory / "generation_config.json", plan.generation_config, 2));
  const TokenizerFiles tokenizer = make_tokenizer(plan);
  SHOEHORN_RETURN_IF_ERROR(write_json(directory / "tokenizer.json", tokenizer.tokenizer, -1));
  SHOEHORN_RETURN_IF_ERROR(write_json(directory / "tokenizer_config.json", tokenizer.tokenizer_config, 2));
  SHOEHORN_RETURN_IF_ERROR(write_weights(writer, tensors, dtype, options.seed));
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  std::fprintf(stderr, "%s: %llu parameters, %.1f MB in %.1f s\n", options.directory.c_str(),
               static_cast<unsigned long long>(n_parameters), static_cast<double>(writer.total_bytes()) / 1e6,
               elapsed.count());
  std::printf("%s\n", summary.dump().c_str());
  return {};
}

int main_inner(int argc, char** argv) {
  CLI::App app(
      "Writes a Hugging Face checkpoint with random weights, or one of another: with outliers, or with heads of "
      "another size.");
  Options options;
  Overrides& overrides = options.overrides;
  std::string jagged, dtype;
  auto* like = app.add_option("--like", options.like, "the model to imitate: " + preset_names());
  auto* from =
      app.add_option("--from", options.from, "a checkpoint to give outliers, or heads of another size (--head-dim)")
          ->excludes(like);
  app.add_option("--outliers", options.outliers, "standard deviation of the logarithm of the factors (default 1)")
      ->expected(0, 1)
      ->default_str("1")
      ->needs(from)
      ->check(CLI::Range(0.0, 5.0));
  app.add_option("-o,--output", options.directory, "directory to write");
  auto* jagged_option = app.add_option("--jagged", jagged,
                                       "prune the middle layers' MLPs to 3/4 (mlp, the default), and the heads of the "
                                       "middlemost layer too (full)")
                            ->expected(0, 1)
                            ->check(CLI::IsMember({"mlp", "full"}))
                            ->excludes(from);
  app.add_option("--dtype", dtype, "bf16, f16 or f32; default: as the original")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  app.add_option("--seed", options.seed, "random seed");
  app.add_option("--layers", overrides.n_layer, "number of layers")->excludes(from);
  app.add_option("--vocab", overrides.n_vocab, "rows of the embedding")->excludes(from);
  app.add_option("--hidden", overrides.n_embd, "width of the residual stream")->excludes(from);
  app.add_option("--ff", overrides.n_ff, "width of the MLP")->excludes(from);
  app.add_option("--heads", overrides.n_head, "query heads")->excludes(from);
  app.add_option("--kv-heads", overrides.n_head_kv, "key and value heads")->excludes(from);
  app.add_option("--head-dim", overrides.head_dim, "width of a head; with --from: its heads cut anew, to be healed")
      ->check(CLI::Range(2, 4096));
  app.add_option("--context", overrides.n_ctx, "max_position_embeddings")->excludes(from);
  app.add_option("--max-shard-size", options.max_shard_bytes, "bytes per file; 0: one file");
  app.add_flag("--plan", options.plan_only, "only print parameters and bytes")->excludes(from);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (options.like.empty() == options.from.empty()) {
    std::fprintf(stderr, "make_checkpoint: --like MODEL or --from DIR is required\n");
    return 2;
  }
  if (options.directory.empty() && !options.plan_only) {
    std::fprintf(stderr, "make_checkpoint: -o DIR is required\n");
    return 2;
  }
  if (jagged_option->count() > 0) overrides.jagged = jagged == "full" ? Jagged::kFull : Jagged::kMlp;
  if (dtype == "bf16") overrides.dtype = io::DType::BF16;
  if (dtype == "f16") overrides.dtype = io::DType::F16;
  if (dtype == "f32") overrides.dtype = io::DType::F32;
  if (const Status status = run(options); !status) {
    std::fprintf(stderr, "make_checkpoint: %s\n", status.error().message.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace shoehorn::tools

int main(int argc, char** argv) { return shoehorn::tools::main_inner(argc, argv); }
