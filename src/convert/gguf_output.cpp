#include "convert/gguf_output.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <mutex>
#include <regex>

#include "convert/row_stream.h"
#include "tokenizer/vocab.h"

namespace shoehorn::convert {
namespace {

constexpr float kMaxF16 = 65504;

bool is_vector(const SourceTensor& tensor) { return tensor.shape.size() == 1; }
uint64_t n_experts(const SourceTensor& tensor) { return tensor.shape.size() > 2 ? tensor.shape[2] : 1; }

/// A quantized tensor that keeps its type is copied.
bool is_copied(const SourceTensor& tensor, quant::Type to) { return tensor.type == to && quant::format(to).quantized && !tensor.data.empty(); }

Status refuse_quantized_source(const ModelSource& source, const std::vector<quant::Type>& types, const OutputOptions& options) {
  if (options.allow_requantize) return {};
  for (size_t i = 0; i < types.size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    if (tensor.type && quant::format(*tensor.type).quantized && !is_copied(tensor, types[i])) {
      return fail(ErrorCode::kInvalid,
                  "{}: tensor {} is already quantized ({}); start from the F16 file or the checkpoint, or pass "
                  "--allow-requantize",
                  source.path(), tensor.name, tensor.stored_as);
    }
  }
  return {};
}

Expected<std::regex> compile(const TypeOverride& override_) {
  try {
    return std::regex(override_.pattern);
  } catch (const std::regex_error& e) {
    return fail(ErrorCode::kInvalid, "\"{}\" is no regular expression: {}", override_.pattern, e.what());
  }
}

bool matches(const SourceTensor& tensor, const std::regex& pattern) {
  return !is_vector(tensor) && std::regex_search(tensor.name, pattern);
}

Status apply_overrides(const ModelSource& source, const std::vector<TypeOverride>& overrides,
                       std::vector<quant::Type>& types) {
  for (const TypeOverride& override_ : overrides) {
    SHOEHORN_TRY(const std::regex pattern, compile(override_));
    const quant::Format& format = quant::format(override_.type);
    bool matched = false;
    for (size_t i = 0; i < types.size(); ++i) {
      const SourceTensor& tensor = source.tensors()[i];
      if (!matches(tensor, pattern)) continue;
      if (tensor.n_cols() % format.block_size != 0) {
        return fail(ErrorCode::kInvalid, "tensor {} has rows of {}, {} needs a multiple of {}", tensor.name,
                    tensor.n_cols(), format.name, format.block_size);
      }
      types[i] = override_.type;
      matched = true;
    }
    if (!matched)
      return fail(ErrorCode::kInvalid, "no matrix of {} matches \"{}\"", source.path(), override_.pattern);
  }
  return {};
}

/// The importance of each tensor's columns, of experts of each one's, empty where there is none or its type needs none.
using Importance = std::vector<std::vector<float>>;

Expected<Importance> importance_of(const ModelSource& source, const std::vector<quant::Type>& types, const OutputOptions& options,
                                   Progress& progress) {
  Importance importance(types.size());
  if (options.imatrix == nullptr) return importance;
  std::string missing;
  bool any = false;
  for (size_t i = 0; i < types.size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    if (is_vector(tensor)) continue;
    const auto entry = options.imatrix->entries.find(tensor.name);
    if (entry == options.imatrix->entries.end()) {
      const bool wants_one = quant::format(types[i]).quantized && tensor.name != "token_embd.weight";
      if (wants_one) missing += (missing.empty() ? "" : ", ") + tensor.name;
      continue;
    }
    if (entry->second.n_mat() != n_experts(tensor) || entry->second.in_sum2.size() != tensor.n_cols() * n_experts(tensor)) {
      return fail(ErrorCode::kInvalid, "{}: tensor {} has {} columns, its entry in {} has {}: that is another model's", source.path(),
                  tensor.name, tensor.n_cols() * n_experts(tensor), options.imatrix_path, entry->second.in_sum2.size());
    }
    any = true;
    if (quant::format(types[i]).quantized) importance[i] = entry->second.importance();
  }
  if (!any) return fail(ErrorCode::kInvalid, "{}: no entry is a tensor of {}", options.imatrix_path, source.path());
  if (!missing.empty()) {
    progress.note(fmt::format("{} says nothing on {}: quantized with all columns alike", options.imatrix_path, missing));
  }
  return importance;
}

/// The keys that llama-quantize writes.
void describe_imatrix(const OutputOptions& options, io::GgufMetadata& metadata) {
  if (options.imatrix == nullptr) return;
  metadata.set("quantize.imatrix.file", options.imatrix_path);
  if (!options.imatrix->datasets.empty()) {
    metadata.set("quantize.imatrix.dataset", fmt::format("{}", fmt::join(options.imatrix->datasets, ", ")));
  }
  metadata.set("quantize.imatrix.entries_count", static_cast<int32_t>(options.imatrix->entries.size()));
  metadata.set("quantize.imatrix.chunks_count", static_cast<int32_t>(options.imatrix->chunk_count));
}

/// Metadata and tensor infos.
Status declare(const ModelSource& source, const std::vector<quant::Type>& types, const OutputOptions& options,
               io::GgufWriter& writer) {
  for (const auto& [key, value] : source.metadata().entries()) {
    if (!key.starts_with(kCheckPrefix)) writer.set(key, value);
  }
  writer.set("general.file_type", options.mix->file_type);
  writer.set("general.quantization_version", uint32_t{2});
  describe_imatrix(options, writer.metadata());
  for (const auto& [key, value] : options.remarks) writer.set(key, value);
  for (size_t i = 0; i < types.size(); ++i) {
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(source.tensors()[i].name, types[i], source.tensors()[i].shape));
  }
  writer.hash_tensors();
  return {};
}

/// Encodes rows [first, first + count) of a tensor into out; importance: [experts, n_cols] or nothing.
Status encode_rows(const SourceTensor& tensor, uint64_t first, uint64_t count, const quant::Format& to, const std::vector<float>& importance,
                   ThreadPool& pool, std::byte* out) {
  const uint64_t row_bytes = quant::row_bytes(to, tensor.n_cols()), rows_each = tensor.n_rows() / n_experts(tensor);
  std::atomic<bool> overflows{false};
  SHOEHORN_RETURN_IF_ERROR(visit_rows(tensor, first, count, pool, [&](uint64_t row, const float* values) {
    if (to.type == quant::Type::F16) {
      float largest = 0;
      for (uint64_t i = 0; i < tensor.n_cols(); ++i) largest = std::max(largest, std::abs(values[i]));
      if (largest > kMaxF16) overflows.store(true, std::memory_order_relaxed);
    }
    const float* columns = importance.empty() ? nullptr : importance.data() + row / rows_each * tensor.n_cols();
    to.encode(values, columns, out + (row - first) * row_bytes, tensor.n_cols());
  }));
  if (overflows) {
    return fail(ErrorCode::kInvalid, "tensor {} has weights beyond F16's {}; use --type bf16 or f32",
                tensor.source_name, kMaxF16);
  }
  return {};
}

/// Rows [first, first + count) of a tensor whose numbers the type holds as they are.
Status copy_same(const SourceTensor& tensor, uint64_t first, uint64_t count, uint64_t row_bytes, ThreadPool& pool, std::byte* out) {
  std::mutex mutex;
  Status result;
  pool.parallel_for(count, 16, [&](size_t begin, size_t end, int) {
    const Status status = tensor.same->encode(first + begin, end - begin, out + begin * row_bytes);
    const std::lock_guard lock(mutex);
    if (!status && result) result = status;
  });
  return result;
}

}  // namespace

Expected<TypeOverride> parse_type_override(const std::string& text) {
  const size_t equals = text.rfind('=');
  const quant::Format* format = equals == std::string::npos ? nullptr : quant::find_format(text.substr(equals + 1));
  if (format == nullptr)
    return fail(ErrorCode::kInvalid, "--tensor-type {}: expected REGEX=TYPE with a type such as Q4_K", text);
  return TypeOverride{text.substr(0, equals), format->type};
}

Expected<std::vector<quant::Type>> choose_output_types(const ModelSource& source, const OutputOptions& options) {
  if (!options.types.empty()) return options.types;
  std::vector<quant::MixTensor> tensors;
  for (const SourceTensor& tensor : source.tensors()) {
    const bool keep = !is_vector(tensor) && source.from_gguf() && tensor.type;
    tensors.push_back({tensor.name, tensor.shape, keep ? *tensor.type : quant::Type::F32});
  }
  const models::Hparams& h = source.hparams();
  const quant::MixModel model{.n_layer = h.n_layer,
                              .n_head = h.layers.front().n_head,
                              .n_head_kv = h.layers.front().n_head_kv,
                              .n_expert = h.n_expert,
                              .tied_embeddings = h.tied_embeddings,
                              .has_imatrix = options.imatrix != nullptr || options.calibrated};
  auto types = quant::choose_types(*options.mix, model, tensors);
  SHOEHORN_RETURN_IF_ERROR(apply_overrides(source, options.overrides, types));
  return types;
}

Expected<std::vector<bool>> overridden(const ModelSource& source, const std::vector<TypeOverride>& overrides) {
  std::vector<bool> out(source.tensors().size());
  for (const TypeOverride& override_ : overrides) {
    SHOEHORN_TRY(const std::regex pattern, compile(override_));
    for (size_t i = 0; i < out.size(); ++i) out[i] = out[i] || matches(source.tensors()[i], pattern);
  }
  return out;
}

Expected<uint64_t> output_file_bytes(const ModelSource& source, const std::vector<quant::Type>& types,
                                     const OutputOptions& options) {
  io::GgufWriter writer;
  SHOEHORN_RETURN_IF_ERROR(declare(source, types, options, writer));
  return writer.file_bytes();
}

Expected<OutputReport> write_gguf(const ModelSource& source, const std::string& path, const OutputOptions& options,
                                  Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  // A GGUF's vocabulary is copied as it is: what no engine could read is refused here, not where the copy is opened.
  if (source.from_gguf() && source.metadata().contains("tokenizer.ggml.model"))
    SHOEHORN_RETURN_IF_ERROR(tokenizer::vocab_from_gguf(source.metadata(), source.path()));
  SHOEHORN_TRY(const auto types, choose_output_types(source, options));
  SHOEHORN_RETURN_IF_ERROR(refuse_quantized_source(source, types, options));
  SHOEHORN_TRY(const auto importance, importance_of(source, types, options, progress));

  io::GgufWriter writer;
  SHOEHORN_RETURN_IF_ERROR(declare(source, types, options, writer));
  OutputReport report;
  report.architecture = models::gguf_name(source.architecture(), source.hparams());
  report.mix = options.mix;
  uint64_t n_weights = 0;
  for (size_t i = 0; i < types.size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    const uint64_t n = tensor.n_cols() * tensor.n_rows();
    const uint64_t bytes = quant::row_bytes(quant::format(types[i]), n);
    report.tensors.push_back({tensor.name, tensor.shape, tensor.stored_as, types[i], bytes});
    report.tensor_bytes += bytes;
    report.input_bytes += tensor.data.size();
    if (tensor.name != "rope_freqs.weight") report.parameters += n;
    n_weights += n;
  }
  report.file_bytes = writer.file_bytes();
  report.bits_per_weight = 8.0 * static_cast<double>(report.tensor_bytes) / static_cast<double>(report.parameters);
  SHOEHORN_RETURN_IF_ERROR(writer.begin(path));

  ThreadPool pool(options.n_threads > 0 ? options.n_threads : default_thread_count());
  // A chunk is written while the next one is encoded.
  std::vector<std::byte> encoded, being_written;
  std::future<Status> written_behind;
  const auto await_written = [&] { return written_behind.valid() ? written_behind.get() : Status{}; };
  progress.begin(fmt::format("writing {}", path), n_weights);
  for (size_t i = 0; i < types.size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    const quant::Format& to = quant::format(types[i]);
    const auto ready = options.encoded ? options.encoded(tensor.name) : std::span<const std::byte>();
    const auto written = for_each_chunk(tensor, progress, [&](uint64_t first, uint64_t count) -> Status {
      const uint64_t row_bytes = quant::row_bytes(to, tensor.n_cols());
      encoded.resize(count * row_bytes);
      if (ready.empty() && is_copied(tensor, to.type)) {
        std::ranges::copy(tensor.data.subspan(first * row_bytes, count * row_bytes), encoded.begin());
      } else if (ready.empty() && tensor.same && tensor.same->type == to.type) {
        SHOEHORN_RETURN_IF_ERROR(copy_same(tensor, first, count, row_bytes, pool, encoded.data()));
      } else if (ready.empty()) {
        SHOEHORN_RETURN_IF_ERROR(encode_rows(tensor, first, count, to, importance[i], pool, encoded.data()));
      } else {
        std::ranges::copy(ready.subspan(first * row_bytes, count * row_bytes), encoded.begin());
      }
      SHOEHORN_RETURN_IF_ERROR(await_written());
      std::swap(encoded, being_written);
      written_behind = std::async(std::launch::async, [&] { return writer.append(being_written); });
      return {};
    });
    if (!written) return annotate(written.error(), source.path());
  }
  SHOEHORN_RETURN_IF_ERROR(await_written());
  progress.end();
  report.write_seconds = report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (options.check) {
    SHOEHORN_TRY(const std::string unnamed, writer.readable_path());
    auto found = options.check(unnamed);
    if (!found) {
      // Not the name under which it was read.
      Error error = std::move(found).error();
      if (const size_t at = error.message.find(unnamed); at != std::string::npos) error.message.replace(at, unnamed.size(), path);
      return tl::unexpected<Error>(std::move(error));
    }
    SHOEHORN_RETURN_IF_ERROR(writer.replace(*found));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return report;
}

}  // namespace shoehorn::convert
