#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "convert/check.h"
#include "seal/minisign.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string file;
  convert::CheckOptions check;
  std::string public_key, signature;
  bool write_manifest = false, json = false;
};

double ratio(const convert::SourceDifference& difference) {
  return difference.usual > 0 ? difference.error / difference.usual : 0;
}

std::string hashes_in_words(const convert::CheckResult& result) {
  if (result.compared_to.empty()) return "none to compare with; --write-manifest writes them down";
  std::string out = fmt::format("{} tensors as {} says", result.same, result.compared_to);
  if (result.rewritten > 0)
    out += fmt::format("; {} were made anew by a program that copied {}", result.rewritten, result.compared_to);
  return out;
}

std::string template_in_words(const tokenizer::TemplateTest& found) {
  if (!found.any) return "none";
  return fmt::format("makes prompts; system messages {}, tools {}", found.system ? "taken" : "not taken",
                     found.tools ? "taken" : "not taken");
}

/// Structure is looked at once the bytes are known to be the signer's.
Expected<convert::CheckResult> check(const Options& o, std::optional<seal::Signed>& signature, Progress& progress) {
  if (!o.public_key.empty()) {
    SHOEHORN_TRY(signature, seal::verify_file(o.file, o.public_key, o.signature, progress));
  }
  convert::CheckOptions options = o.check;
  options.look_beside = !o.write_manifest;  // what it says is about to be replaced
  return convert::check_model(o.file, options, progress);
}

Json to_json(const convert::CheckResult& result, const std::string& source) {
  Json json = {{"architecture", result.architecture},
               {"tensors", result.tensors},
               {"bytes", result.bytes},
               {"sha256", result.hashes.all},
               {"hashes",
                {{"compared_to", result.compared_to.empty() ? Json() : Json(result.compared_to)},
                 {"same", result.same},
                 {"rewritten", result.rewritten}}},
               {"chat_template", nullptr}};
  if (result.chat_template.any)
    json["chat_template"] = {{"system", result.chat_template.system}, {"tools", result.chat_template.tools}};
  if (source.empty()) return json;
  json["source"] = source;
  for (const auto& d : result.differences)
    json["differences"].push_back({{"name", d.name}, {"type", d.type}, {"error", d.error}, {"usual", d.usual}});
  return json;
}

Status verify(const Options& o) {
  const auto progress = make_progress();
  std::optional<seal::Signed> signature;
  const auto result = check(o, signature, *progress);
  if (o.json) {
    Json json = {{"file", o.file}, {"ok", result.has_value()}};
    json["signature"] = signature ? Json{{"key", signature->key_id}, {"comment", signature->comment}} : Json();
    if (result) {
      json.update(to_json(*result, o.check.source));
    } else {
      json["reason"] = result.error().message;
    }
    print_json(json);
  }
  if (!result) return tl::unexpected<Error>(result.error());
  if (o.write_manifest) {
    const std::string path = io::manifest_path(o.file);
    SHOEHORN_RETURN_IF_ERROR(io::write_manifest(result->hashes, std::filesystem::path(path).stem().string(), path));
    remark("wrote " + path);
  }
  if (o.json) return {};
  print(fmt::format("{}: good", o.file));
  print(fmt::format("  weights        {}, {} tensors, {}, every value finite", result->architecture, result->tensors,
                    format_bytes(result->bytes)));
  if (signature) print(fmt::format("  signature      of key {}: {}", signature->key_id, signature->comment));
  print("  hashes         " + hashes_in_words(*result));
  print("  tokenizer      gives texts back; special tokens are found");
  print("  chat template  " + template_in_words(result->chat_template));
  if (!o.check.source.empty()) {
    const auto largest = std::ranges::max_element(result->differences, {}, ratio);
    print(fmt::format(
        "  source         every tensor is {}'s, rounded to its type; the largest error beside plain rounding's: "
        "{:.2f} times, {} ({})",
        o.check.source, ratio(*largest), largest->name, largest->type));
  }
  return {};
}

}  // namespace

std::function<Status()> define_verify(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "FILE", o->file, "GGUF file or checkpoint directory")->required();
  add_model_option(app, "--deep", o->check.source,
                   "Compare with what it was made of, a checkpoint or GGUF: tokens, and every tensor's error");
  auto* const manifest =
      app.add_option("--manifest", o->check.manifest,
                     "Hashes to compare with, as llama.cpp's gguf-hash --sha256 writes them (default: FILE.manifest, "
                     "where it is, else what the file says of itself)");
  app.add_flag("--write-manifest", o->write_manifest, "Write the hashes to FILE.manifest")->excludes(manifest);
  auto* const key = app.add_option(
      "--key", o->public_key,
      "The public key that must have signed it, in FILE.minisig: a file, or the key itself (ours or minisign's)");
  app.add_option("--signature", o->signature, "The signature, where it is not FILE.minisig")->needs(key);
  app.add_option("-t,--threads", o->check.n_threads, "Threads (default: the CPUs this process may use)")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer(
      "Checks structure, bounds, types, shapes, that every weight is finite and as its hash says, that the tokenizer "
      "gives texts back and "
      "that\nthe chat template makes prompts. Exit 1 and the reason when bad.\n"
      "Examples:\n"
      "  shoehorn verify model-Q4_K_M.gguf\n"
      "  shoehorn verify model-Q4_K_M.gguf --deep Llama-3.1-8B\n"
      "  shoehorn verify model-Q4_K_M.gguf --key release.pub\n"
      "  shoehorn verify theirs.gguf --write-manifest");
  return [o] { return verify(*o); };
}

}  // namespace shoehorn::cli
