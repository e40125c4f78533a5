// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/liveness.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cohort::sys {

namespace {

/// Field 22 of its stat file; 0: there is none.
std::uint64_t start_time(std::int32_t pid) noexcept {
    char path[32], text[1024];
    std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t n = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char* at = std::strrchr(text, ')');  // the name before it may hold anything
    for (int field = 2; at && field < 22; ++field) at = std::strchr(at + 1, ' ');
    return at ? std::strtoull(at + 1, nullptr, 10) : 0;
}

std::uint64_t mark_of(std::int32_t pid, int pidfd) noexcept {
    constexpr long pidfs = 0x50494446;
    struct statfs kind{};
    struct stat s{};
    if (::fstatfs(pidfd, &kind) == 0 && kind.f_type == pidfs && ::fstat(pidfd, &s) == 0) return s.st_ino | std::uint64_t{1} << 63;
    return start_time(pid);
}

}  // namespace

process_identity this_process() noexcept { return identify_process(::getpid()); }
process_identity identify_process(std::int32_t pid, int pidfd) noexcept { return {pid, pidfd < 0 ? start_time(pid) : mark_of(pid, pidfd)}; }
process_identity identify_process(std::int32_t pid) noexcept {
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return {pid, start_time(pid)};
    const process_identity p{pid, mark_of(pid, fd)};
    ::close(fd);
    return p;
}

bool has_ended(const process_identity& p) noexcept {
    if (p.pid <= 0) return false;
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, p.pid, 0));
    // The last two: the number is a thread's of another process now, or was given back this moment.
    if (fd < 0) return errno == ESRCH || errno == EINVAL || errno == ENOENT;
    // Its number is held while the descriptor is open: what is read now is of this process.
    pollfd f{fd, POLLIN, 0};
    const bool ended = ::poll(&f, 1, 0) == 1;
    const std::uint64_t mark = p.mark != 0 && !ended ? mark_of(p.pid, fd) : 0;
    ::close(fd);
    return ended || (mark != 0 && mark != p.mark);
}

std::optional<bool> maps_file(std::int32_t pid, int fd) noexcept {
    struct stat file{};
    if (::fstat(fd, &file) != 0) return std::nullopt;
    return maps_file(pid, file.st_dev, file.st_ino);
}

std::optional<bool> maps_file(std::int32_t pid, std::uint64_t device, std::uint64_t file) noexcept {
    char line[512];
    std::snprintf(line, sizeof line, "/proc/%d/maps", pid);
    std::FILE* maps = std::fopen(line, "re");
    if (!maps) return std::nullopt;
    bool found = false, whole = true;  // a line that is longer comes in pieces: the first tells
    while (!found && std::fgets(line, sizeof line, maps)) {
        unsigned high = 0, low = 0;
        unsigned long inode = 0;
        found = whole && std::sscanf(line, "%*x-%*x %*s %*x %x:%x %lu", &high, &low, &inode) == 3 && ::makedev(high, low) == device && inode == file;
        whole = std::strchr(line, '\n') != nullptr;
    }
    const bool failed = std::ferror(maps) != 0;
    std::fclose(maps);
    return failed && !found ? std::nullopt : std::optional(found);
}

}  // namespace cohort::sys
