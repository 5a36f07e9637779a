#include "eval/imatrix.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"
#include "cli/session_flags.h"
#include "cli/size_option.h"
#include "eval/text_likeness.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

struct Options {
  SessionFlags session;
  eval::ImatrixOptions collect;
  std::string text_path, eval_path, out = "imatrix.gguf";
  std::vector<std::string> in_files;
  bool json = false;
};

void say_likeness(const eval::TextLikeness& likeness, const Options& o, Progress& progress) {
  const std::string figures = fmt::format(
      "divergence {:.3f} bits (0 the same words as often, 1 none in common; the calibration text's own beginning and "
      "end "
      "differ by {:.3f}), {:.2f} % of {}'s tokens are never in {}",
      likeness.divergence, likeness.within, likeness.unseen * 100, o.eval_path, o.text_path);
  progress.note(
      likeness.unlike()
          ? fmt::format("{} is another kind of text than {}: {}. The matrix will not know what matters there.",
                        o.eval_path, o.text_path, figures)
          : fmt::format("{} is like {}: {}", o.eval_path, o.text_path, figures));
}

Expected<io::Imatrix> collect(const Options& o, std::optional<eval::TextLikeness>& likeness, Progress& progress) {
  SHOEHORN_TRY(const std::string text, read_file(o.text_path, kMaxTextBytes));
  SHOEHORN_TRY(auto session, o.session.open());
  if (!o.eval_path.empty()) {
    SHOEHORN_TRY(const std::string other, read_file(o.eval_path, kMaxTextBytes));
    SHOEHORN_TRY(likeness, eval::compare_texts(session.model().tokenizer(), text, other));
    say_likeness(*likeness, o, progress);
  }
  return eval::collect_imatrix(session, text, o.collect, progress);
}

Status imatrix(Options& o) {
  const bool collecting = !o.text_path.empty();
  if (!collecting && o.in_files.empty()) {
    return fail(ErrorCode::kInvalid,
                "nothing to do: give a model and a text (-m, -f), or matrices to merge (--in-file)");
  }
  for (const std::string& input : {o.session.model_path, o.text_path, o.eval_path}) {
    SHOEHORN_RETURN_IF_ERROR(refuse_same_file(input, o.out));
  }
  o.collect.dataset = o.text_path;
  o.collect.state_path = o.out + ".state";
  const auto start = std::chrono::steady_clock::now();
  const auto progress = make_progress();
  std::vector<io::Imatrix> parts;
  for (const std::string& path : o.in_files) {
    // llama-imatrix takes a .dat's chunks to be as long as its own, too.
    SHOEHORN_TRY(auto part, io::read_imatrix(path, static_cast<uint32_t>(std::max<int64_t>(1, o.session.n_ctx))));
    parts.push_back(std::move(part));
  }
  std::optional<eval::TextLikeness> likeness;
  if (collecting) {
    auto part = collect(o, likeness, *progress);
    if (!part) return tl::unexpected<Error>(part.error());
    parts.push_back(std::move(*part));
  }
  io::Imatrix result = std::move(parts.front());
  result.fingerprint.clear();
  for (size_t i = 1; i < parts.size(); ++i) {
    SHOEHORN_TRY(result, io::merge(std::move(result), parts[i]));
  }
  SHOEHORN_RETURN_IF_ERROR(io::write_imatrix(result, o.out));
  std::error_code ignored;
  if (collecting) std::filesystem::remove(o.collect.state_path, ignored);

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (o.json) {
    Json json = {{"out", o.out},
                 {"entries", result.entries.size()},
                 {"tokens", result.tokens()},
                 {"chunks", result.chunk_count},
                 {"chunk_size", result.chunk_size},
                 {"datasets", result.datasets},
                 {"seconds", seconds},
                 {"peak_rss", peak_resident_bytes()}};
    if (likeness) {
      json["eval_file"] = {{"file", o.eval_path},
                           {"divergence", likeness->divergence},
                           {"within", likeness->within},
                           {"unseen", likeness->unseen},
                           {"unlike", likeness->unlike()}};
    }
    print_json(json);
    return {};
  }
  print(fmt::format("{}: {} entries, {} tokens in {} chunks of {}, {:.1f} s, peak memory {}", o.out,
                    result.entries.size(), result.tokens(), result.chunk_count, result.chunk_size, seconds,
                    format_bytes(peak_resident_bytes())));
  return {};
}

}  // namespace

std::function<Status()> define_imatrix(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->session.add_to(app, 512, "Tokens per chunk");
  CLI::Option* const model = app.get_option("--model")->required(false);
  CLI::Option* const text = app.add_option("-f,--file", o->text_path, "Text to run the model over (UTF-8)");
  model->needs(text);
  text->needs(model);
  app.add_option("-o,--output", o->out, "File to write: llama.cpp's .dat when it is named so, else GGUF")
      ->capture_default_str();
  app.add_option("--chunks", o->collect.max_chunks, "At most this many chunks (default: all)");
  app.add_option("--chunk,--from-chunk", o->collect.first_chunk, "Chunks to pass over at the beginning");
  app.add_flag("--process-output", o->collect.process_output, "Also the output matrix");
  app.add_flag("--parse-special", o->collect.parse_special, "Control tokens written in the text are control tokens");
  app.add_option("--in-file", o->in_files, "Matrix to add to the result; repeatable. Without -m and -f: only merge");
  app.add_option("--output-frequency", o->collect.save_every, "Chunks after which OUT.state is saved, for --resume")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_flag("--resume", o->collect.resume, "Go on where an interrupted run with the same options stopped");
  add_size_option(
      app, "--ram", o->collect.ram,
      "Memory to stay within, as 6G or 600M; a model beyond it is read a layer at a time (default: what is free)")
      ->excludes("--no-mmap")
      ->excludes("--mlock");
  app.add_option("--eval-file", o->eval_path,
                 "Text that the model will be judged by: says whether the calibration text is like it")
      ->needs(text);
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn imatrix -m model-F16.gguf -f calibration.txt -o imatrix.gguf --ram 6G\n"
      "  shoehorn imatrix --in-file books.gguf --in-file code.dat -o both.gguf\n"
      "  shoehorn quantize model-F16.gguf model-Q3_K_M.gguf Q3_K_M --imatrix imatrix.gguf\n\n"
      "Files and chunks are llama-imatrix's. A run that was stopped or killed goes on with --resume.");
  return [o] { return imatrix(*o); };
}

}  // namespace shoehorn::cli
