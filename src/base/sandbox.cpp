#include "base/sandbox.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <utility>

#include "base/descriptor.h"

namespace shoehorn {
namespace {

// Landlock, as in the kernel's uapi/linux/landlock.h; distributions' headers lag behind its versions.
constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;  // the same number on every architecture
struct RulesetAttributes {
  uint64_t files, connections, scoped;
};
struct [[gnu::packed]] PathBeneath {
  uint64_t allowed;
  int32_t parent;
};
constexpr uint32_t kAskVersion = 1;
constexpr int kRulePathBeneath = 1;
constexpr uint64_t kReadFile = 1 << 2, kReadDirectory = 1 << 3;
constexpr uint64_t kConnectTcp = 1 << 1;
constexpr uint64_t kAbstractSocketsAndSignals = 3;

/// The rights over files that a version of Landlock knows.
constexpr uint64_t file_rights(long version) {
  if (version >= 5) return (1 << 16) - 1;  // device ioctls
  if (version >= 3) return (1 << 15) - 1;  // truncation
  if (version == 2) return (1 << 14) - 1;  // linking into other directories
  return (1 << 13) - 1;
}

Status refused(const char* what) { return fail(ErrorCode::kIo, "sandbox: {}: {}", what, std::strerror(errno)); }

Status allow_reading(int ruleset, const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (file.value < 0) return {};
  struct stat status = {};
  if (fstat(file.value, &status) != 0) return refused("fstat");
  const PathBeneath rule = {S_ISDIR(status.st_mode) ? kReadFile | kReadDirectory : kReadFile, file.value};
  if (syscall(kAddRule, ruleset, kRulePathBeneath, &rule, 0) != 0) return refused("Landlock");
  return {};
}

/// False when this kernel has no Landlock, or does not let us use it.
Expected<Sandbox> restrict_files(const std::vector<std::string>& readable) {
  const long version = syscall(kCreateRuleset, nullptr, 0, kAskVersion);
  if (version < 1) return Sandbox{};
  const RulesetAttributes attributes = {file_rights(version), kConnectTcp, kAbstractSocketsAndSignals};
  const size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  const Descriptor ruleset(static_cast<int>(syscall(kCreateRuleset, &attributes, size, 0)));
  if (ruleset.value < 0) return tl::unexpected<Error>(refused("Landlock").error());
  for (const char* system : {"/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev"})
    SHOEHORN_RETURN_IF_ERROR(allow_reading(ruleset.value, system));
  for (const std::string& path : readable) SHOEHORN_RETURN_IF_ERROR(allow_reading(ruleset.value, path));
  if (syscall(kRestrictSelf, ruleset.value, 0) != 0) return tl::unexpected<Error>(refused("Landlock").error());
  return Sandbox{.files = true, .programs = true, .connections = version >= 4};
}

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;
#endif

/// A program of the kernel's packet filter over system calls (struct seccomp_data).
class Filter {
 public:
  /// What calls get that no rule names.
  explicit Filter(uint32_t otherwise) : otherwise_(otherwise) {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
    add(BPF_RET | BPF_K, kRefuse);
    load(offsetof(seccomp_data, nr));
    // Numbers of x32, the same calls once more.
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    add(BPF_RET | BPF_K, kRefuse);
  }

  static constexpr uint32_t kAllow = SECCOMP_RET_ALLOW, kRefuse = SECCOMP_RET_ERRNO | EPERM;
  static constexpr uint32_t kUnknown = SECCOMP_RET_ERRNO | ENOSYS;

  void rule(long number, uint32_t answer) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1);
    add(BPF_RET | BPF_K, answer);
  }
  void rules(std::initializer_list<long> numbers, uint32_t answer) {
    for (const long number : numbers) rule(number, answer);
  }
  /// Allowed when an argument has a bit (or has not), else refused.
  void rule_of_bit(long number, int argument, uint32_t bit, bool set) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 4);
    load_argument(argument);
    add(BPF_JMP | BPF_JSET | BPF_K, bit, 0, 1);
    add(BPF_RET | BPF_K, set ? kAllow : kRefuse);
    add(BPF_RET | BPF_K, set ? kRefuse : kAllow);
  }
  /// Allowed when an argument is one of these, else refused.
  void rule_of_values(long number, int argument, std::initializer_list<uint32_t> values) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, static_cast<uint8_t>(2 + 2 * values.size()));
    load_argument(argument);
    for (const uint32_t value : values) {
      add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
      add(BPF_RET | BPF_K, kAllow);
    }
    add(BPF_RET | BPF_K, kRefuse);
  }

  /// Puts it in force for all threads of the process. False when this kernel has no such filters.
  bool install() {
    if (kArchitecture == 0) return false;
    add(BPF_RET | BPF_K, otherwise_);
    const sock_fprog program = {static_cast<unsigned short>(code_.size()), code_.data()};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
  }

 private:
  void add(int code, uint32_t k, uint8_t if_true = 0, uint8_t if_false = 0) {
    code_.push_back({static_cast<uint16_t>(code), if_true, if_false, k});
  }
  void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
  // The lower half, which comes first on little-endian machines; none of our values has an upper one.
  void load_argument(int i) { load(offsetof(seccomp_data, args) + static_cast<size_t>(i) * sizeof(uint64_t)); }

  uint32_t otherwise_;
  std::vector<sock_filter> code_;
};

bool give_up_privileges() { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0; }

}  // namespace

Expected<Sandbox> enter_reading_sandbox(const std::vector<std::string>& readable) {
  if (!give_up_privileges()) return Sandbox{};
  SHOEHORN_TRY(Sandbox sandbox, restrict_files(readable));
  Filter filter(Filter::kAllow);
  filter.rules({SYS_execve,
                SYS_execveat,
                SYS_ptrace,
                SYS_process_vm_readv,
                SYS_process_vm_writev,
                SYS_mount,
                SYS_umount2,
                SYS_pivot_root,
                SYS_chroot,
                SYS_unshare,
                SYS_setns,
                SYS_bpf,
                SYS_perf_event_open,
                SYS_userfaultfd,
                SYS_io_uring_setup,
                SYS_add_key,
                SYS_request_key,
                SYS_keyctl,
                SYS_init_module,
                SYS_finit_module,
                SYS_kexec_load,
                SYS_open_by_handle_at, SYS_truncate},
               Filter::kRefuse);
  if (filter.install()) sandbox.programs = true;
  return sandbox;
}

Expected<Sandbox> enter_serving_sandbox() {
  tzset();  // reads its file now
  if (!give_up_privileges()) return Sandbox{};
  Filter filter(Filter::kRefuse);
  // Often ones first: a filter is read from its beginning.
  filter.rules({SYS_futex, SYS_read, SYS_write, SYS_recvmsg, SYS_sendmsg, SYS_epoll_pwait, SYS_sched_yield},
               Filter::kAllow);
  filter.rules({SYS_readv,           SYS_writev,        SYS_pread64,  SYS_preadv,         SYS_recvfrom,
                SYS_sendto,          SYS_lseek,         SYS_close,    SYS_fstat,          SYS_fcntl,
                SYS_fdatasync,       SYS_fsync,         SYS_dup,      SYS_ppoll,          SYS_pselect6,
                SYS_epoll_ctl,       SYS_epoll_create1, SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime,
                SYS_timerfd_gettime, SYS_pipe2},
               Filter::kAllow);
  filter.rules({SYS_accept, SYS_accept4, SYS_listen, SYS_shutdown, SYS_setsockopt, SYS_getsockopt, SYS_getsockname,
                SYS_getpeername},
               Filter::kAllow);
  filter.rules({SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mincore,
                SYS_membarrier, SYS_msync},
               Filter::kAllow);
  filter.rules({SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait, SYS_sigaltstack,
                SYS_tgkill, SYS_restart_syscall, SYS_set_robust_list, SYS_rseq, SYS_set_tid_address, SYS_exit,
                SYS_exit_group, SYS_gettid, SYS_getpid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid},
               Filter::kAllow);
  filter.rules({SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
                SYS_getrandom, SYS_getrusage, SYS_sysinfo, SYS_uname, SYS_times, SYS_getcpu, SYS_sched_getaffinity,
                SYS_sched_setaffinity, SYS_sched_getparam, SYS_sched_getscheduler},
               Filter::kAllow);
#if defined(__x86_64__)
  // Older forms of the same.
  filter.rules({SYS_epoll_wait, SYS_poll, SYS_select, SYS_pipe, SYS_eventfd, SYS_epoll_create, SYS_dup2, SYS_time,
                SYS_arch_prctl},
               Filter::kAllow);
#endif
  // Threads may be started, processes not. The flags of clone3 lie in memory, where a filter cannot look; glibc goes on
  // to clone.
  filter.rule(SYS_clone3, Filter::kUnknown);
  filter.rule_of_bit(SYS_clone, 0, CLONE_THREAD, true);
  filter.rule_of_bit(SYS_newfstatat, 3, AT_EMPTY_PATH, true);  // fstat
  // No memory that can be written becomes code.
  filter.rule_of_bit(SYS_mmap, 2, PROT_EXEC, false);
  filter.rule_of_bit(SYS_mprotect, 2, PROT_EXEC, false);
  filter.rule_of_values(SYS_ioctl, 1, {FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ});
  filter.rule_of_values(SYS_prctl, 0, {PR_SET_NAME});
  if (!filter.install()) return Sandbox{};
  return Sandbox{.files = true, .programs = true, .connections = true};
}

}  // namespace shoehorn
