// SPDX-License-Identifier: Apache-2.0
/// An os whose time stands until it is moved.
///
///     sys::fake_clock os(sys::real());
///     os.now();                                               // 0
///     os.advance(5'000'000);                                  // wakes whoever sleeps until 5 ms or earlier
///
/// Kernel: no counterpart.
#pragma once

#include <condition_variable>
#include <mutex>

#include <cohort/sys/os.hpp>

namespace cohort::sys {

/// Synchronization: any thread may call anything. poll() still waits in real time.
class fake_clock final : public forwarding {
public:
    /// wait: sleep_until waits for advance(). jump: sleep_until moves the time on itself, so that one thread tests alone.
    enum class mode { wait, jump };
    explicit fake_clock(os& inner, mode how = mode::wait, std::uint64_t start = 0) : forwarding(inner), mode_(how), now_(start) {}

    std::uint64_t now() override {
        const std::lock_guard lock(mutex_);
        return now_;
    }
    void sleep_until(std::uint64_t deadline) override {
        std::unique_lock lock(mutex_);
        if (mode_ == mode::jump && now_ < deadline) now_ = deadline;
        ++sleepers_;
        moved_.notify_all();
        moved_.wait(lock, [&] { return now_ >= deadline; });
        --sleepers_;
    }
    void advance(std::uint64_t ns) {
        const std::lock_guard lock(mutex_);
        now_ += ns;
        moved_.notify_all();
    }
    /// Waits until so many threads sleep: what a test does before it moves the time.
    void wait_for_sleepers(int count) {
        std::unique_lock lock(mutex_);
        moved_.wait(lock, [&] { return sleepers_ >= count; });
    }

private:
    const mode mode_;  // [const after init]
    std::mutex mutex_;
    std::condition_variable moved_;
    std::uint64_t now_;  // [guarded: mutex_]
    int sleepers_ = 0;   // [guarded: mutex_]
};

}  // namespace cohort::sys
