#include "kernels/x86_avx2/unpack.h"

#define SHOEHORN_KERNEL_SET_NAME avxvnni
#include "kernels/simd/table.inl"
