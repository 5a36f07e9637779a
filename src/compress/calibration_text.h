// Text and jsonl files -> token sequences of one length.
#pragma once

#include <string>
#include <vector>

#include "compress/torch.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::compress {

/// The documents of a file: of a .jsonl each line's "text" (or its instruction, input and output as one text), else the
/// whole file as one. Fails naming the line when it is not JSON or holds no text, or when nothing is there.
Expected<std::vector<std::string>> read_documents(const std::string& path);

struct SampleOptions {
  int64_t n_samples = 0, n_tokens = 0;
  uint64_t seed = 0;
  int64_t skip = 0;  ///< samples of the same shuffle that are passed over: what was calibrated on is not measured on
  bool or_fewer = false;  ///< take what there is when the text has fewer, at least one
};

/// Token ids [n_samples, n_tokens] (int64): non-overlapping windows of the documents in an order drawn by `seed`.
/// Models that begin with BOS see it first in every window. Fails with the numbers when the file is too short.
Expected<at::Tensor> draw_samples(const std::string& path, const tokenizer::Tokenizer& tokenizer,
                                  const SampleOptions& options);

/// The tokenizer of a checkpoint directory.
Expected<tokenizer::Tokenizer> directory_tokenizer(const std::string& directory, uint64_t n_vocab);

/// A permutation of 0 ... n - 1, the same on every machine.
std::vector<size_t> permutation(size_t n, uint64_t seed);

}  // namespace shoehorn::compress
