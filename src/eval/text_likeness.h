// Whether a model is judged by the kind of text that its importance matrix was collected on.
#pragma once

#include <string_view>

#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::eval {

/// How alike two texts' tokens are. All samples have the same number of tokens, because small ones are less alike.
struct TextLikeness {
  double divergence = 0;  ///< Jensen-Shannon, of the token histograms, in bits: 0 the same, 1 nothing in common
  double within = 0;      ///< the same between the beginning and the end of the first text
  double unseen = 0;      ///< share of the second text's tokens that the first never has
  size_t tokens = 0;      ///< of each sample

  /// Another kind of text, not another text of the kind. Measured with novels as the first text: novels by others 0.05
  /// to 0.08, an encyclopedia 0.22 to 0.25, code 0.5; a text that changes its own kind midway is given its due.
  bool unlike() const { return divergence > 0.1 && divergence > 2 * within; }
};

/// Compares the text that a matrix is collected on with one that the model will be judged by. Fails when one has less
/// than 64 tokens.
Expected<TextLikeness> compare_texts(const tokenizer::Tokenizer& tokenizer, std::string_view calibration,
                                     std::string_view evaluation);

}  // namespace shoehorn::eval
