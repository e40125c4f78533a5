// SPDX-License-Identifier: Apache-2.0
/// Streams between processes of one machine, by a name that ends with its owner (abstract unix sockets).
///
///     auto server = sys::listen_local("cohort-percpu-123");   // result<int>
///     auto client = sys::connect_local("cohort-percpu-123");
///     auto there = sys::accept_local(*server);                // result<local_peer>: fd, pid, uid as the kernel knows them
///
/// Kernel: unix(7). Names are those of a network namespace. Descriptors are close-on-exec; reading and closing is files.hpp's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::sys {

struct local_peer {
    int fd = -1;
    int pid = 0;        ///< 0: of another PID namespace
    unsigned uid = 0;
};

/// Errors: EADDRINUSE, the name is taken; EINVAL, it is longer than 107 bytes; EMFILE.
result<int> listen_local(const std::string& name);
/// Waits for the next one. EINVAL after end_listening(). The stream's reads and writes give up with EAGAIN after two seconds.
result<local_peer> accept_local(int listener);
/// The other end is who listened. Errors: ECONNREFUSED, nobody does; EACCES. Reads and writes give up with EAGAIN after ten seconds.
result<local_peer> connect_local(const std::string& name);
/// Writes everything. Errors: EPIPE, the other end has gone (no signal is raised); EAGAIN, the time is over.
result<void> send_local(int fd, std::string_view text);
/// The descriptor stays open in the program that this one becomes and in what it starts: a name is held as long as they live.
result<void> keep_over_exec(int fd);
/// Wakes whoever waits in accept_local().
void end_listening(int listener) noexcept;
/// Names that somebody listens to and that begin so, sorted. Of this network namespace, of all users. Errors: those of reading /proc/net/unix.
result<std::vector<std::string>> local_names(std::string_view beginning);
/// The caller's, as the kernel judges it.
unsigned effective_uid() noexcept;
unsigned effective_gid() noexcept;

}  // namespace cohort::sys
