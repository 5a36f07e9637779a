// Importance matrices: how much each input channel of a matrix matters, measured over a text. Two file formats, both
// llama.cpp's (tools/imatrix): GGUF since July 2025, and the binary .dat before it. docs/imatrix.md writes them down.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoehorn::io {

/// What went into the products of one tensor, which holds n_mat matrices: 1, or one per expert.
struct ImatrixEntry {
  std::vector<double> in_sum2;   ///< [n_mat, n_cols]  sums of squared activations over the tokens
  std::vector<uint64_t> counts;  ///< [n_mat]  tokens

  size_t n_mat() const { return counts.size(); }
  size_t n_cols() const { return in_sum2.size() / counts.size(); }

  /// Mean squares, [n_mat, n_cols]; 1 for a matrix that no token went through.
  std::vector<float> importance() const;
};

struct Imatrix {
  std::vector<std::string> datasets = {};                         ///< names of the texts
  uint64_t chunk_count = 0;                                       ///< of all texts
  uint32_t chunk_size = 512;                                      ///< tokens
  std::map<std::string, ImatrixEntry, std::less<>> entries = {};  ///< by the GGUF name of the tensor

  /// Of a collection that is not complete: what it is of. Such a file keeps its sums in double precision, so that going
  /// on from it gives the bytes of a run without a break. Empty in a complete one.
  std::string fingerprint = {};

  /// ImatrixEntry::importance of a tensor; nothing when there is no such entry.
  std::optional<std::vector<float>> importance(std::string_view name) const;
  /// The most tokens that an entry has seen.
  uint64_t tokens() const;
};

/// Reads either format, told apart by content. A .dat does not say how long its chunks were; they are taken for
/// `legacy_chunk_size` tokens, which changes what the file weighs in a merge, not its importance. Fails naming file,
/// entry and reason when the file is damaged, is no importance matrix, or a sum is negative, NaN or infinite.
Expected<Imatrix> read_imatrix(const std::string& path, uint32_t legacy_chunk_size = 512);

/// Writes a .dat when `path` ends so, else a GGUF, whole or not at all. A .dat keeps one dataset, the last, and means
/// in place of counts. Fails when there are no entries or one is too large for the format.
Status write_imatrix(const Imatrix& imatrix, const std::string& path);

/// As if `a` and `b` had been collected in one run. Entries that one of them lacks are taken from the other. Fails
/// naming the entry when an entry's shapes differ.
Expected<Imatrix> merge(Imatrix a, const Imatrix& b);

}  // namespace shoehorn::io
