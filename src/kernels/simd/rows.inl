// Rows of each format as registers of codes, and as floats. unpack() is an instruction set's own; a format that it does not have
// goes through quant's plain unpack.

namespace shoehorn::kernels {
namespace {

template <class Block, size_t kSize, void (*kUnpack)(const Block&, quant::Unpacked&)>
struct IntegerRows {
  using BlockType = Block;
  static constexpr size_t kBlockSize = kSize, kBlockBytes = sizeof(Block);
  static constexpr size_t kBlocks = kSuper / kSize;  // blocks in 256 weights

  static SHOEHORN_LAMBDA inline void load(const Block* blocks, Codes& out) {
    if constexpr (requires { unpack(blocks, out); }) {
      unpack(blocks, out);
    } else {
      alignas(64) uint8_t q[kSuper];
      alignas(64) float scale[kGroups], min[kGroups];
      quant::Unpacked u;
      for (size_t b = 0; b < kBlocks; ++b) {
        kUnpack(blocks[b], u);
        for (size_t i = 0; i < kBlockSize; ++i) q[b * kBlockSize + i] = static_cast<uint8_t>(u.q[i] + kSignedBias);
        for (size_t g = 0; g < kBlockSize / quant::kGroup; ++g) {
          scale[b * kBlockSize / quant::kGroup + g] = u.scale[g];
          min[b * kBlockSize / quant::kGroup + g] = u.min[g] + kSignedBias * u.scale[g];
        }
      }
      unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { out.q[i] = kernels::load<U8>(q + i * kBytes); });
      unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
        out.scale[i] = kernels::load<F32>(scale + i * kLanes);
        out.min[i] = kernels::load<F32>(min + i * kLanes);
#if defined(SHOEHORN_OWN_INT8_SUPER)
        out.step[i] = out.scale[i];
        out.offset[i] = out.min[i];
#endif
      });
#if defined(SHOEHORN_OWN_INT8_SUPER)
      out.step_factor = out.offset_factor = 1;
#endif
    }
  }

  /// The 256 weights from column 256 * super on; what lies past the end of the row is zero.
  static SHOEHORN_LAMBDA inline void load(const std::byte* row, size_t super, size_t n_cols, Codes& out) {
    const Block* blocks = reinterpret_cast<const Block*>(row) + super * kBlocks;
    if constexpr (kBlocks > 1) {
      const size_t left = n_cols / kBlockSize - super * kBlocks;
      if (left < kBlocks) [[unlikely]] {
        alignas(Block) std::byte padded[kBlocks * sizeof(Block)] = {};
        __builtin_memcpy(padded, blocks, left * sizeof(Block));
        load(reinterpret_cast<const Block*>(padded), out);
        return;
      }
    }
    load(blocks, out);
  }

  static void expand(const std::byte* row, size_t n, float* out) {
    alignas(64) uint8_t q[kSuper];
    alignas(64) float scale[kGroups], min[kGroups];
    for (size_t super = 0; super * kSuper < n; ++super) {
      Codes c;
      load(row, super, n, c);
      unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { store(q + i * kBytes, c.q[i]); });
      unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
        store(scale + i * kLanes, c.scale[i]);
        store(min + i * kLanes, c.min[i]);
      });
      const size_t groups = (n - super * kSuper < kSuper ? n - super * kSuper : kSuper) / quant::kGroup;
      for (size_t g = 0; g < groups; ++g, out += quant::kGroup) {
        unroll<quant::kGroup / kLanes>([&](auto i) SHOEHORN_LAMBDA {
          const uint8_t* codes = q + g * quant::kGroup + i * kLanes;
          const I32 code = kSignedBias == 0 ? widen(reinterpret_cast<const int8_t*>(codes)) : widen(codes);
          store(out + i * kLanes, to_float(code) * scale[g] - min[g]);
        });
      }
    }
  }
};

struct F32Rows {
  using Element = float;
  static SHOEHORN_LAMBDA inline F32 load(const std::byte* row, size_t i) { return kernels::load<F32>(row + i * sizeof(float)); }
  static SHOEHORN_LAMBDA inline float at(const std::byte* row, size_t i) { return kernels::load<float>(row + i * sizeof(float)); }
};
struct F16Rows {
  using Element = uint16_t;
  static SHOEHORN_LAMBDA inline F32 load(const std::byte* row, size_t i) { return load_f16(reinterpret_cast<const uint16_t*>(row) + i); }
  static SHOEHORN_LAMBDA inline float at(const std::byte* row, size_t i) { return fp16_to_fp32(kernels::load<uint16_t>(row + i * 2)); }
};
struct Bf16Rows {
  using Element = uint16_t;
  static SHOEHORN_LAMBDA inline F32 load(const std::byte* row, size_t i) { return load_bf16(reinterpret_cast<const uint16_t*>(row) + i); }
  static SHOEHORN_LAMBDA inline float at(const std::byte* row, size_t i) { return bf16_to_fp32(kernels::load<uint16_t>(row + i * 2)); }
};

// The two integer formats that caches of keys and values use, kLanes weights at a time.
struct Q8Rows {
  using Block = quant::q8_0::Block;
  static SHOEHORN_LAMBDA inline F32 load(const std::byte* row, size_t i) {
    const Block& block = reinterpret_cast<const Block*>(row)[i / 32];
    return to_float(widen(reinterpret_cast<const int8_t*>(block.qs) + i % 32)) * fp16_to_fp32(block.d);
  }
};
struct Q4Rows {
  using Block = quant::q4_0::Block;
  static SHOEHORN_LAMBDA inline F32 load(const std::byte* row, size_t i) {
    const Block& block = reinterpret_cast<const Block*>(row)[i / 32];
    const I32 packed = widen(block.qs + i % 16), code = i % 32 < 16 ? packed & 15 : packed >> 4;
    return to_float(code - 8) * fp16_to_fp32(block.d);
  }
};

template <class Rows>
void expand_blocks(const std::byte* row, size_t n, float* out) {
  for (size_t i = 0; i < n; i += 32) {
    unroll<32 / kLanes>([&](auto v) SHOEHORN_LAMBDA { store(out + i + v * kLanes, Rows::load(row, i + v * kLanes)); });
  }
}

template <class Rows>
void expand_floats(const std::byte* row, size_t n, float* out) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, Rows::load(row, i));
  for (; i < n; ++i) out[i] = Rows::at(row, i);
}

}  // namespace
}  // namespace shoehorn::kernels
