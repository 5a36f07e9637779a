#include "cli/answers_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/output_file.h"
#include "cli/command.h"
#include "eval/json_fields.h"

namespace shoehorn::cli {
namespace {

/// Tokens need not end where characters do: what is no UTF-8 becomes U+FFFD.
std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

/// What an earlier run left, when it was the same run. A last line that was not written whole is passed over.
std::unordered_map<std::string, eval::ItemResult> read_partial(const std::string& path, const Json& run) {
  std::unordered_map<std::string, eval::ItemResult> items;
  const auto text = read_file(path, uint64_t{4} << 30);
  if (!text) return items;
  bool first = true;
  for (size_t at = 0, end = 0; (end = text->find('\n', at)) != std::string::npos; at = end + 1) {
    const auto line = parse_json(std::string_view(*text).substr(at, end - at));
    if (!line) break;
    if (first && *line != run) {
      remark(fmt::format("{} is of another model, file or setting, and is begun anew", path));
      break;
    }
    if (!first) {
      const std::string id = eval::id_field(*line, "");
      items[id] = {.id = id, .record = *line};
    }
    first = false;
  }
  return items;
}

}  // namespace

Expected<AnswersFile> AnswersFile::open(const std::string& path, const Json& run) {
  AnswersFile file;
  file.path_ = path;
  // As it will be read back: numbers that JSON writes shorter would differ.
  const auto header = parse_json(line_of(run));
  if (!header) return tl::unexpected<Error>(header.error());
  file.known_ = read_partial(file.partial(), *header);
  file.stream_ = std::fopen(file.partial().c_str(), "we");
  if (file.stream_ == nullptr) return fail(ErrorCode::kIo, "{}: {}", file.partial(), std::strerror(errno));
  std::string text = line_of(*header);
  for (const auto& [id, item] : file.known_) text += line_of(item.record);
  if (std::fwrite(text.data(), 1, text.size(), file.stream_) != text.size() || std::fflush(file.stream_) != 0) {
    return fail(ErrorCode::kIo, "{}: {}", file.partial(), std::strerror(errno));
  }
  return file;
}

AnswersFile::AnswersFile(AnswersFile&& other) noexcept
    : path_(std::move(other.path_)), stream_(std::exchange(other.stream_, nullptr)), known_(std::move(other.known_)) {}

AnswersFile::~AnswersFile() {
  if (stream_ != nullptr) std::fclose(stream_);
}

const eval::ItemResult* AnswersFile::find(const std::string& id) const {
  const auto found = known_.find(id);
  return found == known_.end() ? nullptr : &found->second;
}

Status AnswersFile::add(const eval::ItemResult& item) {
  const std::string text = line_of(item.record);
  if (std::fwrite(text.data(), 1, text.size(), stream_) != text.size() || std::fflush(stream_) != 0) {
    return fail(ErrorCode::kIo, "{}: {}", partial(), std::strerror(errno));
  }
  return {};
}

Status AnswersFile::commit(const std::vector<eval::ItemResult>& items) {
  std::string text;
  for (const eval::ItemResult& item : items) text += line_of(item.record);
  SHOEHORN_RETURN_IF_ERROR(write_file(path_, text));
  std::fclose(std::exchange(stream_, nullptr));
  std::error_code ignored;
  std::filesystem::remove(partial(), ignored);
  return {};
}

Expected<std::vector<eval::ItemResult>> read_answers(const std::string& path) {
  std::vector<eval::ItemResult> items;
  const auto read = [&](const Json& line) -> Status {
    SHOEHORN_RETURN_IF_ERROR(eval::text_field(line, "task"));
    eval::ItemResult item = {.id = eval::id_field(line, ""), .record = line};
    if (item.id.empty()) return fail(ErrorCode::kInvalid, "the field \"id\" is missing");
    items.push_back(std::move(item));
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(for_each_json_line(path, read));
  if (items.empty()) return fail(ErrorCode::kInvalid, "{}: there is no answer in it", path);
  return items;
}

}  // namespace shoehorn::cli
