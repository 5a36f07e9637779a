// All of libtorch that this room uses, and the one place for what differs between its versions (1.13 to 2.x).
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <string>
#include <utility>

#include "base/status.h"
#include "io/dtype.h"

namespace shoehorn::compress {

/// Turns what libtorch throws into an error: kTooLarge when memory ran out, else kInvalid. `what` is put before the message.
template <class F>
auto guarded(std::string_view what, F&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kInvalid, "{}: {}", what, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kTooLarge, "{}: out of memory", what);
  }
}

/// Where and how blocks are computed.
struct Compute {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  ///< of weights and matrix products: kBFloat16, kFloat, or kDouble in tests

  /// The residual stream, norms, softmax, losses and sums: never below single precision.
  at::ScalarType wide() const { return dtype == at::kDouble ? at::kDouble : at::kFloat; }
  at::TensorOptions options() const { return at::TensorOptions().device(device).dtype(dtype); }
  at::TensorOptions wide_options() const { return at::TensorOptions().device(device).dtype(wide()); }
};

/// True when this CPU multiplies bf16 matrices through oneDNN faster than floats: with AMX, or AMD's AVX512-BF16. Intel's without AMX
/// does half as much as float FMA, AVX-512 without it imitates it.
bool has_fast_bf16();

/// "auto", "bf16", "f32"; "cpu", "cuda", "cuda:1". Fails naming what there is.
Expected<Compute> choose_compute(const std::string& dtype, const std::string& device);

/// Threads of libtorch's own pools; 0: default_thread_count().
void set_torch_threads(int n_threads);

at::ScalarType torch_dtype(io::DType dtype);   ///< of F64, F32, F16 and BF16 only
io::DType io_dtype(at::ScalarType dtype);

}  // namespace shoehorn::compress
