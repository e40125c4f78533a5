// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/child.hpp>

#include <csignal>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include <cohort/sys/tasks.hpp>

namespace cohort::group::detail {
namespace {

constexpr std::uint64_t for_ever = std::numeric_limits<std::uint64_t>::max();

/// Kernels before 5.3 have no pidfd: the end is then looked for this often.
constexpr std::uint64_t look_every_ns = 20'000'000;

}  // namespace

result<child> child::start(sys::os& os, sys::spawn_request request, const sys::placement& place, bool own_group) {
    request.new_group = own_group;
    auto pid = sys::spawn_at(os, request, place);
    if (!pid) return std::unexpected(pid.error());
    return child(os, *pid, own_group);
}

child::~child() {
    if (pid_ == 0) return;
    (void)os_->kill(target(), SIGKILL);
    (void)reap();
}

result<sys::exit_status> child::reap() {
    if (before_reaping_) before_reaping_();
    auto status = os_->wait(pid_);
    pid_ = 0;
    return status;
}

result<bool> child::ended(int pidfd, int stop_fd, std::uint64_t timeout_ns) {
    const std::uint64_t until = timeout_ns == for_ever ? for_ever : os_->now() + timeout_ns;
    for (;;) {
        const std::uint64_t now = os_->now();
        std::uint64_t left = until == for_ever ? for_ever : until > now ? until - now : 0;
        const std::uint64_t slice = pidfd >= 0 ? left : std::min(left, look_every_ns);
        std::array<sys::poll_item, 2> items;
        std::size_t n = 0;
        if (pidfd >= 0) items[n++] = {.fd = pidfd, .want_read = true};
        if (stop_fd >= 0) items[n++] = {.fd = stop_fd, .want_read = true};
        auto ready = os_->poll({items.data(), n}, slice == for_ever ? std::nullopt : std::optional(slice));
        if (!ready) return std::unexpected(ready.error());
        if (pidfd >= 0 && items[0].can_read) return true;
        if (pidfd < 0) {
            // Signal 0 tells nothing of a zombie, so an unreaped child is asked for through /proc.
            const auto stat = sys::stat_of(*os_, pid_);
            if (!stat || stat->over()) return true;
        }
        if (stop_fd >= 0 && (items[n - 1].can_read || items[n - 1].hung_up)) return false;
        if (left == 0) return false;
    }
}

result<sys::exit_status> child::terminate(int pidfd, std::uint64_t patience_ns) {
    (void)os_->kill(target(), SIGTERM);
    const auto gone = ended(pidfd, -1, patience_ns);
    // What the leader had started may have ignored SIGTERM; while the leader is not reaped its group cannot be another's.
    (void)os_->kill(target(), SIGKILL);
    (void)gone;
    return reap();
}

result<sys::exit_status> child::wait(int stop_fd, std::uint64_t patience_ns) {
    auto handle = os_->pidfd(pid_);
    sys::owned_fd pidfd = handle ? sys::owned_fd(*os_, *handle) : sys::owned_fd();
    auto done = ended(pidfd.get(), stop_fd, for_ever);
    if (!done || !*done) {
        auto status = terminate(pidfd.get(), patience_ns);
        if (!done) return std::unexpected(done.error());
        return fail(ECANCELED, "command", "wait", "it was stopped");
    }
    return reap();
}

std::optional<sys::exit_status> child::end(std::uint64_t patience_ns) {
    if (pid_ == 0) return std::nullopt;
    auto handle = os_->pidfd(pid_);
    sys::owned_fd pidfd = handle ? sys::owned_fd(*os_, *handle) : sys::owned_fd();
    const auto status = terminate(pidfd.get(), patience_ns);
    return status ? std::optional(*status) : std::nullopt;
}

result<std::optional<std::size_t>> child::first_ended(sys::os& os, std::span<child* const> all, int stop_fd, std::uint64_t timeout_ns) {
    std::vector<sys::owned_fd> handles;
    std::vector<std::size_t> places;
    std::vector<sys::poll_item> items;
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (all[i]->pid_ == 0) continue;
        auto handle = os.pidfd(all[i]->pid_);
        if (!handle) {
            // Without pidfds they are looked at one by one.
            auto done = all[i]->ended(-1, stop_fd, look_every_ns / all.size());
            if (!done) return std::unexpected(done.error());
            if (*done) return i;
            continue;
        }
        handles.emplace_back(os, *handle);
        places.push_back(i);
        items.push_back({.fd = *handle, .want_read = true});
    }
    items.push_back({.fd = stop_fd, .want_read = true});
    auto ready = os.poll(items, places.empty() ? 0 : timeout_ns);
    if (!ready) return std::unexpected(ready.error());
    for (std::size_t i = 0; i < places.size(); ++i) {
        if (items[i].can_read) return places[i];
    }
    if (items.back().can_read || items.back().hung_up) return fail(ECANCELED, "command", "wait", "it was stopped");
    return std::nullopt;
}

result<sys::exit_status> child::collect() {
    (void)os_->kill(target(), SIGKILL);
    return reap();
}

}  // namespace cohort::group::detail
