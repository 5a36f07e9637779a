#define SHOEHORN_SEARCH_SET_NAME avx512
#include "quant/search.inl"
