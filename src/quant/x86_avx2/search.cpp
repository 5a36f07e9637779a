#define SHOEHORN_SEARCH_SET_NAME avx2
#include "quant/search.inl"
