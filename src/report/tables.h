// The tables of a report. They have the numbers of the tables in the study that the program grew from (an 8B Llama on a
// Raspberry Pi: types, response times, sizes, perplexity, parameter counts, hardware efficiency), and columns that it
// did not have.
#pragma once

#include <vector>

#include "report/run.h"
#include "report/table.h"

namespace shoehorn::report {

/// The variants in the order in which they are shown: what others were made of first, then from large to small.
std::vector<VariantId> display_order(const Run& run);

/// The variants' labels for narrow places: without the beginning that all GGUFs of the directory have in common.
std::vector<std::string> short_labels(const Run& run);

/// "Q4_K_M, gptq", "BF16 checkpoint".
std::string format_of(const Variant& variant);

/// Most pairs of text and context that have tables and charts.
inline constexpr size_t kMaxProtocols = 12;

Table types_table(const Run& run);     ///< 1: types per kind of tensor
Table response_table(const Run& run);  ///< 2: time to first and last token, tokens per second, memory
Table sizes_table(const Run& run);     ///< 3
std::vector<Table> quality_tables(
    const Run& run);                     ///< 4: perplexity, KL divergence and agreement, a table per text and context
Table checks_table(const Run& run);      ///< what quantize found about its output; no rows where it was not checked
Table scores_table(const Run& run);      ///< tasks; no rows where there are none
Table parameters_table(const Run& run);  ///< 5: counts before and after
Table efficiency_table(const Run& run);  ///< 6: every test of bench
Table energy_table(const Run& run);      ///< no rows where no energy was measured
Table machines_table(const Run& run);

}  // namespace shoehorn::report
