// SPDX-License-Identifier: Apache-2.0
/// For tests: a connection to a broker whose other end is the test itself, which may send anything.
#pragma once

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/testing/broker.hpp>
#include <cohort/sys/packet_socket.hpp>

namespace cohort::sharepool::testing {

class raw_peer {
public:
    explicit raw_peer(const std::string& socket) : fd_(must(sys::connect_packets(socket))) {}
    raw_peer(const std::string& socket, std::uint32_t hello_flags) : raw_peer(socket) { greeting = ask({.what = wire::verb::hello, .flags = hello_flags}); }

    int fd() const { return fd_.get(); }
    int send(std::span<const std::byte> bytes, std::span<const int> fds = {}) const { return sys::send_packet(fd_.get(), bytes, fds); }
    /// Waits while the broker does not read; the errno.
    int send(const wire::packet& p, std::span<const int> fds = {}) const {
        const auto sent = send_message(fd_.get(), p, fds, sys::real().now() + 60'000'000'000);
        return sent ? 0 : sent.error().code;
    }
    /// The next packet; code ECONNRESET: the broker has ended the connection.
    wire::packet receive() {
        auto m = receive_message(fd_.get(), sys::real().now() + 60'000'000'000);
        if (!m) return {.code = m.error().code};
        descriptors = std::move(m->descriptors);
        return m->p;
    }
    /// The answer to p; requests of the broker that come before it are kept in `asked`.
    wire::packet ask(wire::packet p, std::span<const int> fds = {}) {
        p.number = ++numbers_;
        send(p, fds);
        return answer();
    }
    wire::packet answer() {
        for (;;) {
            const wire::packet a = receive();
            if (a.what == wire::verb::answer) return a;
            asked.push_back(a);
        }
    }
    /// Until the broker has ended it; what it said last.
    wire::packet last() {
        wire::packet before;
        for (;;) {
            wire::packet p = receive();
            if (p.code == ECONNRESET && p.text.empty()) return before;
            before = std::move(p);
        }
    }
    void close() { (void)fd_.close(); }

    wire::packet greeting;
    std::vector<wire::packet> asked;
    std::vector<sys::owned_fd> descriptors;  ///< of the packet that came last

private:
    sys::owned_fd fd_;
    std::uint64_t numbers_ = 0;
};

}  // namespace cohort::sharepool::testing
