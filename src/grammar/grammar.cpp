#include "grammar/grammar.h"

#include <algorithm>

namespace shoehorn::grammar {
namespace {

using Kind = Element::Kind;

/// Which rules can be empty: those with an alternative of nothing but such rules, found from the empty ones upwards.
std::vector<bool> nullable_rules(const Grammar& grammar) {
  struct Alternative {
    uint32_t rule;
    size_t left;  // rules in it that are not known to be nullable
  };
  std::vector<Alternative> alternatives;
  std::vector<std::vector<size_t>> used_in(grammar.rules.size());
  std::vector<size_t> empty;
  for (uint32_t r = 0; r < grammar.rules.size(); ++r) {
    for (const uint32_t begin : grammar.rules[r].alternatives) {
      uint32_t end = begin;
      while (grammar.elements[end].kind == Kind::kRule) ++end;
      if (grammar.elements[end].kind != Kind::kEnd) continue;
      for (uint32_t at = begin; at < end; ++at) used_in[grammar.elements[at].rule].push_back(alternatives.size());
      if (begin == end) empty.push_back(alternatives.size());
      alternatives.push_back({r, end - begin});
    }
  }
  std::vector<bool> out(grammar.rules.size(), false);
  while (!empty.empty()) {
    const uint32_t rule = alternatives[empty.back()].rule;
    empty.pop_back();
    if (out[rule]) continue;
    out[rule] = true;
    for (const size_t alternative : used_in[rule]) {
      if (--alternatives[alternative].left == 0) empty.push_back(alternative);
    }
  }
  return out;
}

/// A rule that another one can begin with. `last`: it ends that one, too, so that nothing has to be remembered.
struct Beginning {
  uint32_t rule;
  bool last;
};

std::vector<std::vector<Beginning>> beginnings(const Grammar& grammar) {
  const std::vector<bool> nullable = nullable_rules(grammar);
  std::vector<std::vector<Beginning>> out(grammar.rules.size());
  for (size_t r = 0; r < grammar.rules.size(); ++r) {
    for (uint32_t at : grammar.rules[r].alternatives) {
      for (; grammar.elements[at].kind == Kind::kRule; ++at) {
        const uint32_t rule = grammar.elements[at].rule;
        out[r].push_back({rule, grammar.elements[at + 1].kind == Kind::kEnd});
        if (!nullable[rule]) break;
      }
    }
  }
  return out;
}

/// Strongly connected components: a number for each rule (Tarjan 1972, doi:10.1137/0201010, without recursion).
std::vector<uint32_t> components(const std::vector<std::vector<Beginning>>& edges) {
  constexpr uint32_t kNone = ~uint32_t{0};
  const size_t n = edges.size();
  std::vector<uint32_t> index(n, kNone), low(n, 0), out(n, kNone);
  std::vector<uint32_t> open;
  std::vector<std::pair<uint32_t, size_t>> calls;
  uint32_t next = 0, n_components = 0;
  for (uint32_t start = 0; start < n; ++start) {
    if (index[start] != kNone) continue;
    calls.emplace_back(start, 0);
    while (!calls.empty()) {
      const auto [v, edge] = calls.back();
      if (edge == 0) {
        index[v] = low[v] = next++;
        open.push_back(v);
      }
      if (edge < edges[v].size()) {
        ++calls.back().second;
        const uint32_t w = edges[v][edge].rule;
        if (index[w] == kNone) {
          calls.emplace_back(w, 0);
        } else if (out[w] == kNone) {
          low[v] = std::min(low[v], index[w]);
        }
        continue;
      }
      if (low[v] == index[v]) {
        for (uint32_t w = kNone; w != v;) {
          w = open.back();
          open.pop_back();
          out[w] = n_components;
        }
        ++n_components;
      }
      calls.pop_back();
      if (!calls.empty()) low[calls.back().first] = std::min(low[calls.back().first], low[v]);
    }
  }
  return out;
}

}  // namespace

Status check(const Grammar& grammar) {
  for (const Rule& rule : grammar.rules) {
    if (rule.alternatives.empty())
      return fail(ErrorCode::kInvalid, "grammar: the rule {} is used, not defined", rule.name);
  }
  const auto edges = beginnings(grammar);
  const auto component = components(edges);
  for (size_t r = 0; r < edges.size(); ++r) {
    for (const Beginning& edge : edges[r]) {
      if (!edge.last && component[r] == component[edge.rule]) {
        return fail(ErrorCode::kInvalid, "grammar: the rule {} begins with itself; put the recursion at the end",
                    grammar.rules[r].name);
      }
    }
  }
  return {};
}

}  // namespace shoehorn::grammar
