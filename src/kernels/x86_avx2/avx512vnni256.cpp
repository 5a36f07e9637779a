#include "kernels/x86_avx2/unpack.h"

#define SHOEHORN_KERNEL_SET_NAME avx512vnni256
#include "kernels/simd/table.inl"
