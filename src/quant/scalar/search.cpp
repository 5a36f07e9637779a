#define SHOEHORN_SEARCH_SET_NAME scalar
#include "quant/search.inl"
