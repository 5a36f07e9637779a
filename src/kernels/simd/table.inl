// The table of one instruction set, from the sources of this folder. The includer has included its unpack.h and defines
//   SHOEHORN_KERNEL_SET_NAME   the set's name in kernels.inc
// Everything but table() is in an anonymous namespace, so that no symbol compiled for one CPU can be linked into code for another.
#include "kernels/kernel.h"
#include "quant/all_formats.h"

#include "kernels/simd/rows.inl"
#include "kernels/simd/decode.inl"
#include "kernels/simd/pack.inl"
#include "kernels/simd/batch.inl"
#include "kernels/simd/elementwise.inl"
#include "kernels/simd/hadamard.inl"
#include "kernels/simd/cache.inl"
#include "kernels/simd/attention.inl"

namespace shoehorn::kernels {
namespace {

/// What the kernels must know of a format's codes. kSigned: they may have the high bit set. kExact: int8 with a scale of 32 loses
/// nothing, a code stands for code - kOffset. Otherwise kMaxCode bounds the weights of a group from their scales.
struct AnyCodes {  // of quant's plain unpack, which rows.inl falls back to for a format that has no unpack() in registers
  static constexpr bool kSigned = true, kExact = false;
  static constexpr int kMinCode = kSignedBias - 128, kMaxCode = kSignedBias + 127;
};
template <int kBits>
struct Unsigned {
  static constexpr bool kSigned = false, kExact = false;
  static constexpr int kMinCode = 0, kMaxCode = (1 << kBits) - 1;
};
template <int kBits>
struct Centred : Unsigned<kBits> {
  static constexpr int kMinCode = kCentredCodes ? -(1 << (kBits - 1)) : 0, kMaxCode = kMinCode + (1 << kBits) - 1;
};
struct Ternary : Unsigned<2> {
  static constexpr int kMaxCode = 2;
};
template <int kBits, int kShift>
struct ExactUnsigned : Unsigned<kBits> {
  static constexpr bool kExact = true;
  static constexpr int kOffset = kShift;
};
template <int kLowest, int kHighest>
struct Levels {  // signed levels that are batched with K formats
  static constexpr bool kSigned = true, kExact = false;
  static constexpr int kMinCode = kSignedBias + kLowest, kMaxCode = kSignedBias + kHighest;
};
struct ExactSigned {
  static constexpr bool kSigned = true, kExact = true;
  static constexpr int kOffset = kSignedBias;
};

template <quant::Type kType>
struct CodesOf : AnyCodes {};
template <> struct CodesOf<quant::Type::Q4_0> : ExactUnsigned<4, 8> {};
template <> struct CodesOf<quant::Type::Q5_0> : ExactUnsigned<5, kCentredCodes ? 0 : 16> {};
template <> struct CodesOf<quant::Type::Q8_0> : ExactSigned {};
template <> struct CodesOf<quant::Type::IQ4_NL> : ExactSigned {};
template <> struct CodesOf<quant::Type::MXFP4> : ExactSigned {};
template <> struct CodesOf<quant::Type::IQ4_XS> : Levels<-127, 113> {};
template <> struct CodesOf<quant::Type::IQ3_S> : Levels<-15, 15> {};
template <> struct CodesOf<quant::Type::IQ3_XXS> : Levels<-62, 62> {};
template <> struct CodesOf<quant::Type::IQ2_S> : Levels<-43, 43> {};
template <> struct CodesOf<quant::Type::IQ2_XS> : Levels<-43, 43> {};
template <> struct CodesOf<quant::Type::IQ2_XXS> : Levels<-43, 43> {};
template <> struct CodesOf<quant::Type::IQ1_M> : Levels<-9, 9> {};
template <> struct CodesOf<quant::Type::IQ1_S> : Levels<-9, 9> {};
template <> struct CodesOf<quant::Type::Q4_1> : Unsigned<4> {};
template <> struct CodesOf<quant::Type::Q5_1> : Centred<5> {};
template <> struct CodesOf<quant::Type::Q2_K> : Unsigned<2> {};
template <> struct CodesOf<quant::Type::Q3_K> : Centred<3> {};
template <> struct CodesOf<quant::Type::Q4_K> : Unsigned<4> {};
template <> struct CodesOf<quant::Type::Q5_K> : Centred<5> {};
template <> struct CodesOf<quant::Type::Q6_K> : Unsigned<6> {};
template <> struct CodesOf<quant::Type::TQ1_0> : Ternary {};
template <> struct CodesOf<quant::Type::TQ2_0> : Ternary {};

template <quant::Type kType>
struct RowsOf;
#define SHOEHORN_INTEGER_FORMAT(name, gguf_id, ns)                                                          \
  template <>                                                                                               \
  struct RowsOf<quant::Type::name> : IntegerRows<quant::ns::Block, quant::ns::kBlockSize, quant::ns::unpack>, \
                                     CodesOf<quant::Type::name> {};
#include "quant/formats.inc"
#undef SHOEHORN_INTEGER_FORMAT

template <class Rows, StoreFn kStore>
constexpr Kernels float_kernels(quant::Type type) {
  return {.type = type,
          .decode_layout = Layout::kFloatRows,
          .decode = decode_float<Rows>,
          .batch_layout = Layout::kFloatTiles,
          .batch = batch_float<expand_floats<Rows>, sizeof(typename Rows::Element), 1>,
          .expand = expand_floats<Rows>,
          .store = kStore,
          .scores = scores<Rows>,
          .mix = mix<Rows>};
}

/// What caches of keys and values need, for the integer formats that have it.
template <quant::Type kType>
constexpr void add_cache_kernels(Kernels&) {}
template <>
constexpr void add_cache_kernels<quant::Type::Q8_0>(Kernels& kernels) {
  kernels.expand = expand_blocks<Q8Rows>;
  kernels.store = store_q8_0_row;
  kernels.scores = scores_q8_0;
  kernels.mix = mix<Q8Rows>;
}
template <>
constexpr void add_cache_kernels<quant::Type::Q4_0>(Kernels& kernels) {
  kernels.expand = expand_blocks<Q4Rows>;
  kernels.store = store_q4_0_row;
  kernels.scores = scores<Q4Rows>;
  kernels.mix = mix<Q4Rows>;
}

template <quant::Type kType>
constexpr Kernels integer_kernels() {
  using Rows = RowsOf<kType>;
  using Super = typename SuperOf<typename Rows::BlockType>::Type;
  Kernels kernels = {.type = kType,
                     .decode_layout = Super::kLayout,
                     .decode = decode_int8<Rows, Super>,
                     .batch_layout = Layout::kFloatTiles,
                     .batch = batch_float<Rows::expand, Rows::kBlockBytes, Rows::kBlockSize>,
                     .expand = Rows::expand};
  if constexpr (kFastBatchInt8) {
    // Blocks of 32 keep their scale; superblocks get one for all their 256 weights.
    constexpr bool kBlocks32 = Rows::kBlocks > 1;
    kernels.batch_layout = kBlocks32 ? Layout::kInt8Tiles32 : Layout::kInt8Tiles256;
    kernels.batch = batch_int8<Rows, kBlocks32 ? 32 : kSuper>;
  }
  add_cache_kernels<kType>(kernels);
  return kernels;
}

/// Twelve accumulators hide the latency of any multiply-accumulate.
uint64_t spin(uint64_t n) {
  constexpr size_t kChains = 12;
  I32 ints[kChains] = {};
  U8 codes = {}, x = {};
  F32 floats[kChains] = {}, a = {}, b = {};
  asm volatile("" : "+m"(codes), "+m"(x), "+m"(a), "+m"(b));
  for (uint64_t i = 0; i < n; ++i) {
    unroll<kChains>([&](auto c) SHOEHORN_LAMBDA {
      if constexpr (kFastBatchInt8) {
        ints[c] = dot<false>(ints[c], codes, x);
      } else {
        floats[c] = multiply_add(a, b, floats[c]);
      }
    });
  }
  unroll<kChains>([&](auto c) SHOEHORN_LAMBDA { asm volatile("" : : "m"(ints[c]), "m"(floats[c])); });
  return n * kChains * (kFastBatchInt8 ? kBytes : kLanes);
}

}  // namespace
}  // namespace shoehorn::kernels

namespace shoehorn::kernels {
namespace {

#if !defined(SHOEHORN_BF16_KERNELS)
#define SHOEHORN_BF16_KERNELS float_kernels<Bf16Rows, store_bf16_row>(quant::Type::BF16)
#endif

constexpr Kernels kFormats[] = {
    float_kernels<F32Rows, store_f32_row>(quant::Type::F32),
    float_kernels<F16Rows, store_f16_row>(quant::Type::F16),
    SHOEHORN_BF16_KERNELS,
#define SHOEHORN_INTEGER_FORMAT(name, gguf_id, ns) integer_kernels<quant::Type::name>(),
#include "quant/formats.inc"
#undef SHOEHORN_INTEGER_FORMAT
};

constexpr KernelTable kTable = {
    .formats = kFormats,
    // In the order of Layout; no kernel here reads the layouts without one.
    .pack = {pack_float_rows, pack_float_tiles, nullptr, pack_int8_rows, pack_int8_rows_256, kFastBatchInt8 ? pack_int8_tiles<32> : nullptr,
             kFastBatchInt8 ? pack_int8_tiles<kSuper> : nullptr},
    .granule = kGranule,
    .panel_rows = kPanelRows,
    .batch_from = kBatchFrom,
    .attend_rows = kAttendRows,
    .attend_scratch = attend_scratch,
    .attend = attend,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .activate = {silu, gelu_tanh, gelu, relu2},
    .add = add,
    .hadamard = {butterflies, mix_rows},
    .spin = spin,
};

}  // namespace

namespace SHOEHORN_KERNEL_SET_NAME {
const KernelTable& table() { return kTable; }
}  // namespace SHOEHORN_KERNEL_SET_NAME

}  // namespace shoehorn::kernels
