// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/local_socket.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <set>
#include <sstream>

#include <cohort/sys/fd.hpp>

namespace cohort::sys {

namespace {

std::unexpected<error> failed(const std::string& name, const char* act) {
    const int code = errno;
    return fail(code, "socket \"" + name + "\"", act, errno_text(code));
}

/// The length of the address; 0: the name is too long.
socklen_t address_of(const std::string& name, sockaddr_un& address) {
    if (name.size() >= sizeof address.sun_path) return 0;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());  // a leading 0: the abstract names
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

result<int> closed_with(int fd, std::unexpected<error> e) {
    ::close(fd);
    return e;
}

/// Who is at the other end, and that neither waits for the other forever.
result<local_peer> describe(int fd, const std::string& name, time_t seconds) {
    ucred who{};
    socklen_t size = sizeof who;
    const timeval patience{seconds, 0};
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0) {
        auto e = failed(name, "getsockopt");
        ::close(fd);
        return e;
    }
    return local_peer{fd, who.pid, who.uid};
}

}  // namespace

result<int> listen_local(const std::string& name) {
    sockaddr_un address{};
    const socklen_t length = address_of(name, address);
    if (length == 0) return fail(EINVAL, "socket \"" + name + "\"", "bind", "the name is too long");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return failed(name, "socket");
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return closed_with(fd, failed(name, "bind"));
    if (::listen(fd, 8) != 0) return closed_with(fd, failed(name, "listen"));
    return fd;
}

result<local_peer> accept_local(int listener) {
    int fd;
    do fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    const std::string name = "fd " + std::to_string(listener);
    if (fd < 0) return failed(name, "accept");
    return describe(fd, name, 2);  // it has others to serve
}

result<local_peer> connect_local(const std::string& name) {
    sockaddr_un address{};
    const socklen_t length = address_of(name, address);
    if (length == 0) return fail(EINVAL, "socket \"" + name + "\"", "connect", "the name is too long");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return failed(name, "socket");
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) {
        auto e = failed(name, "connect");
        ::close(fd);
        return e;
    }
    return describe(fd, name, 10);  // who answers may have little of a busy machine
}

result<void> send_local(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("fd " + std::to_string(fd), "send");
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
}

result<std::vector<std::string>> local_names(std::string_view beginning) {
    const auto text = read_file(real(), "/proc/net/unix");
    if (!text) return std::unexpected(text.error());
    std::set<std::string> out;  // a connection that was accepted has its listener's name, too
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string number, references, protocol, flags, type, state, inode, path;
        words >> number >> references >> protocol >> flags >> type >> state >> inode >> std::ws;
        std::getline(words, path);
        const bool listens = flags.size() == 8 && flags[3] == '1';  // __SO_ACCEPTCON
        if (listens && path.starts_with('@') && std::string_view(path).substr(1).starts_with(beginning)) out.insert(path.substr(1));
    }
    return std::vector<std::string>(out.begin(), out.end());
}

result<void> keep_over_exec(int fd) {
    if (::fcntl(fd, F_SETFD, 0) != 0) return failed("fd " + std::to_string(fd), "fcntl");
    return {};
}

void end_listening(int listener) noexcept { ::shutdown(listener, SHUT_RDWR); }
unsigned effective_uid() noexcept { return ::geteuid(); }
unsigned effective_gid() noexcept { return ::getegid(); }

}  // namespace cohort::sys
