// SPDX-License-Identifier: Apache-2.0
/// Child processes, as an interface that tests replace. Use it through sys::os (os.hpp).
///
///     auto child = os.spawn({.argv = {"tr", "a-z", "A-Z"}, .stdin_fd = in, .stdout_fd = out});
///     if (!child) return std::unexpected(child.error());      // tr: spawn: ENOENT: No such file or directory
///     result<sys::exit_status> end = os.wait(*child);
///     if (end && !end->ok()) report(end->text());             // "exit 1", "killed by signal 9 (SIGKILL)"
///
/// Kernel: vfork + execve, wait4, kill, prctl(PR_SCHED_CORE, PR_SET_PDEATHSIG).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::sys {

struct spawn_request {
    /// argv[0] is looked for in PATH when it holds no '/'. Must not be empty.
    std::vector<std::string> argv;
    /// What becomes 0, 1 and 2 of the child; -1: inherited. Every other descriptor that this library made is closed in the child.
    int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
    /// The child's CPUs from before its first instruction.
    std::optional<cpumask> affinity = {};
    /// The child leads a process group of its own, so that kill(-pid, ...) reaches what it starts and a terminal's Ctrl-C does not.
    bool new_group = false;
    /// The child leads a session of its own, too: it has no terminal, and of the caller's descriptors it gets 0, 1 and 2 only (before Linux 5.11: and those that others made inheritable).
    bool new_session = false;
    /// SIGKILL when the thread that called spawn() has ended, however it did. What the child starts itself is not reached, nor is a child that gains privileges by its program.
    bool ends_with_parent = false;
    std::string directory = {};                    ///< its working directory; empty: inherited
    std::vector<std::string> environment = {};     ///< NAME=value added to (or replacing) the inherited ones
};

struct exit_status {
    int pid = 0;
    int code = 0;    ///< exit code; meaningful when signal is 0
    int signal = 0;  ///< what killed it, or 0
    std::uint64_t user_ns = 0, system_ns = 0;
    std::uint64_t max_rss_bytes = 0;

    bool ok() const { return code == 0 && signal == 0; }
    /// "exit 1", "killed by signal 9 (SIGKILL)".
    std::string text() const;
};

/// PR_SCHED_CORE's commands, as the kernel numbers them.
enum class core_command { get = 0, create = 1, share_to = 2, share_from = 3 };

/// Synchronization: any thread may call anything.
class processes {
public:
    virtual ~processes() = default;

    /// Starts a program; answers its pid once it runs. The child gets the default action for SIGPIPE and an empty signal mask.
    /// Errors: EINVAL (empty argv), what execve, chdir or sched_setaffinity answered in the child (object = argv[0]), EAGAIN, ENOMEM.
    /// Cost: that of vfork: independent of the caller's memory.
    virtual result<int> spawn(const spawn_request& request) = 0;
    /// Waits until the child has ended and reaps it. Errors: ECHILD.
    virtual result<exit_status> wait(int pid) = 0;
    /// The same without waiting: nothing while it still runs.
    virtual result<std::optional<exit_status>> try_wait(int pid) = 0;
    /// A descriptor that polls readable when the process has ended; its owner closes it. Errors: ENOSYS before Linux 5.3.
    virtual result<int> pidfd(int pid) = 0;
    /// pid < 0: the process group -pid.
    virtual result<void> kill(int pid, int signal) = 0;
    /// Becomes another program; returns only when it could not. Errors: those of execve (object = argv[0]); EINVAL (empty argv).
    virtual result<void> exec(const std::vector<std::string>& argv) = 0;
    /// Runs it in a thread of its own, and waits. Whatever a thread has of its own (cookie, affinity) is the caller's at first and gone afterwards. Errors: EAGAIN.
    virtual result<void> in_new_thread(const std::function<void()>& body) = 0;

    /// prctl(PR_SCHED_CORE) as it is. id: a thread's number, 0 the caller; type: PIDTYPE_PID 0, _TGID 1, _PGID 2. Answers what get writes, else 0. Errors: EINVAL (also every
    /// call on a kernel without CONFIG_SCHED_CORE), ENODEV, ESRCH, EPERM, ENOMEM.
    virtual result<std::uint64_t> sched_core(core_command command, int id, int type) = 0;
};

}  // namespace cohort::sys
