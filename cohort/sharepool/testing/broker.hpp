// SPDX-License-Identifier: Apache-2.0
/// For tests: a broker in a thread of the test, or in a process of its own, and processes that are attached to it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/sys/testing/child_process.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::sharepool::testing {

template <class T>
T must(result<T> r) {
    if (!r) {
        std::fprintf(stderr, "%s\n", r.error().line().c_str());
        std::abort();
    }
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

/// A broker that a thread of this process runs.
class running_broker {
public:
    /// Without options it is patient, for machines on which much else runs.
    running_broker() : running_broker(broker_options{.patience = std::chrono::seconds(30)}) {}
    explicit running_broker(broker_options o) {
        if (o.socket.empty()) o.socket = dir_.path() + "/pool.sock";
        socket_ = o.socket;
        broker_ = must(broker::create(std::move(o)));
        thread_ = std::thread([this] {
            while (!stop_.load()) must(broker_->step(std::chrono::milliseconds(20)));
        });
    }
    ~running_broker() { stop(); }
    void stop() {
        if (!thread_.joinable()) return;
        stop_.store(true);
        thread_.join();
        figures_ = broker_->figures();
        fault_ = broker_->groups().fault();
        broker_.reset();
    }
    const std::string& socket() const { return socket_; }
    std::string path(const char* name) const { return dir_.path() + '/' + name; }
    /// After stop().
    const broker_figures& figures() const { return figures_; }
    const std::string& fault() const { return fault_; }

private:
    sys::testing::scratch_dir dir_;
    std::string socket_;
    std::unique_ptr<broker> broker_;
    std::thread thread_;
    std::atomic<bool> stop_{false};
    broker_figures figures_;
    std::string fault_;
};

/// A program of its own (this very test program, started anew) that does what it is told, line by line (member_program.hpp), and is no descendant of anything the test has open. It is killed when the test ends.
class process {
public:
    /// reads: that it begins to do what it is told is waited for.
    explicit process(const std::string& socket, bool reads = true) {
        int to[2], from[2];
        if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) std::abort();
        child_ = sys::testing::start_program({sys::testing::this_program(), "--gtest_also_run_disabled_tests", "--gtest_filter=member_program.DISABLED_run", "--gtest_output="},
                                             {"COHORT_SOCKET=" + socket, "COHORT_TEST_MEMBER=1", "GTEST_OUTPUT"}, to[0], from[1]);
        ::close(to[0]), ::close(from[1]);
        in_ = from[0], out_ = to[1];
        // What gtest prints before its test comes first.
        for (std::string line = reads ? hear() : "ready"; line != "ready"; line = hear()) {
            if (line.empty() && ended_) std::abort();
        }
    }
    process(process&& o) noexcept : child_(std::move(o.child_)), in_(std::exchange(o.in_, -1)), out_(std::exchange(o.out_, -1)), ended_(o.ended_) {}
    process& operator=(process&&) = delete;
    ~process() {
        if (in_ >= 0) ::close(in_), ::close(out_);
    }
    int pid() const { return child_.pid(); }
    /// What it answers: "ok ..." or "ECODE: why"; "": it has ended.
    std::string tell(const std::string& line) {
        say(line);
        return hear();
    }
    void say(const std::string& line) {
        const std::string text = line + '\n';
        (void)!::write(out_, text.data(), text.size());
    }
    std::string hear() {
        std::string line;
        for (char c;;) {
            if (::read(in_, &c, 1) != 1) {
                ended_ = true;
                return line;
            }
            if (c == '\n') return line;
            line += c;
        }
    }
    /// With SIGSTOP: all its threads have stopped when this returns.
    void kill(int signal = SIGKILL) const { child_.kill(signal); }
    int wait() { return child_.wait(); }

private:
    sys::testing::child_process child_;
    int in_ = -1, out_ = -1;
    bool ended_ = false;
};

/// Until it holds, for a minute; the test fails otherwise.
inline void wait_until(const char* what, const std::function<bool()>& holds) {
    for (int i = 0; i < 60'000; ++i) {
        if (holds()) return;
        ::usleep(1000);
    }
    ADD_FAILURE() << what << " did not come";
}

}  // namespace cohort::sharepool::testing
