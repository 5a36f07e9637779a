#include "fit/storage_rate.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/descriptor.h"
#include "base/output_file.h"

namespace shoehorn::fit {
namespace {

constexpr size_t kPiece = size_t{1} << 20, kPieces = 64;

}  // namespace

Expected<double> storage_rate(const std::string& folder, Progress& progress) {
  SHOEHORN_TRY(OutputFile file, OutputFile::create(folder + "/.shoehorn-probe", kPieces * kPiece));
  std::vector<std::byte> piece(kPiece);
  uint32_t state = 1;
  progress.begin("measuring the disk", 2 * kPieces);
  for (size_t i = 0; i < kPieces; ++i) {
    // No two alike, so that a file system which compresses finds nothing to compress.
    for (std::byte& byte : piece) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<std::byte>(state >> 24);
    }
    SHOEHORN_RETURN_IF_ERROR(file.write(piece));
    progress.advance(1);
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
  }
  const Descriptor in{::open(file.readable_path().c_str(), O_RDONLY | O_CLOEXEC)};
  if (in.value < 0 || ::fdatasync(in.value) != 0) return fail(ErrorCode::kIo, "{}: {}", folder, std::strerror(errno));
  ::posix_fadvise(in.value, 0, 0, POSIX_FADV_DONTNEED);
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < kPieces; ++i) {
    if (::pread(in.value, piece.data(), piece.size(), static_cast<off_t>(i * kPiece)) != static_cast<ssize_t>(kPiece)) {
      return fail(ErrorCode::kIo, "{}: {}", folder, std::strerror(errno));
    }
    progress.advance(1);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.end();
  return static_cast<double>(kPieces * kPiece) / seconds.count();
}

}  // namespace shoehorn::fit
