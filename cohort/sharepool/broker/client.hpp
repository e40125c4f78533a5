// SPDX-License-Identifier: Apache-2.0
/// A connection to a broker that asks and waits for the answer: what commands and daemons use. It joins nothing itself (share_pool.hpp does).
///
///     auto c = sharepool::broker_client::connect("");                       // $COHORT_SOCKET, else default_socket()
///     const int id = c->create({.id = 7, .bytes = 1 << 30}).value();
///     for (const wire::group_row& g : c->groups().value()) std::printf("%d %s\n", g.id, g.name);
///
/// Kernel: /proc/sharepool, which nothing can be asked of but text.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/wire.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sharepool {

/// /run/cohort/pool.sock for root, else $XDG_RUNTIME_DIR/cohort/pool.sock (or /run/user/UID).
std::string default_socket();
/// name, or if that is empty $COHORT_SOCKET, or default_socket().
std::string socket_name(const std::string& name);

/// Synchronization: one thread at a time.
class broker_client {
public:
    /// Errors: ECONNREFUSED, ENOENT: no broker; EACCES; EPROTO, it is of another version; EUSERS, it has too many connections.
    static result<broker_client> connect(const std::string& socket, std::chrono::milliseconds patience = std::chrono::seconds(5));

    struct answered {
        wire::packet p;
        std::vector<sys::owned_fd> descriptors;
    };
    /// Any message; its number is set here. Errors: what the broker answered; ETIMEDOUT; ECONNRESET.
    result<answered> ask(wire::packet p, std::span<const int> descriptors = {});

    /// Errors of these: as directory's functions of the same names.
    result<int> create(const group_request& r);
    result<void> destroy(int id, bool force);
    /// seen: the checks are put there, also when it fails.
    result<int> add(const add_request& r, trace* seen = nullptr);
    result<void> remove(int pid, int id);
    result<void> set_limit(int id, std::uint64_t bytes);
    result<std::vector<int>> ids_of(int pid);
    result<std::vector<wire::group_row>> groups();
    result<std::vector<wire::member_row>> members(int id);
    result<std::vector<wire::import_row>> imports(int id);
    result<wire::totals_row> totals();
    struct looked {
        wire::group_row group;
        std::vector<sys::owned_fd> descriptors;  ///< open for reading: data and metadata; none: the group has no files yet, or the caller may not join it for reading
    };
    result<looked> look(int id);
    const sys::owned_fd& socket() const { return fd_; }

private:
    template <class Row>
    result<std::vector<Row>> list(wire::packet p);
    broker_client(sys::owned_fd fd, std::chrono::milliseconds patience) : fd_(std::move(fd)), patience_(patience) {}
    sys::owned_fd fd_;
    std::chrono::milliseconds patience_;
    std::uint64_t numbers_ = 0;
};

/// One packet, at most until then (os::now()). Errors: ETIMEDOUT; ECONNRESET, the other end is closed; EPROTO.
result<broker_client::answered> receive_message(int socket, std::uint64_t until);
/// Waits while the other end does not read. Errors: ETIMEDOUT; ECONNRESET.
result<void> send_message(int socket, const wire::packet& p, std::span<const int> descriptors, std::uint64_t until);

}  // namespace cohort::sharepool
