#include "compress/linear_algebra.h"

// BLAS and LAPACK, netlib.org/lapack: products, Cholesky factorization, inverse and solution. Matrices are column-major
// there; a symmetric one is the same either way, its lower triangle here being the upper one there.
extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dpotri_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dtrsm_(const char* side, const char* uplo, const char* trans, const char* diag, const int* m, const int* n,
            const double* alpha, const double* a, const int* lda, double* b, const int* ldb);
void ssyrk_(const char* uplo, const char* trans, const int* n, const int* k, const float* alpha, const float* a,
            const int* lda, const float* beta, float* c, const int* ldc);
void dsyrk_(const char* uplo, const char* trans, const int* n, const int* k, const double* alpha, const double* a,
            const int* lda, const double* beta, double* c, const int* ldc);
}

namespace shoehorn::compress {
namespace {

Status factorize(at::Tensor& h) {
  const int n = static_cast<int>(h.size(0));
  int info = 0;
  dpotrf_("U", &n, h.data_ptr<double>(), &n, &info);
  if (info != 0) {
    return fail(ErrorCode::kInvalid,
                "the second moments of {} columns are not positive definite (pivot {}); more text or a larger "
                "--damping helps",
                n, info);
  }
  return {};
}

/// In tiles that stay in the cache.
template <class T>
void mirror(T* a, int64_t n) {
  constexpr int64_t kTile = 64;
  at::parallel_for(0, (n + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i0 = begin * kTile; i0 < std::min(n, end * kTile); i0 += kTile) {
      for (int64_t j0 = 0; j0 <= i0; j0 += kTile) {
        for (int64_t i = i0; i < std::min(n, i0 + kTile); ++i) {
          for (int64_t j = j0; j < std::min(i, j0 + kTile); ++j) a[j * n + i] = a[i * n + j];
        }
      }
    }
  });
}

}  // namespace

void add_gram(at::Tensor& h, const at::Tensor& x) {
  if (!h.is_cpu()) {
    h.addmm_(x.t(), x);
    return;
  }
  const at::Tensor rows = x.contiguous();
  const int n = static_cast<int>(rows.size(1)), k = static_cast<int>(rows.size(0));
  if (h.scalar_type() == at::kDouble) {
    const double one = 1;
    dsyrk_("U", "N", &n, &k, &one, rows.data_ptr<double>(), &n, &one, h.data_ptr<double>(), &n);
  } else {
    const float one = 1;
    ssyrk_("U", "N", &n, &k, &one, rows.data_ptr<float>(), &n, &one, h.data_ptr<float>(), &n);
  }
}

void mirror_lower(at::Tensor& h) {
  if (!h.is_cpu()) return;
  if (h.scalar_type() == at::kDouble) {
    mirror(h.data_ptr<double>(), h.size(0));
  } else {
    mirror(h.data_ptr<float>(), h.size(0));
  }
}

Status invert_positive(at::Tensor& h) {
  if (!h.is_cpu()) {
    h = at::cholesky_inverse(at::linalg_cholesky(h));
    return {};
  }
  SHOEHORN_RETURN_IF_ERROR(factorize(h));
  const int n = static_cast<int>(h.size(0));
  int info = 0;
  double* a = h.data_ptr<double>();
  dpotri_("U", &n, a, &n, &info);
  if (info != 0) return fail(ErrorCode::kInvalid, "a matrix of {} columns has no inverse", n);
  mirror_lower(h);
  return {};
}

Status factorize_upper(at::Tensor& h) {
  if (!h.is_cpu()) {
    h = at::linalg_cholesky(h).t().contiguous();
    return {};
  }
  // The lower triangle there is the upper one here.
  const int n = static_cast<int>(h.size(0));
  int info = 0;
  dpotrf_("L", &n, h.data_ptr<double>(), &n, &info);
  if (info != 0)
    return fail(ErrorCode::kInvalid, "a matrix of {} columns is not positive definite (pivot {})", n, info);
  h.triu_();
  return {};
}

Status solve_positive(at::Tensor& h, at::Tensor& b) {
  if (!h.is_cpu()) {
    b = at::cholesky_solve(b, at::linalg_cholesky(h));
    return {};
  }
  SHOEHORN_RETURN_IF_ERROR(factorize(h));
  const int n = static_cast<int>(h.size(0)), k = static_cast<int>(b.size(1));
  // Row-major B is its transpose there, k x n: X U'U = B' from the right.
  const double one = 1;
  dtrsm_("R", "U", "N", "N", &k, &n, &one, h.data_ptr<double>(), &n, b.data_ptr<double>(), &k);
  dtrsm_("R", "U", "T", "N", &k, &n, &one, h.data_ptr<double>(), &n, b.data_ptr<double>(), &k);
  return {};
}

}  // namespace shoehorn::compress
