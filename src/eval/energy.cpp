#include "eval/energy.h"

#include <string_view>
#include <vector>

#include "eval/statistics.h"

namespace shoehorn::eval {
namespace {

constexpr double kJoulesPerWattHour = 3600;

constexpr std::string_view kEnglish =
    "The ferry leaves at seven, so we walk down to the harbour before breakfast. It is still dark, and the lamps along "
    "the quay "
    "shine on wet stones. An old man sells coffee from a small cart; he knows most of the passengers by name and asks "
    "about their "
    "children. When the boat arrives, the captain waves from the bridge and two boys throw the ropes ashore. The "
    "crossing takes "
    "forty minutes if the wind is kind. On the other side there is a market every Thursday where people from the "
    "islands sell "
    "fish, cheese, apples and warm socks. My sister wants to buy a lamp for her new kitchen, but she has not decided "
    "which colour "
    "would suit the walls. I only want to sit in the sun, read the newspaper and listen to the gulls until it is time "
    "to go home.";

size_t count_words(std::string_view text) {
  size_t n = 0;
  bool inside = false;
  for (const char c : text) {
    n += c != ' ' && !inside ? 1 : 0;
    inside = c != ' ';
  }
  return n;
}

}  // namespace

EnergyFigures energy_of(const EnergySeries& series, const EnergyQuestion& question) {
  EnergyFigures out;
  double seconds = 0;
  std::vector<double> measured;
  std::string reason;
  for (const Window& window : question.repetitions) {
    const auto joules = series.joules(window);
    out.samples_joules.push_back(joules ? std::optional(*joules) : std::nullopt);
    if (!joules) {
      if (reason.empty()) reason = joules.error().message;
      continue;
    }
    measured.push_back(*joules);
    seconds += window.seconds();
  }
  const auto n_all = question.repetitions.size();
  if (!reason.empty())
    out.trouble = fmt::format("{} of {} repetitions have no figure: {}", n_all - measured.size(), n_all, reason);
  if (question.idle) {
    const auto joules = series.joules(*question.idle);
    if (joules) {
      out.idle_watts = *joules / question.idle->seconds();
    } else {
      out.trouble += fmt::format("{}no idle power: {}", out.trouble.empty() ? "" : "; ", joules.error().message);
    }
  }
  if (measured.empty()) return out;

  const MeanDeviation joules = mean_and_deviation(measured);
  out.joules = joules.mean;
  out.stddev_joules = joules.deviation;
  if (seconds > 0) out.watts = joules.mean * static_cast<double>(measured.size()) / seconds;
  if (*out.joules <= 0 || question.n_tokens == 0) return out;
  const auto n_tokens = static_cast<double>(question.n_tokens);
  out.joules_per_token = *out.joules / n_tokens;
  out.tokens_per_joule = n_tokens / *out.joules;
  if (out.idle_watts && *out.watts > *out.idle_watts) {
    const double active_joules = (*out.watts - *out.idle_watts) * seconds / static_cast<double>(measured.size());
    out.active_tokens_per_joule = n_tokens / active_joules;
  }
  if (question.battery_wh > 0)
    out.words_per_battery = question.battery_wh * kJoulesPerWattHour * *out.tokens_per_joule * question.words_per_token;
  return out;
}

double english_words_per_token(const tokenizer::Tokenizer& tokenizer) {
  const auto tokens = tokenizer.encode(kEnglish, {.add_special = false, .parse_special = false});
  return tokens.empty() ? 0 : static_cast<double>(count_words(kEnglish)) / static_cast<double>(tokens.size());
}

}  // namespace shoehorn::eval
