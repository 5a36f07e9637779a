#define SHOEHORN_KERNEL_SET_NAME avx2
#define SHOEHORN_VECTOR_BYTES 32
#define SHOEHORN_TILE_TOKENS 4
#include "kernels/portable.inl"
