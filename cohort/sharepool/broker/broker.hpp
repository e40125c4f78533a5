// SPDX-License-Identifier: Apache-2.0
/// The broker: serves a directory of groups over a UNIX socket. `cohortd` runs one; a program may run its own.
///
///     auto b = sharepool::broker::create({.socket = "/run/cohort/pool.sock", .journal = "/run/cohort/pool.journal"});
///     while (running) b->step(std::chrono::milliseconds(1000));     // in one thread of the user's; or poll b->descriptor() beside one's own
///
/// Kernel: the share pool's part of the kernel, which no process can kill.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool {

struct broker_options {
    std::string socket = {};                 ///< a path, or "@name" (abstract). A path that nobody listens on is taken over; its folder is made, 0755
    std::string journal = {};                ///< a path; empty: none, groups end with the broker
    unsigned socket_mode = 0666;           ///< who may connect; rights of groups are checked for each
    directory_settings settings = {};
    std::function<bool(unsigned uid, unsigned gid)> may_create = {};///< empty: everybody
    std::chrono::milliseconds patience{2000};                     ///< for a process that is told to map, and for members after a restart
    unsigned most_connections = 16'384, most_of_uid = 8'192;      ///< more are turned away with EUSERS
    std::function<void(const std::string&)> say = {};               ///< lines for people; empty: none
};

struct broker_figures {
    directory::totals totals;
    std::uint64_t connections = 0, requests = 0, refused = 0, malformed = 0, joins = 0, failed_joins = 0, deaths = 0, recoveries_asked = 0, groups_lost = 0, groups_again = 0;
    std::uint64_t slowest_request_ns = 0;
};

/// Synchronization: one thread at a time.
class broker {
public:
    /// Errors: EADDRINUSE, a broker listens there; EACCES; EINVAL, the journal is of another version, or damaged before its last record.
    static result<std::unique_ptr<broker>> create(broker_options o);
    ~broker();
    /// Readable when there is something to do.
    int descriptor() const;
    /// Does what is to be done; waits at most so long for something.
    result<void> step(std::chrono::nanoseconds timeout);
    const directory& groups() const;
    broker_figures figures() const;

private:
    struct impl;
    explicit broker(std::unique_ptr<impl> i);
    std::unique_ptr<impl> impl_;
};

}  // namespace cohort::sharepool
