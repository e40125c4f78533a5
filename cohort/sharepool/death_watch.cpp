// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/death_watch.hpp>

#include <algorithm>

namespace cohort::sharepool {

result<death_watch> death_watch::create(member& m, at_death policy) {
    // Whether this system tells of ends at all.
    const auto fd = sys::real().pidfd(m.processes().front());
    if (!fd && fd.error().code == ENOSYS) return std::unexpected(fd.error());
    if (fd) (void)sys::real().close(*fd);
    return death_watch(m, policy);
}

result<void> death_watch::follow(int pid, int socket) {
    const auto fd = sys::real().pidfd(pid);
    if (!fd) {
        look_ = true;
        return std::unexpected(fd.error());
    }
    all_.push_back({pid, sys::owned_fd(sys::real(), *fd), socket});
    return {};
}

result<void> death_watch::follow_all() {
    for (const int pid : member_->processes()) {
        const bool known = std::any_of(all_.begin(), all_.end(), [&](const one& o) { return o.pid == pid; });
        if (known || pid == sys::real().getpid()) continue;
        if (auto r = follow(pid); !r && r.error().code != ESRCH) return r;
    }
    return {};
}

result<recovered> death_watch::wait(std::optional<std::chrono::nanoseconds> timeout) {
    recovered done;
    if (std::exchange(look_, false)) done += member_->recover_dead(policy_);
    std::vector<sys::poll_item> items;
    for (const one& o : all_) {
        items.push_back({.fd = o.ends.get(), .want_read = true});
        items.push_back({.fd = o.socket, .want_read = true});  // -1 is passed over
    }
    if (items.empty()) return done;
    const auto ready = sys::real().poll(items, timeout ? std::optional(static_cast<std::uint64_t>(timeout->count())) : std::nullopt);
    if (!ready) return std::unexpected(ready.error());
    bool ended = false;
    std::vector<one> rest;
    for (std::size_t i = 0; i < all_.size(); ++i) {
        const bool died = items[2 * i].can_read, left = items[2 * i + 1].hung_up;
        ended |= died;
        if (died) continue;
        if (left) {
            // Without its memory, though it lives: the kernel drops the mappings before it closes what is close-on-exec. One that only closed its end is followed on, to its death.
            done += member_->recover_process(all_[i].pid, policy_);
            const std::vector<int> members = member_->processes();
            if (std::find(members.begin(), members.end(), all_[i].pid) == members.end()) continue;
            all_[i].socket = -1;
        }
        rest.push_back(std::move(all_[i]));
    }
    all_ = std::move(rest);
    if (ended) done += member_->recover_dead(policy_);
    return done;
}

}  // namespace cohort::sharepool
