// The configuration of a model that was saved as an object, pruned: what it says of its layers is from before.
#pragma once

#include "base/json.h"
#include "io/checkpoint.h"

namespace shoehorn::convert {

/// `config`, which is config.json or the object's own, with everything that pruning changes taken from the tensors of
/// `weights`: the number of layers, hidden_size, and per layer the MLP's width and the numbers of heads. The heads' size is
/// head_dim, or what the object's attention says, or hidden_size / num_attention_heads, as they were before.
/// `weights` must have a model(). Fails naming the tensor whose rows are no whole heads.
Expected<Json> object_config(const io::Checkpoint& weights, Json config);

}  // namespace shoehorn::convert
