// SPDX-License-Identifier: Apache-2.0
/// Which of many descriptors are ready, at a cost that does not grow with those that are not.
///
///     auto poll = sys::event_poll::create();
///     poll->add(fd, 7, true, false);                                  // 7: what its events are called
///     for (const auto& e : poll->wait(std::chrono::seconds(1)).value()) ...
///
/// Kernel: epoll(7), level-triggered; those that stay ready take turns.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sys {

struct poll_event {
    std::uint64_t key = 0;
    bool can_read = false, can_write = false;
    bool hung_up = false;  ///< the other end is closed, or it is an error; what is there may still be read
};

/// Synchronization: one thread at a time.
class event_poll {
public:
    static result<event_poll> create();
    /// Polls readable when something is ready.
    int fd() const { return fd_.get(); }
    result<void> add(int fd, std::uint64_t key, bool read, bool write);
    void change(int fd, std::uint64_t key, bool read, bool write) noexcept;
    /// Before it is closed: a child of fork() may have it, too.
    void remove(int fd) noexcept;
    /// At most 256 of those that are ready; valid until the next call. None: the time is over, or a signal came.
    result<std::span<const poll_event>> wait(std::optional<std::chrono::nanoseconds> timeout);

private:
    explicit event_poll(owned_fd fd) : fd_(std::move(fd)) {}
    owned_fd fd_;
    std::vector<poll_event> events_;
};

/// A descriptor that polls readable from a moment of os::now() on. Kernel: timerfd.
class poll_timer {
public:
    static result<poll_timer> create();
    int fd() const { return fd_.get(); }
    /// at 0: never.
    void set(std::uint64_t at) noexcept;

private:
    explicit poll_timer(owned_fd fd) : fd_(std::move(fd)) {}
    owned_fd fd_;
};

/// A descriptor that one thread makes readable and another makes unreadable again. Kernel: eventfd.
class poll_bell {
public:
    static result<poll_bell> create();
    int fd() const { return fd_.get(); }
    void ring() noexcept;
    void answer() noexcept;

private:
    explicit poll_bell(owned_fd fd) : fd_(std::move(fd)) {}
    owned_fd fd_;
};

/// The process may have so many descriptors, or as many as the system lets it; how many. Kernel: RLIMIT_NOFILE.
std::uint64_t allow_descriptors(std::uint64_t wanted) noexcept;

}  // namespace cohort::sys
