// How fast a model of given shapes and types would run on a device.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/model_source.h"
#include "fit/device.h"

namespace shoehorn::fit {

/// Predicts from a device's rates and a model's shapes alone: what each step of a pass reads and multiplies, divided by
/// how fast the device reads and multiplies it. Of a device that was not measured the rates are its memory's and its
/// multipliers' (the roofline; Williams et al. 2009): a bound that no program exceeds. Keys and values are F16. Models
/// that fit into a cache are faster.
class Speed {
 public:
  /// types: of every tensor of the source, which must outlive this.
  Speed(const Device& device, const convert::ModelSource& source, const std::vector<quant::Type>& types);

  /// One token at position n_past, with its logits.
  double token_seconds(size_t n_past) const;
  /// A prompt of n tokens in batches of 512, with the logits of the last one: the time to the first token.
  double prompt_seconds(size_t n) const;
  /// Tokens per second of n tokens after n_past, one at a time.
  double tokens_per_second(size_t n_past, size_t n) const;

 private:
  /// The matrices of a layer, or the output, together.
  struct Matrices {
    double token_s = 0;  ///< to read them for one token
    double batch_s = 0;  ///< a token's part in a batch
    double last_batch_s =
        0;  ///< the same of what the last layer computes for tokens whose logits nobody asks for: keys and values
  };

  double batch_seconds(size_t n_past, size_t n, bool logits) const;
  double attention_token_seconds(const models::LayerShape& shape, size_t n_past) const;
  double attention_batch_seconds(const models::LayerShape& shape, size_t n_past, size_t n) const;

  const Device& device_;
  const models::Hparams& h_;
  AttentionRates attention_;
  std::vector<Matrices> layers_;
  Matrices output_;
};

}  // namespace shoehorn::fit
