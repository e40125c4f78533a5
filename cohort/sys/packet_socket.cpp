// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/packet_socket.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <cohort/sys/watch.hpp>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace cohort::sys {

namespace {

std::unexpected<error> failed(const std::string& name, const char* act, int code = errno) { return fail(code, "socket \"" + name + "\"", act, errno_text(code)); }

/// The length of the address; 0: the name is too long, or there is none.
socklen_t address_of(const std::string& name, sockaddr_un& address) {
    if (name.size() < 2 || name.size() >= sizeof address.sun_path) return 0;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] != '@') return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
    address.sun_path[0] = 0;
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
}

std::unexpected<error> bad_name(const std::string& name, const char* act) { return fail(EINVAL, "socket \"" + name + "\"", act, "a name has 2 to 107 bytes"); }

/// The one lock of who listens on a path. What a killed one left there is removed.
result<owned_fd> take_path(const std::string& name) {
    if (const std::size_t end = name.rfind('/'); end != std::string::npos && end != 0) {
        const std::string folder = name.substr(0, end);
        if (auto r = real().mkdir(folder, 0755); !r && r.error().code != EEXIST) return failed(name, "make its folder", r.error().code);
    }
    auto lock = open_file(real(), name + ".lock", open_read | open_create, 0600);
    if (!lock) return std::unexpected(lock.error());
    if (auto r = try_hold(lock->get()); !r) return r.error().code == EAGAIN ? fail(EADDRINUSE, "socket \"" + name + "\"", "listen", "somebody listens there already") : std::unexpected(r.error());
    struct stat s{};
    if (::lstat(name.c_str(), &s) == 0) {
        if (!S_ISSOCK(s.st_mode)) return fail(EADDRINUSE, "socket \"" + name + "\"", "listen", "there is a file of that name which is no socket");
        if (::unlink(name.c_str()) != 0) return failed(name, "remove the old one");
    }
    return lock;
}

}  // namespace

result<packet_listener> listen_packets(const std::string& name, unsigned mode) {
    sockaddr_un address{};
    const socklen_t length = address_of(name, address);
    if (length == 0) return bad_name(name, "listen");
    packet_listener l;
    if (name[0] != '@') {
        auto lock = take_path(name);
        if (!lock) return std::unexpected(lock.error());
        l.hold = std::move(*lock);
    }
    l.socket = owned_fd(real(), ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!l.socket) return failed(name, "socket");
    if (::bind(l.socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) return failed(name, "bind");
    if (name[0] != '@' && ::chmod(name.c_str(), mode) != 0) return failed(name, "chmod");
    if (::listen(l.socket.get(), SOMAXCONN) != 0) return failed(name, "listen");
    return l;
}

result<owned_fd> accept_packets(int listener) {
    int fd;
    do fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) return failed("fd " + std::to_string(listener), "accept");
    return owned_fd(real(), fd);
}

result<owned_fd> connect_packets(const std::string& name) {
    sockaddr_un address{};
    const socklen_t length = address_of(name, address);
    if (length == 0) return bad_name(name, "connect");
    owned_fd fd(real(), ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!fd) return failed(name, "socket");
    const timeval patience{2, 0};  // for a listener whose queue is full
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int done;
    do done = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
    while (done != 0 && errno == EINTR);
    if (done != 0) return failed(name, "connect");
    if (auto r = real().set_nonblocking(fd.get(), true); !r) return std::unexpected(r.error());
    return fd;
}

result<packet_peer> peer_of(int fd) {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return failed("fd " + std::to_string(fd), "ask who is there");
    packet_peer p;
    p.uid = who.uid, p.gid = who.gid;
    int process = -1;
    size = sizeof process;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process, &size) == 0) {
        p.ends = owned_fd(real(), process);
    } else if (const auto opened = real().pidfd(who.pid)) {  // an older kernel: the number may be another's by now, for who ended at once
        p.ends = owned_fd(real(), *opened);
    }
    p.process = identify_process(who.pid, p.ends.get());
    return p;
}

result<packet_in> receive_packet(int fd, std::span<std::byte> into) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_descriptors)];
    iovec piece{into.data(), into.size()};
    msghdr m{};
    m.msg_iov = &piece, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
    ssize_t n;
    do n = ::recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) return failed("fd " + std::to_string(fd), "receive");
    packet_in in{.bytes = static_cast<std::size_t>(n), .whole = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0, .descriptors = {}};
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        for (std::size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
            int got;
            std::memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof got);
            in.descriptors.emplace_back(real(), got);
        }
    }
    return in;
}

int send_packet(int fd, std::span<const std::byte> from, std::span<const int> descriptors) noexcept {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_descriptors)] = {};
    iovec piece{const_cast<std::byte*>(from.data()), from.size()};
    msghdr m{};
    m.msg_iov = &piece, m.msg_iovlen = 1;
    if (const std::size_t n = std::min(descriptors.size(), most_descriptors); n != 0) {
        m.msg_control = control, m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        std::memcpy(CMSG_DATA(c), descriptors.data(), sizeof(int) * n);
    }
    ssize_t n;
    do n = ::sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
}

void end_packets(int fd) noexcept { ::shutdown(fd, SHUT_RDWR); }

}  // namespace cohort::sys
