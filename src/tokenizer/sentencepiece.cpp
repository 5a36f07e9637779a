// A SentencePiece tokenizer.model: the protobuf ModelProto of sentencepiece_model.proto, the fields that matter here.
#include <bit>
#include <cstring>
#include <span>

#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

/// One field of a protobuf message.
struct Field {
  uint32_t number;
  enum Kind { kVarint, kFixed64, kBytes, kFixed32 } kind;
  uint64_t value = 0;      // kVarint, kFixed64, kFixed32
  std::string_view bytes;  // kBytes
};

/// Walks over the fields of a message.
class MessageReader {
 public:
  explicit MessageReader(std::string_view bytes) : bytes_(bytes) {}

  bool done() const { return pos_ == bytes_.size(); }

  Expected<Field> next() {
    SHOEHORN_TRY(const uint64_t tag, varint());
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return fail(ErrorCode::kInvalid, "protobuf: field number {}", tag >> 3);
    Field field{.number = static_cast<uint32_t>(tag >> 3), .kind = Field::kVarint, .value = 0, .bytes = {}};
    switch (tag & 7) {
      case 0: {
        SHOEHORN_TRY(field.value, varint());
        return field;
      }
      case 1:
        field.kind = Field::kFixed64;
        return fixed(field, 8);
      case 2: {
        field.kind = Field::kBytes;
        SHOEHORN_TRY(const uint64_t size, varint());
        if (size > bytes_.size() - pos_) {
          return fail(ErrorCode::kInvalid, "protobuf: field {} of {} bytes, {} are left", field.number, size,
                      bytes_.size() - pos_);
        }
        field.bytes = bytes_.substr(pos_, size);
        pos_ += size;
        return field;
      }
      case 5:
        field.kind = Field::kFixed32;
        return fixed(field, 4);
      default:
        return fail(ErrorCode::kInvalid, "protobuf: field {} has wire type {}", field.number, tag & 7);
    }
  }

 private:
  Expected<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (pos_ == bytes_.size()) return fail(ErrorCode::kInvalid, "protobuf: cut short in a number");
      const auto byte = static_cast<uint8_t>(bytes_[pos_++]);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return fail(ErrorCode::kInvalid, "protobuf: a number of more than 10 bytes");
  }

  Expected<Field> fixed(Field field, size_t size) {
    if (size > bytes_.size() - pos_) return fail(ErrorCode::kInvalid, "protobuf: cut short in field {}", field.number);
    for (size_t i = 0; i < size; ++i)
      field.value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[pos_ + i])) << (8 * i);
    pos_ += size;
    return field;
  }

  std::string_view bytes_;
  size_t pos_ = 0;
};

/// Calls on_field for every field of a message.
template <class OnField>
Status for_each_field(std::string_view message, OnField on_field) {
  MessageReader reader(message);
  while (!reader.done()) {
    SHOEHORN_TRY(const Field field, reader.next());
    SHOEHORN_RETURN_IF_ERROR(on_field(field));
  }
  return {};
}

Status expect_kind(const Field& field, Field::Kind kind, const char* name) {
  if (field.kind == kind) return {};
  return fail(ErrorCode::kInvalid, "{} has the wrong protobuf wire type", name);
}

struct Piece {
  std::string text;
  float score = 0;
  TokenType type = TokenType::kNormal;  // SentencePiece numbers its types as GGUF does
};

Expected<Piece> read_piece(std::string_view message, size_t id) {
  Piece piece;
  const Status status = for_each_field(message, [&](const Field& field) -> Status {
    switch (field.number) {
      case 1:
        SHOEHORN_RETURN_IF_ERROR(expect_kind(field, Field::kBytes, "a piece's text"));
        piece.text = field.bytes;
        return {};
      case 2:
        SHOEHORN_RETURN_IF_ERROR(expect_kind(field, Field::kFixed32, "a piece's score"));
        piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
        return {};
      case 3: {
        SHOEHORN_RETURN_IF_ERROR(expect_kind(field, Field::kVarint, "a piece's type"));
        // SentencePiece: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
        if (field.value < 1 || field.value > 6)
          return fail(ErrorCode::kInvalid, "piece {} has type {}", id, field.value);
        piece.type = static_cast<TokenType>(field.value);
        return {};
      }
      default:
        return {};
    }
  });
  if (!status) return tl::unexpected(status.error());
  return piece;
}

struct TrainerSpec {
  bool present = false;
  uint64_t model_type = 1;
  bool whitespace_as_suffix = false;
  int64_t unk = 0, bos = 1, eos = 2, pad = -1;
};

Status read_trainer_spec(std::string_view message, TrainerSpec& spec) {
  spec.present = true;
  return for_each_field(message, [&](const Field& field) -> Status {
    const auto read_int = [&](auto& target, const char* name) -> Status {
      SHOEHORN_RETURN_IF_ERROR(expect_kind(field, Field::kVarint, name));
      target = static_cast<std::decay_t<decltype(target)>>(field.value);
      return {};
    };
    switch (field.number) {
      case 3:
        return read_int(spec.model_type, "trainer_spec.model_type");
      case 24:
        return read_int(spec.whitespace_as_suffix, "trainer_spec.treat_whitespace_as_suffix");
      case 40:
        return read_int(spec.unk, "trainer_spec.unk_id");
      case 41:
        return read_int(spec.bos, "trainer_spec.bos_id");
      case 42:
        return read_int(spec.eos, "trainer_spec.eos_id");
      case 43:
        return read_int(spec.pad, "trainer_spec.pad_id");
      default:
        return {};
    }
  });
}

Expected<TokenizerFile> read_model(std::string_view bytes, uint64_t limit) {
  TokenizerFile file{.vocab = {}, .tokens = VocabBuilder(limit), .added = {}, .post_processor = {}};
  file.vocab.model = Model::kSpm;
  file.vocab.add_space_prefix = true;
  TrainerSpec trainer;
  bool has_normalizer = false;
  uint64_t n_pieces = 0;
  const Status status = for_each_field(bytes, [&](const Field& field) -> Status {
    if (field.number < 1 || field.number > 3) return {};
    SHOEHORN_RETURN_IF_ERROR(expect_kind(field, Field::kBytes, "a part of the model"));
    if (field.number == 1) {
      SHOEHORN_TRY(Piece piece, read_piece(field.bytes, n_pieces));
      if (piece.type == TokenType::kUserDefined) {
        return file.tokens.add({.id = n_pieces++, .text = std::move(piece.text)});
      }
      return file.tokens.put(n_pieces++, std::move(piece.text), piece.type, piece.score);
    }
    if (field.number == 2) return read_trainer_spec(field.bytes, trainer);
    has_normalizer = true;
    return for_each_field(field.bytes, [&](const Field& part) -> Status {
      if (part.number != 3) return {};
      SHOEHORN_RETURN_IF_ERROR(expect_kind(part, Field::kVarint, "normalizer_spec.add_dummy_prefix"));
      file.vocab.add_space_prefix = part.value != 0;
      return {};
    });
  });
  if (!status) return tl::unexpected(status.error());
  // SentencePiece always writes both, at the end: without them the file was cut short or is something else.
  if (n_pieces == 0) return fail(ErrorCode::kInvalid, "not a SentencePiece model: no pieces");
  if (!trainer.present) return fail(ErrorCode::kInvalid, "SentencePiece model without a trainer_spec (cut short?)");
  if (!has_normalizer) return fail(ErrorCode::kInvalid, "SentencePiece model without a normalizer_spec (cut short?)");
  if (trainer.model_type != 2) {
    const char* names[] = {"unigram", "BPE", "word", "char"};
    return fail(ErrorCode::kUnsupported, "SentencePiece model type {} is not supported, only BPE",
                trainer.model_type >= 1 && trainer.model_type <= 4 ? names[trainer.model_type - 1]
                                                                   : std::to_string(trainer.model_type).c_str());
  }
  if (trainer.whitespace_as_suffix) {
    return fail(ErrorCode::kUnsupported, "SentencePiece model with treat_whitespace_as_suffix");
  }
  const auto named = [&](int64_t id) -> std::optional<Token> {
    if (id < 0 || !file.tokens.has(static_cast<uint64_t>(id))) return std::nullopt;
    return static_cast<Token>(id);
  };
  file.vocab.unk = named(trainer.unk);
  file.vocab.bos = named(trainer.bos);
  file.vocab.eos = named(trainer.eos);
  file.vocab.pad = named(trainer.pad);
  return file;
}

}  // namespace

Expected<TokenizerFile> read_sentencepiece(const std::string& path, std::string_view bytes, uint64_t limit) {
  auto file = read_model(bytes, limit);
  if (!file) return annotate(file.error(), path);
  return file;
}

}  // namespace shoehorn::tokenizer
