// Bringing the runtime and a model to a device, and its figures back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "fit/device.h"
#include "fit/ssh_host.h"

namespace shoehorn::fit {

struct DeployOptions {
  std::string model;    ///< GGUF
  std::string package;  ///< .deb of the runtime; "": the newest for the host in package_folders
  std::vector<std::string> package_folders;
  std::string directory = "shoehorn";  ///< on the host; relative to the user's home
  bool install = false;                ///< sudo apt-get install in place of unpacking it there
  bool measure = true;
  bool quick = false;  ///< probe the model's formats only: enough to predict it, not to plan by
  int n_prompt = 512, n_gen = 128, repetitions = 3;
};

struct Deployed {
  std::string machine;  ///< "aarch64, Debian GNU/Linux 12 (bookworm)"
  std::string program;  ///< how it is called there
  std::string version;  ///< what it says of itself
  std::string model;    ///< path there
  std::string sha256;
  uint64_t bytes = 0, resumed_at = 0;  ///< of the model
  std::optional<Device> device;        ///< measured there
  Json bench;                          ///< bench -o json there
};

/// Copies package and model (resuming, compared by SHA-256), unpacks the package in the host's folder, and runs probe
/// and bench there. Fails naming the host and the way out: no package for its architecture, nothing to unpack it with,
/// a program that does not start there.
Expected<Deployed> deploy(const SshHost& host, const DeployOptions& options, Progress& progress);

/// The newest shoehorn_*_ARCHITECTURE.deb of some folders, by its file's time. Fails with kNotFound, the folders and
/// how to make one.
Expected<std::string> find_package(const std::string& architecture, const std::vector<std::string>& folders);

}  // namespace shoehorn::fit
