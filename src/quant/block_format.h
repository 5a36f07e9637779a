// What turns a block struct, its unpack and its encoder into a row of the format table.
#pragma once

#include <algorithm>

#include "quant/format.h"
#include "quant/panel.h"
#include "quant/search.h"
#include "quant/unpacked.h"

namespace shoehorn::quant {

// Each format's .cpp defines its row of the table; declared here for all, from the table itself.
#define SHOEHORN_FORMAT(name, gguf_id, ns)            \
  namespace ns {                                      \
  Format table_row(Type type, const char* gguf_name); \
  }
#include "quant/formats.inc"
#undef SHOEHORN_FORMAT

/// decode of any integer format: w = scale * q - min, in this order of operations.
template <class Block, size_t kBlockSize, auto kUnpack>
void decode_blocks(const void* in, float* out, size_t n) {
  const auto* blocks = static_cast<const Block*>(in);
  Unpacked u;
  for (size_t b = 0; b < n / kBlockSize; ++b, out += kBlockSize) {
    kUnpack(blocks[b], u);
    for (size_t g = 0; g < kBlockSize / kGroup; ++g) {
      for (size_t i = 0; i < kGroup; ++i) {
        out[g * kGroup + i] = u.scale[g] * static_cast<float>(u.q[g * kGroup + i]) - u.min[g];
      }
    }
  }
}

/// Adds 16 running sums; in double, because this is what kernels are measured against.
inline float sum_lanes(const double (&lanes)[kGroup]) {
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return static_cast<float>(sum);
}

/// dot of any integer format.
template <class Block, size_t kBlockSize, auto kUnpack>
float dot_blocks(const void* row, const float* x, size_t n) {
  const auto* blocks = static_cast<const Block*>(row);
  double lanes[kGroup] = {};
  Unpacked u;
  for (size_t b = 0; b < n / kBlockSize; ++b, x += kBlockSize) {
    kUnpack(blocks[b], u);
    for (size_t g = 0; g < kBlockSize / kGroup; ++g) {
      for (size_t i = 0; i < kGroup; ++i) {
        const float w = u.scale[g] * static_cast<float>(u.q[g * kGroup + i]) - u.min[g];
        lanes[i] += static_cast<double>(w) * static_cast<double>(x[g * kGroup + i]);
      }
    }
  }
  return sum_lanes(lanes);
}

/// encode of a format whose blocks are encoded one by one.
template <class Block, size_t kBlockSize, auto kEncodeBlock>
void encode_blocks(const float* in, const float* importance, void* out, size_t n) {
  auto* blocks = static_cast<Block*>(out);
  for (size_t b = 0; b < n / kBlockSize; ++b) {
    kEncodeBlock(in + b * kBlockSize, importance == nullptr ? nullptr : importance + b * kBlockSize, blocks[b]);
  }
}

/// The table row of an integer format.
template <class Block, size_t kBlockSize, auto kUnpack>
Format integer_format(Type type, const char* name, decltype(Format::encode) encode) {
  return {type,
          name,
          static_cast<uint32_t>(kBlockSize),
          static_cast<uint32_t>(sizeof(Block)),
          true,
          decode_blocks<Block, kBlockSize, kUnpack>,
          encode,
          dot_blocks<Block, kBlockSize, kUnpack>};
}

/// The table row of an integer format that is encoded block by block: kEncodeBlock(in[kBlockSize],
/// importance[kBlockSize] or nullptr, block).
template <class Block, size_t kBlockSize, auto kUnpack, auto kEncodeBlock>
Format block_format(Type type, const char* name) {
  return integer_format<Block, kBlockSize, kUnpack>(type, name, encode_blocks<Block, kBlockSize, kEncodeBlock>);
}

inline Search<SymmetricFormat> search_of(const SymmetricFormat&) { return search_set().symmetric; }
inline Search<AffineFormat> search_of(const AffineFormat&) { return search_set().affine; }
inline Search<CodebookFormat> search_of(const CodebookFormat&) { return search_set().codebook; }

/// encode of a format that is searched: kPack(result, block) turns what was found into the bytes of a zeroed block.
template <class Block, const auto& kFormat, auto kPack>
void encode_searched(const float* in, const float* importance, void* out, size_t n) {
  constexpr size_t kBlockSize = kFormat.n_sub * kFormat.sub_size, kAtOnce = kSearchLanes / kFormat.n_sub;
  const auto search = search_of(kFormat);
  auto* blocks = static_cast<Block*>(out);
  typename std::remove_cvref_t<decltype(kFormat)>::Result results[kAtOnce];
  for (size_t left = n / kBlockSize; left > 0;) {
    const size_t count = std::min(left, kAtOnce);
    search(in, importance, count, kFormat, results);
    for (size_t b = 0; b < count; ++b) {
      blocks[b] = {};
      if (!results[b].zero) kPack(results[b], blocks[b]);
    }
    left -= count;
    blocks += count;
    in += count * kBlockSize;
    if (importance != nullptr) importance += count * kBlockSize;
  }
}

/// The table row of an integer format whose encoder is a search over a SymmetricFormat, AffineFormat or CodebookFormat.
template <class Block, auto kUnpack, const auto& kFormat, auto kPack>
Format searched_format(Type type, const char* name) {
  Format format = integer_format<Block, kFormat.n_sub * kFormat.sub_size, kUnpack>(
      type, name, encode_searched<Block, kFormat, kPack>);
  if constexpr (requires { grid_of(kFormat); }) {
    using Result = typename std::remove_cvref_t<decltype(kFormat)>::Result;
    static constexpr SearchedGrid kGrid{grid_of(kFormat), &kFormat, [](const Result& result, void* block) {
                                          *static_cast<Block*>(block) = {};
                                          if (!result.zero) kPack(result, *static_cast<Block*>(block));
                                        }};
    format.grid = &kGrid;
  }
  return format;
}

/// The table row of a float format of one weight per block. kLoad(Block) is the weight; kStore(float) the block.
template <class Block, auto kLoad, auto kStore>
Format float_format(Type type, const char* name) {
  Format format{type, name, 1, static_cast<uint32_t>(sizeof(Block)), false, nullptr, nullptr, nullptr};
  format.decode = [](const void* in, float* out, size_t n) {
    const auto* blocks = static_cast<const Block*>(in);
    for (size_t i = 0; i < n; ++i) out[i] = kLoad(blocks[i]);
  };
  format.encode = [](const float* in, const float*, void* out, size_t n) {
    auto* blocks = static_cast<Block*>(out);
    for (size_t i = 0; i < n; ++i) blocks[i] = kStore(in[i]);
  };
  format.dot = [](const void* row, const float* x, size_t n) {
    const auto* blocks = static_cast<const Block*>(row);
    double lanes[kGroup] = {};
    const size_t whole = n / kGroup * kGroup;
    for (size_t i = 0; i < whole; i += kGroup) {
      for (size_t k = 0; k < kGroup; ++k) {
        lanes[k] += static_cast<double>(kLoad(blocks[i + k])) * static_cast<double>(x[i + k]);
      }
    }
    for (size_t i = whole; i < n; ++i) {
      lanes[i - whole] += static_cast<double>(kLoad(blocks[i])) * static_cast<double>(x[i]);
    }
    return sum_lanes(lanes);
  };
  return format;
}

}  // namespace shoehorn::quant
