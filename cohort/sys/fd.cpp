// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/fd.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace cohort::sys {
namespace {

/// Sleeps until a non-blocking descriptor can go on.
result<void> wait_ready(os& system, int fd, bool to_write) {
    poll_item item{.fd = fd, .want_read = !to_write, .want_write = to_write};
    auto ready = system.poll(std::span(&item, 1), std::nullopt);
    if (!ready) return std::unexpected(ready.error());
    return {};
}

/// Eight letters that other processes and threads are unlikely to pick; open_exclusive decides.
std::string random_suffix(os& system) {
    static std::atomic<std::uint64_t> counter{0};
    // relaxed: only the value must differ between callers.
    std::uint64_t x = system.now() ^ (static_cast<std::uint64_t>(system.getpid()) << 40) ^ (counter.fetch_add(1, std::memory_order_relaxed) << 20);
    std::string out;
    for (int i = 0; i < 8; ++i) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u + 0x9e3779b97f4a7c15u;
        out += "abcdefghijklmnopqrstuvwxyz234567"[x >> 59];
    }
    return out;
}

}  // namespace

result<owned_fd> open_file(os& system, const std::string& path, open_flags flags, unsigned mode) {
    auto fd = system.open(path, flags, mode);
    if (!fd) return std::unexpected(fd.error());
    return owned_fd(system, *fd);
}

result<void> write_all(os& system, int fd, std::span<const std::byte> from) {
    while (!from.empty()) {
        auto n = system.write(fd, from);
        if (!n && n.error().code == EAGAIN) {
            if (auto ready = wait_ready(system, fd, true); !ready) return ready;
            continue;
        }
        if (!n) return std::unexpected(n.error());
        // A write of zero bytes would loop for ever; no file system we know answers it.
        if (*n == 0) return fail(EIO, fd_name(fd), "write", "nothing was written");
        from = from.subspan(*n);
    }
    return {};
}

result<void> write_all(os& system, int fd, std::string_view from) { return write_all(system, fd, std::as_bytes(std::span(from))); }

result<std::size_t> read_full(os& system, int fd, std::span<std::byte> into) {
    std::size_t got = 0;
    while (got < into.size()) {
        auto n = system.read(fd, into.subspan(got));
        if (!n && n.error().code == EAGAIN) {
            if (auto ready = wait_ready(system, fd, false); !ready) return std::unexpected(ready.error());
            continue;
        }
        if (!n) return n;
        if (*n == 0) break;
        got += *n;
    }
    return got;
}

result<std::string> read_rest(os& system, int fd, std::size_t limit) {
    std::string out;
    for (std::size_t step = 4096;; step = std::min<std::size_t>(step * 2, 1 << 20)) {
        const std::size_t old = out.size();
        out.resize(old + step);
        auto n = read_full(system, fd, std::as_writable_bytes(std::span(out).subspan(old)));
        if (!n) return std::unexpected(n.error());
        out.resize(old + *n);
        if (out.size() > limit) return fail(EFBIG, fd_name(fd), "read", "more than " + std::to_string(limit) + " bytes");
        if (*n < step) return out;
    }
}

result<std::string> read_file(os& system, const std::string& path, std::size_t limit) {
    auto file = open_file(system, path, open_read);
    if (!file) return std::unexpected(file.error());
    auto text = read_rest(system, file->get(), limit);
    if (!text) text.error().object = path;
    return text;
}

result<std::string> read_line(os& system, const std::string& path) {
    auto text = read_file(system, path);
    if (text) text->erase(text->find_last_not_of(" \t\n") + 1);
    return text;
}

result<void> write_file(os& system, const std::string& path, std::string_view content) {
    auto file = open_file(system, path, open_write | open_create | open_truncate);
    if (!file) return std::unexpected(file.error());
    auto wrote = write_all(system, file->get(), content);
    if (wrote) wrote = file->close();
    if (!wrote) wrote.error().object = path;
    return wrote;
}

temp_file::temp_file(os& system, std::string path, std::string name, owned_fd fd)
    : os_(&system), path_(std::move(path)), name_(std::move(name)), fd_(std::move(fd)) {}

temp_file::temp_file(temp_file&& other) noexcept
    : os_(other.os_), path_(std::move(other.path_)), name_(std::exchange(other.name_, {})), fd_(std::move(other.fd_)) {}

temp_file::~temp_file() { discard(); }

result<temp_file> temp_file::create(os& system, std::string path, unsigned mode, const std::function<void(const std::string&)>& about_to) {
    if (auto there = system.stat(path); there && there->kind == file_kind::directory) {
        return fail(EISDIR, path, "create", errno_text(EISDIR));
    }
    for (int attempt = 0;; ++attempt) {
        std::string name = path + "." + random_suffix(system);
        if (about_to) about_to(name);
        auto fd = system.open(name, open_read | open_write | open_create | open_exclusive, mode);
        if (fd) return temp_file(system, std::move(path), std::move(name), owned_fd(system, *fd));
        if (fd.error().code != EEXIST || attempt == 100) {
            return fail(fd.error().code, path, "create", fd.error().reason);
        }
    }
}

result<void> temp_file::commit(bool sync) {
    result<void> ok;
    if (sync) ok = os_->fsync(fd_.get());
    // close() is where some file systems (NFS, quotas) tell that a write was lost.
    if (auto closed = fd_.close(); ok) ok = closed;
    if (ok) ok = os_->rename(name_, path_);
    if (ok) name_.clear();
    else {
        ok.error().object = path_;
        discard();
    }
    return ok;
}

void temp_file::discard() {
    (void)fd_.close();
    if (!name_.empty()) (void)os_->unlink(name_);
    name_.clear();
}

result<void> redirect(int target, int fd) {
    if (::dup2(fd, target) < 0) return fail_errno(fd_name(target), "dup2");
    return {};
}

}  // namespace cohort::sys
