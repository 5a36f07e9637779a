// A directory with files as /proc and /sys have them on some machine.
#pragma once

#include <filesystem>
#include <string>

#include "eval/sysfs.h"
#include "support/support.h"

namespace shoehorn::test {

class MachineTree {
 public:
  MachineTree() { host_.root = temp_dir(), host_.vcgencmd = host_.root + "/usr/bin/vcgencmd"; }

  void file(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(host_.root + path).parent_path());
    write_text(host_.root + path, text + "\n");
  }
  /// The firmware's tool: a program that answers `argument` with `text`.
  void vcgencmd(const std::string& argument, const std::string& text) {
    file("/answers/" + argument, text);
    file("/usr/bin/vcgencmd", "#!/bin/sh\nexec cat \"" + host_.root + "/answers/$1\"");
    std::filesystem::permissions(host_.vcgencmd, std::filesystem::perms::owner_all);
  }
  const eval::Host& host() const { return host_; }
  const std::string& root() const { return host_.root; }

 private:
  eval::Host host_;
};

}  // namespace shoehorn::test
