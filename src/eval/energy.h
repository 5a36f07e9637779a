// What a token costs: joules, tokens per joule, words per battery life.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/energy_series.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::eval {

/// Of one test. What could not be measured is absent and `trouble` says why.
struct EnergyFigures {
  std::vector<std::optional<double>> samples_joules;  ///< [repetitions]
  std::optional<double> joules,
      stddev_joules;            ///< of a repetition, mean of those that were measured; everything that the source sees
  std::optional<double> watts;  ///< their power
  std::optional<double> idle_watts;               ///< static power: before the run
  std::optional<double> joules_per_token;         ///< over all tokens of the test, prompt and generated
  std::optional<double> tokens_per_joule;         ///< TPJ
  std::optional<double> active_tokens_per_joule;  ///< TPJ of the power above the idle one; absent when it is not above
  std::optional<double>
      words_per_battery;  ///< W/BL: words until a full battery is empty, at this rate and all its power
  std::string trouble;
};

struct EnergyQuestion {
  std::span<const Window> repetitions = {};  ///< of one test
  size_t n_tokens = 0;                       ///< of a repetition
  std::optional<Window> idle = {};           ///< when nothing ran
  double battery_wh = 0;                     ///< 0: not asked
  double words_per_token = 0;
};

/// A repetition or idle time that the series does not cover has no figure: the others' is the mean.
EnergyFigures energy_of(const EnergySeries& series, const EnergyQuestion& question);

/// English words per token of a tokenizer, over a short text of everyday English.
double english_words_per_token(const tokenizer::Tokenizer& tokenizer);

}  // namespace shoehorn::eval
