// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include <cohort/stream/detail/ends.hpp>

namespace cohort::stream::detail {

namespace {

constexpr std::size_t pipe_bytes = 1u << 20;

bool may_wait(sys::file_kind kind) { return kind == sys::file_kind::pipe || kind == sys::file_kind::socket || kind == sys::file_kind::character; }

std::unexpected<error> cancelled(const std::string& name, const char* act) { return fail(ECANCELED, name, act, "the run was stopped"); }

error named(error e, const std::string& name) {
    e.object = name;
    return e;
}

}  // namespace

result<std::unique_ptr<stop_flag>> stop_flag::create(sys::os& system) {
    auto ends = system.pipe();
    if (!ends) return std::unexpected(ends.error());
    return std::unique_ptr<stop_flag>(new stop_flag(system, *ends));
}

void stop_flag::raise() {
    if (raised_.exchange(true)) return;
    // Closing the write end makes the read end ready for ever, and cannot fail for want of room.
    (void)write_.close();
}

result<source> source::open(const pipe_options& options, sys::os& system) {
    source s;
    s.os_ = &system;
    if (options.input_path.empty()) {
        s.fd_ = options.input_fd;
        s.name_ = options.input_fd == 0 ? "standard input" : sys::fd_name(options.input_fd);
    } else {
        s.name_ = options.input_path;
        auto fd = sys::open_file(system, options.input_path, sys::open_read);
        if (!fd) return std::unexpected(fd.error());
        s.own_ = std::move(*fd);
        s.fd_ = s.own_.get();
    }
    auto info = system.fstat(s.fd_);
    if (!info) return std::unexpected(named(info.error(), s.name_));
    if (info->kind == sys::file_kind::directory) return fail(EISDIR, s.name_, "read", "it is a directory");
    s.waits_ = may_wait(info->kind);
    if (info->kind == sys::file_kind::regular) s.size_ = info->size;
    // Fewer, larger reads; where the system says no, the pipe stays as it is.
    if (info->kind == sys::file_kind::pipe) (void)system.set_pipe_size(s.fd_, pipe_bytes);
    return s;
}

source source::elsewhere(std::string name) {
    source s;
    s.name_ = std::move(name);
    s.ended_ = true;
    return s;
}

result<std::size_t> source::fill(std::span<std::uint8_t> into, int stop_fd) {
    std::size_t have = 0;
    while (have < into.size() && !ended_) {
        if (waits_) {
            sys::poll_item items[2] = {{.fd = fd_, .want_read = true}, {.fd = stop_fd, .want_read = true}};
            auto ready = os_->poll(items, std::nullopt);
            if (!ready) return std::unexpected(named(ready.error(), name_));
            if (items[1].can_read || items[1].hung_up) return cancelled(name_, "read");
        }
        auto n = os_->read(fd_, std::as_writable_bytes(into.subspan(have)));
        if (!n) {
            if (n.error().code == EAGAIN && waits_) continue;  // somebody made it non-blocking, and somebody else was faster
            return std::unexpected(named(n.error(), name_));
        }
        ended_ = *n == 0;
        have += *n;
    }
    return have;
}

result<sink> sink::open(const pipe_options& options, sys::os& system) {
    sink s;
    s.os_ = &system;
    s.sync_ = options.sync;
    if (!options.output_path.empty()) {
        s.name_ = options.output_path;
        auto there = system.stat(options.output_path);
        if (there && there->kind == sys::file_kind::directory) return fail(EISDIR, s.name_, "write", "it is a directory");
        if (!there || there->kind == sys::file_kind::regular) {
            if (there && !options.force) return fail(EEXIST, s.name_, "write", "the file exists; --force replaces it");
            auto temp = sys::temp_file::create(system, options.output_path);
            if (!temp) return std::unexpected(temp.error());
            s.temp_ = std::make_unique<sys::temp_file>(std::move(*temp));
            s.fd_ = s.temp_->fd();
            return s;
        }
        auto fd = sys::open_file(system, options.output_path, sys::open_write);  // a device, a FIFO: written where it is
        if (!fd) return std::unexpected(fd.error());
        s.own_ = std::move(*fd);
        s.fd_ = s.own_.get();
    } else {
        s.fd_ = options.output_fd;
        s.name_ = options.output_fd == 1 ? "standard output" : sys::fd_name(options.output_fd);
    }
    auto info = system.fstat(s.fd_);
    if (!info) return std::unexpected(named(info.error(), s.name_));
    if (info->kind == sys::file_kind::pipe) {
        (void)system.set_pipe_size(s.fd_, pipe_bytes);
        // Non-blocking through a description of our own, so that others who share this end see no change. Without it a write to a reader that
        // sleeps cannot be interrupted.
        auto again = sys::open_file(system, "/dev/fd/" + std::to_string(s.fd_), sys::open_write | sys::open_nonblock);
        if (again) {
            s.own_ = std::move(*again);
            s.fd_ = s.own_.get();
            s.waits_ = true;
        }
    }
    return s;
}

result<void> sink::write(byte_view bytes, int stop_fd) {
    while (!bytes.empty()) {
        auto n = os_->write(fd_, as_bytes(bytes));
        if (n) {
            if (*n == 0) return fail(EIO, name_, "write", "nothing was taken");
            bytes = bytes.subspan(*n);
            written_ += *n;
            continue;
        }
        if (n.error().code != EAGAIN) return std::unexpected(named(n.error(), name_));
        sys::poll_item items[2] = {{.fd = fd_, .want_write = true}, {.fd = stop_fd, .want_read = true}};
        auto ready = os_->poll(items, std::nullopt);
        if (!ready) return std::unexpected(named(ready.error(), name_));
        if (items[1].can_read || items[1].hung_up) return cancelled(name_, "write");
    }
    return {};
}

result<void> sink::commit() {
    if (!temp_) return own_.close();
    auto done = temp_->commit(sync_);
    if (!done) return std::unexpected(named(done.error(), name_));
    return {};
}

}  // namespace cohort::stream::detail
