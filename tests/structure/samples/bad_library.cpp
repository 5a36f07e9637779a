// Everything that the symbol tests must find: prints, ends the process, exports an inline function and a stray symbol.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace shoehorn::sample {

[[gnu::noinline]] inline int pick(int value) {
  if (value == 1) std::cout << value;
  if (value == 2) std::fprintf(stderr, "%d", value);
  if (value == 3) fmt::print("three");
  if (value == 4) std::exit(1);
  if (value == 5) std::abort();
  return value + 1;
}

int visible(int value) { return pick(value); }

}  // namespace shoehorn::sample

void outside() { shoehorn::sample::visible(1); }
