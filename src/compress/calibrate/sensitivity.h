// What the quantization of each matrix costs the whole model.
#pragma once

#include <map>
#include <string>

#include "compress/calibrate/quantizer.h"

namespace shoehorn::compress {

struct Sensitivity {
  double kl = 0;  ///< mean KL(source || quantized), nats a token
  int64_t tokens = 0;
  std::map<std::string, double> without;  ///< by tensor: the same with this one as it was
};

/// Measures a quantized model and, `each`, the same models with one matrix as it was, in one pass over the weights. Of
/// a model with tied embeddings token_embd's entry has the embedding as it was, not the output.
Expected<Sensitivity> measure_sensitivity(BlockStream& stream, const QuantizedModel& quantized,
                                          const std::vector<at::Tensor>& batches, bool each);

}  // namespace shoehorn::compress
