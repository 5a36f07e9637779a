#include "eval/imatrix.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/hash.h"
#include "base/json.h"
#include "eval/chunks.h"
#include "eval/layer_stream.h"
#include "eval/model_identity.h"

namespace shoehorn::eval {
namespace {

namespace fs = std::filesystem;
using engine::Weight;
using models::Role;
using tokenizer::Token;

constexpr size_t kChannelsPerTask = 256;

/// Adds up what the products read.
class Collector : public engine::ProductObserver {
 public:
  /// Goes on from the sums of `before`.
  Collector(engine::Session& session, bool process_output, const io::Imatrix& before)
      : session_(session), before_(before) {
    const engine::Model& model = session.model();
    for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
      const auto* data = model.file().find(spec.gguf_name)->rows(spec.gguf_row, spec.n_rows()).data.data();
      const bool in_block = spec.layer >= 0 && spec.shape.size() > 1;
      if (!in_block && (!process_output || data != model.output().data)) continue;
      names_[data] = spec.expert < 0 ? Place{spec.gguf_name, 0, 1} : Place{spec.gguf_name, static_cast<size_t>(spec.expert), model.hparams().n_expert};
    }
    session.observe(this);
  }
  ~Collector() override { session_.observe(nullptr); }
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  void on_input(std::span<const Weight* const> weights, const float* x, size_t n_tokens, size_t n_cols,
                ThreadPool& pool) override {
    const auto found = names_.find(weights.front()->data);
    if (found == names_.end()) return;
    const Place& place = found->second;
    Sums& sums = sums_[place.name];
    if (sums.names.empty()) {
      for (const Weight* weight : weights) sums.names.push_back(names_.at(weight->data).name);
      sums.entry = {.in_sum2 = std::vector<double>(place.n_mat * n_cols), .counts = std::vector<uint64_t>(place.n_mat)};
      if (const auto entry = before_.entries.find(place.name); entry != before_.entries.end()) sums.entry = entry->second;
    }
    // A thread has channels of its own and takes the tokens in their order, so the sums are the same for any number of
    // threads.
    std::atomic<bool> finite{true};
    double* totals = sums.entry.in_sum2.data() + place.mat * n_cols;
    pool.parallel_for(n_cols, kChannelsPerTask, [&](size_t begin, size_t end, int) {
      for (size_t t = 0; t < n_tokens; ++t) {
        const float* row = x + t * n_cols;
        for (size_t i = begin; i < end; ++i) totals[i] += static_cast<double>(row[i]) * static_cast<double>(row[i]);
      }
      if (!std::all_of(totals + begin, totals + end, [](double total) { return std::isfinite(total); })) finite = false;
    });
    sums.entry.counts[place.mat] += n_tokens;
    if (!finite && not_finite_.empty()) not_finite_ = place.name;
  }

  /// Fails when an activation was not finite.
  Status check() const {
    if (not_finite_.empty()) return {};
    return fail(ErrorCode::kInvalid, "an activation that tensor {} is multiplied with is not finite", not_finite_);
  }

  std::map<std::string, io::ImatrixEntry, std::less<>> entries() const {
    std::map<std::string, io::ImatrixEntry, std::less<>> entries;
    for (const auto& [first, sums] : sums_) {
      for (const std::string& name : sums.names) entries[name] = sums.entry;
    }
    return entries;
  }

 private:
  struct Sums {
    std::vector<std::string> names;  // of all that read the same input
    io::ImatrixEntry entry;
  };
  engine::Session& session_;
  const io::Imatrix& before_;
  struct Place {
    std::string name;   // of the tensor
    size_t mat, n_mat;  // which of its matrices: experts have one each
  };
  std::map<const std::byte*, Place> names_;  // of weights, by their data
  std::map<std::string, Sums> sums_;               // by the first name
  std::string not_finite_;
};

/// Bytes of the sums, and of them once more while they are saved.
uint64_t sum_bytes(const models::Hparams& h) {
  return 2 * uint64_t{h.n_layer} * (4 * uint64_t{h.n_embd} + uint64_t{h.max_n_head()} * h.head_dim + h.max_n_ff() + h.n_expert * (uint64_t{h.n_embd} + h.max_n_ff())) *
         sizeof(double);
}

Expected<StreamPlan> make_plan(const engine::Session& session, const ImatrixOptions& options, size_t n_chunks) {
  if (options.chunks_per_pass > 0) return StreamPlan{options.chunks_per_pass, options.chunks_per_pass > 1};
  return plan_stream({.what = "an importance matrix",
                      .sessions = {&session},
                      .chunk_size = session.n_ctx(),
                      .n_chunks = n_chunks,
                      .extra_bytes = sum_bytes(session.model().hparams()),
                      .ram = options.ram});
}

/// All that the sums depend on but the number of chunks, which may grow.
std::string fingerprint(const engine::Session& session, const Chunks& chunks, const ImatrixOptions& options) {
  const engine::Model& model = session.model();
  Fnv1a hash;
  hash.add(std::as_bytes(std::span(chunks.tokens())));
  const Json json = {{"program", "shoehorn imatrix 1"},
                     {"model", model_identity(model)},
                     {"tokens", {chunks.tokens().size(), hash.value()}},
                     {"chunks", {session.n_ctx(), options.first_chunk}},
                     {"process_output", options.process_output},
                     {"compute",
                      {session.n_batch(), session.cache().types().describe(),
                       model.kernel_set().isa}}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The state to go on from; an empty one when there is none.
Expected<io::Imatrix> read_state(const engine::Session& session, const ImatrixOptions& options,
                                 const std::string& fingerprint) {
  std::error_code error;
  const std::string& path = options.state_path;
  if (path.empty() || !fs::exists(path, error)) return io::Imatrix();
  if (!options.resume) {
    return fail(ErrorCode::kInvalid, "{} holds the state of an interrupted run: go on with --resume, or remove it",
                path);
  }
  SHOEHORN_TRY(auto state, io::read_imatrix(path));
  if (state.fingerprint != fingerprint) {
    return fail(ErrorCode::kInvalid,
                "{}: the interrupted run had another model, text or other options ({}); use the same, or remove it",
                path, state.fingerprint);
  }
  const std::vector<uint64_t> counts = {state.chunk_count * session.n_ctx()};
  for (const auto& [name, entry] : state.entries) {
    const io::GgufTensor* tensor = session.model().file().find(name);
    const size_t n_mat = tensor == nullptr || tensor->shape.size() < 3 ? 1 : tensor->shape[2];
    const bool fits = tensor != nullptr && entry.counts.size() == n_mat && entry.in_sum2.size() == n_mat * tensor->n_cols();
    if (!fits || (n_mat == 1 && entry.counts != counts)) {
      return fail(ErrorCode::kInvalid, "{}: entry {} does not fit the model; remove the file", path, name);
    }
  }
  return state;
}

/// Takes chunks through the model and saves what was summed so far.
class Collection {
 public:
  Collection(engine::Session& session, const Chunks& chunks, const ImatrixOptions& options, io::Imatrix before,
             std::string fingerprint, Progress& progress)
      : session_(session),
        chunks_(chunks),
        options_(options),
        before_(std::move(before)),
        fingerprint_(std::move(fingerprint)),
        progress_(progress),
        collector_(session, options.process_output, before_),
        done_(before_.chunk_count),
        saved_(done_) {}

  Expected<io::Imatrix> run() {
    const size_t n_layer = session_.model().hparams().n_layer;
    const size_t n_left = chunks_.size() - options_.first_chunk;
    const size_t n_chunks = options_.max_chunks > 0 ? std::min(options_.max_chunks, n_left) : n_left;
    if (done_ > n_chunks) {
      return fail(ErrorCode::kInvalid, "{} has {} chunks already, more than the {} that are asked for",
                  options_.state_path, done_, n_chunks);
    }
    if (done_ > 0) progress_.note(fmt::format("going on after {} of {} chunks", done_, n_chunks));
    const uint64_t n_tokens = n_chunks * chunks_.chunk_size();
    if (n_tokens < kFewTokens) {
      progress_.note(
          fmt::format("the matrix is collected on {} tokens only; under {} it is noisy, and importance that is "
                      "noise costs quality",
                      n_tokens, kFewTokens));
    }
    SHOEHORN_TRY(plan_, make_plan(session_, options_, n_chunks));
    if (plan_.layer_by_layer) {
      progress_.note(fmt::format("reading the model a layer at a time for {} chunks together", plan_.chunks_per_pass));
    }
    LayerStream stream(session_, session_.n_ctx(), plan_.chunks_per_pass, plan_.layer_by_layer);
    progress_.begin("imatrix", (n_chunks - done_) * n_layer);
    while (done_ < n_chunks) {
      if (progress_.cancelled()) {
        SHOEHORN_RETURN_IF_ERROR(save());
        return stopped();
      }
      const size_t n = std::min(plan_.chunks_per_pass, n_chunks - done_);
      SHOEHORN_RETURN_IF_ERROR(pass(stream, options_.first_chunk + done_, n));
      done_ += n;
      if (plan_.layer_by_layer || done_ - saved_ >= options_.save_every) SHOEHORN_RETURN_IF_ERROR(save());
    }
    progress_.end();
    return so_far();
  }

 private:
  /// n chunks from `first` on through the whole model.
  Status pass(LayerStream& stream, size_t first, size_t n) {
    std::vector<std::vector<Token>> chunks;
    for (size_t i = 0; i < n; ++i) chunks.push_back(chunks_[first + i]);
    SHOEHORN_RETURN_IF_ERROR(stream.run(chunks, 0, [&](size_t) -> Status {
      progress_.advance(1);
      // A pass of one chunk is soon over, and then it can be saved.
      if (n > 1 && progress_.cancelled()) return stopped();
      return {};
    }));
    if (options_.process_output) {
      const Weight* const output = &session_.model().output();
      for (size_t i = 0; i < n; ++i) {
        stream.for_each_batch(i, [&](size_t, size_t size, float* x) {
          session_.norm_output(x, size, x);
          collector_.on_input({&output, 1}, x, size, output->n_cols, session_.pool());
        });
      }
    }
    return collector_.check();
  }

  io::Imatrix so_far() const {
    return {.datasets = {options_.dataset},
            .chunk_count = done_,
            .chunk_size = static_cast<uint32_t>(chunks_.chunk_size()),
            .entries = collector_.entries()};
  }

  Status save() {
    if (options_.state_path.empty() || done_ == saved_) return {};
    io::Imatrix state = so_far();
    state.fingerprint = fingerprint_;
    saved_ = done_;
    return io::write_imatrix(state, options_.state_path);
  }

  tl::unexpected<Error> stopped() const {
    if (saved_ == 0) return fail(ErrorCode::kCancelled, "stopped");
    return fail(ErrorCode::kCancelled, "stopped; --resume goes on after {} chunks", saved_);
  }

  engine::Session& session_;
  const Chunks& chunks_;
  const ImatrixOptions& options_;
  const io::Imatrix before_;
  const std::string fingerprint_;
  Progress& progress_;
  Collector collector_;
  StreamPlan plan_;
  size_t done_, saved_;     // chunks
};

}  // namespace

Expected<io::Imatrix> collect_imatrix(engine::Session& session, std::string_view text, const ImatrixOptions& options,
                                      Progress& progress) {
  SHOEHORN_TRY(const Chunks chunks,
               Chunks::cut(session.model().tokenizer(), text, session.n_ctx(), options.parse_special));
  if (options.first_chunk >= chunks.size()) {
    return fail(ErrorCode::kInvalid, "the text has {} chunks of {} tokens, none after the first {}", chunks.size(),
                session.n_ctx(), options.first_chunk);
  }
  std::string print = fingerprint(session, chunks, options);
  SHOEHORN_TRY(auto before, read_state(session, options, print));
  session.truncate(0);
  return Collection(session, chunks, options, std::move(before), std::move(print), progress).run();
}

}  // namespace shoehorn::eval
