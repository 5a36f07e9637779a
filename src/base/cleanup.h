// Temporary files that must not outlive the process, not even when a signal ends it.
#pragma once

#include <string>

namespace shoehorn {

/// Remembers a file to be unlinked by remove_registered_files(). At most 64 at a time; further ones are not remembered
/// (their owner's destructor still removes them).
void register_temporary(const std::string& path);
void unregister_temporary(const std::string& path);

/// Unlinks every registered file. Async-signal-safe, for use in a handler of SIGINT, SIGTERM or SIGHUP.
void remove_registered_files();

}  // namespace shoehorn
