#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace shoehorn::report {
namespace {

constexpr double kWidth = 480, kHeight = 310;
constexpr double kLeft = 66, kRight = 16, kTop = 12, kBottom = 46;
constexpr double kCharWidth = 6.6;  // of the labels' font, on average
constexpr size_t kColours = 8;      // of the style sheet
constexpr size_t kMaxLinePoints = 600;

std::string number(double value) { return fmt::format("{:.1f}", value); }

struct Box {
  double left, top, right, bottom;
  bool overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

double text_width(std::string_view text) {
  return kCharWidth * static_cast<double>(std::ranges::count_if(
                          text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// The mark of a series, so that it is told from others without colours too.
void draw_mark(Markup& out, size_t series, double x, double y, const std::string& tooltip) {
  const std::string colour = fmt::format("mark c{}", series % kColours);
  constexpr double r = 4.5;
  switch (series % 4) {
    case 0:
      out.open("circle", {{"class", colour}, {"cx", number(x)}, {"cy", number(y)}, {"r", number(r)}});
      break;
    case 1:
      out.open("rect",
               {{"class", colour}, {"x", number(x - 4)}, {"y", number(y - 4)}, {"width", "8"}, {"height", "8"}});
      break;
    case 2:
      out.open("path", {{"class", colour}, {"d", fmt::format("M{:.1f} {:.1f}l5.2 9h-10.4z", x, y - 5.5)}});
      break;
    default:
      out.open("path",
               {{"class", colour}, {"d", fmt::format("M{:.1f} {:.1f}l5.4 5.4l-5.4 5.4l-5.4-5.4z", x, y - 5.4)}});
  }
  if (!tooltip.empty()) out.element("title", tooltip);
  out.close();
}

class XyPlot {
 public:
  explicit XyPlot(const Chart& chart)
      : chart_(chart),
        x_(values(&Point::x), chart.x.log, chart.x.zero, kLeft, kWidth - kRight, chart.x.unit),
        y_(values_with_errors(), chart.y.log, chart.y.zero, kHeight - kBottom, kTop, chart.y.unit) {}

  Markup svg() {
    svg_.open("svg", {{"viewBox", fmt::format("0 0 {} {}", kWidth, kHeight)},
                      {"role", "img"},
                      {"class", "chart xy"},
                      {"aria-label", chart_.title + ". " + chart_.description}});
    axes();
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      if (chart_.series[i].drawn != Drawn::kPoints) line(i);
    }
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      if (chart_.series[i].drawn == Drawn::kPoints) marks(i);
    }
    labels();
    svg_.close();
    return std::move(svg_);
  }

 private:
  std::vector<double> values(double Point::*member) const {
    std::vector<double> out;
    for (const Series& series : chart_.series) {
      for (const Point& point : series.points) out.push_back(point.*member);
    }
    return out;
  }

  std::vector<double> values_with_errors() const {
    std::vector<double> out = values(&Point::y);
    for (const Series& series : chart_.series) {
      for (const Point& point : series.points) {
        out.push_back(point.y + point.error);
        // An error bar that reaches below zero is cut there by a logarithmic axis.
        if (!chart_.y.log || point.y > point.error) out.push_back(point.y - point.error);
      }
    }
    return out;
  }

  bool visible(const Point& p) const {
    return std::isfinite(p.x) && std::isfinite(p.y) && (!x_.is_log() || p.x > 0) && (!y_.is_log() || p.y > 0);
  }

  void axes() {
    const double right = kWidth - kRight, bottom = kHeight - kBottom;
    for (const Axis::Tick& tick : x_.ticks()) {
      const std::string at = number(x_.at(tick.value));
      svg_.empty("line", {{"class", "grid"}, {"x1", at}, {"x2", at}, {"y1", number(kTop)}, {"y2", number(bottom)}});
      svg_.element("text", tick.label, {{"x", at}, {"y", number(bottom + 16)}, {"text-anchor", "middle"}});
    }
    for (const Axis::Tick& tick : y_.ticks()) {
      const double at = y_.at(tick.value);
      svg_.empty(
          "line",
          {{"class", "grid"}, {"x1", number(kLeft)}, {"x2", number(right)}, {"y1", number(at)}, {"y2", number(at)}});
      svg_.element("text", tick.label, {{"x", number(kLeft - 6)}, {"y", number(at + 4)}, {"text-anchor", "end"}});
    }
    svg_.empty("path", {{"class", "axis"}, {"d", fmt::format("M{} {}V{}H{}", kLeft, kTop, bottom, right)}});
    svg_.element("text", chart_.x.title + (x_.is_log() ? " (log)" : ""),
                 {{"class", "axis-title"},
                  {"x", number((kLeft + right) / 2)},
                  {"y", number(kHeight - 8)},
                  {"text-anchor", "middle"}});
    const double middle = (kTop + bottom) / 2;
    svg_.element("text", chart_.y.title + (y_.is_log() ? " (log)" : ""),
                 {{"class", "axis-title"},
                  {"x", "12"},
                  {"y", number(middle)},
                  {"transform", fmt::format("rotate(-90 12 {:.1f})", middle)},
                  {"text-anchor", "middle"}});
  }

  void line(size_t index) {
    const Series& series = chart_.series[index];
    const size_t step = std::max<size_t>(1, (series.points.size() + kMaxLinePoints - 1) / kMaxLinePoints);
    std::string points;
    for (size_t i = 0; i < series.points.size(); ++i) {
      const Point& p = series.points[i];
      if ((i % step != 0 && i + 1 != series.points.size()) || !visible(p)) continue;
      points += fmt::format("{:.1f},{:.1f} ", x_.at(p.x), y_.at(p.y));
    }
    const char* dashes = series.drawn == Drawn::kDashedLine ? " dashed" : "";
    svg_.open("polyline", {{"class", fmt::format("line c{}{}", index % kColours, dashes)}, {"points", points}});
    svg_.element("title", series.name).close();
  }

  void marks(size_t index) {
    for (const Point& p : chart_.series[index].points) {
      if (!visible(p)) continue;
      const double x = x_.at(p.x), y = y_.at(p.y);
      if (std::isfinite(p.error) && p.error > 0) {
        const double up = y_.at(p.y + p.error);
        const double down =
            std::min(y_.is_log() && p.y <= p.error ? kHeight - kBottom : y_.at(p.y - p.error), kHeight - kBottom);
        svg_.empty(
            "path",
            {{"class", fmt::format("error c{}", index % kColours)},
             {"d", fmt::format("M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h6M{3:.1f} {2:.1f}h6", x, up, down, x - 3)}});
        taken_.push_back({x - 2, up, x + 2, down});
      }
      draw_mark(svg_, index, x, y, p.tooltip);
      taken_.push_back({x - 6, y - 6, x + 6, y + 6});
    }
  }

  /// A label goes where it covers nothing; one without such a place is left to the tooltip and the table.
  void labels() {
    for (const Series& series : chart_.series) {
      for (const Point& p : series.points) {
        if (series.drawn != Drawn::kPoints || p.label.empty() || !visible(p)) continue;
        const double x = x_.at(p.x), y = y_.at(p.y), width = text_width(p.label);
        const double error = std::isfinite(p.error) && p.error > 0 ? y - y_.at(p.y + p.error) : 0;
        const std::array<std::pair<double, double>, 8> places = {{{x + 8, y + 4},
                                                                  {x - 8 - width, y + 4},
                                                                  {x + 6, y - 7},
                                                                  {x + 6, y + 15},
                                                                  {x - 6 - width, y - 7},
                                                                  {x - 6 - width, y + 15},
                                                                  {x - width / 2, y - error - 8},
                                                                  {x - width / 2, y + error + 16}}};
        for (const auto& [left, base] : places) {
          const Box box{left, base - 10, left + width, base + 3};
          if (left < kLeft + 2 || box.right > kWidth - 2 || box.top < 2 || box.bottom > kHeight - kBottom) continue;
          if (std::ranges::any_of(taken_, [&](const Box& other) { return box.overlaps(other); })) continue;
          svg_.element("text", p.label, {{"class", "label"}, {"x", number(left)}, {"y", number(base)}});
          taken_.push_back(box);
          break;
        }
      }
    }
  }

  const Chart& chart_;
  Axis x_, y_;
  Markup svg_;
  std::vector<Box> taken_;
};

Markup legend(const Chart& chart) {
  Markup out;
  if (chart.series.size() < 2 && (chart.series.empty() || chart.series[0].name.empty())) return out;
  out.open("ul", {{"class", "legend"}});
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    out.open("li").open("svg", {{"viewBox", "0 0 22 14"}, {"aria-hidden", "true"}, {"class", "key"}});
    if (series.drawn == Drawn::kPoints) {
      draw_mark(out, i, 11, 7, "");
    } else {
      const char* dashes = series.drawn == Drawn::kDashedLine ? " dashed" : "";
      out.empty("polyline", {{"class", fmt::format("line c{}{}", i % kColours, dashes)}, {"points", "1,7 21,7"}});
    }
    out.close().text(series.name).close();
  }
  out.close();
  return out;
}

void caption(Markup& out, const std::string& title, const std::string& description) {
  out.open("figcaption").element("strong", title);
  if (!description.empty()) out.text(" ").element("span", description);
  out.close();
}

/// Colours of a heat map: steps of the style sheet, dark for small values.
constexpr int kHeatSteps = 9;

}  // namespace

Markup draw(const Chart& chart) {
  Markup out;
  out.open("figure");
  caption(out, chart.title, chart.description);
  out.add(legend(chart)).add(XyPlot(chart).svg()).close();
  return out;
}

Markup draw(const HeatMap& map) {
  constexpr double kRow = 19, kHead = 24, kFoot = 40;
  double label_width = text_width(map.row_title) + 10;
  for (const std::string& row : map.rows) label_width = std::max(label_width, text_width(row) * 1.1 + 12);
  double cell_width =
      std::max(44.0, (kWidth - label_width) / static_cast<double>(std::max<size_t>(1, map.columns.size())));
  for (const std::string& column : map.columns) cell_width = std::max(cell_width, text_width(column) + 8);
  const double width = label_width + cell_width * static_cast<double>(map.columns.size());
  const double bottom = kHead + kRow * static_cast<double>(map.rows.size()), height = bottom + kFoot;

  double low = std::numeric_limits<double>::infinity(), high = -low;
  const auto scaled = [&](double value) { return map.log ? std::log(std::max(value, 1e-300)) : value; };
  for (const auto& row : map.cells) {
    for (const HeatMap::Cell& cell : row) {
      if (!std::isfinite(cell.value) || (map.log && cell.value <= 0)) continue;
      low = std::min(low, cell.value);
      high = std::max(high, cell.value);
    }
  }
  const auto step_of = [&](double value) {
    if (!std::isfinite(value) || !std::isfinite(low)) return 0;
    if (high <= low) return kHeatSteps / 2;
    const double share = (scaled(std::max(value, low)) - scaled(low)) / (scaled(high) - scaled(low));
    return static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * (kHeatSteps - 1)));
  };

  Markup out;
  out.open("figure");
  caption(out, map.title, map.description);
  out.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", map.title}});
  out.open("svg", {{"viewBox", fmt::format("0 0 {:.0f} {:.0f}", width, height)},
                   {"role", "img"},
                   {"class", "chart"},
                   {"style", fmt::format("min-width:{:.0f}px;max-width:{:.0f}px", width * 0.85, width * 1.3)},
                   {"aria-label", map.title + ". " + map.description}});
  out.element("text", map.row_title,
              {{"class", "axis-title"}, {"x", number(label_width - 6)}, {"y", "16"}, {"text-anchor", "end"}});
  for (size_t c = 0; c < map.columns.size(); ++c) {
    const double middle = label_width + (static_cast<double>(c) + 0.5) * cell_width;
    out.element("text", map.columns[c],
                {{"class", "axis-title"}, {"x", number(middle)}, {"y", "16"}, {"text-anchor", "middle"}});
  }
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double top = kHead + kRow * static_cast<double>(r);
    out.element("text", map.rows[r], {{"x", number(label_width - 6)}, {"y", number(top + 13)}, {"text-anchor", "end"}});
    for (size_t c = 0; c < map.columns.size() && c < map.cells[r].size(); ++c) {
      const HeatMap::Cell& cell = map.cells[r][c];
      if (std::isnan(cell.value)) continue;
      const double left = label_width + static_cast<double>(c) * cell_width;
      const int step = step_of(cell.value);
      out.open("g").open("rect", {{"class", fmt::format("h{}", step)},
                                  {"x", number(left + 1)},
                                  {"y", number(top + 1)},
                                  {"width", number(cell_width - 2)},
                                  {"height", number(kRow - 2)},
                                  {"rx", "2"}});
      out.element("title", cell.tooltip).close();
      if (!cell.text.empty()) {
        out.element("text", cell.text,
                    {{"class", step < 5 ? "on-dark" : "on-light"},
                     {"x", number(left + cell_width / 2)},
                     {"y", number(top + 13)},
                     {"text-anchor", "middle"}});
      }
      out.close();
    }
  }
  if (std::isfinite(low)) {
    const double key_width = 16, left = std::max(8.0, width - kHeatSteps * key_width - 60), top = bottom + 14;
    out.element("text", fmt::format("{}: {}", map.value_title, format_number(low, 3)),
                {{"x", number(left - 6)}, {"y", number(top + 11)}, {"text-anchor", "end"}});
    if (high > low) {
      for (int step = 0; step < kHeatSteps; ++step) {
        out.empty("rect", {{"class", fmt::format("h{}", step)},
                           {"x", number(left + step * key_width)},
                           {"y", number(top)},
                           {"width", number(key_width)},
                           {"height", "14"}});
      }
      out.element("text", format_number(high, 3),
                  {{"x", number(left + kHeatSteps * key_width + 6)}, {"y", number(top + 11)}});
    }
  }
  out.close().close().close();
  return out;
}

}  // namespace shoehorn::report
