// The searches, compiled once for each instruction set with its own flags, after defining
//   SHOEHORN_SEARCH_SET_NAME   the set's name in search_sets.inc, e.g. avx2
// Everything but what the set lists is in an anonymous namespace and calls no library function but those of the C
// library, so that no symbol compiled for one CPU can be linked into code for another.
#include "quant/panel.inl"
#include "quant/search_affine.inl"
#include "quant/search_codebook.inl"
#include "quant/search_symmetric.inl"

namespace shoehorn::quant {
namespace {

/// The input of a search, filled up to 16 sub-blocks with zeros.
class Padded {
 public:
  Padded(const float* in, size_t n, size_t n_padded) : in_(in) {
    if (in == nullptr || n == n_padded) return;
    __builtin_memcpy(padded_, in, n * sizeof(float));
    __builtin_memset(padded_ + n, 0, (n_padded - n) * sizeof(float));
    in_ = padded_;
  }
  const float* get() const { return in_; }

 private:
  const float* in_;
  alignas(64) float padded_[kSearchLanes * kMaxSub];
};

}  // namespace

namespace SHOEHORN_SEARCH_SET_NAME {

void search_symmetric(const float* in, const float* importance, size_t n_blocks, const SymmetricFormat& format,
                      SymmetricResult* out) {
  const size_t n = n_blocks * format.n_sub * format.sub_size, n_padded = kSearchLanes * format.sub_size;
  const Padded x(in, n, n_padded), weights(importance, n, n_padded);
  Batch batch;
  prepare(x.get(), weights.get(), format.n_sub, format.sub_size, format.rms_share, batch);
  if (format.codebook != nullptr) {
    search_batch(x.get(), batch, CodebookLevels(format.codebook), format, n_blocks, out);
  } else {
    search_batch(x.get(), batch, EvenLevels(format.lo, format.hi), format, n_blocks, out);
  }
}

void search_affine(const float* in, const float* importance, size_t n_blocks, const AffineFormat& format,
                   AffineResult* out) {
  const size_t n = n_blocks * format.n_sub * format.sub_size, n_padded = kSearchLanes * format.sub_size;
  const Padded x(in, n, n_padded), weights(importance, n, n_padded);
  Batch batch;
  prepare(x.get(), weights.get(), format.n_sub, format.sub_size, format.rms_share, batch);
  AffineState state;
  if (format.scale_hi == 1) {
    search<true>(batch, format, state);
  } else {
    search<false>(batch, format, state);
  }
  write_results(x.get(), batch, format, state, n_blocks, out);
}

void search_codebook(const float* in, const float* importance, size_t n_blocks, const CodebookFormat& format,
                     CodebookResult* out) {
  const size_t n = n_blocks * kMaxBlock, n_padded = kSearchLanes * format.sub_size;
  const Padded x(in, n, n_padded), weights(importance, n, n_padded);
  Batch batch;
  prepare(x.get(), weights.get(), format.n_sub, format.sub_size, format.rms_share, batch);
  for (size_t b = 0; b < n_blocks; ++b) {
    if (format.entry_size == 4) {
      search_block<4, 1>(batch, b * format.n_sub, format, out[b]);
    } else if (format.delta_size == 0) {
      search_block<8, 1>(batch, b * format.n_sub, format, out[b]);
    } else {
      search_block<8, 2>(batch, b * format.n_sub, format, out[b]);
    }
  }
}

void round_panel(const Grid& grid, const float* factor, size_t stride, float* target, Panel& panel, float* error) {
  on_lanes(grid, panel, [&](auto&& lanes) { lanes.round(factor, stride, target, error); });
}

void descend_panel(const Grid& grid, const float* h, size_t stride, int sweeps, float* gradient, Panel& panel) {
  on_lanes(grid, panel, [&](auto&& lanes) { lanes.descend(h, stride, sweeps, gradient); });
}

}  // namespace SHOEHORN_SEARCH_SET_NAME

}  // namespace shoehorn::quant
