// Builds the files that torch.save writes, well-formed or not: a pickle assembled opcode by opcode, and a zip of stored
// entries.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io_support.h"

namespace shoehorn::test {

/// Appends protocol-2 opcodes to `out`.
struct PickleWriter {
  std::string out = "\x80\x02";

  PickleWriter& op(std::string_view bytes) { return out += bytes, *this; }
  PickleWriter& text(std::string_view s) { return op("X").op(raw(static_cast<uint32_t>(s.size()))).op(s); }
  PickleWriter& number(int64_t n) {
    if (n >= 0 && n < 256) return op("K").op(raw(static_cast<uint8_t>(n)));
    if (n >= INT32_MIN && n <= INT32_MAX) return op("J").op(raw(static_cast<int32_t>(n)));
    return op("\x8a\x08").op(raw(n));
  }
  PickleWriter& real(double value) {
    const std::string bytes = raw(value);
    return op("G").op(std::string(bytes.rbegin(), bytes.rend()));
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    return op("c").op(module).op("\n").op(name).op("\n");
  }
  PickleWriter& numbers(const std::vector<int64_t>& values) {
    op("(");
    for (const int64_t value : values) number(value);
    return op("t");
  }
  PickleWriter& storage(std::string_view type, std::string_view key, int64_t numel) {
    return op("(").text("storage").global("torch", type).text(key).text("cpu").number(numel).op("tQ");
  }
  /// What torch._utils._rebuild_tensor_v2 is called with, and the call.
  PickleWriter& tensor(std::string_view type, std::string_view key, int64_t numel, int64_t offset,
                       const std::vector<int64_t>& size, const std::vector<int64_t>& stride) {
    global("torch._utils", "_rebuild_tensor_v2").op("(").storage(type, key, numel).number(offset);
    numbers(size).numbers(stride).op("\x89").global("collections", "OrderedDict").op(")R");
    return op("tR");
  }
  std::string done() const { return out + "."; }
};

/// Deviations from a well-formed zip entry.
struct ZipEntryOptions {
  uint16_t method = 0, flags = 0;
  int64_t size_change = 0;    // added to the sizes in the directory
  int64_t offset_change = 0;  // added to the local header's offset in the directory
  bool zip64 = false;         // sizes and offset in an extra field
};

class ZipWriter {
 public:
  ZipWriter& add(const std::string& name, const std::string& bytes, ZipEntryOptions options = {}) {
    const auto offset = static_cast<uint64_t>(static_cast<int64_t>(out_.size()) + options.offset_change);
    // torch pads the local extra field so that data starts at a multiple of 64.
    const size_t unpadded = out_.size() + 30 + name.size() + 4;
    const size_t padding = (64 - unpadded % 64) % 64;
    const auto size32 = static_cast<uint32_t>(bytes.size());
    out_ += raw(uint32_t{0x04034b50}) + raw(uint16_t{45}) + raw(options.flags) + raw(options.method) +
            raw(uint32_t{0}) + raw(uint32_t{0}) + raw(size32) + raw(size32) + raw(static_cast<uint16_t>(name.size())) +
            raw(static_cast<uint16_t>(padding + 4)) + name + "FB" + raw(static_cast<uint16_t>(padding)) +
            std::string(padding, 'Z') + bytes;
    const auto size = static_cast<uint64_t>(static_cast<int64_t>(bytes.size()) + options.size_change);
    const std::string extra =
        options.zip64 ? raw(uint16_t{1}) + raw(uint16_t{24}) + raw(size) + raw(size) + raw(offset) : std::string();
    const uint32_t elsewhere = 0xffffffff;
    const uint32_t size_field = options.zip64 ? elsewhere : static_cast<uint32_t>(size);
    const uint32_t offset_field = options.zip64 ? elsewhere : static_cast<uint32_t>(offset);
    directory_ += raw(uint32_t{0x02014b50}) + raw(uint16_t{45}) + raw(uint16_t{45}) + raw(options.flags) +
                  raw(options.method) + raw(uint32_t{0}) + raw(uint32_t{0}) + raw(size_field) + raw(size_field) +
                  raw(static_cast<uint16_t>(name.size())) + raw(static_cast<uint16_t>(extra.size())) +
                  raw(uint16_t{0}) + raw(uint16_t{0}) + raw(uint16_t{0}) + raw(uint32_t{0}) + raw(offset_field) + name +
                  extra;
    ++n_;
    return *this;
  }

  std::string done(bool zip64 = false, uint64_t extra_entries = 0, const std::string& comment = "") const {
    const uint64_t n = n_ + extra_entries, offset = out_.size(), bytes = directory_.size();
    std::string out = out_ + directory_;
    if (zip64) {
      const uint64_t at = out.size();
      out += raw(uint32_t{0x06064b50}) + raw(uint64_t{44}) + raw(uint16_t{45}) + raw(uint16_t{45}) + raw(uint32_t{0}) +
             raw(uint32_t{0}) + raw(n) + raw(n) + raw(bytes) + raw(offset);
      out += raw(uint32_t{0x07064b50}) + raw(uint32_t{0}) + raw(at) + raw(uint32_t{1});
    }
    const auto n16 = static_cast<uint16_t>(zip64 ? 0xffff : n);
    out += raw(uint32_t{0x06054b50}) + raw(uint16_t{0}) + raw(uint16_t{0}) + raw(n16) + raw(n16) +
           raw(static_cast<uint32_t>(zip64 ? 0xffffffff : bytes)) +
           raw(static_cast<uint32_t>(zip64 ? 0xffffffff : offset)) + raw(static_cast<uint16_t>(comment.size())) +
           comment;
    return out;
  }

 private:
  std::string out_, directory_;
  uint64_t n_ = 0;
};

/// A torch file of one pickle and its storages.
inline std::string torch_file(const std::string& pickle,
                              const std::vector<std::pair<std::string, std::string>>& storages, bool zip64 = false) {
  ZipWriter zip;
  zip.add("archive/data.pkl", pickle, {.zip64 = zip64});
  zip.add("archive/byteorder", "little", {.zip64 = zip64});
  for (const auto& [key, bytes] : storages) zip.add("archive/data/" + key, bytes, {.zip64 = zip64});
  zip.add("archive/version", "3\n", {.zip64 = zip64});
  return zip.done(zip64);
}

/// A state dict {name: float32 [2, 3] of 0..5} as torch.save writes it: an OrderedDict with _metadata.
inline std::string small_torch_file(const std::string& name = "model.norm.weight") {
  PickleWriter p;
  p.global("collections", "OrderedDict").op(")Rq").op(std::string_view("\0", 1)).op("(");
  p.text(name).tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});
  p.op("u}").text("_metadata").global("collections", "OrderedDict").op(")Rsb");
  return torch_file(p.done(), {{"0", raw_array<float>({0, 1, 2, 3, 4, 5})}});
}

}  // namespace shoehorn::test
