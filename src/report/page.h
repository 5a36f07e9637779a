// The report of a run as one HTML file that needs nothing else.
#pragma once

#include <string>

#include "base/json.h"
#include "report/run.h"

namespace shoehorn::report {

/// A page without scripts and without references to anything outside of it.
std::string page(const Run& run);

/// The same as data: {"directory", "models": [{"name", "path", "format", "bytes", ..., "made_by", "from", "perplexity":
/// [...], "bench": [...]}], "files", "problems"}. Figures that were not measured are null.
Json summary(const Run& run);

}  // namespace shoehorn::report
