// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/detail/child.hpp>

namespace cohort::stream::detail {

namespace {

constexpr int kill_signal = 9;  // SIGKILL on every Linux; a command that ignores SIGTERM must not outlive the run

}  // namespace

result<child> child::start(sys::os& system, const sys::spawn_request& command, std::size_t pipe_bytes) {
    child c(system);
    auto in = system.pipe();
    if (!in) return std::unexpected(in.error());
    c.probe_ = sys::owned_fd(system, in->read);
    c.to_ = sys::owned_fd(system, in->write);
    auto out = system.pipe();
    if (!out) return std::unexpected(out.error());
    c.from_ = sys::owned_fd(system, out->read);
    sys::owned_fd its_out(system, out->write);

    sys::spawn_request request = command;
    request.stdin_fd = c.probe_.get();
    request.stdout_fd = its_out.get();
    request.new_group = true;
    request.ends_with_parent = true;  // whoever starts it waits for it, in the same thread
    // Pipes that hold a whole block spare a switch between the processes for every 64 KiB. Where a user has too many of them, they stay small.
    (void)system.set_pipe_size(c.to_.get(), pipe_bytes);
    (void)system.set_pipe_size(c.from_.get(), pipe_bytes);
    if (auto r = system.set_nonblocking(c.to_.get(), true); !r) return std::unexpected(r.error());
    if (auto r = system.set_nonblocking(c.from_.get(), true); !r) return std::unexpected(r.error());
    auto pid = system.spawn(request);
    if (!pid) return std::unexpected(pid.error());
    c.pid_ = *pid;
    return c;
}

child::child(child&& c) noexcept
    : os_(c.os_), pid_(std::exchange(c.pid_, 0)), to_(std::move(c.to_)), from_(std::move(c.from_)), probe_(std::move(c.probe_)), left_some_(c.left_some_) {}

child::~child() {
    if (pid_ == 0) return;
    (void)os_->kill(-pid_, kill_signal);
    (void)os_->kill(pid_, kill_signal);
    (void)os_->wait(pid_);
}

/// Writes as much as fits. At the end of the input, or when nobody reads it any more, its end is closed.
result<void> child::feed(byte_view& input) {
    while (to_ && !input.empty()) {
        auto n = os_->write(to_.get(), std::as_bytes(input));
        if (n) {
            input = input.subspan(*n);
        } else if (n.error().code == EAGAIN) {
            return {};
        } else if (n.error().code == EPIPE) {
            left_some_ = true;
            input = {};
        } else {
            return std::unexpected(n.error());
        }
    }
    return to_.close();
}

result<void> child::await(int want_read, int want_write, int stop_fd) {
    sys::poll_item items[3] = {{.fd = stop_fd, .want_read = true}};
    std::size_t count = 1;
    if (want_read >= 0) items[count++] = {.fd = want_read, .want_read = true};
    if (want_write >= 0) items[count++] = {.fd = want_write, .want_write = true};
    auto ready = os_->poll({items, count}, std::nullopt);
    if (!ready) return std::unexpected(ready.error());
    if (items[0].can_read || items[0].hung_up) return fail(ECANCELED, "command", "run", "stopped");
    return {};
}

result<bool> child::pump(byte_view& input, buffer& out, int stop_fd) {
    for (;;) {
        if (to_) {
            if (auto r = feed(input); !r) return std::unexpected(r.error());
        }
        if (out.room() == 0) return false;
        auto n = os_->read(from_.get(), std::as_writable_bytes(out.tail()));
        if (n) {
            if (*n == 0) return true;
            out.resize(out.size() + *n);
            continue;
        }
        if (n.error().code != EAGAIN) return std::unexpected(n.error());
        if (auto r = await(from_.get(), to_.get(), stop_fd); !r) return std::unexpected(r.error());
    }
}

result<child_end> child::finish(byte_view& input, int stop_fd) {
    // It closed its output. When it has ended, too, a write now answers EPIPE; when it reads on, it gets the rest.
    if (to_) (void)probe_.close();
    while (to_) {
        if (auto r = feed(input); !r) return std::unexpected(r.error());
        if (!to_) break;
        if (auto r = await(-1, to_.get(), stop_fd); !r) return std::unexpected(r.error());
    }
    auto ended = os_->try_wait(pid_);
    if (ended && !*ended) {
        if (auto fd = os_->pidfd(pid_)) {
            sys::owned_fd dead(*os_, *fd);
            if (auto r = await(dead.get(), -1, stop_fd); !r) return std::unexpected(r.error());
        }
        auto status = os_->wait(pid_);
        if (!status) return std::unexpected(status.error());
        ended = *status;
    }
    if (!ended) return std::unexpected(ended.error());
    pid_ = 0;
    child_end end{.status = **ended, .read_all = !left_some_};
    if (probe_) {
        // The write end is closed and so is the child's read end: what is in the pipe now nobody has read.
        std::byte one;
        auto n = os_->read(probe_.get(), {&one, 1});
        if (n && *n == 1) end.read_all = false;
    }
    return end;
}

}  // namespace cohort::stream::detail
