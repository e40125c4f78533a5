// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/uevents.hpp>

#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cohort::sys {

result<int> open_uevents() {
    const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0) return fail(errno, "uevents", "socket", errno_text(errno));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1;  // the kernel's own; 2 is udev's
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const int code = errno;
        ::close(fd);
        return fail(code, "uevents", "bind", errno_text(code));
    }
    return fd;
}

}  // namespace cohort::sys
