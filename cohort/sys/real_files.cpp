// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/detail/real_os.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>

#include <cohort/sys/fd.hpp>

namespace cohort::sys {

std::unexpected<error> fail_errno(std::string object, std::string act) {
    const int code = errno;
    return fail(code, std::move(object), std::move(act), errno_text(code));
}

std::string fd_name(int fd) { return "fd " + std::to_string(fd); }

namespace detail {
namespace {

/// Calls again while a signal interrupts.
template <class Call>
auto retry(Call call) {
    for (;;) {
        const auto answer = call();
        if (answer >= 0 || errno != EINTR) return answer;
    }
}

result<std::size_t> count_of(ssize_t n, int fd, const char* act) {
    if (n < 0) return fail_errno(fd_name(fd), act);
    return static_cast<std::size_t>(n);
}

result<void> done(int answer, const std::string& object, const char* act) {
    if (answer < 0) return fail_errno(object, act);
    return {};
}

file_info info_of(const struct ::stat& s) {
    file_info out;
    switch (s.st_mode & S_IFMT) {
        case S_IFREG: out.kind = file_kind::regular; break;
        case S_IFDIR: out.kind = file_kind::directory; break;
        case S_IFIFO: out.kind = file_kind::pipe; break;
        case S_IFCHR: out.kind = file_kind::character; break;
        case S_IFBLK: out.kind = file_kind::block; break;
        case S_IFSOCK: out.kind = file_kind::socket; break;
        case S_IFLNK: out.kind = file_kind::symlink; break;
        default: break;
    }
    out.size = out.kind == file_kind::pipe ? 0 : static_cast<std::uint64_t>(s.st_size);
    out.device = s.st_dev;
    out.inode = s.st_ino;
    out.mode = s.st_mode & 07777;
    out.uid = s.st_uid;
    out.gid = s.st_gid;
    out.changed_ns = static_cast<std::uint64_t>(s.st_mtim.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(s.st_mtim.tv_nsec);
    return out;
}

int native_flags(open_flags flags) {
    int out = O_CLOEXEC;
    if ((flags & open_read) && (flags & open_write)) out |= O_RDWR;
    else if (flags & open_write) out |= O_WRONLY;
    else out |= O_RDONLY;
    if (flags & open_create) out |= O_CREAT;
    if (flags & open_exclusive) out |= O_EXCL;
    if (flags & open_truncate) out |= O_TRUNC;
    if (flags & open_append) out |= O_APPEND;
    if (flags & open_directory) out |= O_DIRECTORY;
    if (flags & open_nonblock) out |= O_NONBLOCK;
    return out;
}

}  // namespace

result<int> real_os::open(const std::string& path, open_flags flags, unsigned mode) {
    const int fd = retry([&] { return ::open(path.c_str(), native_flags(flags), mode); });
    if (fd < 0) return fail_errno(path, "open");
    return fd;
}

result<void> real_os::close(int fd) {
    // Linux frees the descriptor even when close is interrupted; a second close could hit another thread's new file.
    if (::close(fd) < 0 && errno != EINTR) return fail_errno(fd_name(fd), "close");
    return {};
}

result<std::size_t> real_os::read(int fd, std::span<std::byte> into) {
    return count_of(retry([&] { return ::read(fd, into.data(), into.size()); }), fd, "read");
}

result<std::size_t> real_os::pread(int fd, std::span<std::byte> into, std::uint64_t offset) {
    return count_of(retry([&] { return ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset)); }), fd, "pread");
}

result<std::size_t> real_os::write(int fd, std::span<const std::byte> from) {
    return count_of(retry([&] { return ::write(fd, from.data(), from.size()); }), fd, "write");
}

result<std::size_t> real_os::pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) {
    return count_of(retry([&] { return ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset)); }), fd, "pwrite");
}

result<file_info> real_os::fstat(int fd) {
    struct ::stat s;
    if (::fstat(fd, &s) < 0) return fail_errno(fd_name(fd), "fstat");
    return info_of(s);
}

result<file_info> real_os::stat(const std::string& path) {
    struct ::stat s;
    if (::stat(path.c_str(), &s) < 0) return fail_errno(path, "stat");
    return info_of(s);
}

result<void> real_os::fsync(int fd) { return done(retry([&] { return ::fsync(fd); }), fd_name(fd), "fsync"); }

result<void> real_os::ftruncate(int fd, std::uint64_t size) {
    return done(retry([&] { return ::ftruncate(fd, static_cast<off_t>(size)); }), fd_name(fd), "ftruncate");
}

result<void> real_os::rename(const std::string& from, const std::string& to) {
    return done(::rename(from.c_str(), to.c_str()), from, ("rename to " + to).c_str());
}

result<void> real_os::unlink(const std::string& path) { return done(::unlink(path.c_str()), path, "unlink"); }
result<void> real_os::mkdir(const std::string& path, unsigned mode) { return done(::mkdir(path.c_str(), mode), path, "mkdir"); }
result<void> real_os::rmdir(const std::string& path) { return done(::rmdir(path.c_str()), path, "rmdir"); }

result<void> real_os::chown(const std::string& path, unsigned uid, std::int64_t gid) {
    return done(::chown(path.c_str(), uid, static_cast<gid_t>(gid)), path, ("chown to " + std::to_string(uid)).c_str());
}

result<std::vector<std::string>> real_os::list_dir(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
    if (!dir) return fail_errno(path, "list");
    std::vector<std::string> out;
    for (errno = 0; const dirent* entry = ::readdir(dir.get()); errno = 0) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") out.push_back(name);
    }
    if (errno != 0) return fail_errno(path, "list");
    std::sort(out.begin(), out.end());
    return out;
}

result<std::string> real_os::readlink(const std::string& path) {
    for (std::string out(256, '\0');; out.resize(out.size() * 2)) {
        const ssize_t n = ::readlink(path.c_str(), out.data(), out.size());
        if (n < 0) return fail_errno(path, "readlink");
        if (static_cast<std::size_t>(n) == out.size()) continue;  // perhaps cut short
        out.resize(static_cast<std::size_t>(n));
        return out;
    }
}

result<pipe_ends> real_os::pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) return fail_errno("", "pipe");
    return pipe_ends{ends[0], ends[1]};
}

result<std::size_t> real_os::set_pipe_size(int fd, std::size_t bytes) {
    return count_of(::fcntl(fd, F_SETPIPE_SZ, static_cast<int>(std::min<std::size_t>(bytes, 1U << 30))), fd, "set the pipe's size");
}

result<void> real_os::set_nonblocking(int fd, bool on) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return fail_errno(fd_name(fd), "fcntl");
    return done(::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), fd_name(fd), "fcntl");
}

result<int> real_os::memfd(const std::string& name) {
    const int fd = ::memfd_create(name.c_str(), MFD_CLOEXEC);
    if (fd < 0) return fail_errno(name, "memfd_create");
    return fd;
}

result<int> real_os::poll(std::span<poll_item> items, std::optional<std::uint64_t> timeout_ns) {
    std::vector<pollfd> native;
    for (const poll_item& item : items) {
        native.push_back({item.fd, static_cast<short>((item.want_read ? POLLIN : 0) | (item.want_write ? POLLOUT : 0)), 0});
    }
    const std::uint64_t deadline = timeout_ns ? now() + *timeout_ns : 0;
    for (;;) {
        timespec left{};
        if (timeout_ns) {
            const std::uint64_t at = now();
            const std::uint64_t ns = deadline > at ? deadline - at : 0;
            left = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
        }
        const int ready = ::ppoll(native.data(), native.size(), timeout_ns ? &left : nullptr, nullptr);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return fail_errno("", "poll");
        for (std::size_t i = 0; i < items.size(); ++i) {
            const short got = native[i].revents;
            items[i].hung_up = (got & (POLLHUP | POLLERR | POLLNVAL)) != 0;
            items[i].can_read = items[i].want_read && ((got & POLLIN) || items[i].hung_up);
            items[i].can_write = items[i].want_write && ((got & POLLOUT) || items[i].hung_up);
        }
        return ready;
    }
}

bool real_os::isatty(int fd) { return ::isatty(fd) == 1; }

result<int> real_os::terminal_width(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) < 0) return fail_errno(fd_name(fd), "ask for the terminal's width");
    return size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace detail

os& real() {
    // Never destroyed: threads of the library may ask while a process ends.
    alignas(detail::real_os) static std::byte room[sizeof(detail::real_os)];
    static os& system = *new (room) detail::real_os;
    return system;
}

}  // namespace cohort::sys
