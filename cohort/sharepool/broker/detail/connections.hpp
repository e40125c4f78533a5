// SPDX-License-Identifier: Apache-2.0
/// The broker's sockets: who is there, what they send, what is still to be sent to them. No peer makes it wait, and none gets more than one packet read a round.
///
///     epoll ──> listener ──> accept, caps
///           ──> a connection ──> one packet ──> events.message          its queue ──(it reads)──> socket
///           ──> a process's end ──> events.process_ended
///           ──> timer ──> timers that are due
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/wire.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/packet_socket.hpp>

namespace cohort::sharepool::detail {

/// A descriptor that waits in queues, too.
using shared_fd = std::shared_ptr<const sys::owned_fd>;

struct connection {
    std::uint64_t key = 0;
    sys::owned_fd socket;
    sys::packet_peer peer;
    bool greeted = false, attached = false, follows = false;
    bool over = false;                        ///< to be removed at the end of the round
    std::set<std::uint64_t> awaited;          ///< numbers of what it was asked and has not answered
    std::set<std::uint64_t> tasks;            ///< what it asked for and waits for

    struct outgoing {
        std::vector<std::byte> bytes;
        std::vector<shared_fd> descriptors;
        bool answers = false;                 ///< what it asked itself
    };
    std::deque<outgoing> queue;
    std::size_t queued_bytes = 0, queued_answers = 0, queued_answer_bytes = 0;
    bool reads = true, writes = false;        ///< what is polled for
    caller who() const { return {.pid = peer.process.pid, .uid = peer.uid, .gid = peer.gid}; }
};

class connections {
public:
    struct handlers {
        std::function<void(connection&, wire::packet, std::vector<sys::owned_fd>)> message;
        std::function<void(connection&)> ended;                 ///< it is still there during the call
        std::function<void(int pid)> process_ended;
    };
    static result<std::unique_ptr<connections>> create(const broker_options& o, broker_figures& figures);
    handlers on;

    int descriptor() const { return poll_.fd(); }
    result<void> step(std::chrono::nanoseconds timeout);

    connection* find(std::uint64_t key);
    std::size_t size() const { return all_.size(); }
    /// Over everybody; f may end connections.
    void each(const std::function<void(connection&)>& f);
    /// Whole or not at all; who does not read and has too much waiting is ended.
    void send(connection& c, const wire::packet& p, std::vector<shared_fd> descriptors = {});
    void end(connection& c);
    /// It hung up, and that was not read yet.
    bool has_hung_up(const connection& c) const;

    /// on.process_ended(pid) comes once it has. The descriptor stays the caller's; unwatch before it is closed.
    void watch(int pid, int pidfd);
    void unwatch(int pidfd) { poll_.remove(pidfd); }
    void at(std::uint64_t when, std::function<void()> f);

private:
    connections(sys::event_poll p, sys::poll_timer t, sys::packet_listener l, const broker_options& o, broker_figures& figures)
        : poll_(std::move(p)), timer_(std::move(t)), listener_(std::move(l)), options_(o), figures_(figures) {}
    void accept_some();
    void admit(sys::owned_fd fd);
    void turn_away(int fd, int code, std::string reason);
    void read_one(connection& c);
    void malformed(connection& c, const error& e);
    void flush(connection& c);
    void repoll(connection& c);
    void run_timers();
    void sweep();

    sys::event_poll poll_;
    sys::poll_timer timer_;
    sys::packet_listener listener_;
    const broker_options& options_;
    broker_figures& figures_;
    sys::owned_fd spare_;                                    // given up for a moment when no descriptor is left, to turn somebody away
    std::unordered_map<std::uint64_t, std::unique_ptr<connection>> all_;
    std::unordered_map<unsigned, unsigned> of_uid_;
    std::vector<std::uint64_t> over_;
    std::multimap<std::uint64_t, std::function<void()>> timers_;
    std::uint64_t keys_ = 0;
    std::size_t queued_bytes_ = 0;
};

}  // namespace cohort::sharepool::detail
