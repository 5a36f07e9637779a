#include "compress/calibrate/sensitivity.h"

#include "compress/losses.h"

namespace shoehorn::compress {
namespace {

using models::Role;

constexpr Role kMatrices[] = {Role::kAttnQ,   Role::kAttnK, Role::kAttnV,  Role::kAttnOutput,
                              Role::kFfnGate, Role::kFfnUp, Role::kFfnDown};

/// A model on its way through the blocks.
struct Traveller {
  std::string name;  ///< of the tensor that is as it was; "": none
  Boundary at;
};

class Measurement {
 public:
  Measurement(BlockStream& stream, const QuantizedModel& quantized, const std::vector<at::Tensor>& batches, bool each)
      : stream_(stream), quantized_(quantized), source_(*quantized.task().source), batches_(batches), each_(each) {}

  Expected<Sensitivity> run() {
    at::NoGradGuard no_gradient;
    const size_t n_layer = source_.hparams().n_layer;
    stream_.progress().begin(each_ ? "what each matrix costs" : "measuring the result", n_layer + 1);
    SHOEHORN_TRY(Boundary dense, stream_.embed(batches_));
    SHOEHORN_RETURN_IF_ERROR(embed());
    for (size_t layer = 0; layer < n_layer; ++layer) {
      const TensorSet weights = stream_.loader().block(layer);
      stream_.loader().expect(layer + 1);
      SHOEHORN_RETURN_IF_ERROR(quantized_block(static_cast<int>(layer), weights));
      SHOEHORN_TRY(dense, step(weights, dense, false));
      stream_.progress().advance(1);
    }
    auto result = compare(dense);
    stream_.drop(dense);
    for (Traveller& traveller : travellers_) stream_.drop(traveller.at);
    stream_.progress().end();
    return result;
  }

 private:
  std::string name_of(int layer, models::WeightId id) const {
    const convert::SourceRows rows = source_.find_rows(layer, id);
    return rows.tensor == nullptr ? "" : rows.tensor->name;
  }

  Expected<Boundary> step(const TensorSet& weights, Boundary& in, bool keep) {
    Boundary out;
    for (const auto slot : in) {
      if (stream_.progress().cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      SHOEHORN_TRY(const at::Tensor x, stream_.get(slot));
      SHOEHORN_TRY(const auto made, stream_.put(stream_.model().block(weights, x)));
      out.push_back(made);
    }
    if (!keep) stream_.drop(in);
    return out;
  }

  /// The quantized model is the first traveller.
  Status embed() {
    const at::Tensor table = quantized_.values(-1, Role::kTokenEmbd);
    travellers_.push_back({"", {}});
    for (const at::Tensor& ids : batches_) {
      SHOEHORN_TRY(const auto slot, stream_.put(look_up(table, ids, stream_.loader().hparams().embedding_scale, stream_.model().compute())));
      travellers_.front().at.push_back(slot);
    }
    if (!each_) return {};
    SHOEHORN_TRY(Boundary as_it_was, stream_.embed(batches_));
    travellers_.push_back({name_of(-1, Role::kTokenEmbd), std::move(as_it_was)});
    return {};
  }

  Status quantized_block(int layer, const TensorSet& weights) {
    TensorSet quantized = weights;
    weights.for_each([&](models::WeightId id, const at::Tensor& tensor) {
      if (!tensor.defined()) return;
      const at::Tensor values = quantized_.values(layer, id);
      if (values.defined()) quantized[id] = values.to(stream_.loader().options(id.role));
    });
    for (size_t i = 1; i < travellers_.size(); ++i) {
      SHOEHORN_TRY(travellers_[i].at, step(quantized, travellers_[i].at, false));
    }
    std::vector<std::pair<std::string, TensorSet>> as_before;  // for each tensor of the file the block with it as it was
    for (const Role role : kMatrices) {
      for (int expert = -1; each_ && expert < static_cast<int>(weights.n_experts()); ++expert) {
        const models::WeightId id(role, expert);
        if (!weights[id].defined()) continue;
        if (const std::string name = name_of(layer, id); as_before.empty() || as_before.back().first != name) as_before.emplace_back(name, quantized);
        as_before.back().second[id] = weights[id];
      }
    }
    for (const auto& [name, one] : as_before) {
      SHOEHORN_TRY(Boundary out, step(one, travellers_.front().at, true));
      travellers_.push_back({name, std::move(out)});
    }
    SHOEHORN_TRY(travellers_.front().at, step(quantized, travellers_.front().at, false));
    return {};
  }

  Expected<Sensitivity> compare(const Boundary& dense) {
    const TensorSet head = stream_.loader().head();
    TensorSet quantized = head;
    const bool tied = !head[Role::kOutput].defined();
    const Role output = tied ? Role::kTokenEmbd : Role::kOutput;
    quantized[output] = quantized_.values(-1, output).to(stream_.loader().options(output));
    Sensitivity out;
    double kl = 0;
    std::map<std::string, double> without;
    for (size_t m = 0; m < batches_.size(); ++m) {
      SHOEHORN_TRY(const at::Tensor x, stream_.get(dense[m]));
      const at::Tensor targets = next_tokens(batches_[m]);
      std::vector<HeadInput> students;
      for (const Traveller& traveller : travellers_) {
        SHOEHORN_TRY(const at::Tensor y, stream_.get(traveller.at[m]));
        students.push_back({&stream_.model(), &quantized, y});
      }
      if (each_ && !tied) students.push_back({&stream_.model(), &head, students.front().x});
      const auto losses = kl_divergences(students, {&stream_.model(), &head, x}, targets);
      kl += losses.front().sum;
      out.tokens += losses.front().count;
      for (size_t t = 1; t < students.size(); ++t) {
        without[t < travellers_.size() ? travellers_[t].name : name_of(-1, output)] += losses[t].sum;
      }
    }
    const auto n = static_cast<double>(out.tokens);
    out.kl = kl / n;
    for (const auto& [name, sum] : without) out.without[name] = sum / n;
    return out;
  }

  BlockStream& stream_;
  const QuantizedModel& quantized_;
  const convert::ModelSource& source_;
  const std::vector<at::Tensor>& batches_;
  const bool each_;
  std::vector<Traveller> travellers_;
};

}  // namespace

Expected<Sensitivity> measure_sensitivity(BlockStream& stream, const QuantizedModel& quantized,
                                          const std::vector<at::Tensor>& batches, bool each) {
  return Measurement(stream, quantized, batches, each).run();
}

}  // namespace shoehorn::compress
