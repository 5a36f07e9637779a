// Plain values of a pickle as JSON: what a configuration object holds.
#pragma once

#include "base/json.h"
#include "io/pickle.h"

namespace shoehorn::io::pickle {

/// None, booleans, numbers, text, lists, tuples and sets as JSON has them, dicts and the attributes of objects as
/// objects, dtypes by name; null for the rest. Keys are texts or whole numbers, others are left out; bytes that are no
/// UTF-8 become U+FFFD. Fails when nested too deeply (values may contain themselves) or too large (they may be shared).
Expected<Json> to_json(const Pickle& pickle, Ref ref);

}  // namespace shoehorn::io::pickle
