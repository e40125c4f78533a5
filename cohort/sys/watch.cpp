// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/watch.hpp>

#include <sys/file.h>
#include <sys/inotify.h>

#include <cerrno>
#include <cstring>

namespace cohort::sys {

result<dir_watch> dir_watch::create(const std::string& directory) {
    const auto failed = [&](const char* act) {
        const int code = errno;
        return fail(code, directory, act, errno_text(code));
    };
    const int fd = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) return failed("start inotify");
    dir_watch out(owned_fd(real(), fd));
    constexpr std::uint32_t wanted = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF;
    if (::inotify_add_watch(fd, directory.c_str(), wanted | IN_ONLYDIR) < 0) return failed("watch");
    return out;
}

result<std::vector<dir_event>> dir_watch::news() {
    std::vector<dir_event> out;
    alignas(inotify_event) std::byte buffer[16384];
    for (;;) {
        const auto n = real().read(fd_.get(), buffer);
        if (!n && n.error().code == EAGAIN) return out;
        if (!n) return std::unexpected(n.error());
        if (*n == 0) return out;
        for (std::size_t at = 0; at + sizeof(inotify_event) <= *n;) {
            inotify_event e;
            std::memcpy(&e, buffer + at, sizeof e);
            const char* name = reinterpret_cast<const char*>(buffer + at + sizeof e);
            at += sizeof e + e.len;
            if (e.mask & IN_Q_OVERFLOW) out.push_back({dir_event::lost, {}});
            else if (e.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) out.push_back({dir_event::over, {}});
            else if (e.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) out.push_back({dir_event::changed, name});
            else if (e.mask & (IN_DELETE | IN_MOVED_FROM)) out.push_back({dir_event::gone, name});
            else if ((e.mask & IN_CREATE) && (e.mask & IN_ISDIR)) out.push_back({dir_event::made, name});
            else if (e.mask & IN_MODIFY) out.push_back({dir_event::writing, name});
        }
    }
}

result<void> try_hold(int fd) {
    while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int code = errno;
        if (code == EINTR) continue;
        return fail(code, "fd " + std::to_string(fd), "hold", code == EAGAIN ? "another process holds it" : errno_text(code));
    }
    return {};
}

}  // namespace cohort::sys
