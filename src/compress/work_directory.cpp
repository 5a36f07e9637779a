#include "compress/work_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "io/safetensors.h"

namespace shoehorn::compress {
namespace {
namespace fs = std::filesystem;

constexpr const char* kFacts = "facts";
constexpr const char* kFingerprint = "fingerprint.json";

struct Type {
  at::ScalarType torch;
  io::DType io;
};
constexpr Type kTypes[] = {{at::kFloat, io::DType::F32},     {at::kDouble, io::DType::F64}, {at::kHalf, io::DType::F16},
                           {at::kBFloat16, io::DType::BF16}, {at::kLong, io::DType::I64},   {at::kByte, io::DType::U8}};

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()),
          static_cast<size_t>(tensor.numel()) * tensor.element_size()};
}

/// Makes a rename in `directory` outlast a power cut.
void sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

/// Tells runs apart in a report that names neither paths nor times.
std::string hash(std::string_view text) {
  Fnv1a hash;
  hash.add(std::as_bytes(std::span(text)));
  return fmt::format("{:016x}", hash.value());
}

std::string text_of(const Json& fingerprint) {
  return fingerprint.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// The fingerprint goes last: it tells what the directory is.
void remove_states(const std::string& directory) {
  std::error_code error, ignored;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename() != kFingerprint) fs::remove(it->path(), ignored);
  }
  fs::remove_all(directory, ignored);
}

}  // namespace

Status save_state(const std::string& path, const Saved& saved) {
  const std::string facts = saved.facts.dump(-1, ' ', false, Json::error_handler_t::replace);
  io::SafetensorsWriter writer;
  std::vector<at::Tensor> order;
  SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(kFacts, io::DType::U8, {facts.size()}));
  for (const auto& [name, tensor] : saved.tensors) {
    const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
    const auto type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const Type& t) { return t.torch == plain.scalar_type(); });
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(name, type->io, {plain.sizes().begin(), plain.sizes().end()}));
    order.push_back(plain);
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin_file(path));
  SHOEHORN_RETURN_IF_ERROR(writer.append(std::as_bytes(std::span(facts))));
  for (const at::Tensor& tensor : order) SHOEHORN_RETURN_IF_ERROR(writer.append(bytes_of(tensor)));
  return writer.commit();
}

Expected<Saved> load_state(const std::string& path) {
  SHOEHORN_TRY(const auto file, MappedFile::open(path));
  return parse_state(file.bytes(), path);
}

Expected<Saved> parse_state(std::span<const std::byte> bytes, const std::string& path) {
  SHOEHORN_TRY(const auto tensors, io::read_safetensors(bytes, path));
  Saved out;
  for (const io::StoredTensor& stored : tensors) {
    if (stored.name == kFacts) {
      auto facts = parse_json({reinterpret_cast<const char*>(stored.data.data()), stored.data.size()});
      if (!facts) return annotate(facts.error(), path);
      out.facts = std::move(*facts);
      continue;
    }
    const auto type =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) { return t.io == stored.dtype; });
    if (type == std::end(kTypes)) return fail(ErrorCode::kInvalid, "{}: {} has an unexpected dtype", path, stored.name);
    at::Tensor tensor = at::empty(std::vector<int64_t>(stored.shape.begin(), stored.shape.end()), type->torch);
    std::memcpy(tensor.data_ptr(), stored.data.data(), stored.data.size());
    out.tensors.emplace(stored.name, std::move(tensor));
  }
  return out;
}

Json file_fingerprint(const std::string& path) {
  std::error_code error;
  if (path.empty()) return nullptr;
  return {fs::absolute(path).lexically_normal().string(), fs::file_size(path, error),
          fs::last_write_time(path, error).time_since_epoch().count()};
}

Json source_fingerprint(const convert::OpenedCheckpoint& checkpoint) {
  std::set<std::string> paths;
  if (!checkpoint.config_json.is_null()) paths.insert(checkpoint.directory + "/config.json");
  for (const auto& tensor : checkpoint.tensors) {
    if (tensor.stored.file != nullptr) paths.insert(tensor.stored.file->path());
  }
  Json out = Json::array();
  for (const std::string& path : paths) out.push_back(file_fingerprint(path));
  return out;
}

WorkDirectory::WorkDirectory(const std::string& out, const Peers& peers)
    : peers_(&peers), out_(fs::path(out).lexically_normal().string()) {
  while (out_.size() > 1 && out_.back() == '/') out_.pop_back();
  partial_ = peers.first() ? out_ + ".partial" : fs::temp_directory_path().string();
  states_ = partial_ + "/state";
}

Expected<WorkDirectory> WorkDirectory::open_for_file(const std::string& out, const Json& fingerprint, bool resume,
                                                     const Peers& peers) {
  WorkDirectory work(out, peers);
  if (!peers.first()) return work;
  work.partial_ = work.out_ + ".state";  // OUT.partial is what a file is called while it is being written
  work.states_ = work.partial_ + "/state";
  SHOEHORN_RETURN_IF_ERROR(work.open_states(fingerprint, resume));
  return work;
}

Expected<WorkDirectory> WorkDirectory::open(const std::string& out, const Json& fingerprint, bool resume,
                                            const Peers& peers) {
  WorkDirectory work(out, peers);
  if (peers.first()) SHOEHORN_RETURN_IF_ERROR(work.open_files(fingerprint, resume));
  const std::string report = work.complete_ ? work.complete_->dump() : "";
  std::vector<std::byte> bytes(std::as_bytes(std::span(report)).begin(), std::as_bytes(std::span(report)).end());
  SHOEHORN_RETURN_IF_ERROR(peers.broadcast(bytes));
  if (!bytes.empty()) {
    SHOEHORN_TRY(work.complete_, parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  }
  return work;
}

Status WorkDirectory::open_files(const Json& fingerprint, bool resume) {
  std::error_code error;
  run_ = hash(text_of(fingerprint));
  if (fs::exists(out_, error)) {
    const auto written = read_file(out_ + "/" + kReportFile, uint64_t{1} << 28);
    const auto report = written ? parse_json(*written) : Expected<Json>(Json());
    if (!resume || !report || !report->is_object() || report->value("run", Json()) != run_) {
      return fail(ErrorCode::kInvalid, "{} exists already; remove it or choose another -o", out_);
    }
    remove_states(out_ + "/state");
    complete_ = *report;
    return {};
  }
  return open_states(fingerprint, resume);
}

Status WorkDirectory::open_states(const Json& fingerprint, bool resume) {
  std::error_code error;
  const std::string text = text_of(fingerprint);
  const std::string marker = states_ + "/" + kFingerprint;
  if (fs::exists(marker, error)) {
    if (!resume) {
      return fail(ErrorCode::kInvalid, "{} holds the state of an interrupted run: go on with --resume, or remove it",
                  partial_);
    }
    SHOEHORN_TRY(const std::string before, read_file(marker, 1 << 20));
    if (before != text) {
      return fail(ErrorCode::kInvalid,
                  "{}: the interrupted run had another input or other options ({} tells); use the same, or remove it",
                  partial_, marker);
    }
    return {};
  }
  fs::create_directories(states_, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", states_, error.message());
  SHOEHORN_RETURN_IF_ERROR(write_file(marker, text));
  return {};
}

std::string WorkDirectory::state_path(const std::string& name) const { return states_ + "/" + name + ".safetensors"; }

Expected<std::optional<Saved>> WorkDirectory::load(const std::string& name) const {
  std::error_code error;
  const std::string path = state_path(name);
  std::vector<std::byte> bytes;
  if (peers_->first() && fs::exists(path, error)) {
    SHOEHORN_TRY(const auto file, MappedFile::open(path));
    bytes.assign(file.bytes().begin(), file.bytes().end());
  }
  SHOEHORN_RETURN_IF_ERROR(peers_->broadcast(bytes));
  if (bytes.empty()) return std::optional<Saved>();
  SHOEHORN_TRY(auto saved, parse_state(bytes, path));
  return std::optional<Saved>(std::move(saved));
}

Status WorkDirectory::save(const std::string& name, const Saved& saved) const {
  return peers_->first() ? save_state(state_path(name), saved) : Status();
}

void WorkDirectory::forget(const std::string& name) const {
  std::error_code ignored;
  if (peers_->first()) fs::remove(state_path(name), ignored);
}

void WorkDirectory::discard() const {
  std::error_code ignored;
  remove_states(states_);
  fs::remove(partial_, ignored);
}

Status WorkDirectory::finish(Json report) {
  if (!peers_->first()) return {};
  report["run"] = run_;
  SHOEHORN_RETURN_IF_ERROR(write_file(partial_ + "/" + kReportFile, report.dump(2) + "\n"));
  sync_directory(partial_);
  if (::rename(partial_.c_str(), out_.c_str()) != 0) {
    return fail(ErrorCode::kIo, "{}: cannot rename {}: {}", out_, partial_, std::strerror(errno));
  }
  const fs::path parent = fs::path(out_).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
  remove_states(out_ + "/state");
  return {};
}

}  // namespace shoehorn::compress
