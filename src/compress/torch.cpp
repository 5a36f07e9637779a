#include "compress/torch.h"

#include "base/cpu.h"
#include "base/thread_pool.h"

namespace shoehorn::compress {

bool has_fast_bf16() { return at::globalContext().hasMKLDNN() && (cpu_features() & (kCpuFastBf16 | kCpuAmxBf16)) != 0; }

Expected<Compute> choose_compute(const std::string& dtype, const std::string& device) {
  Compute compute;
  if (device.starts_with("cuda")) {
    if (!at::globalContext().hasCUDA()) {
      return fail(ErrorCode::kUnsupported, "--device {}: this libtorch or this machine has no CUDA; cpu is there", device);
    }
    compute.device = at::Device(device);
  } else if (device != "cpu") {
    return fail(ErrorCode::kInvalid, "--device {}: expected cpu, cuda or cuda:N", device);
  }
  if (dtype == "bf16") {
    compute.dtype = at::kBFloat16;
  } else if (dtype == "f32") {
    compute.dtype = at::kFloat;
  } else if (dtype == "auto") {
    compute.dtype = compute.device.is_cuda() || has_fast_bf16() ? at::kBFloat16 : at::kFloat;
  } else {
    return fail(ErrorCode::kInvalid, "--dtype {}: expected auto, bf16 or f32", dtype);
  }
  return compute;
}

void set_torch_threads(int n_threads) { at::set_num_threads(n_threads > 0 ? n_threads : default_thread_count()); }

at::ScalarType torch_dtype(io::DType dtype) {
  switch (dtype) {
    case io::DType::F64: return at::kDouble;
    case io::DType::F16: return at::kHalf;
    case io::DType::BF16: return at::kBFloat16;
    default: return at::kFloat;
  }
}

io::DType io_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble: return io::DType::F64;
    case at::kHalf: return io::DType::F16;
    case at::kBFloat16: return io::DType::BF16;
    default: return io::DType::F32;
  }
}

}  // namespace shoehorn::compress
