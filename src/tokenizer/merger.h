// Byte-pair merging: the loop that byte-level BPE and SentencePiece BPE share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace shoehorn::tokenizer {

/// A symbol is a token id, or an id beyond the vocabulary for characters that are no token themselves; negative symbols
/// never merge.
using Symbol = int32_t;

/// The merges that may happen next: the lowest rank first, the leftmost position among equals.
///
/// For long texts one heap of all candidates would miss the cache on every step, so candidates are kept in buckets by
/// the high bits of their rank; a bucket is sorted when its turn comes, and only what belongs to the present bucket (or
/// an earlier one) goes through a heap.
class MergeQueue {
 public:
  void reset(size_t n_symbols, uint32_t n_ranks);
  /// Announces a push; reserve() then makes room for all that were announced. Optional.
  void expect(uint32_t rank);
  void reserve();
  void push(uint32_t rank, uint32_t position);
  bool pop(uint32_t& rank, uint32_t& position);
  /// A position that will probably be popped soon, for prefetching.
  std::optional<uint32_t> ahead() const;

 private:
  void sort_into_run(std::vector<uint64_t> bucket);

  std::vector<std::vector<uint64_t>> buckets_;  // rank << 32 | position
  std::vector<size_t> expected_;                // entries announced per bucket
  size_t next_bucket_ = 0;                      // buckets before this one are empty
  int shift_ = 31;
  std::vector<uint64_t> run_;  // the present bucket, sorted
  size_t cursor_ = 0;
  std::vector<uint64_t> heap_;
};

/// A place in the sequence. A symbol made of several places stands at the first one; its first and its last place know
/// how many they are, which leads to the neighbours on both sides.
struct MergeNode {
  Symbol symbol;
  int32_t span;
};

/// Working memory of PairMerger::merge, reusable from call to call.
struct MergeScratch {
  std::vector<MergeNode> nodes;
  MergeQueue queue;
};

/// A table of mergeable pairs with their ranks.
class PairMerger {
 public:
  /// Room for n_pairs.
  explicit PairMerger(size_t n_pairs = 0);

  /// Pairs that are there already keep their first rank. Symbols must not be negative, ranks below 2^31.
  void add(Symbol left, Symbol right, uint32_t rank, Symbol merged);

  /// Merges `symbols` in place until no pair is left: always the pair of the lowest rank, the leftmost among equals.
  /// O(n log n) in the number of symbols, which must be below 2^31.
  void merge(std::vector<Symbol>& symbols, MergeScratch& scratch) const;

 private:
  struct Pair {
    uint64_t key = ~uint64_t{0};
    uint32_t rank = 0;
    Symbol merged = -1;
  };
  const Pair* find(Symbol left, Symbol right) const;
  size_t slot(uint64_t key) const;

  std::vector<Pair> table_;  // open addressing, a power of two large
  size_t used_ = 0;
  uint32_t n_ranks_ = 0;
};

}  // namespace shoehorn::tokenizer
