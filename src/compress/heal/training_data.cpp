#include "compress/heal/training_data.h"

#include <algorithm>

#include "base/json.h"
#include "base/output_file.h"
#include "compress/losses.h"

namespace shoehorn::compress {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{2} << 30;

class Reader {
 public:
  Reader(const tokenizer::Tokenizer& tokenizer, size_t cutoff) : tokenizer_(tokenizer), cutoff_(cutoff) {}

  Status add(const Json& entry) {
    if (!entry.is_object()) return fail(ErrorCode::kInvalid, "expected an object, got {}", entry.type_name());
    if (entry.contains("instruction") || entry.contains("output")) {
      for (const char* key : {"instruction", "output"}) {
        if (!entry.contains(key) || !entry[key].is_string()) return fail(ErrorCode::kInvalid, "\"{}\" is missing or no text", key);
      }
      add_instruction(json_or<std::string>(entry, "instruction", ""), json_or<std::string>(entry, "input", ""),
                      json_or<std::string>(entry, "output", ""));
      return {};
    }
    const auto text = json_or<std::string>(entry, "text", "");
    if (text.empty()) return fail(ErrorCode::kInvalid, "neither \"instruction\" and \"output\" nor \"text\" in it");
    add_text(text);
    return {};
  }

  void add_text(const std::string& text) {
    const auto tokens = encode(text);
    const bool bos = tokenizer_.vocab().add_bos && tokenizer_.vocab().bos;
    const size_t room = cutoff_ - (bos ? 1 : 0);
    for (size_t first = 0; first < tokens.size(); first += room) {
      Example example;
      if (bos) example.ids.push_back(*tokenizer_.vocab().bos);
      const size_t end = std::min(tokens.size(), first + room);
      example.ids.insert(example.ids.end(), tokens.begin() + static_cast<std::ptrdiff_t>(first),
                         tokens.begin() + static_cast<std::ptrdiff_t>(end));
      keep(std::move(example));
    }
  }

  std::vector<Example> take() { return std::move(examples_); }

 private:
  std::vector<tokenizer::Token> encode(const std::string& text) const {
    return tokenizer_.encode(text, {.add_special = false, .parse_special = false});
  }

  void add_instruction(const std::string& instruction, const std::string& input, const std::string& output) {
    const auto& vocab = tokenizer_.vocab();
    const std::string prompt = alpaca_prompt(instruction, input);
    Example example;
    if (vocab.add_bos && vocab.bos) example.ids.push_back(*vocab.bos);
    const size_t n_bos = example.ids.size();
    const auto whole = encode(prompt + output);
    example.ids.insert(example.ids.end(), whole.begin(), whole.end());
    example.first_target = std::max<size_t>(1, n_bos + encode(prompt).size());
    if (example.ids.size() < cutoff_ && vocab.eos) example.ids.push_back(*vocab.eos);
    if (example.ids.size() > cutoff_) example.ids.resize(cutoff_);
    keep(std::move(example));
  }

  /// Examples without anything to predict teach nothing.
  void keep(Example&& example) {
    if (example.first_target < example.ids.size()) examples_.push_back(std::move(example));
  }

  const tokenizer::Tokenizer& tokenizer_;
  size_t cutoff_;
  std::vector<Example> examples_;
};

}  // namespace

std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  if (input.empty()) {
    return "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
           "### Instruction:\n" + instruction + "\n\n### Response:\n";
  }
  return "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
         "appropriately completes the request.\n\n### Instruction:\n" + instruction + "\n\n### Input:\n" + input + "\n\n### Response:\n";
}

Expected<std::vector<Example>> read_examples(const std::string& path, const tokenizer::Tokenizer& tokenizer, size_t cutoff) {
  Reader reader(tokenizer, cutoff);
  if (path.ends_with(".json")) {
    SHOEHORN_TRY(const Json json, read_json(path, kMaxTextBytes));
    if (!json.is_array()) return fail(ErrorCode::kInvalid, "{}: expected an array of examples", path);
    for (size_t i = 0; i < json.size(); ++i) {
      if (const Status added = reader.add(json[i]); !added) return annotate(added.error(), fmt::format("{}: entry {}", path, i));
    }
  } else if (path.ends_with(".jsonl")) {
    SHOEHORN_RETURN_IF_ERROR(for_each_json_line(path, [&](const Json& entry) { return reader.add(entry); }));
  } else {
    SHOEHORN_TRY(const std::string text, read_file(path, kMaxTextBytes));
    reader.add_text(text);
  }
  auto examples = reader.take();
  if (examples.empty()) return fail(ErrorCode::kInvalid, "{}: nothing to learn from in it (no text, or no response within {} tokens)", path, cutoff);
  return examples;
}

Batch make_batch(const std::vector<const Example*>& examples, int64_t filler) {
  size_t longest = 0;
  for (const Example* example : examples) longest = std::max(longest, example->ids.size());
  const auto n = static_cast<int64_t>(examples.size()), n_tokens = static_cast<int64_t>(longest);
  Batch batch{at::full({n, n_tokens}, filler, at::kLong), at::full({n, n_tokens}, kIgnored, at::kLong)};
  for (size_t i = 0; i < examples.size(); ++i) {
    int64_t* ids = batch.ids.data_ptr<int64_t>() + i * longest;
    int64_t* targets = batch.targets.data_ptr<int64_t>() + i * longest;
    const Example& example = *examples[i];
    std::copy(example.ids.begin(), example.ids.end(), ids);
    for (size_t t = example.first_target; t < example.ids.size(); ++t) targets[t - 1] = example.ids[t];
  }
  return batch;
}

}  // namespace shoehorn::compress
