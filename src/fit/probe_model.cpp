#include "fit/probe_model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/memory.h"
#include "io/gguf.h"
#include "models/gguf_hparams.h"
#include "tokenizer/vocab.h"

namespace shoehorn::fit {
namespace {

constexpr size_t kTileWeights = size_t{1} << 16;

tokenizer::Vocab byte_vocab() {
  tokenizer::Vocab vocab;
  vocab.model = tokenizer::Model::kSpm;
  const auto add = [&](std::string token, tokenizer::TokenType type) {
    vocab.tokens.push_back(std::move(token));
    vocab.types.push_back(type);
    vocab.scores.push_back(0);
  };
  add("<unk>", tokenizer::TokenType::kUnknown);
  add("<s>", tokenizer::TokenType::kControl);
  add("</s>", tokenizer::TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), tokenizer::TokenType::kByte);
  vocab.unk = 0;
  vocab.bos = 1;
  vocab.eos = 2;
  vocab.eog = {2};
  return vocab;
}

}  // namespace

void ProbeWeights::Unmap::operator()(std::byte* memory) const { munmap(memory, size); }

Expected<ProbeWeights> ProbeWeights::allocate(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(ErrorCode::kTooLarge, "there are no {} of memory to measure with", format_bytes(bytes));
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  ProbeWeights out;
  out.memory_ = {static_cast<std::byte*>(memory), Unmap{bytes}};
  out.size_ = bytes;
  return out;
}

void ProbeWeights::fill(const quant::Format& format) {
  std::vector<float> values(kTileWeights);
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) / static_cast<float>(1 << 24) - 0.5F) * 0.04F;
  }
  std::vector<std::byte> tile(quant::row_bytes(format, kTileWeights));
  format.encode(values.data(), nullptr, tile.data(), kTileWeights);
  for (size_t at = 0; at < size_; at += tile.size())
    std::memcpy(memory_.get() + at, tile.data(), std::min(tile.size(), size_ - at));
}

uint64_t ProbeShape::layer_weights() const {
  return uint64_t{n_embd} * (uint64_t{2} * head_dim * (n_head + n_head_kv) + uint64_t{3} * n_ff);
}

Expected<std::shared_ptr<const engine::Model>> probe_model(const ProbeShape& shape, uint32_t n_layer, quant::Type type,
                                                           const ProbeWeights& weights) {
  const tokenizer::Vocab vocab = byte_vocab();
  models::Hparams h;
  h.n_vocab = static_cast<uint32_t>(vocab.tokens.size());
  h.n_embd = shape.n_embd;
  h.n_layer = n_layer;
  h.head_dim = h.n_rot = shape.head_dim;
  h.n_ctx_train = 1 << 16;
  h.norm_eps = 1e-5F;
  h.tied_embeddings = true;
  h.layers.assign(n_layer, {shape.n_head, shape.n_head_kv, shape.n_ff});
  const models::Architecture& llama = *models::find_architecture("llama");
  io::GgufMetadata metadata;
  models::write_gguf_hparams(llama, h, metadata);
  tokenizer::vocab_to_gguf(vocab, metadata);

  // What is no matrix of a layer is of no weight here.
  const auto ones = std::make_shared<std::vector<float>>(size_t{h.n_vocab} * h.n_embd, 1.0F);
  std::vector<io::GgufTensor> tensors;
  size_t at = 0;
  for (const models::TensorSpec& spec : models::tensor_specs(llama, h)) {
    if (spec.layer < 0 || spec.shape.size() == 1) {
      size_t n = 1;
      for (const uint64_t extent : spec.shape) n *= extent;
      tensors.push_back(
          {spec.gguf_name, quant::Type::F32, spec.shape, std::as_bytes(std::span(*ones).first(n)), nullptr});
      continue;
    }
    const size_t bytes = spec.shape[1] * quant::row_bytes(quant::format(type), spec.shape[0]);
    tensors.push_back({spec.gguf_name, type, spec.shape, weights.bytes().subspan(at, bytes), nullptr});
    at += bytes;
  }
  return engine::Model::create(io::GgufFile::of("probe", std::move(metadata), std::move(tensors), ones), {}, false);
}

}  // namespace shoehorn::fit
