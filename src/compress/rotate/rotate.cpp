#include "compress/rotate/rotate.h"

#include <chrono>
#include <set>

#include "compress/work_directory.h"

namespace shoehorn::compress {

Json RotateReport::json() const {
  const auto said = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"rotated", {{"r1", said(r1)}, {"r2", said(r2)}, {"r4", said(r4)}}},
          {"untied", untied},
          {"untied_parameters", untied_parameters},
          {"learned", learned.steps > 0 ? learned.json() : Json()},
          {"check", check}};
}

Expected<RotateReport> rotate(const RotateOptions& options, Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  return guarded("rotate", [&]() -> Expected<RotateReport> {
    set_torch_threads(options.n_threads);
    SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.model, progress));
    const RotationOptions& r = options.rotations;
    const Json sources = {{"program", "shoehorn rotate 1"},
                          {"source", source_fingerprint(checkpoint)},
                          {"dtype", options.result_dtype},
                          {"r1", r.r1},
                          {"r2", r.r2},
                          {"r4", r.r4},
                          {"kind", static_cast<int>(r.kind)},
                          {"seed", r.seed},
                          {"learn", learn_fingerprint(options.learn)}};
    const BlockLoader loader(std::move(checkpoint), {at::kCPU, at::kFloat}, false);
    const models::Hparams& h = loader.hparams();
    if (r.r4 && h.ffn_hadamard)
      return fail(ErrorCode::kUnsupported, "{}: what its down_proj reads is rotated already", options.model);
    if (!models::can_rotate(loader.architecture())) {
      return fail(ErrorCode::kUnsupported, "{}: {} has {}, which does not commute with rotations", options.model, loader.architecture().name,
                  loader.architecture().norm == models::NormKind::kLayer ? "LayerNorm" : "a norm before the output matrix of attention");
    }
    if (r.r1 && !models::can_rotate_residual(loader.architecture())) {
      const bool tied = !models::has_role(loader.architecture(), models::Role::kOutput);
      return fail(ErrorCode::kUnsupported, "{}: {}; --rotations r2 leaves it out", options.model,
                  tied ? fmt::format("R1 unties the output matrix from the embedding, and {} has none of its own", loader.architecture().name)
                       : fmt::format("{} has norms behind attention and MLP, whose gains R1 does not commute with", loader.architecture().name));
    }
    SHOEHORN_TRY(Rotations rotations, random_rotations(h, r));
    const Peers alone;
    // Without anything learned there is nothing that an earlier run can have left of worth.
    const bool resume = options.resume || options.learn.steps == 0;
    SHOEHORN_TRY(auto work, WorkDirectory::open(options.out, sources, resume, alone));
    RotateReport report;
    if (rotations.r1) report.r1 = rotations.r1->describe();
    for (const auto& layer : rotations.r2) {
      if (!layer.empty()) report.r2 = layer.front().describe();
    }
    std::set<std::string> transforms;
    for (const auto& rotation : rotations.r4) {
      if (rotation) transforms.insert(rotation->describe());
    }
    report.r4 = fmt::format("{}", fmt::join(transforms, ", "));
    report.untied = h.tied_embeddings && rotations.r1;
    report.untied_parameters = report.untied ? uint64_t{h.n_vocab} * h.n_embd : 0;
    if (work.complete()) {
      report.check = work.complete()->value("check", Json());
      return report;
    }
    if (options.learn.steps > 0) {
      SHOEHORN_TRY(report.learned, learn_rotations(loader, options.learn, r.seed, work, rotations, progress));
    }
    SHOEHORN_RETURN_IF_ERROR(
        write_model_directory(loader, rotated_model(loader, rotations, options.result_dtype), work.path(), progress));
    if (options.check) {
      SHOEHORN_TRY(report.check, options.check(work.path()));
    }
    SHOEHORN_RETURN_IF_ERROR(work.finish(report.json()));
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  });
}

Expected<Json> estimate_rotate(const RotateOptions& options, Progress& progress) {
  return guarded("rotate", [&]() -> Expected<Json> {
    set_torch_threads(options.n_threads);
    SHOEHORN_TRY(const Compute compute, choose_compute("f32", options.learn.device));
    SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.model, progress));
    const BlockLoader loader(std::move(checkpoint), compute, false);
    const models::Hparams& h = loader.hparams();
    const bool untied = h.tied_embeddings && options.rotations.r1;
    uint64_t largest = 0, largest_stored = 0, stored = 0;
    for (const models::TensorSpec& spec : models::tensor_specs(loader.architecture(), h)) {
      const io::CheckpointTensor* tensor = loader.find(spec.layer, spec.id());
      if (tensor == nullptr) continue;
      uint64_t n = 1;
      for (const uint64_t size : spec.shape) n *= size;
      if (spec.layer >= 0) largest = std::max(largest, n);
      largest_stored = std::max<uint64_t>(largest_stored, tensor->data.size());
      const uint64_t bytes = n * (options.result_dtype.empty() ? tensor->data.size() / n : options.result_dtype == "f32" ? 4 : 2);
      stored += bytes * (untied && spec.rule->role == models::Role::kTokenEmbd ? 2 : 1);
    }
    Estimate estimate;
    estimate.output_bytes = stored;
    estimate.layers = h.layers;
    // A tensor as it is stored, in double precision, a step of the transform, and the result.
    estimate.memory_bytes = kOverheadBytes + largest_stored + largest * (4 + 3 * sizeof(double));
    // A double weighs two floats; a transform is of small matrices.
    constexpr double kColumns = 256;
    estimate.multiply_adds = static_cast<double>(models::count_parameters(loader.architecture(), h)) * kColumns;
    const LearnOptions& l = options.learn;
    if (l.steps > 0) {
      const double tokens = static_cast<double>(l.batch) * static_cast<double>(tokens_of(l, h)), n_embd = h.n_embd;
      const double weights = block_multiply_adds(loader, 1);
      // Forward, again, and backward twice; the fused weights twice, and their gradients once.
      estimate.multiply_adds += static_cast<double>(l.steps) * (4 * tokens * block_multiply_adds(loader, tokens_of(l, h)) +
                                                               3 * tokens * head_multiply_adds(loader) + 3 * weights * n_embd + 20 * n_embd * n_embd * n_embd);
      const uint64_t block = loader.largest_block_bytes(), kept = static_cast<uint64_t>(h.n_embd) * h.n_embd * 8 * 6;
      const uint64_t activations = static_cast<uint64_t>(tokens) * h.n_embd * 4 * (h.n_layer + 2);
      estimate.memory_bytes = std::max(estimate.memory_bytes, kOverheadBytes + 5 * block + loader.head_bytes() + kept +
                                                                  std::min(activations, l.ram > 0 ? l.ram : activations));
      estimate.working_bytes = kept / 2 + static_cast<uint64_t>(l.samples + l.held_out) * static_cast<uint64_t>(tokens_of(l, h)) * h.n_embd * 4;
    }
    return estimate.json(compute);
  });
}

}  // namespace shoehorn::compress
