#include "kernels/x86_avx2/unpack.h"

#define SHOEHORN_KERNEL_SET_NAME avx2
#include "kernels/simd/table.inl"
