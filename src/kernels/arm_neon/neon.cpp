#include "kernels/arm_neon/int8_super.h"

#define SHOEHORN_KERNEL_SET_NAME neon
#include "kernels/simd/table.inl"
