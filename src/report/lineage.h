// Which model came of which, and by what.
#pragma once

#include "report/markup.h"
#include "report/run.h"

namespace shoehorn::report {

/// The models as nested lists: what was made of a model stands below it, with the command that made it. Models of which
/// no record tells the source are roots; a circle, which only wrong records can make, is cut.
Markup lineage(const Run& run);

}  // namespace shoehorn::report
