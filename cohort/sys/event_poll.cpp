// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/event_poll.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace cohort::sys {

namespace {

constexpr int most_events = 256;

epoll_event wish(std::uint64_t key, bool read, bool write) {
    epoll_event e{};
    e.events = (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
    e.data.u64 = key;
    return e;
}

result<owned_fd> owned(int fd, const char* call) {
    if (fd < 0) return fail_errno(call, call);
    return owned_fd(real(), fd);
}

}  // namespace

result<event_poll> event_poll::create() {
    auto f = owned(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    if (!f) return std::unexpected(f.error());
    return event_poll(std::move(*f));
}
result<void> event_poll::add(int fd, std::uint64_t key, bool read, bool write) {
    epoll_event e = wish(key, read, write);
    if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &e) != 0) return fail_errno(fd_name(fd), "epoll_ctl");
    return {};
}
void event_poll::change(int fd, std::uint64_t key, bool read, bool write) noexcept {
    epoll_event e = wish(key, read, write);
    (void)::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &e);
}
void event_poll::remove(int fd) noexcept { (void)::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

result<std::span<const poll_event>> event_poll::wait(std::optional<std::chrono::nanoseconds> timeout) {
    epoll_event ready[most_events];
    // Rounded up: who waits for a time that is near does not spin.
    const auto ms = timeout ? std::clamp<std::int64_t>((timeout->count() + 999'999) / 1'000'000, 0, 1 << 30) : -1;
    const int n = ::epoll_wait(fd_.get(), ready, most_events, static_cast<int>(ms));
    if (n < 0 && errno != EINTR) return fail_errno("epoll", "epoll_wait");
    events_.clear();
    for (int i = 0; i < n; ++i) {
        const auto e = ready[i].events;
        events_.push_back({ready[i].data.u64, (e & EPOLLIN) != 0, (e & EPOLLOUT) != 0, (e & (EPOLLHUP | EPOLLERR)) != 0});
    }
    return std::span<const poll_event>(events_);
}

result<poll_timer> poll_timer::create() {
    auto f = owned(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create");
    if (!f) return std::unexpected(f.error());
    return poll_timer(std::move(*f));
}
void poll_timer::set(std::uint64_t at) noexcept {
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(at / 1'000'000'000), when.it_value.tv_nsec = static_cast<long>(at % 1'000'000'000);
    (void)::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

result<poll_bell> poll_bell::create() {
    auto f = owned(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    if (!f) return std::unexpected(f.error());
    return poll_bell(std::move(*f));
}
void poll_bell::ring() noexcept { (void)!::eventfd_write(fd_.get(), 1); }
void poll_bell::answer() noexcept {
    eventfd_t n;
    (void)!::eventfd_read(fd_.get(), &n);
}

std::uint64_t allow_descriptors(std::uint64_t wanted) noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur >= wanted) return limit.rlim_cur;
    if (limit.rlim_max < wanted) {
        const rlimit more{wanted, wanted};  // for who may
        if (::setrlimit(RLIMIT_NOFILE, &more) == 0) return wanted;
    }
    limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
    return ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

}  // namespace cohort::sys
