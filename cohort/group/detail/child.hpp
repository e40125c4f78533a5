// SPDX-License-Identifier: Apache-2.0
/// A child process that does not outlive its owner's interest: waited for, or ended with all it has started.
///
///     auto c = child::start(os, request);                    // request.new_group is set
///     result<sys::exit_status> end = c->wait(stop_fd, patience);
///
/// Kernel: pidfd_open, poll, kill.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/placement.hpp>

namespace cohort::group::detail {

/// A resource: its destructor kills the process group and reaps the leader. One thread at a time, so that no signal is ever sent to a
/// pid that has been reaped.
class child {
public:
    /// own_group: a process group of its own, so that signals reach what it starts, too.
    static result<child> start(sys::os& os, sys::spawn_request request, const sys::placement& place = {}, bool own_group = true);
    child(child&& other) noexcept : os_(other.os_), pid_(std::exchange(other.pid_, 0)), own_group_(other.own_group_), before_reaping_(std::move(other.before_reaping_)) {}
    child& operator=(child&&) = delete;
    ~child();

    int pid() const { return pid_; }
    /// Called when the process has ended (or is about to be killed) and its number is still its own.
    void before_reaping(std::function<void()> act) { before_reaping_ = std::move(act); }

    /// Waits for the end. When `stop_fd` becomes readable (or hangs up) first: SIGTERM to the group, SIGKILL after `patience_ns`; the
    /// answer is then ECANCELED, save when the child had ended well before.
    result<sys::exit_status> wait(int stop_fd, std::uint64_t patience_ns);
    /// SIGTERM, then as above. How it ended, if it had not been waited for.
    std::optional<sys::exit_status> end(std::uint64_t patience_ns);
    /// Waits until one of them has ended; its place, or nothing when the time is over. Those that were waited for before are passed over. Errors: ECANCELED, stop_fd spoke.
    static result<std::optional<std::size_t>> first_ended(sys::os& os, std::span<child* const> all, int stop_fd, std::uint64_t timeout_ns);
    /// Of one that has ended: what it had started and left is killed, and it is reaped.
    result<sys::exit_status> collect();

private:
    child(sys::os& os, int pid, bool own_group) : os_(&os), pid_(pid), own_group_(own_group) {}
    int target() const { return own_group_ ? -pid_ : pid_; }
    /// True: the process has ended (but is not reaped). False: the timeout passed or stop_fd spoke.
    result<bool> ended(int pidfd, int stop_fd, std::uint64_t timeout_ns);
    result<sys::exit_status> terminate(int pidfd, std::uint64_t patience_ns);
    result<sys::exit_status> reap();

    sys::os* os_;
    int pid_;  // 0: none, or reaped
    bool own_group_;
    std::function<void()> before_reaping_;
};

}  // namespace cohort::group::detail
