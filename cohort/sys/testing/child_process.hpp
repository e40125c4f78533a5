// SPDX-License-Identifier: Apache-2.0
/// For tests: a process of the test's own, killed and waited for at the latest when the test ends; and a program that is one.
///
///     sys::testing::child_process c = sys::testing::start_program({self, "--gtest_filter=..."}, {"COHORT_SOCKET=" + socket}, in, out);
///     c.kill();
///     EXPECT_TRUE(WIFSIGNALED(c.wait()));
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cohort::sys::testing {

class child_process {
public:
    explicit child_process(pid_t pid = 0) : pid_(pid) {}
    child_process(child_process&& o) noexcept : pid_(std::exchange(o.pid_, 0)) {}
    child_process& operator=(child_process&& o) noexcept {
        std::swap(pid_, o.pid_);
        return *this;
    }
    ~child_process() {
        if (pid_ <= 0) return;
        kill();
        wait();
    }
    /// 0: none, or it has been waited for.
    int pid() const { return pid_; }
    /// With SIGSTOP: all its threads have stopped when this returns.
    void kill(int signal = SIGKILL) const {
        ::kill(pid_, signal);
        if (int status = 0; signal == SIGSTOP) ::waitpid(pid_, &status, WUNTRACED);
    }
    /// Its wait status; -1: there was none to wait for.
    int wait() {
        int status = -1;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        return status;
    }

private:
    pid_t pid_;
};

/// A child that runs f and ends with 0, at the latest when the thread that made it does.
template <class F>
child_process forked(F&& f) {
    const pid_t pid = ::fork();
    if (pid != 0) return child_process(pid);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    f();
    std::_Exit(0);
}

/// Starts argv[0], a path; "NAME=value" of `changes` is set in its environment, "NAME" is not. in, out: what becomes its descriptors 0 and 1; -1: the test's. It ends with the thread that started it.
/// Between fork() and exec nothing asks for memory: another thread may have held the allocator's locks, which gcc 12's AddressSanitizer leaves locked in the child.
inline child_process start_program(std::vector<std::string> argv, std::vector<std::string> changes = {}, int in = -1, int out = -1) {
    const auto name_of = [](std::string_view s) { return s.substr(0, s.find('=')); };
    std::vector<std::string> environment;
    for (char** e = environ; *e; ++e) {
        bool changed = false;
        for (const std::string& c : changes) changed |= name_of(c) == name_of(*e);
        if (!changed) environment.emplace_back(*e);
    }
    for (std::string& c : changes) {
        if (c.find('=') != std::string::npos) environment.push_back(std::move(c));
    }
    std::vector<char*> words, variables;
    for (std::string& w : argv) words.push_back(w.data());
    for (std::string& v : environment) variables.push_back(v.data());
    words.push_back(nullptr);
    variables.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid != 0) return child_process(pid);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (in >= 0) ::dup2(in, 0);
    if (out >= 0) ::dup2(out, 1);
    ::execve(words[0], words.data(), variables.data());
    ::_exit(127);
}

/// This very program: of a test's own, the link itself leads to valgrind, under valgrind.
inline std::string this_program() {
    char path[4096] = {};
    if (::readlink("/proc/self/exe", path, sizeof path - 1) <= 0) std::abort();
    return path;
}

}  // namespace cohort::sys::testing
