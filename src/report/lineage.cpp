#include "report/lineage.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/memory.h"
#include "report/axis.h"
#include "report/tables.h"

namespace shoehorn::report {
namespace {

constexpr size_t kMaxDepth = 32;

class Tree {
 public:
  explicit Tree(const Run& run) : run_(run), order_(display_order(run)) {}

  Markup draw() {
    out_.open("ul", {{"class", "tree"}});
    for (const VariantId id : order_) {
      const Step* step = run_.maker(id);
      if (step == nullptr || step->in == kNone) node(id, 0);
    }
    // What is left hangs on a circle.
    for (const VariantId id : order_) {
      if (!shown_.contains(id)) node(id, 0);
    }
    out_.close();
    return std::move(out_);
  }

 private:
  void node(VariantId id, size_t depth) {
    if (!shown_.insert(id).second) return;
    const Variant& v = run_.variants[id];
    out_.open("li");
    if (const Step* step = run_.maker(id)) {
      out_.open("span", {{"class", "by"}}).element("b", step->command);
      for (const auto& [name, value] : step->facts) out_.text(fmt::format(" · {} {}", name, value));
      if (step->seconds > 0) out_.text(fmt::format(" · {} s", format_number(step->seconds, 3)));
      if (step->peak_rss > 0 && step->peak_rss < 1e18)
        out_.text(fmt::format(" · {} of memory", format_bytes(static_cast<uint64_t>(step->peak_rss))));
      if (!std::isnan(step->kld_mean)) {
        out_.text(fmt::format(" · own check: KL {}{}", format_number(step->kld_mean, 3),
                              std::isfinite(step->kld_err) ? " ± " + format_number(step->kld_err, 2) : ""));
      }
      if (step->in == kNone) out_.text(" · its source is not recorded (keep the command's --json output)");
      out_.close();
    }
    out_.open("span", {{"class", v.inside ? "node" : "node outside"}}).element("b", v.label);
    std::vector<std::string> what;
    if (!v.format.empty()) what.push_back(format_of(v));
    if (v.bytes > 0 && v.bytes < 1e18) what.push_back(format_bytes(static_cast<uint64_t>(v.bytes)));
    if (v.layers && v.layers->jagged) what.emplace_back("layers of different widths");
    if (!v.inside) what.emplace_back("not in the directory");
    out_.text(fmt::format(" {}", fmt::join(what, ", "))).close();

    std::vector<VariantId> children;
    for (const VariantId child : order_) {
      const Step* step = run_.maker(child);
      if (step != nullptr && step->in == id && !shown_.contains(child)) children.push_back(child);
    }
    if (!children.empty() && depth < kMaxDepth) {
      out_.open("ul");
      for (const VariantId child : children) node(child, depth + 1);
      out_.close();
    }
    out_.close();
  }

  const Run& run_;
  std::vector<VariantId> order_;
  std::set<VariantId> shown_;
  Markup out_;
};

}  // namespace

Markup lineage(const Run& run) { return Tree(run).draw(); }

}  // namespace shoehorn::report
