// Answers to a file of prompts, several at once.
#pragma once

#include <string>

#include "base/status.h"
#include "cli/adapter_flags.h"
#include "cli/grammar_flags.h"
#include "cli/session_flags.h"
#include "engine/sampler.h"

namespace shoehorn::cli {

struct RunPromptsOptions {
  std::string path;       ///< eval::read_prompts'
  std::string output;     ///< empty: stdout
  size_t n_parallel = 1;  ///< sequences
  bool text = false;      ///< the answers alone, an empty line between them, instead of jsonl
  bool chat = true;       ///< in the chat template, where there is one
  std::string system, template_override;
  int64_t n_predict = -1;
  GrammarFlags grammar;
  AdapterFlags adapters;
  engine::SamplerOptions sampler;  ///< prompt i is answered with seed + i
};

/// Writes the answers in the order of the prompts. A prompt that does not fit into the context gets an "error" and
/// makes the command fail after all others are answered.
Status run_prompts(const SessionFlags& session, const RunPromptsOptions& options);

}  // namespace shoehorn::cli
