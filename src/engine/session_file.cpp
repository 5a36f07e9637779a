#include "engine/session_file.h"

#include <cstring>
#include <filesystem>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/output_file.h"

namespace shoehorn::engine {
namespace {

using tokenizer::Token;

/// All that must be the same for keys and values to mean the same. The numbers are as this machine has them.
struct Header {
  char magic[8] = {'S', 'H', 'O', 'E', 'K', 'V', '0', '2'};
  uint64_t model = 0;  ///< hash of what names the model
  uint32_t key_type = 0, value_type = 0;
  uint32_t rotated_keys = 0, rotated_values = 0;
  uint64_t n_tokens = 0;
  uint64_t hash = 0;  ///< of tokens, keys and values

  bool same_kind(const Header& other) const {
    return std::memcmp(magic, other.magic, sizeof magic) == 0 && model == other.model && key_type == other.key_type &&
           value_type == other.value_type && rotated_keys == other.rotated_keys && rotated_values == other.rotated_values;
  }
};
static_assert(sizeof(Header) == 48);

/// By its numbers in the metadata, and its tensors: names, types, shapes and how their data begin.
uint64_t hash_of_model(const Model& model) {
  constexpr size_t kBeginning = 4096;
  Fnv1a hash;
  const auto add = [&](const auto& values) { hash.add(std::as_bytes(std::span(values))); };
  const auto add_one = [&](auto value) { hash.add(std::as_bytes(std::span(&value, 1))); };
  for (const auto& [key, value] : model.file().metadata().entries()) {
    const auto number = model.file().metadata().get_float(key);
    if (!number) continue;
    add(key);
    add_one(*number);
  }
  for (const io::GgufTensor& tensor : model.file().tensors()) {
    add(tensor.name);
    add_one(static_cast<uint32_t>(tensor.type));
    add(tensor.shape);
    hash.add(tensor.data.first(std::min(kBeginning, tensor.data.size())));
  }
  return hash.value();
}

Header header_of(const Session& session) {
  Header out;
  out.model = hash_of_model(session.model());
  // LongRoPE turns keys by how long the context may become.
  const models::RopeScaling& scaling = session.model().hparams().rope_scaling;
  if (scaling.type == models::RopeScalingType::kLongRope && session.n_ctx() > scaling.original_context) out.model = ~out.model;
  // Keys and values are of the weights with what is added to them.
  for (const ScaledAdapter& scaled : session.adapters()) {
    Fnv1a hash;
    for (const uint64_t part : {out.model, scaled.adapter->hash()}) hash.add(std::as_bytes(std::span(&part, 1)));
    hash.add(std::as_bytes(std::span(&scaled.scale, 1)));
    out.model = hash.value();
  }
  const CacheTypes& types = session.cache().types();
  out.key_type = static_cast<uint32_t>(types.keys);
  out.value_type = static_cast<uint32_t>(types.values);
  out.rotated_keys = types.rotate_keys ? 1 : 0;
  out.rotated_values = types.rotate_values ? 1 : 0;
  return out;
}

/// The first n positions of every head of every layer, keys before values, in the order of the file.
template <class Visit>
Status for_each_part(const Session& session, size_t n, Visit visit) {
  const KvCache& cache = session.cache();
  const models::Hparams& h = session.model().hparams();
  for (size_t l = 0; l < h.layers.size(); ++l) {
    const KvCache::Layer& layer = cache.layer(l);
    for (size_t head = 0; head < h.layers[l].n_head_kv; ++head) {
      SHOEHORN_RETURN_IF_ERROR(visit(std::span(layer.keys + head * layer.key_head_bytes, n * cache.key_bytes())));
      SHOEHORN_RETURN_IF_ERROR(visit(std::span(layer.values + head * layer.value_head_bytes, n * cache.value_bytes())));
    }
  }
  return {};
}

}  // namespace

Status save_session(const Session& session, std::span<const Token> held, const std::string& path) {
  const size_t n = session.n_past();
  if (held.size() != n) return fail(ErrorCode::kInvalid, "a session of {} positions and {} tokens", n, held.size());
  const uint64_t bytes = sizeof(Header) + n * sizeof(Token) +
                         KvCache::bytes(session.model().hparams(), n, session.cache().types());
  SHOEHORN_TRY(auto file, OutputFile::create(path, bytes));
  Header header = header_of(session);
  header.n_tokens = n;
  SHOEHORN_RETURN_IF_ERROR(file.write(std::as_bytes(std::span(&header, 1))));
  Fnv1a hash;
  const auto write = [&](std::span<const std::byte> part) -> Status {
    hash.add(part);
    return file.write(part);
  };
  SHOEHORN_RETURN_IF_ERROR(write(std::as_bytes(held)));
  SHOEHORN_RETURN_IF_ERROR(for_each_part(session, n, write));
  header.hash = hash.value();
  SHOEHORN_RETURN_IF_ERROR(file.write_at(0, std::as_bytes(std::span(&header, 1))));
  return file.commit();
}

Expected<std::vector<Token>> load_session(Session& session, const std::string& path) {
  session.truncate(0);
  if (!std::filesystem::exists(path)) return fail(ErrorCode::kNotFound, "{} does not exist", path);
  SHOEHORN_TRY(const auto file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  Header header;
  if (bytes.size() < sizeof header) return fail(ErrorCode::kInvalid, "{} is no saved session", path);
  std::memcpy(&header, bytes.data(), sizeof header);
  const Header wanted = header_of(session);
  if (std::memcmp(header.magic, wanted.magic, sizeof header.magic) != 0)
    return fail(ErrorCode::kInvalid, "{} is no saved session", path);
  if (!header.same_kind(wanted))
    return fail(ErrorCode::kInvalid, "{} is of another model, or of a KV cache kept otherwise", path);
  const models::Hparams& h = session.model().hparams();
  const uint64_t per_position =
      sizeof(Token) + KvCache::bytes(h, 1, session.cache().types());
  const uint64_t left = bytes.size() - sizeof header;
  if (left / per_position != header.n_tokens || left % per_position != 0)
    return fail(ErrorCode::kInvalid, "{} is damaged: its size is not that of {} positions", path, header.n_tokens);
  Fnv1a hash;
  hash.add(bytes.subspan(sizeof header));
  if (hash.value() != header.hash) return fail(ErrorCode::kInvalid, "{} is damaged", path);

  std::vector<Token> held(header.n_tokens);
  if (!held.empty()) std::memcpy(held.data(), bytes.data() + sizeof header, held.size() * sizeof(Token));
  for (const Token token : held) {
    if (token < 0 || static_cast<uint32_t>(token) >= h.n_vocab)
      return fail(ErrorCode::kInvalid, "{} is damaged: token {}", path, token);
  }
  held.resize(std::min(held.size(), session.n_ctx()));
  size_t at = sizeof header + header.n_tokens * sizeof(Token);
  SHOEHORN_RETURN_IF_ERROR(for_each_part(session, held.size(), [&](std::span<std::byte> part) -> Status {
    if (!part.empty()) std::memcpy(part.data(), bytes.data() + at, part.size());
    at += part.size() / std::max<size_t>(held.size(), 1) * header.n_tokens;
    return {};
  }));
  session.resume(held.size());
  return held;
}

}  // namespace shoehorn::engine
