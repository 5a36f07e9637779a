// The decode loops of the ARM kernels, one function per format, for llvm-mca (bench/mca.sh): compiled to assembly, never linked.
#include "kernels/arm_neon/int8_super.h"
#include "kernels/kernel.h"

#include "kernels/simd/rows.inl"
#include "kernels/simd/decode.inl"

namespace shoehorn::kernels {

#define SHOEHORN_INTEGER_FORMAT(name, gguf_id, ns)                                                                              \
  extern "C" void name(const MatmulArgs& a, const SuperOf<quant::ns::Block>::Type* x, size_t n_supers, float* y) {              \
    using Rows = IntegerRows<quant::ns::Block, quant::ns::kBlockSize, quant::ns::unpack>;                                       \
    using Super = SuperOf<quant::ns::Block>::Type;                                                                              \
    int8_rows<Rows, Super, rows_at_once(1), 1>(a, a.rows, a.n_rows / rows_at_once(1) * a.row_stride_bytes, x, n_supers, y, 1);  \
  }
#include "quant/formats.inc"
#undef SHOEHORN_INTEGER_FORMAT

}  // namespace shoehorn::kernels
