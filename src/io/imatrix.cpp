#include "io/imatrix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "io/cursor.h"
#include "io/gguf.h"
#include "io/gguf_types.h"

namespace shoehorn::io {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr const char* kFingerprint = "shoehorn.imatrix.fingerprint";
constexpr std::string_view kExactSums = "shoehorn.imatrix.in_sum2.";

// Limits of the .dat format, far above any real file.
constexpr int32_t kMaxEntries = 1 << 20;
constexpr uint64_t kMaxNameBytes = 65535;

// Limits of both, so that no count of tokens wraps.
constexpr uint32_t kMaxChunkSize = 1u << 24;
constexpr uint64_t kMaxChunks = INT32_MAX;
constexpr float kMaxCount = 0x1p55f;

constexpr double kMaxFloat = std::numeric_limits<float>::max();

/// A sum as files may have it. The comparison is false for NaN.
bool is_sum(double value) { return value >= 0 && value <= kMaxFloat; }

Status check_sums(std::string_view name, const std::vector<double>& sums) {
  const auto bad = std::find_if_not(sums.begin(), sums.end(), is_sum);
  if (bad == sums.end()) return {};
  return fail(ErrorCode::kInvalid, "entry {}: channel {} has the sum {}", name, bad - sums.begin(), *bad);
}

std::vector<float> floats_of(const GgufTensor& tensor) {
  std::vector<float> out(tensor.n_elements());
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

Expected<ImatrixEntry> gguf_entry(const GgufFile& file, const GgufTensor& sums) {
  const std::string name = sums.name.substr(0, sums.name.size() - kSums.size());
  const GgufTensor* counts = file.find(name + std::string(kCounts));
  if (counts == nullptr) return fail(ErrorCode::kInvalid, "entry {} has sums, but no {}", name, kCounts);
  if (sums.type != quant::Type::F32 || counts->type != quant::Type::F32) {
    return fail(ErrorCode::kInvalid, "entry {}: sums and counts must be F32", name);
  }
  if (sums.n_elements() % counts->n_elements() != 0) {
    return fail(ErrorCode::kInvalid, "entry {}: {} sums for {} counts", name, sums.n_elements(), counts->n_elements());
  }
  ImatrixEntry entry;
  const std::vector<float> values = floats_of(sums);
  entry.in_sum2.assign(values.begin(), values.end());
  for (const float count : floats_of(*counts)) {
    if (!is_sum(static_cast<double>(count)) || count > kMaxCount) {
      return fail(ErrorCode::kInvalid, "entry {} has a count of {}", name, count);
    }
    entry.counts.push_back(static_cast<uint64_t>(std::llround(count)));
  }
  if (const GgufValue* value = file.metadata().find(std::string(kExactSums) + name)) {
    const auto* array = std::get_if<GgufArray>(value);
    const auto* exact = array == nullptr ? nullptr : std::get_if<std::vector<double>>(array);
    if (exact == nullptr || exact->size() != entry.in_sum2.size()) {
      return fail(ErrorCode::kInvalid, "key {}{}: not {} numbers", kExactSums, name, entry.in_sum2.size());
    }
    entry.in_sum2 = *exact;
  }
  SHOEHORN_RETURN_IF_ERROR(check_sums(name, entry.in_sum2));
  return entry;
}

Expected<Imatrix> read_gguf(const std::string& path) {
  SHOEHORN_TRY(const auto file, GgufFile::open(path));
  const GgufMetadata& metadata = file.metadata();
  const std::string* type = metadata.get_string("general.type");
  if (type == nullptr || *type != "imatrix") {
    return fail(ErrorCode::kInvalid, "not an importance matrix (general.type is {})",
                type == nullptr ? "absent" : *type);
  }
  const auto chunk_count = metadata.get_uint("imatrix.chunk_count"),
             chunk_size = metadata.get_uint("imatrix.chunk_size");
  if (!chunk_count || *chunk_count > kMaxChunks) {
    return fail(ErrorCode::kInvalid, "imatrix.chunk_count must be there and at most {}", kMaxChunks);
  }
  if (!chunk_size || *chunk_size == 0 || *chunk_size > kMaxChunkSize) {
    return fail(ErrorCode::kInvalid, "imatrix.chunk_size must be there, 1 to {}", kMaxChunkSize);
  }
  Imatrix imatrix{.chunk_count = *chunk_count, .chunk_size = static_cast<uint32_t>(*chunk_size)};
  if (const auto* datasets = metadata.get_strings("imatrix.datasets")) imatrix.datasets = *datasets;
  if (const auto* fingerprint = metadata.get_string(kFingerprint)) imatrix.fingerprint = *fingerprint;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(kSums)) {
      SHOEHORN_TRY(auto entry, gguf_entry(file, tensor));
      imatrix.entries[tensor.name.substr(0, tensor.name.size() - kSums.size())] = std::move(entry);
    } else if (tensor.name.ends_with(kCounts)) {
      const std::string name = tensor.name.substr(0, tensor.name.size() - kCounts.size());
      if (file.find(name + std::string(kSums)) == nullptr) {
        return fail(ErrorCode::kInvalid, "entry {} has counts, but no {}", name, kSums);
      }
    }
  }
  return imatrix;
}

/// A count of the .dat format: 32 bits, at least 1.
Expected<uint64_t> read_count(Cursor& in, const char* what, int32_t most = INT32_MAX) {
  SHOEHORN_TRY(const auto n, in.read<int32_t>(what));
  if (n < 1 || n > most) return fail(ErrorCode::kInvalid, "{} is {}, must be 1 to {}", what, n, most);
  return static_cast<uint64_t>(n);
}

Expected<Imatrix> read_legacy(std::span<const std::byte> bytes, uint32_t chunk_size) {
  Cursor in(bytes);
  Imatrix imatrix;
  imatrix.chunk_size = chunk_size;
  SHOEHORN_TRY(const auto n_entries, read_count(in, "the number of entries", kMaxEntries));
  for (uint64_t i = 0; i < n_entries; ++i) {
    SHOEHORN_TRY(const auto length, read_count(in, "the length of a name"));
    SHOEHORN_TRY(auto name, in.read_text("a name", length, kMaxNameBytes));
    const auto read_entry = [&]() -> Expected<ImatrixEntry> {
      SHOEHORN_TRY(const auto n_calls, read_count(in, "the number of calls"));
      SHOEHORN_TRY(const auto n_values, read_count(in, "the number of values"));
      SHOEHORN_TRY(const auto values, in.read_array<float>("the values", n_values));
      // A value is the mean over all tokens, times the number of calls, which were of one chunk each.
      ImatrixEntry entry{.in_sum2 = {values.begin(), values.end()}, .counts = {n_calls * chunk_size}};
      SHOEHORN_RETURN_IF_ERROR(check_sums(name, entry.in_sum2));
      for (double& sum : entry.in_sum2) sum *= chunk_size;
      imatrix.chunk_count = std::max(imatrix.chunk_count, n_calls);
      return entry;
    };
    auto entry = read_entry();
    if (!entry) return annotate(entry.error(), fmt::format("entry {}", name));
    if (!imatrix.entries.try_emplace(name, std::move(*entry)).second) {
      return fail(ErrorCode::kInvalid, "entry {} appears twice", name);
    }
  }
  // Files from before April 2024 end here.
  if (in.remaining() == 0) return imatrix;
  SHOEHORN_TRY(imatrix.chunk_count, read_count(in, "the number of chunks"));
  SHOEHORN_TRY(const auto length, in.read<uint32_t>("the length of the dataset's name"));
  SHOEHORN_TRY(auto dataset, in.read_text("the dataset's name", length, kMaxNameBytes));
  if (!dataset.empty()) imatrix.datasets.push_back(std::move(dataset));
  if (in.remaining() > 0) return fail(ErrorCode::kInvalid, "{} bytes follow its end", in.remaining());
  return imatrix;
}

bool in_float_range(const ImatrixEntry& entry) {
  return std::all_of(entry.in_sum2.begin(), entry.in_sum2.end(), is_sum);
}

template <class T>
Status append(GgufWriter& writer, const std::vector<T>& numbers) {
  const std::vector<float> floats(numbers.begin(), numbers.end());
  return writer.append(std::as_bytes(std::span(floats)));
}

Status write_gguf(const Imatrix& imatrix, const std::string& path) {
  GgufWriter writer;
  writer.set("general.type", "imatrix");
  writer.set("imatrix.datasets", GgufArray(imatrix.datasets));
  writer.set("imatrix.chunk_count", static_cast<uint32_t>(imatrix.chunk_count));
  writer.set("imatrix.chunk_size", imatrix.chunk_size);
  if (!imatrix.fingerprint.empty()) writer.set(kFingerprint, imatrix.fingerprint);
  for (const auto& [name, entry] : imatrix.entries) {
    if (!imatrix.fingerprint.empty()) writer.set(std::string(kExactSums) + name, GgufArray(entry.in_sum2));
    SHOEHORN_RETURN_IF_ERROR(
        writer.add_tensor(name + std::string(kSums), quant::Type::F32, {entry.n_cols(), entry.n_mat()}));
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(name + std::string(kCounts), quant::Type::F32, {1, entry.n_mat()}));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(path));
  for (const auto& [name, entry] : imatrix.entries) {
    SHOEHORN_RETURN_IF_ERROR(append(writer, entry.in_sum2));
    SHOEHORN_RETURN_IF_ERROR(append(writer, entry.counts));
  }
  return writer.commit();
}

class LegacyBytes {
 public:
  void put(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void put(uint64_t count) {
    const auto narrow = static_cast<int32_t>(count);
    put(std::as_bytes(std::span(&narrow, 1)));
  }
  void put(std::string_view text) {
    put(text.size());
    put(std::as_bytes(std::span(text)));
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

Status write_legacy(const Imatrix& imatrix, const std::string& path) {
  LegacyBytes out;
  out.put(imatrix.entries.size());
  for (const auto& [name, entry] : imatrix.entries) {
    const uint64_t most = *std::max_element(entry.counts.begin(), entry.counts.end());
    const uint64_t n_calls = std::max<uint64_t>(1, (most + imatrix.chunk_size - 1) / imatrix.chunk_size);
    if (n_calls > INT32_MAX || entry.in_sum2.size() > INT32_MAX) {
      return fail(ErrorCode::kTooLarge, "entry {}: {} values and {} tokens do not fit a .dat", name,
                  entry.in_sum2.size(), most);
    }
    if (name.empty()) return fail(ErrorCode::kInvalid, "a .dat has no entries without a name");
    out.put(name);
    out.put(n_calls);
    out.put(entry.in_sum2.size());
    for (size_t i = 0; i < entry.in_sum2.size(); ++i) {
      const uint64_t count = entry.counts[i / entry.n_cols()];
      const double mean = count == 0 ? 1 : entry.in_sum2[i] / static_cast<double>(count);
      const double scaled = mean * static_cast<double>(n_calls);
      if (!is_sum(scaled)) return fail(ErrorCode::kTooLarge, "entry {}: channel {} is {}, no float", name, i, scaled);
      const auto value = static_cast<float>(scaled);
      out.put(std::as_bytes(std::span(&value, 1)));
    }
  }
  out.put(std::max<uint64_t>(1, imatrix.chunk_count));
  const std::string_view dataset = imatrix.datasets.empty() ? std::string_view() : std::string_view(imatrix.datasets.back());
  if (dataset.size() > kMaxNameBytes)
    return fail(ErrorCode::kTooLarge, "the dataset's name has {} bytes, a .dat takes {}", dataset.size(), kMaxNameBytes);
  out.put(dataset);
  SHOEHORN_TRY(auto file, OutputFile::create(path, out.bytes().size()));
  SHOEHORN_RETURN_IF_ERROR(file.write(out.bytes()));
  return file.commit();
}

}  // namespace

std::vector<float> ImatrixEntry::importance() const {
  std::vector<float> means;
  means.reserve(in_sum2.size());
  for (size_t i = 0; i < in_sum2.size(); ++i) {
    const auto count = static_cast<double>(counts[i / n_cols()]);
    means.push_back(count > 0 ? static_cast<float>(in_sum2[i] / count) : 1.0f);
  }
  return means;
}

std::optional<std::vector<float>> Imatrix::importance(std::string_view name) const {
  const auto entry = entries.find(name);
  if (entry == entries.end()) return std::nullopt;
  return entry->second.importance();
}

uint64_t Imatrix::tokens() const {
  uint64_t most = 0;
  for (const auto& [name, entry] : entries) {
    most = std::max(most, *std::max_element(entry.counts.begin(), entry.counts.end()));
  }
  return most;
}

Expected<Imatrix> read_imatrix(const std::string& path, uint32_t legacy_chunk_size) {
  SHOEHORN_TRY(const auto file, MappedFile::open(path));
  uint32_t magic = 0;
  if (file.bytes().size() >= sizeof magic) std::memcpy(&magic, file.bytes().data(), sizeof magic);
  auto imatrix = magic == kGgufMagic ? read_gguf(path) : read_legacy(file.bytes(), legacy_chunk_size);
  if (imatrix && imatrix->entries.empty()) imatrix = fail(ErrorCode::kInvalid, "has no entries");
  if (!imatrix) return annotate_once(imatrix.error(), path);
  return imatrix;
}

Status write_imatrix(const Imatrix& imatrix, const std::string& path) {
  if (imatrix.entries.empty()) return fail(ErrorCode::kInvalid, "{}: an importance matrix without entries", path);
  if (imatrix.chunk_count > kMaxChunks) return fail(ErrorCode::kTooLarge, "{}: {} chunks", path, imatrix.chunk_count);
  for (const auto& [name, entry] : imatrix.entries) {
    if (!in_float_range(entry)) return fail(ErrorCode::kTooLarge, "{}: a sum of entry {} is no float", path, name);
  }
  const Status written = path.ends_with(".dat") ? write_legacy(imatrix, path) : write_gguf(imatrix, path);
  if (!written) return annotate_once(written.error(), path);
  return {};
}

Expected<Imatrix> merge(Imatrix a, const Imatrix& b) {
  for (const auto& [name, entry] : b.entries) {
    const auto [at, inserted] = a.entries.try_emplace(name, entry);
    if (inserted) continue;
    ImatrixEntry& sum = at->second;
    if (sum.n_mat() != entry.n_mat() || sum.n_cols() != entry.n_cols()) {
      return fail(ErrorCode::kInvalid,
                  "entry {} has {} x {} channels in one importance matrix and {} x {} in the other", name, sum.n_mat(),
                  sum.n_cols(), entry.n_mat(), entry.n_cols());
    }
    for (size_t i = 0; i < sum.in_sum2.size(); ++i) sum.in_sum2[i] += entry.in_sum2[i];
    for (size_t i = 0; i < sum.counts.size(); ++i) sum.counts[i] += entry.counts[i];
  }
  // Chunks of another length are counted in chunks of a's.
  const uint64_t tokens = b.chunk_count * b.chunk_size;
  a.chunk_count += (tokens + a.chunk_size - 1) / a.chunk_size;
  a.datasets.insert(a.datasets.end(), b.datasets.begin(), b.datasets.end());
  a.fingerprint.clear();
  return a;
}

}  // namespace shoehorn::io
