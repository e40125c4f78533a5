// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/detail/real_os.hpp>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/placement.hpp>

namespace cohort::sys {

std::string exit_status::text() const {
    if (signal == 0) return "exit " + std::to_string(code);
    const char* name = ::sigabbrev_np(signal);
    return "killed by signal " + std::to_string(signal) + (name ? std::string(" (SIG") + name + ")" : std::string());
}

namespace detail {
namespace {

/// Everything the child needs, made before vfork: the child shares our memory and may call only what is async-signal-safe.
struct child_plan {
    std::vector<char*> argv;  // null-terminated
    std::vector<char*> env;   // null-terminated
    const char* directory;    // or null
    int fds[3];               // none of them 0..2, or -1
    bool new_group;
    bool new_session;
    pid_t parent;             // who must live on; 0: nobody
    bool has_affinity;
    std::uint64_t affinity[affinity_words];
    std::vector<int> groups;  // files cgroup.procs, open for writing
    const mempolicy* memory;  // or null
    node_set nodes;           // of it
    int report_fd;            // close-on-exec: a child_fault comes through it, or its end
    sigset_t mask;            // the child's
};

/// What the child could not do.
struct child_fault {
    int code = 0;
    int group = -1;  // which of the groups it could not join; -1: something else
};

constexpr unsigned close_on_exec_only = 4;  // CLOSE_RANGE_CLOEXEC; older headers lack the name

[[noreturn]] void run_child(const child_plan& plan) {
    const auto give_up = [&](int group = -1) {
        const child_fault fault{errno, group};
        (void)!::write(plan.report_fd, &fault, sizeof fault);
        ::_exit(127);
    };
    // Whoever has died before the call is not waited for by it.
    if (plan.parent != 0 && (::prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || ::getppid() != plan.parent)) ::_exit(127);
    if (plan.new_session && ::setsid() < 0) give_up();
    if (plan.new_group && !plan.new_session && ::setpgid(0, 0) < 0) give_up();
    // Handlers go with exec; what is ignored stays ignored, and SIGPIPE commonly is, in us but not in what users run.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &standard, nullptr);
    for (int i = 0; i < 3; ++i) {
        if (plan.fds[i] >= 0 && ::dup2(plan.fds[i], i) < 0) give_up();
    }
    if (plan.directory && ::chdir(plan.directory) < 0) give_up();
    for (std::size_t i = 0; i < plan.groups.size(); ++i) {
        if (::write(plan.groups[i], "0\n", 2) < 0) give_up(static_cast<int>(i));
    }
    if (plan.memory && ::syscall(SYS_set_mempolicy, plan.memory->mode, plan.nodes.words, node_bits) < 0) give_up();
    if (plan.has_affinity && ::syscall(SYS_sched_setaffinity, 0, sizeof plan.affinity, plan.affinity) < 0) give_up();
    if (plan.new_session) (void)::syscall(SYS_close_range, 3U, ~0U, close_on_exec_only);
    // From here on a signal may kill the child, but no handler of ours may run in it: the handlers are reset while all is blocked.
    for (int s = 1; s < NSIG; ++s) {
        struct sigaction now {};
        if (::sigaction(s, nullptr, &now) == 0 && now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) ::sigaction(s, &standard, nullptr);
    }
    ::sigprocmask(SIG_SETMASK, &plan.mask, nullptr);
    ::execvpe(plan.argv[0], plan.argv.data(), plan.env.data());
    give_up();
    __builtin_unreachable();
}

/// In a function of its own: no local of it lives on in the child. A group takes its nodes' policy to all memory of who joins it, and a child of vfork() has ours: one that joins has
/// a copy. No handler of pthread_atfork() runs, as with vfork().
[[gnu::noinline]] pid_t fork_and_run(const child_plan& plan) {
    const pid_t pid = plan.groups.empty() ? ::vfork() : ::_Fork();
    if (pid == 0) run_child(plan);
    return pid;
}

std::vector<char*> merged_environment(const std::vector<std::string>& added) {
    std::vector<char*> out;
    const auto same_name = [](const std::string& a, const char* b) {
        const std::size_t name = a.find('=');
        return name != std::string::npos && ::strncmp(a.c_str(), b, name + 1) == 0;
    };
    for (char** e = environ; e && *e; ++e) {
        if (std::none_of(added.begin(), added.end(), [&](const std::string& a) { return same_name(a, *e); })) out.push_back(*e);
    }
    for (const std::string& a : added) out.push_back(const_cast<char*>(a.c_str()));
    out.push_back(nullptr);
    return out;
}

/// Descriptors 0..2 that the child would overwrite before it copies them are moved up first.
result<int> above_standard(int fd, std::vector<owned_fd>& keep, os& system) {
    if (fd < 0 || fd > 2) return fd;
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail_errno(fd_name(fd), "dup");
    keep.emplace_back(system, copy);
    return copy;
}

std::uint64_t to_ns(const timeval& t) { return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_usec) * 1000; }

exit_status status_of(int pid, int status, const rusage& used) {
    exit_status out;
    out.pid = pid;
    if (WIFSIGNALED(status)) out.signal = WTERMSIG(status);
    else out.code = WEXITSTATUS(status);
    out.user_ns = to_ns(used.ru_utime);
    out.system_ns = to_ns(used.ru_stime);
    out.max_rss_bytes = static_cast<std::uint64_t>(used.ru_maxrss) * 1024;
    return out;
}

std::string process_name(int pid) { return pid < 0 ? "process group " + std::to_string(-pid) : "process " + std::to_string(pid); }

}  // namespace

namespace {

result<int> spawn_child(os& system, const spawn_request& request, const placement& place) {
    if (request.argv.empty() || request.argv[0].empty()) return fail(EINVAL, "command", "spawn", "it is empty");
    const std::string& name = request.argv[0];
    child_plan plan{};
    for (const std::string& a : request.argv) plan.argv.push_back(const_cast<char*>(a.c_str()));
    plan.argv.push_back(nullptr);
    plan.env = merged_environment(request.environment);
    plan.directory = request.directory.empty() ? nullptr : request.directory.c_str();
    plan.new_group = request.new_group;
    plan.new_session = request.new_session;
    plan.parent = request.ends_with_parent ? ::getpid() : 0;
    plan.has_affinity = request.affinity.has_value();
    if (request.affinity) to_words(*request.affinity, plan.affinity);
    if (place.memory) {
        plan.memory = &*place.memory;
        plan.nodes = node_set(place.memory->nodes);
    }
    ::sigemptyset(&plan.mask);

    std::vector<owned_fd> keep;
    const int wanted[3] = {request.stdin_fd, request.stdout_fd, request.stderr_fd};
    for (int i = 0; i < 3; ++i) {
        auto fd = above_standard(wanted[i], keep, system);
        if (!fd) return std::unexpected(fd.error());
        plan.fds[i] = *fd;
    }
    for (const std::string& file : place.join) {
        auto fd = open_file(system, file, open_write);
        if (!fd) return std::unexpected(fd.error());
        auto high = above_standard(fd->get(), keep, system);
        if (!high) return std::unexpected(high.error());
        plan.groups.push_back(*high);
        keep.push_back(std::move(*fd));
    }
    auto ends = system.pipe();
    if (!ends) return std::unexpected(ends.error());
    owned_fd report(system, ends->read), child_report(system, ends->write);
    auto high = above_standard(child_report.get(), keep, system);  // a program started without 0..2 may get them here
    if (!high) return std::unexpected(high.error());
    plan.report_fd = *high;

    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = fork_and_run(plan);
    const int fork_errno = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return fail(fork_errno, name, "spawn", errno_text(fork_errno));

    (void)child_report.close();
    keep.clear();
    child_fault fault;
    auto got = read_full(system, report.get(), std::as_writable_bytes(std::span(&fault, 1)));
    if (got && *got == sizeof fault) {
        (void)system.wait(pid);
        if (fault.group >= 0) return fail(fault.code, name, "join " + place.join[static_cast<std::size_t>(fault.group)], errno_text(fault.code));
        return fail(fault.code, name, "spawn", errno_text(fault.code));
    }
    return pid;
}

}  // namespace

result<int> real_os::spawn(const spawn_request& request) { return spawn_child(*this, request, {}); }

result<exit_status> real_os::wait(int pid) {
    int status = 0;
    rusage used{};
    for (;;) {
        const pid_t got = ::wait4(pid, &status, 0, &used);
        if (got == pid) return status_of(pid, status, used);
        if (got < 0 && errno != EINTR) return fail_errno(process_name(pid), "wait");
    }
}

result<std::optional<exit_status>> real_os::try_wait(int pid) {
    int status = 0;
    rusage used{};
    const pid_t got = ::wait4(pid, &status, WNOHANG, &used);
    if (got < 0) return fail_errno(process_name(pid), "wait");
    if (got == 0) return std::nullopt;
    return status_of(pid, status, used);
}

result<int> real_os::pidfd(int pid) {
    const long fd = ::syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return fail_errno(process_name(pid), "pidfd_open");
    return static_cast<int>(fd);
}

result<void> real_os::kill(int pid, int signal) {
    if (::kill(pid, signal) < 0) return fail_errno(process_name(pid), "kill");
    return {};
}

result<void> real_os::exec(const std::vector<std::string>& argv) {
    if (argv.empty() || argv[0].empty()) return fail(EINVAL, "command", "exec", "it is empty");
    std::vector<char*> words;
    for (const std::string& a : argv) words.push_back(const_cast<char*>(a.c_str()));
    words.push_back(nullptr);
    // As in spawn: what is ignored stays ignored, and SIGPIPE commonly is, in us but not in what users run.
    struct sigaction standard {}, before {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &standard, &before);
    ::execvp(words[0], words.data());
    const int code = errno;
    ::sigaction(SIGPIPE, &before, nullptr);
    return fail(code, argv[0], "exec", errno_text(code));
}

result<void> real_os::in_new_thread(const std::function<void()>& body) {
    try {
        std::thread(body).join();
    } catch (const std::system_error& e) {
        return fail(e.code().value(), "thread", "start", errno_text(e.code().value()));
    }
    return {};
}

result<std::uint64_t> real_os::sched_core(core_command command, int id, int type) {
    constexpr int pr_sched_core = 62;  // older headers lack the name
    constexpr const char* acts[] = {"PR_SCHED_CORE_GET", "PR_SCHED_CORE_CREATE", "PR_SCHED_CORE_SHARE_TO", "PR_SCHED_CORE_SHARE_FROM"};
    unsigned long long value = 0;
    if (::prctl(pr_sched_core, static_cast<unsigned long>(command), static_cast<unsigned long>(id), static_cast<unsigned long>(type), command == core_command::get ? &value : nullptr) < 0) {
        return fail_errno(id == 0 ? std::string("this thread") : "thread " + std::to_string(id), std::string("prctl ") + acts[static_cast<int>(command)]);
    }
    return value;
}

result<int> spawn_placed(os& system, const spawn_request& request, const placement& place) { return spawn_child(system, request, place); }

}  // namespace detail

result<int> spawn_at(os& system, const spawn_request& request, const placement& place) { return place.empty() ? system.spawn(request) : detail::spawn_placed(system, request, place); }
}  // namespace cohort::sys
