#include <algorithm>
#include <cmath>

#include "eval/ngrams.h"
#include "eval/text_metrics.h"
#include "tokenizer/unicode.h"

namespace shoehorn::eval {
namespace {

constexpr size_t kOrder = 4;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Marks that always stand alone: ASCII punctuation but ' , - .
bool stands_alone(char c) {
  return (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || c == '/' || (c >= ':' && c <= '@') ||
         (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

bool is_point(char c) { return c == '.' || c == ','; }

/// Rewrites from left to right what `first` and `second` accept side by side; what was rewritten is not looked at
/// again.
template <class First, class Second, class Write>
std::string rewrite_pairs(const std::string& text, First first, Second second, Write write) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      write(out, text[i], text[i + 1]);
      i += 2;
    } else {
      out += text[i++];
    }
  }
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

double score(std::span<const double> counts, bool effective_order) {
  const double n_answer = counts[0], n_reference = counts[1];
  double any = 0;
  for (size_t n = 0; n < kOrder; ++n) any += counts[2 + 2 * n];
  if (any == 0) return 0;
  double log_precision = 0, smooth = 1;
  size_t orders = 0;
  for (size_t n = 0; n < kOrder; ++n) {
    const double matches = counts[2 + 2 * n], total = counts[3 + 2 * n];
    if (total == 0) break;
    ++orders;
    if (matches == 0) smooth *= 2;
    log_precision += std::log(matches == 0 ? 1 / (smooth * total) : matches / total);
  }
  // A corpus without a 4-gram has no BLEU; a sentence is judged by the orders that it has.
  if (!effective_order && orders < kOrder) return 0;
  const double brevity = n_answer < n_reference ? std::exp(1 - n_reference / n_answer) : 1;
  return 100 * brevity * std::exp(log_precision / static_cast<double>(effective_order ? orders : kOrder));
}

}  // namespace

std::vector<std::string> tokenize_13a(std::string_view input) {
  std::string text(input);
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  replace_all(text, "&quot;", "\"");
  replace_all(text, "&amp;", "&");
  replace_all(text, "&lt;", "<");
  replace_all(text, "&gt;", ">");
  std::string spaced = " ";
  for (const char c : text) {
    if (stands_alone(c)) {
      ((spaced += ' ') += c) += ' ';
    } else {
      spaced += c;
    }
  }
  spaced += ' ';
  const auto not_digit = [](char c) { return !is_digit(c); };
  // Points and commas stand alone but between digits; dashes after a digit do.
  spaced = rewrite_pairs(spaced, not_digit, is_point,
                         [](std::string& out, char a, char b) { ((((out += a) += ' ') += b) += ' '); });
  spaced = rewrite_pairs(spaced, is_point, not_digit,
                         [](std::string& out, char a, char b) { ((((out += ' ') += a) += ' ') += b); });
  spaced = rewrite_pairs(
      spaced, is_digit, [](char c) { return c == '-'; },
      [](std::string& out, char a, char b) { ((((out += a) += ' ') += b) += ' '); });
  std::vector<std::string> tokens;
  bool in_token = false;
  size_t at = 0;
  for (const tokenizer::Char c : tokenizer::to_chars(spaced)) {
    const size_t n = tokenizer::char_bytes(c);
    const bool space = tokenizer::is(c, tokenizer::kSpace);
    if (!space && !in_token) tokens.emplace_back();
    if (!space) tokens.back() += spaced.substr(at, n);
    in_token = !space;
    at += n;
  }
  return tokens;
}

BleuCounts bleu_counts(std::string_view answer, std::span<const std::string> references) {
  const std::vector<std::string> tokens = tokenize_13a(answer);
  BleuCounts out(kBleuCounts);
  const auto n_answer = static_cast<double>(tokens.size());
  out[0] = n_answer;
  std::vector<std::vector<std::string>> others;
  for (const std::string& reference : references) others.push_back(tokenize_13a(reference));
  double nearest = -1;
  for (const auto& other : others) {
    const auto n = static_cast<double>(other.size()), distance = std::abs(n - n_answer);
    // Of two as near the shorter.
    if (nearest < 0 || distance < std::abs(nearest - n_answer) ||
        (distance == std::abs(nearest - n_answer) && n < nearest))
      nearest = n;
  }
  out[1] = std::max(0.0, nearest);
  for (size_t n = 1; n <= kOrder; ++n) {
    NgramCounts most;
    for (const auto& other : others) {
      for (const auto& [ngram, count] : count_ngrams(other, n)) most[ngram] = std::max(most[ngram], count);
    }
    out[2 * n] = count_matches(count_ngrams(tokens, n), most);
    out[2 * n + 1] = n_ngrams(tokens, n);
  }
  return out;
}

double bleu_score(std::span<const double> counts) { return score(counts, false); }
double sentence_bleu_score(std::span<const double> counts) { return score(counts, true); }

}  // namespace shoehorn::eval
