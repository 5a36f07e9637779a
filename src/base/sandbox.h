// What the kernel keeps from this process from some moment on, so that a file from a stranger, or a client, that finds
// a mistake in it still reaches nothing: Landlock (Linux 5.13 and later, the longer the more) and seccomp. For x86-64
// and 64-bit ARM. There is no way back.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn {

/// What was put in force. Where the kernel offers nothing, nothing is in force and nothing fails.
struct Sandbox {
  bool files = false;  ///< nothing is opened but what was allowed (reading sandbox), nothing at all (serving sandbox)
  bool programs = false;     ///< none are started
  bool connections = false;  ///< none are made to elsewhere; those that come are taken
};

/// Before bytes of strangers are read: from here on only `readable` (files, or directories with all that is below them;
/// those that do not exist are left out) and what the system itself consists of (/usr, /lib, /etc, /proc, /sys, /dev)
/// are read, nothing is written or made, no program is started and no connection by TCP made. Holds for this thread and
/// those that it starts: to be called while there is one. Files that are open stay so. kIo when a kernel that offers it
/// refuses.
Expected<Sandbox> enter_reading_sandbox(const std::vector<std::string>& readable);

/// Once everything is loaded and sockets listen: all threads of the process keep the system calls that computing and
/// answering on such sockets take, and lose the others: what would open a file, make a socket, start a program, look
/// into another process or make memory executable is refused with EPERM.
Expected<Sandbox> enter_serving_sandbox();

}  // namespace shoehorn
