// Plots as SVG. They are drawn in the colours of the style sheet (report/style.h), so that they follow the reader's
// light or dark setting, and name every value in a tooltip.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "report/axis.h"
#include "report/markup.h"

namespace shoehorn::report {

struct Point {
  double x = 0, y = 0;
  double error = std::numeric_limits<double>::quiet_NaN();  ///< of y, drawn as a bar of one error up and down
  std::string label = {};                                   ///< beside the point, where there is room
  std::string tooltip = {};
};

/// How a series is drawn. Colours and marks differ from series to series.
enum class Drawn { kPoints, kLine, kDashedLine };

struct Series {
  std::string name;
  std::vector<Point> points;
  Drawn drawn = Drawn::kPoints;
};

struct AxisSettings {
  std::string title;
  bool log = false;
  bool zero = false;  ///< a linear axis starts at 0
  Unit unit = Unit::kNumber;
};

struct Chart {
  std::string title, description;  ///< what it shows, and how to read it
  AxisSettings x, y;
  std::vector<Series> series;  ///< points that are not finite, or not positive on a logarithmic axis, are left out
};

/// The chart in a <figure>, with legend and caption. Lines of very many points are thinned to what can be seen.
Markup draw(const Chart& chart);

/// Values of rows x columns as coloured cells with a text in each.
struct HeatMap {
  struct Cell {
    double value = std::numeric_limits<double>::quiet_NaN();  ///< decides the colour; NaN: an empty cell
    std::string text = {}, tooltip = {};
  };
  std::string title, description;
  std::string row_title, value_title;
  std::vector<std::string> columns, rows;
  std::vector<std::vector<Cell>> cells;  ///< [rows][columns]
  bool log = false;                      ///< colours by the logarithm
};

Markup draw(const HeatMap& map);

}  // namespace shoehorn::report
