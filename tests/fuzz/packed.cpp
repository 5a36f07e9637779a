// A quantized checkpoint: its configuration, a zero byte, and its weights.
#include "io/packed.h"

#include "fuzz/target.h"
#include "io/safetensors.h"

namespace shoehorn::fuzz {

std::string run_packed(std::string_view input) {
  const size_t zero = input.find('\0');
  if (zero == std::string_view::npos) return "no zero byte";
  const auto config = parse_json(input.substr(0, zero));
  if (!config) return message_of(config);
  const auto packing = io::packed_config(*config);
  if (!packing) return message_of(packing);
  if (packing->packing == nullptr) return "not packed";
  auto stored = io::read_safetensors(std::as_bytes(std::span(input.substr(zero + 1))), "model.safetensors");
  if (!stored) return message_of(stored);
  auto set = io::StoredSet::of(std::move(*stored));
  if (!set) return message_of(set);
  const auto tensors = packing->packing->unpack(packing->quantization, *set);
  if (!tensors) return message_of(tensors);
  // What a matrix decodes to is at most sixteen times as many numbers as bytes were given.
  for (const io::CheckpointTensor& tensor : *tensors) {
    std::vector<float> values(tensor.n_elements());
    io::read_floats(tensor, 0, values.size(), values.data());
    if (const auto type = tensor.packed->same_as()) {
      std::vector<std::byte> rows(tensor.packed->n_rows() * quant::row_bytes(quant::format(*type), tensor.packed->n_cols()));
      if (const Status encoded = tensor.packed->encode(0, tensor.packed->n_rows(), rows.data()); !encoded) return encoded.error().message;
    }
  }
  return "";
}

}  // namespace shoehorn::fuzz
