#include "compress/calibrate/quantizer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "compress/calibrate/awq.h"
#include "compress/blocks.h"
#include "compress/experts.h"
#include "compress/interleaved_rows.h"
#include "compress/linear_algebra.h"
#include "io/safetensors.h"

namespace shoehorn::compress {
namespace {

using models::Role;

constexpr const char* kEmbeddingState = "embedding";
constexpr const char* kHeadState = "head";
constexpr const char* kErrors = "errors";
constexpr int kSampleExperts = 8;

std::string state_name(size_t layer) { return fmt::format("block-{:05}", layer); }

using models::WeightId;

/// Projections of a block that read the same input, in the order of the data's way, and what their input is linear in.
struct Readers {
  std::vector<Role> roles;
  Role feeder;

  /// Those that a block has of an expert, or of all tokens: it may lack a half, or the gate.
  std::vector<WeightId> in(const TensorSet& weights, int expert) const {
    std::vector<WeightId> out;
    for (const Role role : roles) {
      if (weights[{role, expert}].defined()) out.emplace_back(role, expert);
    }
    return out;
  }
};
const Readers kReaders[] = {{{Role::kAttnQ, Role::kAttnK, Role::kAttnV}, Role::kAttnNorm},
                            {{Role::kAttnOutput}, Role::kAttnV},
                            {{Role::kFfnGate, Role::kFfnUp}, Role::kFfnNorm},
                            {{Role::kFfnDown}, Role::kFfnUp}};

/// Vectors that scaling changes.
const std::vector<Role> kScaledVectors = {Role::kAttnNorm, Role::kAttnNormBias, Role::kAttnVBias, Role::kAttnSubNorm, Role::kFfnSubNorm,
                                          Role::kFfnNorm, Role::kFfnNormBias, Role::kFfnUpBias, Role::kFfnSharedShare};

/// What is quantized before the block's activations go on: one half after the other, or both where they read the same.
struct Halves {
  bool attention, mlp;
  bool has(bool of_mlp) const { return of_mlp ? mlp : attention; }
};

/// Takes these tensors out of a block: what is replaced there is in memory no longer.
TensorSet take(TensorSet& weights, Halves halves) {
  TensorSet part;
  part.attention = weights.attention;
  std::vector<WeightId> taken;
  weights.for_each([&](WeightId id, const at::Tensor& tensor) {
    if (tensor.defined() && halves.has(id.role >= Role::kFfnNorm)) taken.push_back(id);
  });
  for (const WeightId id : taken) part[id] = std::exchange(weights[id], at::Tensor());
  return part;
}

bool has_interleaved_rows(const convert::ModelSource& source, Role role) {
  return is_interleaved(role) && source.architecture().rope == models::RopeType::kNorm;
}

/// Rows in Hugging Face's order for rows in the file's.
at::Tensor unpermuted(const convert::ModelSource& source, Role role, const at::Tensor& values) {
  return has_interleaved_rows(source, role) ? deinterleaved(values, source.hparams()) : values;
}

/// Rows in the file's order for rows in Hugging Face's.
at::Tensor permuted(const convert::ModelSource& source, Role role, const at::Tensor& values) {
  return has_interleaved_rows(source, role) ? interleaved(values, source.hparams()) : values;
}

class Quantizer {
 public:
  Quantizer(const QuantizerTask& task, BlockStream& stream, const WorkDirectory& work)
      : task_(task), source_(*task.source), stream_(stream), work_(work), progress_(stream.progress()) {}

  Status run(const std::vector<at::Tensor>& batches) {
    at::NoGradGuard no_gradient;
    uint64_t n_weights = 0;
    for (const auto& tensor : source_.tensors()) n_weights += tensor.n_cols() * tensor.n_rows();
    progress_.begin("quantizing", n_weights);
    SHOEHORN_TRY(Boundary current, embed(batches));
    for (size_t layer = 0; layer < source_.hparams().n_layer; ++layer) {
      SHOEHORN_RETURN_IF_ERROR(quantize_block(layer, current));
    }
    SHOEHORN_RETURN_IF_ERROR(quantize_head(current));
    stream_.drop(current);
    progress_.end();
    return {};
  }

 private:
  struct Wanted : convert::SourceRows {
    const quant::Format* format = nullptr;
  };

  Wanted find(int layer, WeightId id) const {
    const convert::SourceRows rows = source_.find_rows(layer, id);
    return {rows, rows.tensor == nullptr ? nullptr : &quant::format(task_.types[rows.index])};
  }

  Expected<std::optional<Saved>> load(const std::string& name) const { return work_.load(task_.generation + name); }
  Status save(const std::string& name, const Saved& saved) const { return work_.save(task_.generation + name, saved); }

  Expected<at::Tensor> read(const convert::SourceTensor& tensor, uint64_t first, uint64_t n, uint64_t step = 1) const {
    const auto n_cols = static_cast<int64_t>(tensor.n_cols());
    at::Tensor w = at::empty({static_cast<int64_t>(n), n_cols}, at::kFloat);
    if (step == 1) {
      tensor.read(first, n, w.data_ptr<float>());
    } else {
      for (uint64_t i = 0; i < n; ++i) tensor.read(first + i * step, 1, w[static_cast<int64_t>(i)].data_ptr<float>());
    }
    if (!at::isfinite(w).all().item<bool>())
      return fail(ErrorCode::kInvalid, "tensor {} holds NaN or Inf", tensor.source_name);
    return w;
  }

  /// Rows w as the method has them in a format. Without moments, and for formats that are no simple grid, each weight
  /// by itself.
  at::Tensor quantize_some(const at::Tensor& w, const SecondMoments* moments, const quant::Format& format) const {
    if (moments != nullptr && task_.rounding == Rounding::kSecondMoments && format.grid != nullptr)
      return quantize_rows(w, *moments, format, task_.sweeps).blocks;
    return encode(w, moments == nullptr ? at::Tensor() : moments->h.diagonal().contiguous(), format);
  }

  /// Blocks [n_rows, row_bytes] of the whole tensor, in the file's order of rows, of which it fills its own, and what other types would lose.
  /// `scaled`: the weights in Hugging Face's order when they are not the source's any more.
  Status quantize(const Wanted& wanted, WeightId id, const SecondMoments* moments, const at::Tensor& scaled,
                  Saved& saved) const {
    const convert::SourceTensor& tensor = *wanted.tensor;
    const uint64_t n_rows = wanted.n;
    at::Tensor& blocks_of_all = saved.tensors[tensor.name];
    if (!blocks_of_all.defined()) {
      const uint64_t row_bytes = quant::row_bytes(*wanted.format, tensor.n_cols());
      blocks_of_all = at::zeros({static_cast<int64_t>(tensor.n_rows()), static_cast<int64_t>(row_bytes)}, at::kByte);
    }
    const at::Tensor in_order = scaled.defined() ? permuted(source_, id.role, scaled) : at::Tensor();
    for (uint64_t first = 0; first < n_rows; first += kRowsAtOnce) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      const uint64_t n = std::min<uint64_t>(kRowsAtOnce, n_rows - first);
      at::Tensor w;
      if (in_order.defined()) {
        w = in_order.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(n)).to(at::kFloat).contiguous();
      } else {
        SHOEHORN_TRY(w, read(tensor, wanted.first + first, n));
        tensor.release(wanted.first + first, n);
      }
      blocks_of_all.narrow(0, static_cast<int64_t>(wanted.first + first), static_cast<int64_t>(n)).copy_(quantize_some(w, moments, *wanted.format));
      progress_.advance(n * tensor.n_cols());
    }
    if (task_.candidates.empty() || !is_sampled(id.expert)) return {};
    const uint64_t n_sample = std::min<uint64_t>(kSampleRows, n_rows);
    SHOEHORN_TRY(const at::Tensor w, read(tensor, wanted.first, n_sample, n_rows / n_sample));
    Json& errors = saved.facts[kErrors][tensor.name];
    if (errors.is_null()) errors = Json::object();
    for (const quant::Type type : task_.candidates) {
      const quant::Format& format = quant::format(type);
      if (tensor.n_cols() % format.block_size != 0) continue;
      const at::Tensor blocks = quantize_some(w, moments, format);
      const at::Tensor off = decode(blocks.data_ptr<uint8_t>(), format, w.size(0), w.size(1)) - w;
      const at::Tensor weighted = moments == nullptr ? off : at::mm(off, moments->h);
      errors[format.name] = json_or(errors, format.name, 0.0) + (weighted * off).sum(at::kDouble).item<double>();
    }
    return {};
  }

  /// A few experts stand for all where many types or scales are tried.
  bool is_sampled(int expert) const {
    const int step = (static_cast<int>(source_.hparams().n_expert) + kSampleExperts - 1) / kSampleExperts;
    return expert < 0 || expert % step == 0;
  }

  /// A vector as divide() leaves it.
  static at::Tensor saved_vector(const convert::SourceRows& rows, const Saved& saved) {
    const at::Tensor& bytes = saved.tensors.at(rows.tensor->name);
    return bytes.view({-1}).view(at::kFloat).narrow(0, static_cast<int64_t>(rows.first), static_cast<int64_t>(rows.n));
  }

  at::Tensor decoded(const Wanted& wanted, const Saved& saved) const {
    const at::Tensor& blocks = saved.tensors.at(wanted.tensor->name);
    return decode(blocks.data_ptr<uint8_t>() + static_cast<int64_t>(wanted.first) * blocks.size(1), *wanted.format, static_cast<int64_t>(wanted.n),
                  static_cast<int64_t>(wanted.tensor->n_cols()));
  }

  Expected<Boundary> embed(const std::vector<at::Tensor>& batches) {
    const Wanted wanted = find(-1, Role::kTokenEmbd);
    SHOEHORN_TRY(auto saved, load(kEmbeddingState));
    if (!saved) {
      saved.emplace();
      SHOEHORN_RETURN_IF_ERROR(quantize(wanted, Role::kTokenEmbd, nullptr, {}, *saved));
      SHOEHORN_RETURN_IF_ERROR(save(kEmbeddingState, *saved));
    }
    const at::Tensor table = decoded(wanted, *saved);
    Boundary out;
    for (const at::Tensor& ids : batches) {
      SHOEHORN_TRY(const auto slot, stream_.put(look_up(table, ids, stream_.loader().hparams().embedding_scale, stream_.model().compute())));
      out.push_back(slot);
    }
    return out;
  }

  /// H of what a projection reads.
  Expected<SecondMoments> moments_of(const TensorSet& weights, const Boundary& boundary, WeightId reader) {
    SHOEHORN_TRY(auto all, moments_of(weights, boundary, std::vector<WeightId>{reader}));
    return std::move(*all.at(reader.expert));
  }

  /// H of what projections of different experts read, by expert; nothing of one that no token goes to.
  Expected<std::map<int, std::optional<SecondMoments>>> moments_of(const TensorSet& weights, const Boundary& boundary,
                                                                   const std::vector<WeightId>& readers) {
    std::map<int, at::Tensor> grams;
    for (const auto slot : boundary) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      SHOEHORN_TRY(const at::Tensor x, stream_.get(slot));
      std::set<int> seen;
      stream_.model().block(weights, x, [&](WeightId id, const at::Tensor& input) {
        if (std::ranges::find(readers, id) != readers.end()) {
          add(input, grams[id.expert]);
          seen.insert(id.expert);
        }
        // What comes after the reader does not matter.
        if (!seen.contains(id.expert) && !seen.contains(-1)) return project(weights, id, input);
        std::vector<int64_t> sizes = input.sizes().vec();
        sizes.back() = weights[id].size(0);
        return at::zeros({1}, input.options()).expand(sizes);
      });
    }
    std::map<int, std::optional<SecondMoments>> out;
    for (const WeightId reader : readers) {
      at::Tensor& gram = grams[reader.expert];
      out[reader.expert];
      if (!gram.defined()) continue;
      SHOEHORN_TRY(out[reader.expert], moments_of(gram));
    }
    return out;
  }

  static void add(const at::Tensor& x, at::Tensor& gram) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    if (!gram.defined()) gram = at::zeros({rows.size(1), rows.size(1)}, rows.options());
    add_gram(gram, rows);
  }

  Expected<SecondMoments> moments_of(at::Tensor& gram) {
    mirror_lower(gram);
    return second_moments(std::move(gram), task_.damping);
  }

  Status quantize_block(size_t layer, Boundary& current) {
    TensorSet weights = stream_.loader().block(layer);
    stream_.loader().expect(layer + 1);
    SHOEHORN_TRY(const auto before, load(state_name(layer)));
    Saved saved = before.value_or(Saved());
    const bool together = stream_.loader().hparams().parallel_residual;
    const std::vector<Halves> steps = together ? std::vector<Halves>{{true, true}} : std::vector<Halves>{{true, false}, {false, true}};
    for (const Halves halves : steps) {
      TensorSet part = take(weights, halves), scaled;
      if (!part[Role::kFfnDown].defined() && !part[Role::kFfnRouter].defined() && !part[Role::kAttnQ].defined()) continue;
      if (task_.rounding == Rounding::kScaled) {
        if (!before) SHOEHORN_RETURN_IF_ERROR(scale(static_cast<int>(layer), current, part, scaled, saved));
        for (const Role role : kScaledVectors) {
          if (!part[role].defined()) continue;
          const Wanted wanted = find(static_cast<int>(layer), role);
          if (wanted.tensor == nullptr || !saved.tensors.contains(wanted.tensor->name)) continue;
          part[role] = saved_vector(wanted, saved).to(stream_.loader().options(role));
        }
        SHOEHORN_RETURN_IF_ERROR(finish_router(static_cast<int>(layer), part, scaled, before.has_value(), saved));
      }
      SHOEHORN_RETURN_IF_ERROR(quantize_part(static_cast<int>(layer), current, {-1}, before.has_value(), part, scaled, saved));
      for (const std::vector<int>& experts : groups(part))
        SHOEHORN_RETURN_IF_ERROR(quantize_part(static_cast<int>(layer), current, experts, before.has_value(), part, scaled, saved));
      SHOEHORN_TRY(current,
                   stream_.forward(layer, part, current, false, [&](const TensorSet& w, const at::Tensor& x, size_t) {
                     return stream_.model().block(w, x);
                   }));
    }
    return before ? Status() : save(state_name(layer), saved);
  }

  /// The experts that half a block has, so many at a time that their moments are in memory together.
  std::vector<std::vector<int>> groups(const TensorSet& part) const {
    if (!part[Role::kFfnRouter].defined()) return {};
    const auto widest = std::max<uint64_t>(source_.hparams().n_embd, source_.hparams().max_n_ff());
    return expert_groups(source_.hparams(), widest * widest * sizeof(float));
  }

  /// The projections that read what all tokens have ({-1}), or those of some experts.
  Status quantize_part(int layer, const Boundary& current, const std::vector<int>& experts, bool done, TensorSet& part, const TensorSet& scaled,
                       Saved& saved) {
    for (const Readers& readers : kReaders) {
      std::vector<WeightId> firsts;
      for (const int expert : experts) {
        if (const auto ids = readers.in(part, expert); !ids.empty()) firsts.push_back(ids.front());
      }
      if (firsts.empty()) continue;
      std::map<int, std::optional<SecondMoments>> moments;
      if (!done) {
        auto found = moments_of(with_experts(part, experts), current, firsts);
        if (!found) return annotate(found.error(), fmt::format("block {}", layer));
        moments = std::move(*found);
      }
      for (const int expert : experts) {
        for (const WeightId id : readers.in(part, expert)) {
          const Wanted wanted = find(layer, id);
          if (done) {
            progress_.advance(wanted.tensor->n_cols() * wanted.n);
          } else {
            const auto& of_expert = moments.at(expert);
            SHOEHORN_RETURN_IF_ERROR(quantize(wanted, id, of_expert ? &*of_expert : nullptr, scaled[id], saved));
          }
          part[id] = unpermuted(source_, id.role, decoded(wanted, saved)).to(stream_.loader().options(id.role));
        }
      }
    }
    return {};
  }

  /// The scores of experts are no matrix that is quantized; scaled columns are stored as they are.
  Status finish_router(int layer, TensorSet& part, const TensorSet& scaled, bool done, Saved& saved) const {
    if (!part[Role::kFfnRouter].defined()) return {};
    const Wanted wanted = find(layer, Role::kFfnRouter);
    if (!done) SHOEHORN_RETURN_IF_ERROR(quantize(wanted, Role::kFfnRouter, nullptr, scaled[Role::kFfnRouter], saved));
    part[Role::kFfnRouter] = decoded(wanted, saved).to(stream_.loader().options(Role::kFfnRouter));
    return {};
  }

  /// Scales the columns of half a block's matrices, and what feeds them the other way: `scaled` gets the matrices that
  /// are not the source's any more, `saved` the vectors. `part` takes part in both.
  Status scale(int layer, const Boundary& current, TensorSet& part, TensorSet& scaled, Saved& saved) {
    for (const Readers& readers : kReaders) {
      SHOEHORN_RETURN_IF_ERROR(scale_readers(layer, current, readers, {-1}, part, scaled, saved));
      if (readers.feeder != Role::kFfnUp) continue;
      for (const std::vector<int>& experts : groups(part))
        SHOEHORN_RETURN_IF_ERROR(scale_readers(layer, current, readers, experts, part, scaled, saved));
    }
    return {};
  }

  Status scale_readers(int layer, const Boundary& current, Readers readers, const std::vector<int>& experts, TensorSet& part, TensorSet& scaled,
                       Saved& saved) {
    // A norm between takes the scale up.
    if (readers.feeder == Role::kAttnV && part[Role::kAttnSubNorm].defined()) readers.feeder = Role::kAttnSubNorm;
    if (readers.feeder == Role::kFfnUp && part[Role::kFfnSubNorm].defined() && !source_.hparams().transforms(-1)) readers.feeder = Role::kFfnSubNorm;
    // Where v is cut off its rows cannot be scaled.
    if (readers.feeder == Role::kAttnV && source_.hparams().clamp_qkv > 0) return {};
    // What the router reads, all experts read.
    const bool routed = readers.feeder == Role::kFfnNorm && part[Role::kFfnRouter].defined();
    std::vector<WeightId> firsts;
    std::map<int, std::vector<WeightId>> by_expert;
    for (const int expert : experts) {
      // Behind a transform no column of the input is a row of what feeds it; without a gate it is no linear function of it.
      if (readers.feeder == Role::kFfnUp && (source_.hparams().transforms(expert) || !part[{Role::kFfnGate, expert}].defined())) continue;
      if (!part[{readers.feeder, expert}].defined()) continue;  // no norm before this part
      std::vector<WeightId> ids = readers.in(part, expert);
      if (routed) {
        ids.insert(ids.begin(), Role::kFfnRouter);
        for (int of = 0; of < static_cast<int>(part.n_experts()); ++of) std::ranges::copy(readers.in(part, of), std::back_inserter(ids));
      }
      if (ids.empty()) continue;
      firsts.push_back(ids.front());
      by_expert[expert] = std::move(ids);
    }
    if (firsts.empty()) return {};
    auto moments = moments_of(with_experts(part, experts), current, firsts);
    if (!moments) return annotate(moments.error(), fmt::format("block {}", layer));
    for (const auto& [expert, ids] : by_expert) {
      if (!moments->at(expert)) continue;  // no token went there
      const WeightId feeder(readers.feeder, expert);
      std::vector<ScaledReader> matrices;
      for (const WeightId id : ids) {
        if (id.role != Role::kFfnRouter && is_sampled(id.expert)) matrices.push_back({part[id], find(layer, id).format});
      }
      const at::Tensor shared = readers.feeder == Role::kAttnV ? value_rows(part) : at::Tensor();
      const at::Tensor s = search_scales(matrices, *moments->at(expert), shared);
      for (const WeightId id : ids) part[id] = scaled[id] = part[id] * s.to(part[id].scalar_type());
      if (routed && part[Role::kFfnSharedShare].defined()) divide(layer, Role::kFfnSharedShare, 1 / s, part, saved);
      // The norm's gain, or the rows of the matrix (and its bias) that the input is linear in.
      if (readers.feeder == Role::kAttnV || readers.feeder == Role::kFfnUp) {
        at::Tensor of_row = s;
        if (shared.defined()) of_row = at::empty({part[Role::kAttnV].size(0)}, s.options()).index_put({shared}, s);
        scaled[feeder] = part[feeder] / of_row.unsqueeze(1).to(part[feeder].scalar_type());
        part[feeder] = scaled[feeder];
        if (expert < 0) divide(layer, bias_of(readers.feeder), of_row, part, saved);
      } else {
        divide(layer, readers.feeder, s, part, saved);
        if (readers.feeder == Role::kAttnNorm || readers.feeder == Role::kFfnNorm) divide(layer, bias_of(readers.feeder), s, part, saved);
      }
    }
    return {};
  }

  /// A vector that is stored as F32, whole, whatever part of it this role is.
  void divide(int layer, Role role, const at::Tensor& s, TensorSet& part, Saved& saved) const {
    if (!part[role].defined()) return;
    part[role] = part[role] / s.to(part[role].scalar_type());
    const convert::SourceRows rows = source_.find_rows(layer, role);
    at::Tensor& bytes = saved.tensors[rows.tensor->name];
    if (!bytes.defined()) {
      at::Tensor whole = at::empty({static_cast<int64_t>(rows.tensor->n_cols())}, at::kFloat);
      rows.tensor->read(0, 1, whole.data_ptr<float>());
      bytes = whole.view(at::kByte).view({1, -1});
    }
    saved_vector(rows, saved).copy_(part[role]);
  }

  /// For each column of the attention's output matrix the row of v that it reads.
  at::Tensor value_rows(const TensorSet& weights) const {
    const int64_t head_dim = source_.hparams().head_dim, n = weights[Role::kAttnOutput].size(1);
    const int64_t group = n / weights[Role::kAttnV].size(0);
    const at::Tensor column = at::arange(n);
    return at::div(column, head_dim * group, "floor") * head_dim + column.remainder(head_dim);
  }

  Status quantize_head(const Boundary& last) {
    const Wanted wanted = find(-1, Role::kOutput);
    if (wanted.tensor == nullptr) return {};
    SHOEHORN_TRY(const auto before, load(kHeadState));
    if (before) return {};
    TensorSet norm;
    norm[Role::kOutputNorm] = stream_.loader().gain(-1, Role::kOutputNorm).to(stream_.model().compute().wide_options());
    if (const at::Tensor bias = stream_.loader().stored(-1, Role::kOutputNormBias); bias.defined())
      norm[Role::kOutputNormBias] = bias.to(stream_.model().compute().wide_options());
    at::Tensor gram;
    for (const auto slot : last) {
      SHOEHORN_TRY(const at::Tensor x, stream_.get(slot));
      add(stream_.model().norm(x, norm, Role::kOutputNorm), gram);
    }
    const auto moments = moments_of(gram);
    if (!moments) return annotate(moments.error(), "the output matrix");
    Saved saved;
    SHOEHORN_RETURN_IF_ERROR(quantize(wanted, Role::kOutput, &*moments, {}, saved));
    return save(kHeadState, saved);
  }

  const QuantizerTask& task_;
  const convert::ModelSource& source_;
  BlockStream& stream_;
  const WorkDirectory& work_;
  Progress& progress_;
};

}  // namespace

at::Tensor look_up(const at::Tensor& table, const at::Tensor& ids, float scale, const Compute& compute) {
  return (at::embedding(table, ids) * static_cast<double>(scale)).to(compute.options()).to(compute.wide());
}

Status quantize_model(BlockStream& stream, const QuantizerTask& task, const std::vector<at::Tensor>& batches,
                      const WorkDirectory& work) {
  return Quantizer(task, stream, work).run(batches);
}

Expected<QuantizedModel> QuantizedModel::open(const QuantizerTask& task, const WorkDirectory& work) {
  QuantizedModel out;
  out.task_ = &task;
  std::vector<std::string> names = {kEmbeddingState};
  for (size_t layer = 0; layer < task.source->hparams().n_layer; ++layer) names.push_back(state_name(layer));
  if (!task.source->hparams().tied_embeddings) names.push_back(kHeadState);
  for (const std::string& name : names) {
    const std::string path = work.state_path(task.generation + name);
    SHOEHORN_TRY(auto file, MappedFile::open(path));
    out.files_.push_back(std::make_unique<MappedFile>(std::move(file)));
    SHOEHORN_TRY(const auto tensors, io::read_safetensors(out.files_.back()->bytes(), path));
    for (const io::StoredTensor& tensor : tensors) out.blocks_[tensor.name] = tensor.data;
    if (task.candidates.empty()) continue;
    SHOEHORN_TRY(const auto saved, work.load(task.generation + name));
    for (const auto& [tensor, by_type] : saved->facts.at(kErrors).items()) {
      for (const auto& [type, error] : by_type.items())
        out.errors_[tensor][quant::find_format(type)->type] = error.get<double>();
    }
  }
  return out;
}

std::span<const std::byte> QuantizedModel::blocks(const std::string& name) const {
  const auto found = blocks_.find(name);
  return found == blocks_.end() ? std::span<const std::byte>() : found->second;
}

at::Tensor QuantizedModel::values(int layer, WeightId id) const {
  const convert::SourceRows rows = task_->source->find_rows(layer, id);
  const auto bytes = rows.tensor == nullptr ? std::span<const std::byte>() : blocks(rows.tensor->name);
  if (bytes.empty()) return {};
  const quant::Format& format = quant::format(task_->types[rows.index]);
  const bool vector = rows.tensor->shape.size() == 1;
  const uint64_t n_cols = vector ? rows.n : rows.tensor->n_cols();
  const at::Tensor values = decode(reinterpret_cast<const uint8_t*>(bytes.data()) + rows.first * quant::row_bytes(format, vector ? 1 : n_cols), format,
                                   static_cast<int64_t>(vector ? 1 : rows.n), static_cast<int64_t>(n_cols));
  return vector ? values[0] : unpermuted(*task_->source, id.role, values);
}

}  // namespace shoehorn::compress
