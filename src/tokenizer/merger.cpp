#include "tokenizer/merger.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <utility>

namespace shoehorn::tokenizer {
namespace {

constexpr Symbol kGone = std::numeric_limits<Symbol>::min();
// Below this many symbols everything fits in the first-level cache and a heap alone is fastest.
constexpr size_t kHeapOnly = 4096;
constexpr uint32_t kBuckets = 1024;

}  // namespace

void MergeQueue::reset(size_t n_symbols, uint32_t n_ranks) {
  heap_.clear();
  run_.clear();
  cursor_ = 0;
  next_bucket_ = 0;
  if (n_symbols < kHeapOnly) {
    buckets_.clear();
    return;
  }
  shift_ = std::max(0, static_cast<int>(std::bit_width(n_ranks)) - static_cast<int>(std::bit_width(kBuckets - 1)));
  buckets_.assign((n_ranks >> shift_) + 1, {});
  expected_.assign(buckets_.size(), 0);
}

void MergeQueue::expect(uint32_t rank) {
  if (!buckets_.empty()) ++expected_[rank >> shift_];
}

void MergeQueue::reserve() {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i].reserve(expected_[i]);
}

void MergeQueue::push(uint32_t rank, uint32_t position) {
  const uint64_t entry = static_cast<uint64_t>(rank) << 32 | position;
  if (!buckets_.empty()) {
    const size_t bucket = rank >> shift_;
    if (bucket >= next_bucket_) {
      buckets_[bucket].push_back(entry);
      return;
    }
  }
  heap_.push_back(entry);
  std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
}

void MergeQueue::sort_into_run(std::vector<uint64_t> bucket) {
  cursor_ = 0;
  if (std::is_sorted(bucket.begin(), bucket.end())) {
    run_ = std::move(bucket);
    return;
  }
  // Candidates of one rank mostly come up from left to right, so that putting the ranks apart does nearly all the
  // sorting.
  const uint64_t mask = (uint64_t{1} << shift_) - 1;
  std::vector<size_t> ends((uint64_t{1} << shift_) + 1);
  for (const uint64_t entry : bucket) ++ends[((entry >> 32) & mask) + 1];
  for (size_t i = 1; i < ends.size(); ++i) ends[i] += ends[i - 1];
  run_.resize(bucket.size());
  for (const uint64_t entry : bucket) run_[ends[(entry >> 32) & mask]++] = entry;
  auto begin = run_.begin();
  for (const size_t end : ends) {
    const auto stop = run_.begin() + static_cast<std::ptrdiff_t>(end);
    if (!std::is_sorted(begin, stop)) std::sort(begin, stop);
    begin = stop;
  }
}

std::optional<uint32_t> MergeQueue::ahead() const {
  constexpr size_t kDistance = 12;
  if (run_.size() - cursor_ <= kDistance) return std::nullopt;
  return static_cast<uint32_t>(run_[cursor_ + kDistance]);
}

bool MergeQueue::pop(uint32_t& rank, uint32_t& position) {
  while (cursor_ == run_.size() && heap_.empty()) {
    if (next_bucket_ == buckets_.size()) return false;
    sort_into_run(std::exchange(buckets_[next_bucket_], {}));
    ++next_bucket_;
  }
  uint64_t entry;
  if (heap_.empty() || (cursor_ < run_.size() && run_[cursor_] < heap_.front())) {
    entry = run_[cursor_++];
  } else {
    entry = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
  }
  rank = static_cast<uint32_t>(entry >> 32);
  position = static_cast<uint32_t>(entry);
  return true;
}

PairMerger::PairMerger(size_t n_pairs) : table_(std::bit_ceil(2 * n_pairs + 1)) {}

size_t PairMerger::slot(uint64_t key) const {
  const size_t mask = table_.size() - 1;
  size_t i = static_cast<size_t>((key * 0x9e3779b97f4a7c15u) >> 32) & mask;
  while (table_[i].key != key && table_[i].key != ~uint64_t{0}) i = (i + 1) & mask;
  return i;
}

void PairMerger::add(Symbol left, Symbol right, uint32_t rank, Symbol merged) {
  if (2 * (used_ + 1) > table_.size()) {
    std::vector<Pair> old(2 * table_.size());
    old.swap(table_);
    for (const Pair& pair : old) {
      if (pair.merged >= 0) table_[slot(pair.key)] = pair;
    }
  }
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  Pair& pair = table_[slot(key)];
  if (pair.merged >= 0) return;
  pair = {key, rank, merged};
  ++used_;
  n_ranks_ = std::max(n_ranks_, rank + 1);
}

const PairMerger::Pair* PairMerger::find(Symbol left, Symbol right) const {
  if (left < 0 || right < 0) return nullptr;
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  const Pair& pair = table_[slot(key)];
  return pair.merged >= 0 ? &pair : nullptr;
}

void PairMerger::merge(std::vector<Symbol>& symbols, MergeScratch& scratch) const {
  const int32_t n = static_cast<int32_t>(symbols.size());
  if (n < 2) return;
  auto& nodes = scratch.nodes;
  auto& queue = scratch.queue;
  nodes.resize(symbols.size());
  queue.reset(symbols.size(), n_ranks_);
  // The first candidates are counted before they are queued, so that no bucket grows by copying; until then `span`
  // keeps their rank.
  for (int32_t i = 0; i < n; ++i) {
    const Pair* pair = i + 1 < n ? find(symbols[i], symbols[i + 1]) : nullptr;
    nodes[i] = {symbols[i], pair == nullptr ? -1 : static_cast<int32_t>(pair->rank)};
    if (pair != nullptr) queue.expect(pair->rank);
  }
  queue.reserve();
  for (int32_t i = 0; i < n; ++i) {
    if (nodes[i].span >= 0) queue.push(static_cast<uint32_t>(nodes[i].span), static_cast<uint32_t>(i));
    nodes[i].span = 1;
  }
  uint32_t rank, position;
  while (queue.pop(rank, position)) {
    if (const auto ahead = queue.ahead()) __builtin_prefetch(&nodes[*ahead], 1);
    const int32_t left = static_cast<int32_t>(position);
    if (nodes[left].symbol == kGone) continue;
    const int32_t right = left + nodes[left].span;
    if (right == n) continue;
    // An entry whose symbols have merged with others in the meantime finds another pair here, or none.
    const Pair* pair = find(nodes[left].symbol, nodes[right].symbol);
    if (pair == nullptr || pair->rank != rank) continue;
    const int32_t after = right + nodes[right].span;
    nodes[left].symbol = pair->merged;
    nodes[right].symbol = kGone;
    nodes[left].span = nodes[after - 1].span = after - left;
    if (after < n) {
      if (const Pair* next = find(pair->merged, nodes[after].symbol)) queue.push(next->rank, position);
    }
    if (left > 0) {
      const int32_t before = left - nodes[left - 1].span;
      if (const Pair* next = find(nodes[before].symbol, pair->merged))
        queue.push(next->rank, static_cast<uint32_t>(before));
    }
  }
  symbols.clear();
  for (int32_t i = 0; i < n; i += nodes[i].span) symbols.push_back(nodes[i].symbol);
}

}  // namespace shoehorn::tokenizer
