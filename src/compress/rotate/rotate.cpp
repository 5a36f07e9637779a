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
                          {"seed", r.seed}};
    const BlockLoader loader(std::move(checkpoint), {at::kCPU, at::kFloat}, false);
    const models::Hparams& h = loader.hparams();
    if (r.r4 && h.ffn_hadamard)
      return fail(ErrorCode::kUnsupported, "{}: what its down_proj reads is rotated already", options.model);
    SHOEHORN_TRY(const Rotations rotations, random_rotations(h, r));
    const Peers alone;
    SHOEHORN_TRY(auto work, WorkDirectory::open(options.out, sources, true, alone));
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

}  // namespace shoehorn::compress
