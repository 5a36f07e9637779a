#include "compress/calibrate/gptq.h"

#include <cstring>
#include <map>

#include "base/mapped_file.h"
#include "base/memory.h"
#include "compress/block_stream.h"
#include "compress/calibrate/matrix_quantizer.h"
#include "compress/calibration_text.h"
#include "compress/estimate.h"
#include "compress/linear_algebra.h"
#include "compress/work_directory.h"
#include "convert/rope_rows.h"
#include "io/safetensors.h"

namespace shoehorn::compress {
namespace {

using models::Role;

/// What libtorch, the tokenizer and the program take beside the tensors that are counted.
constexpr uint64_t kOverheadBytes = uint64_t{500} << 20;
/// Rows that are quantized at once.
constexpr int64_t kRowsAtOnce = 1024;
constexpr const char* kEmbeddingState = "embedding";
constexpr const char* kHeadState = "head";

std::string state_name(size_t layer) { return fmt::format("block-{:05}", layer); }

/// Projections of a block that read the same input, in the order of the data's way.
struct Readers {
  std::vector<Role> roles;
  bool mlp;
};
const Readers kReaders[] = {{{Role::kAttnQ, Role::kAttnK, Role::kAttnV}, false},
                            {{Role::kAttnOutput}, false},
                            {{Role::kFfnGate, Role::kFfnUp}, true},
                            {{Role::kFfnDown}, true}};

/// A block's tensors without its other half.
TensorSet half(const TensorSet& weights, bool mlp) {
  TensorSet part = weights;
  part[mlp ? Role::kAttnQ : Role::kFfnDown] = at::Tensor();
  return part;
}

/// X'X of everything that is added, summed over all processes at the end.
class Gram {
 public:
  void add(const at::Tensor& x) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    if (!h_.defined()) h_ = at::zeros({rows.size(1), rows.size(1)}, rows.options());
    add_gram(h_, rows);
  }
  Expected<at::Tensor> sum(const Peers& peers) {
    mirror_lower(h_);
    SHOEHORN_RETURN_IF_ERROR(peers.sum({h_}));
    return h_;
  }

 private:
  at::Tensor h_;
};

class Gptq {
 public:
  Gptq(const GptqOptions& o, const convert::ModelSource& source, const std::vector<quant::Type>& types,
       BlockStream& stream, const WorkDirectory& work)
      : o_(o), source_(source), stream_(stream), work_(work), progress_(stream.progress()) {
    for (size_t i = 0; i < types.size(); ++i)
      tensors_[source.tensors()[i].name] = {&source.tensors()[i], &quant::format(types[i])};
  }

  Status run(const std::vector<at::Tensor>& batches) {
    at::NoGradGuard no_gradient;
    uint64_t n_weights = 0;
    for (const auto& [name, wanted] : tensors_) n_weights += wanted.tensor->n_cols() * wanted.tensor->n_rows();
    progress_.begin("quantizing", n_weights);
    SHOEHORN_TRY(Boundary current, embed(batches));
    for (size_t layer = 0; layer < stream_.loader().hparams().n_layer; ++layer) {
      SHOEHORN_RETURN_IF_ERROR(quantize_block(layer, current));
    }
    SHOEHORN_RETURN_IF_ERROR(quantize_head(current));
    stream_.drop(current);
    progress_.end();
    return {};
  }

 private:
  struct Wanted {
    const convert::SourceTensor* tensor = nullptr;
    const quant::Format* format = nullptr;
  };

  /// The tensor of a role; of no tensor when the model has none.
  Wanted find(int layer, Role role) const {
    for (const models::TensorRule& rule : source_.architecture().tensors) {
      if (rule.role != role) continue;
      const auto found = tensors_.find(models::with_layer(rule.gguf_name, layer));
      return found == tensors_.end() ? Wanted() : found->second;
    }
    return {};
  }

  /// Hugging Face's order of rows for values in the file's.
  at::Tensor unpermuted(Role role, const at::Tensor& values) const {
    const models::Hparams& h = source_.hparams();
    if ((role != Role::kAttnQ && role != Role::kAttnK) || source_.architecture().rope != models::RopeType::kNorm)
      return values;
    at::Tensor order = at::empty({values.size(0)}, at::kLong);
    auto* to = order.data_ptr<int64_t>();
    for (int64_t row = 0; row < values.size(0); ++row)
      to[convert::hf_row(static_cast<uint64_t>(row), h.head_dim, h.n_rot)] = row;
    return values.index_select(0, order);
  }

  static at::Tensor decode(const quant::Format& format, const at::Tensor& blocks, int64_t n_cols) {
    at::Tensor values = at::empty({blocks.size(0), n_cols}, at::kFloat);
    at::parallel_for(0, blocks.size(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        format.decode(blocks.data_ptr<uint8_t>() + row * blocks.size(1), values.data_ptr<float>() + row * n_cols,
                      static_cast<size_t>(n_cols));
      }
    });
    return values;
  }

  /// A tensor's blocks [n_rows, row_bytes], in the file's order of rows. Without moments, and for formats that are no
  /// simple grid, each row by itself.
  Expected<at::Tensor> quantize(const Wanted& wanted, const SecondMoments* moments) {
    const convert::SourceTensor& tensor = *wanted.tensor;
    const auto n_rows = static_cast<int64_t>(tensor.n_rows()), n_cols = static_cast<int64_t>(tensor.n_cols());
    const auto row_bytes = static_cast<int64_t>(quant::row_bytes(*wanted.format, tensor.n_cols()));
    const at::Tensor importance = moments == nullptr ? at::Tensor() : moments->h.diagonal().contiguous();
    at::Tensor blocks = at::empty({n_rows, row_bytes}, at::kByte);
    for (int64_t first = 0; first < n_rows; first += kRowsAtOnce) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      const int64_t n = std::min(kRowsAtOnce, n_rows - first);
      at::Tensor w = at::empty({n, n_cols}, at::kFloat);
      tensor.read(static_cast<uint64_t>(first), static_cast<uint64_t>(n), w.data_ptr<float>());
      tensor.release(static_cast<uint64_t>(first), static_cast<uint64_t>(n));
      if (!at::isfinite(w).all().item<bool>())
        return fail(ErrorCode::kInvalid, "tensor {} holds NaN or Inf", tensor.source_name);
      if (moments != nullptr && wanted.format->grid != nullptr) {
        blocks.narrow(0, first, n).copy_(quantize_rows(w, *moments, *wanted.format, o_.sweeps).blocks);
      } else {
        at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            wanted.format->encode(w.data_ptr<float>() + row * n_cols,
                                  importance.defined() ? importance.data_ptr<float>() : nullptr,
                                  blocks.data_ptr<uint8_t>() + (first + row) * row_bytes, tensor.n_cols());
          }
        });
      }
      progress_.advance(static_cast<uint64_t>(n * n_cols));
    }
    return blocks;
  }

  Expected<Boundary> embed(const std::vector<at::Tensor>& batches) {
    const Wanted wanted = find(-1, Role::kTokenEmbd);
    SHOEHORN_TRY(auto saved, work_.load(kEmbeddingState));
    if (!saved) {
      saved.emplace();
      SHOEHORN_TRY(saved->tensors[wanted.tensor->name], quantize(wanted, nullptr));
      SHOEHORN_RETURN_IF_ERROR(work_.save(kEmbeddingState, *saved));
    }
    const at::Tensor& blocks = saved->tensors.at(wanted.tensor->name);
    const Compute& compute = stream_.model().compute();
    Boundary out;
    for (const at::Tensor& ids : batches) {
      const auto n_embd = static_cast<int64_t>(wanted.tensor->n_cols());
      const at::Tensor x = decode(*wanted.format, blocks.index_select(0, ids.reshape({-1})), n_embd)
                               .view({ids.size(0), ids.size(1), n_embd});
      SHOEHORN_TRY(const auto slot, stream_.put(x.to(compute.options()).to(compute.wide())));
      out.push_back(slot);
    }
    return out;
  }

  /// X'X of what a projection reads.
  Expected<at::Tensor> gram(const TensorSet& weights, const Boundary& boundary, Role reader) {
    Gram sum;
    for (const auto slot : boundary) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      SHOEHORN_TRY(const at::Tensor x, stream_.get(slot));
      bool seen = false;
      stream_.model().block(weights, x, [&](Role role, const at::Tensor& input) {
        if (role == reader) sum.add(input);
        seen |= role == reader;
        // What comes after the reader does not matter.
        if (seen) return at::zeros({1}, input.options()).expand({input.size(0), input.size(1), weights[role].size(0)});
        return project(weights, role, input);
      });
    }
    return sum.sum(stream_.peers());
  }

  Status quantize_block(size_t layer, Boundary& current) {
    const TensorSet weights = stream_.loader().block(layer);
    stream_.loader().expect(layer + 1);
    SHOEHORN_TRY(const auto before, work_.load(state_name(layer)));
    Saved saved = before.value_or(Saved());
    for (const bool mlp : {false, true}) {
      if (!weights[mlp ? Role::kFfnDown : Role::kAttnQ].defined()) continue;
      TensorSet part = half(weights, mlp);
      for (const Readers& readers : kReaders) {
        if (readers.mlp != mlp) continue;
        SecondMoments moments;
        if (!before) {
          SHOEHORN_TRY(const at::Tensor h, gram(part, current, readers.roles.front()));
          auto found = second_moments(h, o_.damping);
          if (!found) return annotate(found.error(), fmt::format("block {}", layer));
          moments = std::move(*found);
        }
        for (const Role role : readers.roles) {
          const Wanted wanted = find(static_cast<int>(layer), role);
          at::Tensor& blocks = saved.tensors[wanted.tensor->name];
          if (!before) {
            SHOEHORN_TRY(blocks, quantize(wanted, &moments));
          } else {
            progress_.advance(wanted.tensor->n_cols() * wanted.tensor->n_rows());
          }
          const at::Tensor values = decode(*wanted.format, blocks, static_cast<int64_t>(wanted.tensor->n_cols()));
          part[role] = unpermuted(role, values).to(stream_.loader().options(role));
        }
      }
      SHOEHORN_TRY(current,
                   stream_.forward(layer, part, current, false, [&](const TensorSet& w, const at::Tensor& x, size_t) {
                     return stream_.model().block(w, x);
                   }));
    }
    return before ? Status() : work_.save(state_name(layer), saved);
  }

  Status quantize_head(const Boundary& last) {
    const Wanted wanted = find(-1, Role::kOutput);
    if (wanted.tensor == nullptr) return {};
    SHOEHORN_TRY(const auto before, work_.load(kHeadState));
    if (before) return {};
    const at::Tensor gain = stream_.loader().stored(-1, Role::kOutputNorm).to(stream_.model().compute().wide_options());
    Gram sum;
    for (const auto slot : last) {
      SHOEHORN_TRY(const at::Tensor x, stream_.get(slot));
      sum.add(stream_.model().rms_norm(x, gain));
    }
    SHOEHORN_TRY(const at::Tensor h, sum.sum(stream_.peers()));
    auto moments = second_moments(h, o_.damping);
    if (!moments) return annotate(moments.error(), "the output matrix");
    Saved saved;
    SHOEHORN_TRY(saved.tensors[wanted.tensor->name], quantize(wanted, &*moments));
    return work_.save(kHeadState, saved);
  }

  const GptqOptions& o_;
  const convert::ModelSource& source_;
  std::map<std::string, Wanted> tensors_;  // by GGUF name
  BlockStream& stream_;
  const WorkDirectory& work_;
  Progress& progress_;
};

/// The quantized tensors where the work directory has them, by GGUF name; mapped.
class SavedBlocks {
 public:
  Status open(const std::string& path) {
    SHOEHORN_TRY(auto file, MappedFile::open(path));
    auto mapped = std::make_unique<MappedFile>(std::move(file));
    SHOEHORN_TRY(const auto tensors, io::read_safetensors(mapped->bytes(), path));
    for (const io::StoredTensor& tensor : tensors) by_name_[tensor.name] = tensor.data;
    files_.push_back(std::move(mapped));
    return {};
  }
  std::span<const std::byte> find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? std::span<const std::byte>() : found->second;
  }

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, std::span<const std::byte>> by_name_;
};

Expected<at::Tensor> draw_text(const GptqOptions& o, const convert::OpenedCheckpoint& checkpoint, Progress& progress) {
  if (o.calib.empty())
    return fail(ErrorCode::kInvalid, "gptq learns from text: give --calib FILE (text, or jsonl with \"text\")");
  const models::Hparams& h = checkpoint.config.hparams;
  SHOEHORN_TRY(const auto tokenizer, directory_tokenizer(checkpoint.directory, h.n_vocab));
  const int64_t most = std::max<int64_t>(1, kMaxCalibrationTokens / o.seq_len);
  SHOEHORN_TRY(
      const at::Tensor ids,
      draw_samples(o.calib, tokenizer, {o.samples > 0 ? o.samples : most, o.seq_len, o.seed, 0, o.samples == 0}));
  const int64_t widest = std::max<int64_t>(h.max_n_ff(), int64_t{h.max_n_head()} * h.head_dim);
  if (ids.numel() < 4 * widest) {
    progress.note(fmt::format(
        "{} tokens are few: the widest input has {} columns, whose second moments ask for {} tokens or more",
        ids.numel(), widest, 4 * widest));
  }
  return ids;
}

struct Plan {
  uint64_t store_bytes = 0;  ///< memory for activations
  Estimate estimate;
};

/// What it will take, or a refusal with the numbers.
Expected<Plan> make_plan(const GptqOptions& o, const BlockLoader& loader, const convert::ModelSource& source,
                         const std::vector<quant::Type>& types, int64_t n_tokens) {
  const models::Hparams& h = loader.hparams();
  const uint64_t block = loader.largest_block_bytes(),
                 widest = std::max<uint64_t>(h.max_n_ff(), uint64_t{h.max_n_head()} * h.head_dim);
  const uint64_t moments = widest * widest * (4 + 8 + 4), rows = kRowsAtOnce * widest * 4 * 6;
  const uint64_t batch = static_cast<uint64_t>(o.micro_batch * o.seq_len) * (widest * 6 + uint64_t{h.n_embd} * 10) * 4;
  uint64_t encoded = 0, largest = 0;
  double rounding = 0;
  for (size_t i = 0; i < types.size(); ++i) {
    const convert::SourceTensor& tensor = source.tensors()[i];
    const uint64_t bytes = tensor.n_rows() * quant::row_bytes(quant::format(types[i]), tensor.n_cols());
    encoded += bytes;
    largest = std::max(largest, bytes);
    const auto n = static_cast<double>(tensor.n_cols());
    rounding += n * n * static_cast<double>(tensor.n_rows()) * (1 + o.sweeps);
  }
  const uint64_t needed = kOverheadBytes + block * 2 + moments + rows + batch + largest;
  const uint64_t limit = o.ram > 0 ? o.ram : available_memory();
  if (needed > limit) {
    return fail(ErrorCode::kTooLarge,
                "{}: gptq on this model takes about {} (a block twice {}, second moments of {} columns {}, a "
                "micro-batch {}), {} is {}; a smaller "
                "--micro-batch or --seq-len takes less, --method rtn hardly any",
                o.model, format_bytes(needed), format_bytes(block * 2), widest, format_bytes(moments),
                format_bytes(batch), o.ram > 0 ? "--ram" : "the free memory", format_bytes(limit));
  }
  const uint64_t left = limit - needed, activations = static_cast<uint64_t>(n_tokens) * h.n_embd * 4 * 2;
  const auto tokens = static_cast<double>(n_tokens);
  Plan plan{left,
            {needed + std::min(left, activations), 2 * encoded + (activations > left ? activations - left : 0), 0}};
  // q, k, v, gate and up are computed twice: to know what the next projection reads, and to go on. Second moments are
  // half a product each.
  plan.estimate.multiply_adds = tokens * 1.8 * block_multiply_adds(loader) + rounding;
  for (const models::LayerShape& layer : h.layers) {
    const double n_ff = layer.n_ff, n_q = static_cast<double>(layer.n_head) * h.head_dim, n_embd = h.n_embd;
    for (const double n : {n_embd, n_q, n_embd, n_ff}) plan.estimate.multiply_adds += n * n * (tokens / 2 + n * 2);
  }
  return plan;
}

/// What a saved state belongs to: the source's files and every option that changes the result.
Json fingerprint(const GptqOptions& o, const convert::OpenedCheckpoint& checkpoint,
                 const std::vector<quant::Type>& types, const at::Tensor& ids, const Compute& compute) {
  Json ids_of_types = Json::array();
  for (const quant::Type type : types) ids_of_types.push_back(static_cast<uint32_t>(type));
  return {{"program", "shoehorn gptq 1"},
          {"source", source_fingerprint(checkpoint)},
          {"types", ids_of_types},
          {"calib", file_fingerprint(o.calib)},
          {"samples", {ids.size(0), ids.size(1), o.micro_batch, o.seed}},
          {"rounding", {o.damping, o.sweeps}},
          {"compute", {std::string(c10::toString(compute.dtype)), o.device}},
          {"threads", at::get_num_threads()}};
}

}  // namespace

Expected<convert::OutputReport> gptq(const GptqOptions& o, convert::OutputOptions output, Progress& progress) {
  return guarded("gptq", [&]() -> Expected<convert::OutputReport> {
    set_torch_threads(output.n_threads);
    output.calibrated = true;
    SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(o.model, progress));
    SHOEHORN_TRY(const auto source, convert::ModelSource::open(o.model, progress));
    SHOEHORN_TRY(const auto types, convert::choose_output_types(source, output));
    SHOEHORN_TRY(const Compute compute, choose_compute(o.dtype, o.device));
    SHOEHORN_TRY(const at::Tensor ids, draw_text(o, checkpoint, progress));
    const Peers alone;
    const Json run = fingerprint(o, checkpoint, types, ids, compute);
    BlockLoader loader(std::move(checkpoint), compute, false);
    SHOEHORN_TRY(const Plan plan, make_plan(o, loader, source, types, ids.numel()));
    SHOEHORN_TRY(const std::string estimate, describe(plan.estimate, compute, o.out));
    progress.note("this takes " + estimate);
    SHOEHORN_TRY(const auto work, WorkDirectory::open_for_file(o.out, run, o.resume, alone));
    const TorchModel model(loader.hparams(), compute);
    ActivationStore store(work.path(), plan.store_bytes);
    BlockStream stream(loader, model, store, progress, alone);
    SHOEHORN_RETURN_IF_ERROR(Gptq(o, source, types, stream, work).run(split_batches(ids, o.micro_batch)));

    SavedBlocks blocks;
    SHOEHORN_RETURN_IF_ERROR(blocks.open(work.state_path(kEmbeddingState)));
    for (size_t layer = 0; layer < loader.hparams().n_layer; ++layer)
      SHOEHORN_RETURN_IF_ERROR(blocks.open(work.state_path(state_name(layer))));
    if (!loader.hparams().tied_embeddings) SHOEHORN_RETURN_IF_ERROR(blocks.open(work.state_path(kHeadState)));
    output.encoded = [&](const std::string& name) { return blocks.find(name); };
    SHOEHORN_TRY(auto report, convert::write_gguf(source, o.out, output, progress));
    work.discard();
    return report;
  });
}

}  // namespace shoehorn::compress
