// Collecting an importance matrix: a model runs over a text, and the squares of what goes into its matrix products are
// summed.
#pragma once

#include <string>
#include <string_view>

#include "base/progress.h"
#include "engine/session.h"
#include "io/imatrix.h"

namespace shoehorn::eval {

/// Below this many tokens a matrix says more of the text than of the model.
inline constexpr uint64_t kFewTokens = 100'000;

struct ImatrixOptions {
  std::string dataset = {};     ///< the text's name, for the file
  size_t first_chunk = 0;       ///< chunks of the text that are passed over
  size_t max_chunks = 0;        ///< 0: all
  bool process_output = false;  ///< also what the output matrix reads
  bool parse_special = false;   ///< "<|eot_id|>" in the text is that token

  /// Bytes that the process may be resident in at its peak, the mapped file included; 0: what is available. A model
  /// that does not fit is read a layer at a time, for as many chunks together as there is room for.
  uint64_t ram = 0;
  /// Chunks that go through a layer together; 0: as `ram` has it. Does not change the result.
  size_t chunks_per_pass = 0;

  std::string state_path = {};  ///< where the unfinished matrix is kept, for --resume; "": nowhere
  size_t save_every = 10;       ///< chunks, at least 1
  bool resume = false;          ///< goes on where state_path stopped, or begins when it is not there
};

/// Runs whole chunks of session.n_ctx() tokens through the model, each in an empty context (see Chunks), and sums the
/// squares of every input channel of every matrix of the blocks over all tokens, in double precision. Matrices that
/// read the same input get the same entry. With process_output the output matrix has one under its own name, which is
/// token_embd.weight where embeddings are tied: llama-quantize looks there, though llama-imatrix never puts one.
///
/// The result does not depend on the number of threads, on chunks_per_pass, or on being stopped and resumed; the
/// squares are those of llama.cpp's tools/imatrix. Every save_every chunks the sums go to state_path, which is the
/// caller's to remove. Fails with kInvalid when the text is too short, a state is there and `resume` is not asked for
/// or it is of another model, text or options, or when an activation is not finite, naming the tensor; with kTooLarge
/// and the numbers when `ram` does not suffice; with kCancelled. The session's context is forgotten.
Expected<io::Imatrix> collect_imatrix(engine::Session& session, std::string_view text, const ImatrixOptions& options,
                                      Progress& progress);

}  // namespace shoehorn::eval
