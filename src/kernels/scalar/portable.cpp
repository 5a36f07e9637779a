#define SHOEHORN_KERNEL_SET_NAME scalar
#define SHOEHORN_VECTOR_BYTES 16
#define SHOEHORN_TILE_TOKENS 2
#include "kernels/portable.inl"
