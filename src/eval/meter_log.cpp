#include "eval/meter_log.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>

#include "base/output_file.h"

namespace shoehorn::eval {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;
constexpr size_t kMaxColumns = 256;
constexpr double kOldestUnixTime = 1e9;  // 2001: smaller numbers count from the log's begin

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trim(std::string_view text) {
  const auto unwanted = std::string_view(" \t\r\"\xef\xbb\xbf");  // quotes and a byte order mark too
  const size_t first = text.find_first_not_of(unwanted);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(unwanted) - first + 1);
}

std::vector<std::string_view> split(std::string_view line, char separator) {
  std::vector<std::string_view> cells;
  for (size_t begin = 0; cells.size() < kMaxColumns;) {
    const size_t end = line.find(separator, begin);
    cells.push_back(trim(line.substr(begin, end == std::string_view::npos ? end : end - begin)));
    if (end == std::string_view::npos) break;
    begin = end + 1;
  }
  return cells;
}

/// A column's name in words of lower-case letters: "Vbus [mV]" is vbus, mv.
std::vector<std::string> words(std::string_view name) {
  std::vector<std::string> found(1);
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (c == '\xc2' && i + 1 < name.size() && name[i + 1] == '\xb5') {  // the micro sign
      found.back() += 'u';
      ++i;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      found.back() += static_cast<char>(c | 0x20);
    } else if (!found.back().empty()) {
      found.emplace_back();
    }
  }
  if (found.back().empty()) found.pop_back();
  return found;
}

bool has(const std::vector<std::string>& words, std::initializer_list<std::string_view> wanted) {
  return std::ranges::any_of(words,
                             [&](const std::string& word) { return std::ranges::find(wanted, word) != wanted.end(); });
}

/// The factor to the base unit, by a word such as "mv"; 1 without one.
double factor(const std::vector<std::string>& words, char unit) {
  for (const std::string& word : words) {
    if (word.size() != 2 || word[1] != unit) continue;
    if (word[0] == 'm') return 1e-3;
    if (word[0] == 'u') return 1e-6;
    if (word[0] == 'k') return 1e3;
  }
  return 1;
}

struct Columns {
  std::optional<size_t> date, time, power, voltage, current;  // date: of its own, beside the time
  double time_factor = 0;                                     // 0: not named
  double power_factor = 1, voltage_factor = 1, current_factor = 1;

  bool complete() const { return time && (power || (voltage && current)); }
};

Columns find_columns(const std::vector<std::string_view>& header) {
  Columns columns;
  for (size_t i = 0; i < header.size(); ++i) {
    const auto name = words(header[i]);
    if (!columns.date && has(name, {"date"}) && !has(name, {"time"})) {
      columns.date = i;
    } else if (!columns.time &&
               has(name, {"time", "timestamp", "date", "datetime", "elapsed", "epoch", "unix", "seconds", "t"})) {
      columns.time = i;
      if (has(name, {"ms", "msec", "milliseconds", "millis"})) columns.time_factor = 1e-3;
      if (has(name, {"us", "usec", "microseconds"})) columns.time_factor = 1e-6;
      if (has(name, {"s", "sec", "seconds"})) columns.time_factor = 1;
    } else if (!columns.power && has(name, {"power", "watt", "watts", "w", "mw", "uw", "p", "pbus"})) {
      columns.power = i;
      columns.power_factor = factor(name, 'w');
    } else if (!columns.voltage && has(name, {"voltage", "volt", "volts", "v", "mv", "vbus", "u"})) {
      columns.voltage = i;
      columns.voltage_factor = factor(name, 'v');
    } else if (!columns.current &&
               has(name, {"current", "ampere", "amperes", "amps", "amp", "a", "ma", "ua", "ibus", "i"})) {
      columns.current = i;
      columns.current_factor = factor(name, 'a');
    }
  }
  if (!columns.time) std::swap(columns.date, columns.time);
  return columns;
}

std::optional<double> parse_number(std::string_view text, bool decimal_comma) {
  std::string copy(text);
  if (decimal_comma) std::ranges::replace(copy, ',', '.');
  if (copy.starts_with('+')) copy.erase(0, 1);
  double value = 0;
  const char* const end = copy.data() + copy.size();
  const auto [rest, error] = std::from_chars(copy.data(), end, value);
  if (error != std::errc() || rest != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// Two or four digits at `at`, which moves behind them.
std::optional<int> digits(std::string_view text, size_t& at, size_t n) {
  if (at + n > text.size()) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < n; ++i, ++at) {
    if (!is_digit(text[at])) return std::nullopt;
    value = value * 10 + (text[at] - '0');
  }
  return value;
}

bool skip(std::string_view text, size_t& at, std::string_view any_of) {
  if (at >= text.size() || any_of.find(text[at]) == std::string_view::npos) return false;
  ++at;
  return true;
}

/// Unix seconds of an ISO 8601 date and time.
std::optional<double> parse_iso8601(std::string_view text) {
  size_t at = 0;
  const auto year = digits(text, at, 4);
  if (!year || !skip(text, at, "-/.")) return std::nullopt;
  const auto month = digits(text, at, 2);
  if (!month || !skip(text, at, "-/.")) return std::nullopt;
  const auto day = digits(text, at, 2);
  if (!day || !skip(text, at, "T t")) return std::nullopt;
  const auto hour = digits(text, at, 2);
  if (!hour || !skip(text, at, ":")) return std::nullopt;
  const auto minute = digits(text, at, 2);
  if (!minute) return std::nullopt;
  int second = 0;
  double fraction = 0;
  if (skip(text, at, ":")) {
    const auto whole = digits(text, at, 2);
    if (!whole) return std::nullopt;
    second = *whole;
    if (skip(text, at, ".,")) {
      for (double place = 0.1; at < text.size() && is_digit(text[at]); ++at, place /= 10)
        fraction += place * (text[at] - '0');
    }
  }
  if (*month < 1 || *month > 12 || *day < 1 || *day > 31 || *hour > 24 || *minute > 59 || second > 60)
    return std::nullopt;
  std::tm calendar = {};
  calendar.tm_year = *year - 1900;
  calendar.tm_mon = *month - 1;
  calendar.tm_mday = *day;
  calendar.tm_hour = *hour;
  calendar.tm_min = *minute;
  calendar.tm_sec = second;
  calendar.tm_isdst = -1;
  if (at == text.size()) return static_cast<double>(std::mktime(&calendar)) + fraction;
  skip(text, at, " ");
  int zone_minutes = 0;
  if (!skip(text, at, "Zz")) {
    const bool west = at < text.size() && text[at] == '-';
    if (!skip(text, at, "+-")) return std::nullopt;
    const auto zone_hours = digits(text, at, 2);
    if (!zone_hours) return std::nullopt;
    skip(text, at, ":");
    zone_minutes = (*zone_hours * 60 + digits(text, at, 2).value_or(0)) * (west ? -1 : 1);
  }
  if (at != text.size()) return std::nullopt;
  return static_cast<double>(timegm(&calendar)) - 60.0 * zone_minutes + fraction;
}

/// A number without a unit is in seconds unless it then lies beyond the year 5138.
double guessed_time_factor(double value) { return value > 1e14 ? 1e-6 : value > 1e11 ? 1e-3 : 1; }

bool is_missing(std::string_view cell) {
  return cell.empty() || cell == "-" || cell == "--" || cell == "nan" || cell == "NaN" || cell == "NAN" ||
         cell == "null";
}

class Reader {
 public:
  Reader(const std::string& path, const MeterLogOptions& options) : path_(path), options_(options) {}

  Status line(std::string_view text, size_t number, bool last) {
    if (trim(text).empty()) return {};
    if (!columns_.complete()) {
      look_for_header(text);
      return {};
    }
    const auto cells = split(text, separator_);
    const auto cell = [&](const std::optional<size_t>& column) {
      return *column < cells.size() ? cells[*column] : std::string_view();
    };
    const auto number_in = [&](const std::optional<size_t>& column) {
      return parse_number(cell(column), separator_ != ',');
    };
    std::string time_cell(cell(columns_.time));
    if (is_missing(time_cell)) return {};
    const bool by_power = columns_.power.has_value();
    if (by_power ? is_missing(cell(columns_.power))
                 : is_missing(cell(columns_.voltage)) || is_missing(cell(columns_.current)))
      return {};
    if (columns_.date) time_cell = std::string(cell(columns_.date)) + " " + time_cell;
    const auto time = parse_time(time_cell);
    std::optional<double> watts;
    if (by_power) {
      if (const auto power = number_in(columns_.power)) watts = *power * columns_.power_factor;
    } else {
      const auto volts = number_in(columns_.voltage), amperes = number_in(columns_.current);
      if (volts && amperes) watts = *volts * columns_.voltage_factor * *amperes * columns_.current_factor;
    }
    if (!time || !watts) {
      if (last) return {};  // still being written, or cut off
      return fail(ErrorCode::kInvalid, "{}:{}: \"{}\" is not a {}", path_, number, trim(text).substr(0, 80),
                  time ? "measurement" : "time");
    }
    return add(*time, *watts, number);
  }

  Expected<EnergySeries> finish() {
    if (!columns_.complete()) {
      return fail(
          ErrorCode::kInvalid,
          "{}: no line names columns for the time and for power, or voltage and current (such as \"time_s,power_w\")",
          path_);
    }
    if (samples_.empty()) return fail(ErrorCode::kInvalid, "{}: no measurement below the header", path_);
    if (relative_ && !options_.has_offset) {
      return fail(ErrorCode::kInvalid,
                  "{}: times count from {:.3f} s, not from 1970: give the Unix time of the log's zero as "
                  "--power-offset SECONDS",
                  path_, samples_.front().time);
    }
    return EnergySeries(EnergySeries::Kind::kPower, std::move(samples_), options_.max_gap);
  }

 private:
  void look_for_header(std::string_view text) {
    // With semicolons or tabs, commas belong to numbers and names.
    for (const char separator : {'\t', ';', ','}) {
      if (text.find(separator) == std::string_view::npos) continue;
      columns_ = find_columns(split(text, separator));
      separator_ = separator;
      if (columns_.complete()) return;
    }
  }

  std::optional<double> parse_time(std::string_view cell) {
    if (const auto number = parse_number(cell, separator_ != ',')) {
      if (columns_.time_factor == 0) columns_.time_factor = guessed_time_factor(*number);
      const double seconds = *number * columns_.time_factor;
      if (samples_.empty()) relative_ = seconds < kOldestUnixTime;
      return seconds + options_.offset;
    }
    if (const auto time = parse_iso8601(cell)) return *time + options_.offset;
    return std::nullopt;
  }

  Status add(double time, double watts, size_t number) {
    if (!samples_.empty() && time < samples_.back().time) {
      return fail(ErrorCode::kInvalid, "{}:{}: the time goes back by {:.3f} s", path_, number,
                  samples_.back().time - time);
    }
    if (!samples_.empty() && time == samples_.back().time) {
      ++n_same_;
      samples_.back().value += (watts - samples_.back().value) / n_same_;
      return {};
    }
    n_same_ = 1;
    samples_.push_back({time, watts});
    return {};
  }

  const std::string& path_;
  const MeterLogOptions& options_;
  Columns columns_;
  char separator_ = ',';
  bool relative_ = false;
  double n_same_ = 1;
  std::vector<EnergySeries::Sample> samples_;
};

}  // namespace

Expected<EnergySeries> read_meter_log(const std::string& path, const MeterLogOptions& options) {
  // A copy: the meter's program may still be writing to the file.
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxBytes));
  Reader reader(path, options);
  size_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    // What comes without an end of line may be half a line.
    SHOEHORN_RETURN_IF_ERROR(
        reader.line(std::string_view(text).substr(begin, end - begin), number, end == text.size()));
    begin = end + 1;
  }
  return reader.finish();
}

}  // namespace shoehorn::eval
