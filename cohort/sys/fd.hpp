// SPDX-License-Identifier: Apache-2.0
/// What one wants of a descriptor: that it is closed, read in full, written in full; whole files; a temporary file to be renamed.
///
///     auto temp = sys::temp_file::create(os, "out.zst");       // out.zst.XXXXXXXX beside it; gone unless committed
///     if (!temp) return std::unexpected(temp.error());
///     if (auto r = sys::write_all(os, temp->fd(), bytes); !r) return r;
///     return temp->commit();                                   // fsync, close, rename to out.zst
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <cohort/base/error.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::sys {

/// A resource: closes its descriptor. Move-only.
class owned_fd {
public:
    owned_fd() = default;
    owned_fd(os& system, int fd) : os_(&system), fd_(fd) {}
    owned_fd(owned_fd&& other) noexcept : os_(other.os_), fd_(other.release()) {}
    owned_fd& operator=(owned_fd&& other) noexcept {
        if (this != &other) {
            (void)close();
            os_ = other.os_;
            fd_ = other.release();
        }
        return *this;
    }
    ~owned_fd() { (void)close(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    /// Closes now and tells what close() said; nothing to do when it holds none. After an error the descriptor is gone too.
    result<void> close() { return fd_ < 0 ? result<void>{} : os_->close(release()); }

private:
    os* os_ = nullptr;
    int fd_ = -1;
};

/// open() into an owned_fd.
result<owned_fd> open_file(os& system, const std::string& path, open_flags flags, unsigned mode = 0666);

/// Writes everything; waits (poll) on a descriptor that is non-blocking. Errors: those of write; what was written before stays written.
result<void> write_all(os& system, int fd, std::span<const std::byte> from);
result<void> write_all(os& system, int fd, std::string_view from);

/// Reads until `into` is full or the end; answers how much. Waits (poll) on a descriptor that is non-blocking.
result<std::size_t> read_full(os& system, int fd, std::span<std::byte> into);

/// The rest of a descriptor, or a whole file. Errors: those of open and read; EFBIG beyond `limit` bytes.
result<std::string> read_rest(os& system, int fd, std::size_t limit = std::size_t{1} << 30);
result<std::string> read_file(os& system, const std::string& path, std::size_t limit = std::size_t{1} << 30);
/// The same without a '\n' (and blanks) at the end: for the one-line files of proc and sysfs.
result<std::string> read_line(os& system, const std::string& path);

/// Creates or replaces `path` by its content in place (not atomic; temp_file is). For control files, which cannot be renamed over.
result<void> write_file(os& system, const std::string& path, std::string_view content);

/// A file that appears under its name whole or not at all. A resource: removed unless committed. Move-only.
class temp_file {
public:
    /// A new file beside `path`, with a name of its own; `about_to` hears that name before there is anything under it. Errors: those of open; EISDIR, `path` is a directory.
    static result<temp_file> create(os& system, std::string path, unsigned mode = 0666, const std::function<void(const std::string& name)>& about_to = {});
    temp_file(temp_file&& other) noexcept;
    temp_file& operator=(temp_file&&) = delete;
    ~temp_file();

    int fd() const { return fd_.get(); }
    const std::string& name() const { return name_; }
    /// Gives the file its final name. sync: its bytes reach the disk first. On an error nothing appears under the final name and the file is removed.
    result<void> commit(bool sync = false);
    /// Removes it now.
    void discard();

private:
    temp_file(os& system, std::string path, std::string name, owned_fd fd);
    os* os_;
    std::string path_, name_;  // name_ is empty once committed or discarded
    owned_fd fd_;
};

/// What was written to `target` goes to where `fd` leads from here on; others may be writing to it meanwhile. Not through os: it is this process's own table. Errors: EBADF. Kernel: dup2.
result<void> redirect(int target, int fd);

/// The last error as a result: for those who implement os.
std::unexpected<error> fail_errno(std::string object, std::string act);
std::string fd_name(int fd);

}  // namespace cohort::sys
