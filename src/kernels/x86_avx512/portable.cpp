#define SHOEHORN_KERNEL_SET_NAME avx512
#define SHOEHORN_VECTOR_BYTES 64
#define SHOEHORN_TILE_TOKENS 8
#include "kernels/portable.inl"
