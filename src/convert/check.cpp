#include "convert/check.h"

#include <cmath>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>

#include "base/digest.h"
#include "convert/row_stream.h"

namespace shoehorn::convert {
namespace {

// A rounding that minds other rows or what a matrix reads (gptq) strays further from the weights than the nearest
// codes.
constexpr double kMostOverUsual = 2.5;
constexpr uint64_t kSampledRows = 64;

struct Expectation {
  std::string from;                                       ///< the key or the manifest's path
  std::map<std::string, io::TensorHash, std::less<>> of;  ///< by tensor
  std::string all;
};

Expected<Expectation> expected_hashes(const ModelSource& source, const CheckOptions& options) {
  Expectation out;
  std::string manifest = options.manifest;
  std::error_code error;
  const std::string beside = io::manifest_path(source.path());
  if (manifest.empty() && options.look_beside && std::filesystem::exists(beside, error)) manifest = beside;
  std::vector<io::TensorHash> hashes;
  if (!manifest.empty()) {
    SHOEHORN_TRY(auto read, io::read_manifest(manifest));
    out.from = manifest;
    out.all = read.all;
    hashes = std::move(read.tensors);
  } else {
    auto written = io::tensor_hashes(source.metadata());
    if (!written) return annotate(written.error(), source.path());
    if (!written->empty()) out.from = io::kTensorHashes;
    hashes = std::move(*written);
  }
  for (io::TensorHash& hash : hashes) {
    std::string name = hash.name;
    if (!out.of.emplace(name, std::move(hash)).second)
      return fail(ErrorCode::kInvalid, "{}: {}: tensor {} appears twice", source.path(), out.from, name);
  }
  return out;
}

/// A checkpoint's tensors go by the names that they have there.
const std::string& name_of(const ModelSource& source, const SourceTensor& tensor) {
  return source.from_gguf() ? tensor.name : tensor.source_name;
}

Status compare_hash(const Expectation& expected, const std::string& name, const SourceTensor& tensor,
                    const std::string& sha256, CheckResult& result) {
  const auto found = expected.of.find(name);
  if (found == expected.of.end()) {
    if (expected.of.empty()) return {};
    return fail(ErrorCode::kInvalid, "tensor {}: {} has no hash of it", name, expected.from);
  }
  const io::TensorHash& hash = found->second;
  if (hash.sha256 == sha256) {
    ++result.same;
  } else if (!hash.type.empty() && hash.type != tensor.stored_as) {
    ++result.rewritten;
  } else {
    return fail(ErrorCode::kInvalid, "tensor {}: SHA-256 is {}, {} says {}: its bytes were changed", name, sha256,
                expected.from, hash.sha256);
  }
  return {};
}

/// Reads, checks and hashes all of it.
Status read_weights(const ModelSource& source, const Expectation& expected, ThreadPool& pool, Progress& progress,
                    CheckResult& result) {
  uint64_t n_weights = 0;
  for (const SourceTensor& tensor : source.tensors()) n_weights += tensor.n_cols() * tensor.n_rows();
  progress.begin("checking", n_weights);
  Digest all;
  for (const SourceTensor& tensor : source.tensors()) {
    result.bytes += tensor.data.size();
    Digest digest;
    // Of one weight after the other, while other threads look at them: the pages are read once.
    const auto hash = [&](uint64_t first, uint64_t count) {
      const uint64_t row_bytes = tensor.data.size() / tensor.n_rows();
      const auto bytes = tensor.data.subspan(first * row_bytes, count * row_bytes);
      digest.add(bytes);
      all.add(bytes);
    };
    SHOEHORN_RETURN_IF_ERROR(for_each_chunk(tensor, progress, [&](uint64_t first, uint64_t count) -> Status {
      std::future<void> hashed = std::async(std::launch::async, hash, first, count);
      const Status finite = visit_rows(tensor, first, count, pool, [](uint64_t, const float*) {});
      hashed.get();
      return finite;
    }));
    if (tensor.data.empty()) continue;
    const std::string& name = name_of(source, tensor);
    result.hashes.tensors.push_back({digest.hex(), tensor.stored_as, name});
    SHOEHORN_RETURN_IF_ERROR(compare_hash(expected, name, tensor, result.hashes.tensors.back().sha256, result));
  }
  progress.end();
  result.hashes.all = all.hex();
  if (result.hashes.tensors.size() < expected.of.size()) {
    return fail(ErrorCode::kInvalid, "{} has hashes of {} tensors, there are {}", expected.from, expected.of.size(),
                result.hashes.tensors.size());
  }
  if (!expected.all.empty() && expected.all != result.hashes.all) {
    return fail(ErrorCode::kInvalid,
                "SHA-256 of all tensors is {}, {} says {}: their bytes or their order were changed", result.hashes.all,
                expected.from, expected.all);
  }
  return {};
}

/// One tensor beside its source's, on rows that lie all over it.
Expected<SourceDifference> compare_tensor(const SourceTensor& tensor, const SourceTensor& original, ThreadPool& pool) {
  if (tensor.shape != original.shape) {
    return fail(ErrorCode::kInvalid, "tensor {} is of shape [{}], the source's is of [{}]", tensor.name,
                fmt::join(tensor.shape, ", "), fmt::join(original.shape, ", "));
  }
  const uint64_t n_cols = tensor.n_cols(), n_rows = tensor.n_rows(), n = std::min(n_rows, kSampledRows);
  const quant::Format* format = tensor.type ? &quant::format(*tensor.type) : nullptr;
  double difference = 0, rounding = 0, weight = 0;
  std::mutex mutex;
  pool.parallel_for(n, 1, [&](size_t begin, size_t end, int) {
    std::vector<float> ours(n_cols), theirs(n_cols), rounded(n_cols);
    std::vector<std::byte> block(format != nullptr ? quant::row_bytes(*format, n_cols) : 0);
    for (size_t i = begin; i < end; ++i) {
      const uint64_t row = i * n_rows / n;
      tensor.read(row, 1, ours.data());
      original.read(row, 1, theirs.data());
      rounded = theirs;
      if (format != nullptr) {
        format->encode(theirs.data(), nullptr, block.data(), n_cols);
        format->decode(block.data(), rounded.data(), n_cols);
      }
      double d = 0, r = 0, w = 0;
      for (uint64_t c = 0; c < n_cols; ++c) {
        d += std::pow(double{ours[c]} - theirs[c], 2);
        r += std::pow(double{rounded[c]} - theirs[c], 2);
        w += std::pow(double{theirs[c]}, 2);
      }
      const std::lock_guard lock(mutex);
      difference += d;
      rounding += r;
      weight += w;
    }
  });
  if (weight == 0) weight = 1;
  return SourceDifference{tensor.name, tensor.stored_as, std::sqrt(difference / weight), std::sqrt(rounding / weight)};
}

Status compare_with_source(const ModelSource& made, const CheckOptions& options, ThreadPool& pool, Progress& progress,
                           CheckResult& result) {
  SHOEHORN_TRY(const auto source, ModelSource::open(options.source, progress));
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores"}) {
    const io::GgufValue *ours = made.metadata().find(key), *theirs = source.metadata().find(key);
    if ((ours == nullptr) != (theirs == nullptr) || (ours != nullptr && *ours != *theirs))
      return fail(ErrorCode::kInvalid, "{} is not that of {}", key, options.source);
  }
  std::map<std::string_view, const SourceTensor*> originals;
  for (const SourceTensor& tensor : source.tensors()) originals.emplace(tensor.name, &tensor);
  progress.begin("comparing", made.tensors().size());
  std::vector<std::string> strange;
  for (const SourceTensor& tensor : made.tensors()) {
    const auto original = originals.find(tensor.name);
    if (original == originals.end())
      return fail(ErrorCode::kInvalid, "{} has no tensor {}", options.source, tensor.name);
    auto compared = compare_tensor(tensor, *original->second, pool);
    if (!compared) return annotate(compared.error(), options.source);
    // Without rounding (F32, or the type that the source has) nothing may differ.
    if (compared->error > kMostOverUsual * compared->usual) {
      strange.push_back(fmt::format("{} ({}: error {:.3g}, rounding to it makes {:.3g})", tensor.name, tensor.stored_as,
                                    compared->error, compared->usual));
    }
    result.differences.push_back(std::move(*compared));
    progress.advance(1);
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
  }
  progress.end();
  if (made.tensors().size() != source.tensors().size()) {
    return fail(ErrorCode::kInvalid, "{} has {} tensors, this {}", options.source, source.tensors().size(),
                made.tensors().size());
  }
  if (strange.empty()) return {};
  const size_t n_strange = strange.size();
  if (strange.size() > 3) strange.resize(3);
  return fail(ErrorCode::kInvalid, "{} of {} tensors are not {}'s: {}{}", n_strange, made.tensors().size(),
              options.source, fmt::join(strange, ", "), n_strange > 3 ? ", ..." : "");
}

}  // namespace

Expected<CheckResult> check_model(const std::string& path, const CheckOptions& options, Progress& progress) {
  SHOEHORN_TRY(const auto source, ModelSource::open(path, progress));
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(source.metadata(), path));
  if (vocab.tokens.size() > source.hparams().n_vocab) {
    return fail(ErrorCode::kInvalid, "{}: the tokenizer has {} tokens, the embedding {} rows", path,
                vocab.tokens.size(), source.hparams().n_vocab);
  }
  CheckResult result;
  const auto check = [&]() -> Status {
    SHOEHORN_TRY(const auto tokenizer, tokenizer::Tokenizer::create(std::move(vocab)));
    SHOEHORN_RETURN_IF_ERROR(tokenizer::test_tokenizer(tokenizer));
    SHOEHORN_TRY(result.chat_template, tokenizer::test_template(tokenizer));
    SHOEHORN_TRY(const auto expected, expected_hashes(source, options));
    result.architecture = models::gguf_name(source.architecture(), source.hparams());
    result.tensors = source.tensors().size();
    result.compared_to = expected.from;
    ThreadPool pool(options.n_threads > 0 ? options.n_threads : default_thread_count());
    SHOEHORN_RETURN_IF_ERROR(read_weights(source, expected, pool, progress, result));
    if (!options.source.empty()) SHOEHORN_RETURN_IF_ERROR(compare_with_source(source, options, pool, progress, result));
    return {};
  };
  if (const Status checked = check(); !checked) return annotate_once(checked.error(), path);
  return result;
}

}  // namespace shoehorn::convert
