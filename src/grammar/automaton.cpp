#include "grammar/automaton.h"

#include <algorithm>
#include <unordered_set>

namespace shoehorn::grammar {
namespace {

using Kind = Element::Kind;

constexpr size_t kMaxPlaces = size_t{1} << 20, kMaxStates = size_t{1} << 15, kMaxPlacesOfAState = size_t{1} << 14;

}  // namespace

size_t Automaton::PlacesHash::operator()(const std::vector<uint32_t>& places) const {
  size_t out = places.size();
  for (const uint32_t place : places) out = (out ^ place) * 0x9E3779B97F4A7C15u + (out >> 29);
  return out;
}

Automaton::Automaton(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  states_.emplace_back();  // kDead, which stays what it is
  std::vector<Place> begin;
  for (const uint32_t alternative : grammar_->rules[grammar_->root].alternatives) begin.push_back({alternative, kNone});
  start_ = state_of(std::move(begin));
}

uint32_t Automaton::intern(Place place) {
  const auto [entry, is_new] = place_numbers_.emplace(place, static_cast<uint32_t>(places_.size()));
  if (is_new) places_.push_back(place);
  return entry->second;
}

Automaton::State Automaton::add_state(std::vector<uint32_t> places, bool accepts) {
  if (places.empty() && !accepts) return kDead;
  if (accepts) places.push_back(kNone);
  const auto [entry, is_new] = state_numbers_.emplace(std::move(places), static_cast<State>(states_.size()));
  if (is_new) {
    StateData& state = states_.emplace_back();
    state.places = entry->first;
    if (accepts) state.places.pop_back();
    state.accepts = accepts;
    state.next.fill(kNone);
  }
  return entry->second;
}

Automaton::State Automaton::state_of(std::vector<Place> open) {
  std::unordered_set<Place, PlaceHash> seen;
  std::vector<uint32_t> before_a_byte;
  bool accepts = false;
  while (!open.empty()) {
    const Place place = open.back();
    open.pop_back();
    if (!seen.insert(place).second) continue;
    const Element& element = grammar_->elements[place.element];
    switch (element.kind) {
      case Kind::kBytes:
        before_a_byte.push_back(intern(place));
        break;
      case Kind::kEnd:
        if (place.parent == kNone) {
          accepts = true;
        } else {
          open.push_back(places_[place.parent]);
        }
        break;
      case Kind::kRule: {
        // A rule that ends this one returns to where this one would: recursion at the end takes no room.
        const bool last = grammar_->elements[place.element + 1].kind == Kind::kEnd;
        const uint32_t parent = last ? place.parent : intern({place.element + 1, place.parent});
        for (const uint32_t alternative : grammar_->rules[element.rule].alternatives)
          open.push_back({alternative, parent});
        break;
      }
    }
    if (seen.size() > kMaxPlacesOfAState || places_.size() > kMaxPlaces || states_.size() >= kMaxStates) {
      status_ = fail(ErrorCode::kTooLarge, "grammar: the text nests too deeply, or can be read in too many ways");
      return kDead;
    }
  }
  std::sort(before_a_byte.begin(), before_a_byte.end());
  return add_state(std::move(before_a_byte), accepts);
}

Automaton::State Automaton::next(State state, uint8_t byte) {
  if (const State known = states_[state].next[byte]; known != kNone) return known;
  if (!status_) return kDead;
  std::vector<Place> after;
  for (const uint32_t number : states_[state].places) {
    const Place place = places_[number];
    const Element& element = grammar_->elements[place.element];
    if (byte >= element.low && byte <= element.high) after.push_back({place.element + 1, place.parent});
  }
  const State out = after.empty() ? kDead : state_of(std::move(after));
  states_[state].next[byte] = out;
  return out;
}

Automaton::State Automaton::forget_others(State state) {
  // Places name earlier ones only: one pass downwards finds what is needed, one upwards numbers it anew.
  std::vector<bool> needed(places_.size(), false);
  for (const State kept : {state, start_}) {
    for (const uint32_t place : states_[kept].places) needed[place] = true;
  }
  for (size_t i = places_.size(); i-- > 0;) {
    if (needed[i] && places_[i].parent != kNone) needed[places_[i].parent] = true;
  }
  const std::vector<Place> old = std::move(places_);
  const std::vector<StateData> kept = {states_[state], states_[start_]};
  places_.clear();
  place_numbers_.clear();
  state_numbers_.clear();
  states_.resize(1);
  std::vector<uint32_t> number(old.size(), kNone);
  for (size_t i = 0; i < old.size(); ++i) {
    if (needed[i]) number[i] = intern({old[i].element, old[i].parent == kNone ? kNone : number[old[i].parent]});
  }
  const auto again = [&](const StateData& data) {
    std::vector<uint32_t> places;
    for (const uint32_t place : data.places) places.push_back(number[place]);
    std::sort(places.begin(), places.end());
    return add_state(std::move(places), data.accepts);
  };
  start_ = again(kept[1]);
  return again(kept[0]);
}

}  // namespace shoehorn::grammar
