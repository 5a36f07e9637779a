// What work remarks, for tests that expect it.
#pragma once

#include <string>

#include "base/progress.h"

namespace shoehorn::test {

class Notes : public NoProgress {
 public:
  void note(std::string_view note) override { text += std::string(note) + "\n"; }
  bool contain(std::string_view what) const { return text.find(what) != std::string::npos; }

  std::string text;
};

}  // namespace shoehorn::test
