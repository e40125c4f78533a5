// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/signals.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/rseq.hpp>

namespace cohort::sys {
namespace {

// What the handler needs; a handler has no `this`. Both lock-free atomics of static life.
std::atomic<int> first_signal{0};  // [atomic: the handler sets it once; seq_cst]
std::atomic<int> event{-1};        // [atomic: the eventfd that the handler writes, -1: no catcher]
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int number) {
    const int saved = errno;
    int none = 0;
    first_signal.compare_exchange_strong(none, number);
    const std::uint64_t one = 1;
    if (const int fd = event.load(); fd >= 0) (void)!::write(fd, &one, sizeof one);
    errno = saved;
}

}  // namespace

/// Synchronization: made and destroyed by one thread; the watcher touches only stop_ and the descriptors, which outlive it.
class signal_catcher::body {
public:
    body(owned_fd caught, owned_fd quit, std::vector<int> signals) : caught_(std::move(caught)), quit_(std::move(quit)) {
        {
            const signals_blocked quiet;  // the watcher must never be the thread that runs somebody's handler
            watcher_ = std::thread([this] { watch(); });
        }

        struct sigaction act {};
        act.sa_handler = on_signal;
        act.sa_flags = SA_RESTART | SA_RESETHAND;
        ::sigemptyset(&act.sa_mask);
        for (int s : signals) replace(s, act);
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        replace(SIGPIPE, ignore);
    }

    ~body() {
        for (const auto& [number, old] : before_) ::sigaction(number, &old, nullptr);
        const std::uint64_t one = 1;
        (void)!::write(quit_.get(), &one, sizeof one);
        watcher_.join();
        first_signal = 0;
        event = -1;  // last: lets the next catcher in
    }

    std::stop_token token() const { return stop_.get_token(); }
    int fd() const { return caught_.get(); }

private:
    void replace(int number, const struct sigaction& act) {
        struct sigaction old {};
        if (::sigaction(number, nullptr, &old) < 0 || old.sa_handler == SIG_IGN) return;
        ::sigaction(number, &act, nullptr);
        before_.emplace_back(number, old);
    }
    void watch() {
        pollfd items[2] = {{caught_.get(), POLLIN, 0}, {quit_.get(), POLLIN, 0}};
        while (::poll(items, 2, -1) < 0 && errno == EINTR) {
        }
        if (items[0].revents) stop_.request_stop();
    }

    owned_fd caught_, quit_;                                  // [const after init]
    std::stop_source stop_;                                   // [its own]
    std::vector<std::pair<int, struct sigaction>> before_;    // [const after init]
    std::thread watcher_;                                     // [const after init]
};

result<signal_catcher> signal_catcher::create() { return create({SIGINT, SIGTERM, SIGHUP}); }

result<signal_catcher> signal_catcher::create(std::initializer_list<int> signals) {
    owned_fd caught(real(), ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    owned_fd quit(real(), caught ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1);
    if (!quit) return fail_errno("", "eventfd");
    int none = -1;
    if (!event.compare_exchange_strong(none, caught.get())) return fail(EBUSY, "signals", "catch", "the program has a signal_catcher already");
    return signal_catcher(std::make_unique<body>(std::move(caught), std::move(quit), signals));
}

signal_catcher::signal_catcher(std::unique_ptr<body> b) : body_(std::move(b)) {}
signal_catcher::signal_catcher(signal_catcher&&) noexcept = default;
signal_catcher::~signal_catcher() = default;
std::stop_token signal_catcher::token() const { return body_->token(); }
int signal_catcher::fd() const { return body_->fd(); }
int signal_catcher::signal() const { return first_signal.load(); }

}  // namespace cohort::sys
