#include "engine/kv_cache.h"

#include <new>

#include "base/memory.h"
#include "hadamard/matrix.h"

namespace shoehorn::engine {

std::string CacheTypes::describe() const {
  const auto one = [](quant::Type type, bool rotated) {
    return std::string(quant::format(type).name) + (rotated ? " rotated" : "");
  };
  return one(keys, rotate_keys) + "/" + one(values, rotate_values);
}

uint64_t KvCache::bytes(const models::Hparams& hparams, uint64_t n_ctx, const CacheTypes& types) {
  uint64_t per_position = 0;
  for (const models::LayerShape& layer : hparams.layers) {
    const uint64_t n = uint64_t{layer.n_head_kv} * hparams.head_dim;
    per_position += quant::row_bytes(quant::format(types.keys), n) + quant::row_bytes(quant::format(types.values), n);
  }
  return per_position * n_ctx;
}

Expected<KvCache> KvCache::create(const models::Hparams& hparams, size_t n_ctx, const CacheTypes& types) {
  KvCache cache;
  cache.n_ctx_ = n_ctx;
  cache.types_ = types;
  const quant::Format &keys = quant::format(types.keys), &values = quant::format(types.values);
  for (const quant::Format* format : {&keys, &values}) {
    if (hparams.head_dim % format->block_size != 0) {
      return fail(ErrorCode::kUnsupported, "a KV cache of type {} needs heads of a multiple of {}, this model's are {}",
                  format->name, format->block_size, hparams.head_dim);
    }
  }
  if (types.rotate_keys || types.rotate_values) {
    if (const auto plan = hadamard::plan(hparams.head_dim); !plan)
      return annotate(plan.error(), fmt::format("a rotated KV cache: heads of {}", hparams.head_dim));
  }
  cache.bytes_ = bytes(hparams, n_ctx, types);
  const uint64_t available = available_memory();
  if (cache.bytes_ > available) {
    const uint64_t per_position = bytes(hparams, 1, types);
    return fail(ErrorCode::kTooLarge,
                "a context of {} tokens needs {} for keys and values, {} of memory are available; use -c {} or less", n_ctx,
                format_bytes(cache.bytes_), format_bytes(available), available / per_position);
  }
  // Not touched here: pages come into being as positions are filled.
  cache.memory_.reset(new (std::nothrow) std::byte[cache.bytes_]);
  if (cache.memory_ == nullptr) {
    return fail(ErrorCode::kTooLarge, "cannot allocate {} for keys and values; use a smaller -c", format_bytes(cache.bytes_));
  }
  cache.key_bytes_ = quant::row_bytes(keys, hparams.head_dim);
  cache.value_bytes_ = quant::row_bytes(values, hparams.head_dim);
  std::byte* next = cache.memory_.get();
  for (const models::LayerShape& shape : hparams.layers) {
    Layer layer;
    layer.key_head_bytes = cache.key_bytes_ * n_ctx;
    layer.value_head_bytes = cache.value_bytes_ * n_ctx;
    layer.keys = next;
    next += layer.key_head_bytes * shape.n_head_kv;
    layer.values = next;
    next += layer.value_head_bytes * shape.n_head_kv;
    cache.layers_.push_back(layer);
  }
  return cache;
}

}  // namespace shoehorn::engine
