// The plots of a report. Each is left out where there is nothing to show; what is drawn is in the tables too.
#pragma once

#include <vector>

#include "report/chart.h"
#include "report/run.h"

namespace shoehorn::report {

/// KL divergence and perplexity over bytes, a chart per text and measure.
std::vector<Chart> quality_charts(const Run& run);
/// Rates of generation and of reading a prompt over bytes, with the rate that the memory's bandwidth allows.
std::vector<Chart> rate_charts(const Run& run);
/// Loss over optimizer steps, a chart per heal.
std::vector<Chart> loss_charts(const Run& run);
/// Power, temperature, frequency over time, a chart per model and unit; the first `max` of them.
std::vector<Chart> time_charts(const Run& run, size_t max = 24);
/// Test x kind of step: where the time goes, where bench was run with --profile.
std::vector<HeatMap> profile_maps(const Run& run);
/// Layer x matrix: what quantizing each cost the whole model, a map per quantize that measured it.
std::vector<HeatMap> sensitivity_maps(const Run& run);

}  // namespace shoehorn::report
