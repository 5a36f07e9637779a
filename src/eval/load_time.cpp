#include "eval/load_time.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <vector>

#include "eval/bench.h"

namespace shoehorn::eval {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

/// The file, or all parts of a split one.
Expected<std::set<std::string>> parts_of(const std::string& path) {
  SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
  std::set<std::string> paths = {path};
  for (const io::GgufTensor& tensor : file.tensors()) paths.insert(tensor.file->path());
  return paths;
}

void drop_from_cache(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  fdatasync(fd);  // pages that were not written yet would stay
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
}

struct Pages {
  uint64_t all = 0, cached = 0;
};

void count_pages(const std::string& path, Pages& pages) {
  const auto file = MappedFile::open(path);
  if (!file) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t n = (file->bytes().size() + page - 1) / page;
  std::vector<unsigned char> resident(n, 1);
  mincore(const_cast<std::byte*>(file->bytes().data()), file->bytes().size(), resident.data());
  pages.all += n;
  for (const unsigned char r : resident) pages.cached += r & 1;
}

}  // namespace

const char* LoadTime::state() const {
  constexpr double kCold = 0.05;
  return cached <= kCold ? "cold" : cached >= 1 - kCold ? "warm" : "partly cached";
}

Expected<LoadedModel> load_timed(const std::string& path, const engine::SessionOptions& options, bool drop_cache, FileMode mode) {
  SHOEHORN_TRY(const auto paths, parts_of(path));
  LoadedModel loaded;
  Pages pages;
  for (const std::string& part : paths) {
    if (drop_cache) drop_from_cache(part);
    count_pages(part, pages);
  }
  loaded.time.dropped = drop_cache;
  loaded.time.cached = pages.all > 0 ? static_cast<double>(pages.cached) / static_cast<double>(pages.all) : 1;

  const auto start = Clock::now();
  SHOEHORN_TRY(loaded.model, engine::Model::open(path, mode));
  loaded.time.open_ms = milliseconds(Clock::now() - start);
  SHOEHORN_TRY(auto session, engine::Session::create(loaded.model, options));
  const tokenizer::Token token = bench_token(0, session.n_vocab());
  SHOEHORN_TRY([[maybe_unused]] const auto logits, session.eval({&token, 1}));
  loaded.time.first_token_ms = milliseconds(Clock::now() - start);
  return loaded;
}

}  // namespace shoehorn::eval
