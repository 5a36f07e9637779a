// Named mixes: "Q4_K_M" is not one type but a rule for choosing a type per tensor.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/format.h"

namespace shoehorn::quant {

struct Mix {
  std::string_view name;  ///< "Q4_K_M"
  uint32_t file_type;     ///< value of the GGUF key general.file_type
  Type base;              ///< the type of most tensors
};

/// All mixes in the order of mixes.inc.
std::span<const Mix> mixes();

/// Case-insensitive; knows the aliases Q3_K, Q4_K and Q5_K (their _M). nullptr when unknown.
const Mix* find_mix(std::string_view name);

/// What a mix's rules depend on beside the tensors.
struct MixModel {
  uint64_t n_layer = 0;
  uint64_t n_head = 0;           ///< of layer 0
  uint64_t n_head_kv = 0;        ///< of layer 0
  uint64_t n_expert = 0;         ///< 0: none
  bool tied_embeddings = false;  ///< no output.weight: token_embd is the output matrix too
  bool has_imatrix = false;      ///< importance will be given to the encoders
};

struct MixTensor {
  std::string name;             ///< GGUF name: "blk.3.attn_v.weight"
  std::vector<uint64_t> shape;  ///< fastest-varying first
  Type kept = Type::F32;        ///< its type when mixes leave it alone
};

/// True for the tensors that mixes give a type to: matrices named *.weight, but not norms and expert routers.
bool is_quantizable(const MixTensor& tensor);

/// The type of each tensor, the same as llama.cpp's llama-quantize chooses (src/llama-quant.cpp). Where a row is no
/// whole number of blocks a type of smaller blocks takes its place, at last F16. The tensors may come in any order:
/// rules that count layers count the tensors of a role that are present, by ascending layer number.
std::vector<Type> choose_types(const Mix& mix, const MixModel& model, std::span<const MixTensor> tensors);

}  // namespace shoehorn::quant
