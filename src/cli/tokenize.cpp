#include <filesystem>
#include <iostream>
#include <memory>

#include "base/output_file.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "io/gguf.h"
#include "models/hf_config.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

struct Options {
  std::string model, prompt, file;
  bool no_bos = false, no_parse_special = false, no_special = false, json = false;
};

Expected<tokenizer::Vocab> load_vocab(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    SHOEHORN_TRY(const auto config, models::read_model_config(path));
    return tokenizer::vocab_from_directory(path, config.hparams.n_vocab);
  }
  SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
  return tokenizer::vocab_from_gguf(file.metadata(), path);
}

Status tokenize(const Options& o, bool has_prompt) {
  std::string text = o.prompt;
  if (!has_prompt && o.file == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else if (!has_prompt) {
    SHOEHORN_TRY(text, read_file(o.file, kMaxTextBytes));
  }
  SHOEHORN_TRY(auto vocab, load_vocab(o.model));
  auto tokenizer = tokenizer::Tokenizer::create(std::move(vocab));
  if (!tokenizer) return annotate(tokenizer.error(), o.model);
  const auto ids = tokenizer->encode(text, {.add_special = !o.no_bos && !o.no_special,
                                            .parse_special = !o.no_parse_special && !o.no_special});
  if (o.json) {
    Json pieces = Json::array();
    for (const auto id : ids) pieces.push_back(tokenizer->piece(id, true));
    print_json({{"ids", ids}, {"pieces", std::move(pieces)}});
    return {};
  }
  for (const auto id : ids) print(fmt::format("{:>8}  {}", id, Json(tokenizer->piece(id, true)).dump(-1, ' ', false, Json::error_handler_t::replace)));
  return {};
}

}  // namespace

std::function<Status()> define_tokenize(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "-m,--model", o->model, "GGUF file or checkpoint directory")->required();
  auto* input = app.add_option_group("input");
  auto* prompt = input->add_option("-p,--prompt", o->prompt, "Text");
  input->add_option("-f,--file", o->file, "Text file, - for standard input");
  input->require_option(1);
  app.add_flag("--no-bos", o->no_bos, "Do not add BOS or EOS");
  app.add_flag("--no-parse-special", o->no_parse_special, "Read names of control tokens in the text as plain text");
  app.add_flag("--no-special", o->no_special, "Both of these");
  app.add_flag("--json", o->json, "Print {\"ids\":[...],\"pieces\":[...]}");
  app.footer("Example: shoehorn tokenize -m model.gguf -p \"Hello, world\"");
  return [o, prompt] { return tokenize(*o, prompt->count() > 0); };
}

}  // namespace shoehorn::cli
