// A file descriptor that is closed.
#pragma once

#include <unistd.h>

namespace shoehorn {

struct Descriptor {
  explicit Descriptor(int fd) : value(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  const int value;  ///< below 0 when there is none
};

}  // namespace shoehorn
