// The control groups that this process belongs to.
#pragma once

#include <string>
#include <vector>

namespace shoehorn {

/// A group's directory, in the layout of cgroup v2 or v1.
struct CgroupDirectory {
  std::string path;
  bool v2;
};

/// The process's own group and those above it, as far as its mounts show them, of every hierarchy that can hold limits of
/// `controller` ("cpu", "memory"). Reads ROOT/proc/self; paths start with ROOT. The directories need not exist.
std::vector<CgroupDirectory> cgroup_directories(const char* controller, const std::string& root = "");

}  // namespace shoehorn
