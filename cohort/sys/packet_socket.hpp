// SPDX-License-Identifier: Apache-2.0
/// Packets between processes of one machine, with descriptors beside them, by a path or an abstract name; nobody waits in any of it but in connect_packets().
///
///     auto server = sys::listen_packets("/run/cohort/pool.sock", 0666);        // result<packet_listener>
///     auto client = sys::connect_packets("/run/cohort/pool.sock");             // result<owned_fd>
///     sys::send_packet(client->get(), bytes, std::array{fd});                  // 0, EAGAIN, EPIPE...
///     auto there = sys::accept_packets(server->socket.get());                  // EAGAIN: nobody waits
///     auto got = sys::receive_packet(there->get(), into);                      // whole or not at all
///     auto who = sys::peer_of(there->get());                                   // pid, uid, gid as the kernel knows them
///
/// Kernel: unix(7): SOCK_SEQPACKET, SCM_RIGHTS, SO_PEERCRED, SO_PEERPIDFD (6.5).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/liveness.hpp>

namespace cohort::sys {

struct packet_listener {
    owned_fd socket;  ///< non-blocking
    owned_fd hold;    ///< of a path: held by flock(2) as long as somebody listens
};

struct packet_peer {
    process_identity process;  ///< pid 0: of another PID namespace
    unsigned uid = 0, gid = 0;
    owned_fd ends;             ///< polls readable when the process has ended; none: it has ended already, or the kernel has no pidfds
};

struct packet_in {
    std::size_t bytes = 0;                ///< 0: the other end is closed
    bool whole = true;                    ///< false: it was larger than the buffer, or had more than most_descriptors
    std::vector<owned_fd> descriptors;
};
inline constexpr std::size_t most_descriptors = 4;  ///< beside one packet

/// name: a path, whose folder is made, 0755, and which is taken over if nobody listens on it (path.lock tells); or "@name", abstract. mode: of the path.
/// Errors: EADDRINUSE, somebody listens; EINVAL, longer than 107 bytes; EACCES.
result<packet_listener> listen_packets(const std::string& name, unsigned mode);
/// A connection, non-blocking. Errors: EAGAIN, nobody waits; EMFILE, ENFILE.
result<owned_fd> accept_packets(int listener);
/// Non-blocking from then on. Waits up to two seconds while the listener is busy. Errors: ECONNREFUSED, ENOENT, EACCES; EAGAIN.
result<owned_fd> connect_packets(const std::string& name);
/// Errors: those of getsockopt.
result<packet_peer> peer_of(int fd);
/// Errors: EAGAIN, there is none; ECONNRESET.
result<packet_in> receive_packet(int fd, std::span<std::byte> into);
/// 0, or an errno: EAGAIN, the other end does not read; EPIPE, it is gone (no signal); EMSGSIZE; ETOOMANYREFS, too many descriptors are on their way.
int send_packet(int fd, std::span<const std::byte> from, std::span<const int> descriptors) noexcept;
/// No packet comes any more: the other end sees the end, and who waits here, too.
void end_packets(int fd) noexcept;

}  // namespace cohort::sys
