// SPDX-License-Identifier: Apache-2.0
/// Learns at once when a member of a group dies, or exec()s, and puts in order what it left.
///
///     auto w = sharepool::death_watch::create(m);                     // m: a member, which recovers for the others
///     w->follow_all();                                            // or follow(pid, socket) for each that was given the descriptors
///     while (running) w->wait(std::chrono::milliseconds(1000));       // in a thread of the user's
///
/// A process that exec()s lives on under the same number without the group's memory: only a socket tells, which it had (close-on-exec, as everything of ours) and which hangs up.
/// Whether the memory is really gone is looked up then (/proc/PID/maps): one that merely closed its socket keeps what it has.
/// Kernel's counterpart: the exit path of openEuler's mm/share_pool.c (sp_group_exit), which lets memory be until the group ends.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/member.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sharepool {

/// Synchronization: one thread at a time.
class death_watch {
public:
    /// m outlives it.
    static result<death_watch> create(member& m, at_death policy = at_death::keep_handed_over);

    /// socket: our end of a connection whose other end is the member's; -1: none, exec() is not noticed. It stays the caller's to close, after the member is gone.
    /// Errors: ESRCH, there is no such process (recovery follows with the next wait); EMFILE.
    result<void> follow(int pid, int socket = -1);
    /// Every process that is a member and not followed yet.
    result<void> follow_all();
    /// Waits for an end, at most so long, and recovers; nothing followed: at once. What was recovered. Errors: those of poll.
    result<recovered> wait(std::optional<std::chrono::nanoseconds> timeout = std::nullopt);
    std::size_t followed() const { return all_.size(); }

private:
    struct one {
        int pid = 0;
        sys::owned_fd ends;
        int socket = -1;
    };
    death_watch(member& m, at_death policy) : member_(&m), policy_(policy) {}

    member* member_;
    at_death policy_;
    std::vector<one> all_;
    bool look_ = false;  // somebody ended before he was followed
};

}  // namespace cohort::sharepool
