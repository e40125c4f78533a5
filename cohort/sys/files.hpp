// SPDX-License-Identifier: Apache-2.0
/// Files, directories, pipes and terminals, as an interface that tests replace. Use it through sys::os (os.hpp).
///
///     result<int> fd = os.open("in.tar", sys::open_read);
///     if (!fd) return std::unexpected(fd.error());            // in.tar: open: ENOENT: No such file or directory
///     sys::owned_fd file(os, *fd);                            // fd.hpp: closes, and has read_full, write_all, read_file ...
///     std::vector<std::byte> block(1 << 20);
///     result<std::size_t> n = os.read(*fd, block);
///
/// Kernel: the system calls of the same names. Differences: every descriptor is close-on-exec; EINTR is retried inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::sys {

/// What open() is asked for; combine with |. Values are this library's own, not those of O_*.
enum open_flags : unsigned {
    open_read = 1,
    open_write = 2,
    open_create = 4,     ///< create when missing
    open_exclusive = 8,  ///< with open_create: EEXIST when it is there
    open_truncate = 16,
    open_append = 32,
    open_directory = 64,  ///< ENOTDIR when it is not a directory; for fsync of one
    open_nonblock = 128,
};
constexpr open_flags operator|(open_flags a, open_flags b) { return static_cast<open_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }

enum class file_kind { regular, directory, pipe, character, block, socket, symlink, other };

struct file_info {
    file_kind kind = file_kind::other;
    std::uint64_t size = 0;                ///< bytes; 0 for pipes and most virtual files
    std::uint64_t device = 0, inode = 0;   ///< the pair names one file of the running system
    unsigned mode = 0;                     ///< permission bits, 07777
    unsigned uid = 0, gid = 0;             ///< whose it is
    std::uint64_t changed_ns = 0;          ///< when its content last did, since 1970; only to be compared
};

struct pipe_ends {
    int read = -1, write = -1;
};

/// One descriptor to wait for.
struct poll_item {
    int fd = -1;
    bool want_read = false, want_write = false;
    bool can_read = false, can_write = false;  ///< set by poll; also on error or hang-up, so that the read or write tells which
    bool hung_up = false;                      ///< the other end is closed
};

/// Synchronization: implementations may be called by any thread; one descriptor must not be closed while another thread uses it.
/// Errors of all: the errno of the call; object = the path or "fd N", act = the call's name, reason = the C library's text.
class files {
public:
    virtual ~files() = default;

    virtual result<int> open(const std::string& path, open_flags flags, unsigned mode = 0666) = 0;
    virtual result<void> close(int fd) = 0;
    /// At most into.size() bytes; 0 at the end. EAGAIN on a non-blocking descriptor without data.
    virtual result<std::size_t> read(int fd, std::span<std::byte> into) = 0;
    virtual result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset) = 0;
    /// At least one byte is written where from is not empty; may be fewer than all (write_all of fd.hpp goes on).
    virtual result<std::size_t> write(int fd, std::span<const std::byte> from) = 0;
    virtual result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) = 0;
    virtual result<file_info> fstat(int fd) = 0;
    virtual result<file_info> stat(const std::string& path) = 0;
    virtual result<void> fsync(int fd) = 0;
    virtual result<void> ftruncate(int fd, std::uint64_t size) = 0;

    virtual result<void> rename(const std::string& from, const std::string& to) = 0;
    virtual result<void> unlink(const std::string& path) = 0;
    virtual result<void> mkdir(const std::string& path, unsigned mode = 0777) = 0;
    virtual result<void> rmdir(const std::string& path) = 0;
    /// Links are followed. gid -1: stays. Errors: EPERM.
    virtual result<void> chown(const std::string& path, unsigned uid, std::int64_t gid) = 0;
    /// Names without "." and "..", sorted.
    virtual result<std::vector<std::string>> list_dir(const std::string& path) = 0;
    virtual result<std::string> readlink(const std::string& path) = 0;

    virtual result<pipe_ends> pipe() = 0;
    /// Asks for at least `bytes`; answers what it became. EPERM beyond /proc/sys/fs/pipe-max-size.
    virtual result<std::size_t> set_pipe_size(int fd, std::size_t bytes) = 0;
    virtual result<void> set_nonblocking(int fd, bool on) = 0;
    /// An anonymous file in memory.
    virtual result<int> memfd(const std::string& name) = 0;
    /// Waits until an item is ready; answers how many are, 0 at the timeout. No timeout: as long as it takes.
    virtual result<int> poll(std::span<poll_item> items, std::optional<std::uint64_t> timeout_ns) = 0;

    virtual bool isatty(int fd) = 0;
    /// Columns of the terminal behind fd; ENOTTY.
    virtual result<int> terminal_width(int fd) = 0;
};

}  // namespace cohort::sys
