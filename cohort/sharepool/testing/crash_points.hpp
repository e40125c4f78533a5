// SPDX-License-Identifier: Apache-2.0
/// Ends a child at a chosen instruction: a breakpoint there, and SIGKILL at its n-th hit.
///
///     const code c = code::of_this_program({"cohort::sharepool::detail::heap::"});   // where its instructions are, by objdump
///     traced t(prepare, act);                                                        // a child that stopped between the two
///     t.count(c, 3)                                                                  // how often it comes by each of them, or:
///     t.kill_at(c, address, 2)                                                       // true: it was killed there, before its second execution of it
///
/// Restartable sequences: any trap inside one sends it back to its start, so that stepping on from a breakpoint never leaves it. Their instructions, and the two before, are therefore
/// met once in a run, and never stepped over.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COHORT_CRASH_POINTS 1
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/check.hpp>

/// The descriptors of the program's sequences, set up by the linker.
struct sequence_descriptor {
    std::uint32_t version, flags;
    std::uint64_t start, length, abort;
};
extern "C" [[gnu::weak]] const sequence_descriptor __start___rseq_cs[], __stop___rseq_cs[];  // NOLINT(bugprone-reserved-identifier): the linker's names; weak, for there may be none

// For what is walked: no part of it elsewhere, and nothing of elsewhere known in it.
#if defined(__clang__)
#define COHORT_AS_IT_STANDS [[gnu::noinline]]
#else
#define COHORT_AS_IT_STANDS [[gnu::noipa]]
#endif

namespace cohort::sharepool::testing {

using address = std::uint64_t;

/// Instructions of some functions of the running program.
class code {
public:
    struct instruction {
        address at;
        std::uint32_t function;  ///< in functions()
        bool in_sequence;
    };

    /// Those of functions whose demangled names begin with one of `prefixes`; none: objdump is not there. Parts that the compiler put aside as cold are left out: they build messages.
    static code of_this_program(const std::vector<std::string_view>& prefixes) {
        code c;
        char path[4096] = {};
        if (::readlink("/proc/self/exe", path, sizeof path - 1) <= 0) return c;
        FILE* out = ::popen(("objdump -d -C --no-show-raw-insn '" + std::string(path) + "' 2>/dev/null").c_str(), "r");
        if (!out) return c;
        c.base_ = load_base();
        bool wanted = false;
        char line[8192];
        while (std::fgets(line, sizeof line, out)) {
            char* rest = nullptr;
            const address at = std::strtoull(line, &rest, 16);
            if (rest[0] == ' ' && rest[1] == '<') {
                std::string_view name(rest + 2);
                name = name.substr(0, name.rfind(">:"));
                wanted = std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return name.starts_with(p); }) && name.find("[clone .cold]") == name.npos;
                if (wanted) c.functions_.emplace_back(name);
            } else if (wanted && rest[0] == ':' && rest != line && !std::strstr(rest, "nop") && !std::strstr(rest, "xchg   %ax,%ax")) {  // padding is never run
                c.instructions_.push_back({c.base_ + at, static_cast<std::uint32_t>(c.functions_.size() - 1), in_sequence(c.base_ + at)});
            }
        }
        ::pclose(out);
        return c;
    }
    /// Of the program in memory: what its addresses in the file are added to.
    address base() const { return base_; }
    const std::vector<instruction>& instructions() const { return instructions_; }
    const std::string& function_of(const instruction& i) const { return functions_[i.function]; }
    const instruction* find(address at) const {
        const auto i = std::lower_bound(instructions_.begin(), instructions_.end(), at, [](const instruction& a, address b) { return a.at < b; });
        return i != instructions_.end() && i->at == at ? &*i : nullptr;
    }

private:
    static address load_base() {
        address base = 0;  // of the first object, which is the program
        ::dl_iterate_phdr([](dl_phdr_info* info, std::size_t, void* to) { return *static_cast<address*>(to) = info->dlpi_addr, 1; }, &base);
        return base;
    }
    static bool in_sequence(address at) {
        return std::any_of(__start___rseq_cs, __stop___rseq_cs, [&](const sequence_descriptor& d) { return at + 16 >= d.start && at <= d.start + d.length; });
    }
    address base_ = 0;
    std::vector<instruction> instructions_;
    std::vector<std::string> functions_;
};

/// A child of the calling thread that did `prepare` and waits before `act`; after it, it ends at once, leaving nothing in order.
class traced {
public:
    traced(const std::function<void()>& prepare, const std::function<void()>& act) : pid_(::fork()) {
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(3);
            prepare();
            ::raise(SIGSTOP);
            act();
            ::_exit(0);
        }
        wait();
        if (!WIFSTOPPED(status_)) return;
        memory_ = ::open(("/proc/" + std::to_string(pid_) + "/mem").c_str(), O_RDWR | O_CLOEXEC);
    }
    ~traced() {
        if (memory_ >= 0) ::close(memory_);
        if (ended()) return;
        ::kill(pid_, SIGKILL);
        wait();
    }
    traced(const traced&) = delete;
    traced& operator=(const traced&) = delete;

    bool possible() const { return memory_ >= 0; }
    /// How it ended, as wait() tells.
    int status() const { return status_; }

    /// To its end; how often each instruction was come by: up to `most` times, inside of sequences once.
    std::map<address, std::uint64_t> count(const code& c, std::uint64_t most) {
        std::map<address, std::uint64_t> hits;
        for (const auto& i : c.instructions()) put(i.at, breakpoint);
        while (run_to_breakpoint()) {
            const address at = here();
            pass(*c.find(at), ++hits[at] < most);
        }
        return hits;
    }
    /// Kills it before its n-th execution of that instruction. False: it ended before.
    bool kill_at(const code& c, address at, std::uint64_t n) {
        put(at, breakpoint);
        while (run_to_breakpoint()) {
            if (--n == 0) {
                ::kill(pid_, SIGKILL);
                wait();
                return true;
            }
            pass(*c.find(at), true);
        }
        return false;
    }

private:
    static constexpr std::uint8_t breakpoint = 0xcc;
    bool ended() const { return WIFEXITED(status_) || WIFSIGNALED(status_); }
    void wait() { COHORT_CHECK(::waitpid(pid_, &status_, 0) == pid_, "a traced child is gone"); }
    void put(address at, std::uint8_t byte) { COHORT_CHECK(::pwrite(memory_, &byte, 1, static_cast<off_t>(at)) == 1, "a traced child's code cannot be written"); }
    address here() const {
        user_regs_struct r;
        COHORT_CHECK(::ptrace(PTRACE_GETREGS, pid_, nullptr, &r) == 0, "ptrace");
        return r.rip - 1;  // behind the breakpoint
    }
    /// False: it has ended.
    bool run_to_breakpoint() {
        COHORT_CHECK(::ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0, "ptrace");
        wait();
        // Anything but a breakpoint is a fault of the code under test: it ends of it.
        while (WIFSTOPPED(status_) && WSTOPSIG(status_) != SIGTRAP) {
            COHORT_CHECK(::ptrace(PTRACE_CONT, pid_, nullptr, WSTOPSIG(status_)) == 0, "ptrace");
            wait();
        }
        return !ended();
    }
    /// Over the breakpoint that it stands at, which stays or goes.
    void pass(const code::instruction& i, bool stays) {
        user_regs_struct r;
        COHORT_CHECK(::ptrace(PTRACE_GETREGS, pid_, nullptr, &r) == 0, "ptrace");
        r.rip = i.at;
        COHORT_CHECK(::ptrace(PTRACE_SETREGS, pid_, nullptr, &r) == 0, "ptrace");
        put(i.at, *reinterpret_cast<const std::uint8_t*>(i.at));  // the child's code is a copy of ours
        if (i.in_sequence || !stays) return;
        COHORT_CHECK(::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0, "ptrace");
        wait();
        if (!ended()) put(i.at, breakpoint);
    }

    pid_t pid_;
    int status_ = 0, memory_ = -1;
};

}  // namespace cohort::sharepool::testing
#else
#define COHORT_CRASH_POINTS 0
#endif
