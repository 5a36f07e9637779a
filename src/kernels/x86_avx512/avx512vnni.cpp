#include "kernels/x86_avx512/unpack.h"

#define SHOEHORN_KERNEL_SET_NAME avx512vnni
#include "kernels/simd/table.inl"
