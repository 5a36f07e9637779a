#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace shoehorn {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

bool lists(const std::string& comma_separated, const std::string& word) {
  const auto parts = split(comma_separated, ',');
  return std::find(parts.begin(), parts.end(), word) != parts.end();
}

/// Where a cgroup hierarchy is mounted, and which of its groups is the top of what the mount shows.
struct CgroupMount {
  std::string group, directory;
  bool v2 = false;
};

/// The mounts that can hold limits of a controller. A line of mountinfo: ID PARENT DEVICE ROOT MOUNT_POINT OPTIONS
/// [FIELD...] - TYPE SOURCE SUPER_OPTIONS, where the super options of v1 name its controllers.
std::vector<CgroupMount> cgroup_mounts(const std::string& controller, const std::string& root) {
  std::vector<CgroupMount> mounts;
  std::ifstream in(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const auto fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    const std::string& type = dash[1];
    const bool v2 = type == "cgroup2";
    if (v2 || (type == "cgroup" && lists(dash[3], controller))) mounts.push_back({fields[3], fields[4], v2});
  }
  // Without mountinfo: where distributions mount them.
  if (mounts.empty()) mounts = {{"/", "/sys/fs/cgroup", true}, {"/", "/sys/fs/cgroup/" + controller, false}};
  return mounts;
}

/// The way from the top of the mount to the group, "" or "/a/b". A container may see its group by a path of the host's while
/// its mount starts at that group, or by one that leads out of its namespace ("/.."); then the mount's top is the nearest
/// group that it can see.
std::string way_from(const std::string& top, const std::string& group) {
  const std::string prefix = top == "/" ? "" : top;
  if (group.find("/..") != std::string::npos) return "";
  if (group.starts_with(prefix + "/")) return group == "/" ? "" : group.substr(prefix.size());
  if (group == prefix || top != "/") return "";
  return group;
}

}  // namespace

std::vector<CgroupDirectory> cgroup_directories(const char* controller, const std::string& root) {
  std::vector<CgroupDirectory> directories;
  const auto mounts = cgroup_mounts(controller, root);
  std::ifstream membership(root + "/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    // ID:CONTROLLERS:GROUP; no controllers: v2.
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    const bool v2 = controllers.empty();
    if (!v2 && !lists(controllers, controller)) continue;
    for (const CgroupMount& mount : mounts) {
      if (mount.v2 != v2) continue;
      std::string way = way_from(mount.group, group);
      for (;; way.resize(way.rfind('/'))) {
        directories.push_back({root + mount.directory + way, v2});
        if (way.find('/') == std::string::npos) break;
      }
    }
  }
  return directories;
}

}  // namespace shoehorn
