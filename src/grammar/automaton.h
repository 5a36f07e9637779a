// A grammar read byte by byte.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"

namespace shoehorn::grammar {

/// The grammar as a deterministic automaton whose states are made when they are reached. A state is every place of the
/// grammar that the text so far can have led to, each with the rules that it will return to; stacks share what they
/// have in common, so that a state is a list of numbers, and a state that was there before is found again. Not
/// thread-safe.
class Automaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  ///< no text that begins so belongs to the grammar

  explicit Automaton(std::shared_ptr<const Grammar> grammar);

  State start() const { return start_; }
  State next(State state, uint8_t byte);
  /// Whether the text may end here.
  bool accepts(State state) const { return states_[state].accepts; }
  /// Whether it can go on.
  bool goes_on(State state) const { return !states_[state].places.empty(); }

  size_t n_states() const { return states_.size(); }
  /// Forgets all states but one (and the beginning), which has a new number then: memory for long texts.
  State forget_others(State state);
  /// kTooLarge once a text had too many readings, or nested too deeply, for the memory that a grammar may take; next()
  /// is kDead from then on.
  const Status& status() const { return status_; }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  /// A place in a rule: the element that comes next, and where to go on when the rule ends.
  struct Place {
    uint32_t element, parent;  // parent: a number of places_, or kNone behind the root
    bool operator==(const Place&) const = default;
  };
  struct PlaceHash {
    size_t operator()(const Place& place) const {
      return (size_t{place.element} << 32 | place.parent) * 0x9E3779B97F4A7C15u;
    }
  };
  struct PlacesHash {
    size_t operator()(const std::vector<uint32_t>& places) const;
  };
  struct StateData {
    std::vector<uint32_t> places;  // sorted; each before a byte
    bool accepts = false;
    std::array<State, 256> next = {};  // kNone: not known yet
  };

  uint32_t intern(Place place);
  /// The state of these places and of what they lead to without a byte.
  State state_of(std::vector<Place> places);
  State add_state(std::vector<uint32_t> places, bool accepts);

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Place> places_;
  std::unordered_map<Place, uint32_t, PlaceHash> place_numbers_;
  std::vector<StateData> states_;
  std::unordered_map<std::vector<uint32_t>, State, PlacesHash>
      state_numbers_;  // by places; accepting ones end with kNone
  State start_ = kDead;
  Status status_;
};

}  // namespace shoehorn::grammar
