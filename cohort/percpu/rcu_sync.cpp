// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/rcu_sync.hpp>

#include <algorithm>
#include <climits>

#include <cohort/base/check.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::percpu {

rcu_sync::rcu_sync(handle<std::uint32_t> fast, grace_period wait) noexcept
    : fast_(fast),
      wait_(wait ? wait : +[]() noexcept { sys::restart_sequences(); }),
      // With atomics there is no fast way to allow: as if a writer had just gone, for ever.
      word_(word_of(detail::current_mode() == detail::mode::atomics ? state::passed : state::idle, 0)) {}

rcu_sync::~rcu_sync() {
    COHORT_CHECK(writers() == 0, "an rcu_sync is destroyed with a writer inside");
    set_flags(0);
}

void rcu_sync::enter() noexcept {
    std::uint32_t w = word_.load(std::memory_order_relaxed);
    for (;;) {
        if (w == word_of(state::idle, 0)) {
            if (leave_idle()) return;
            w = word_.load(std::memory_order_relaxed);
        } else if (word_.compare_exchange_weak(w, w + one, std::memory_order_acquire, std::memory_order_relaxed)) {
            // acquire: the flags are down for us, too, once the state is passed. Pairs with [release: passed] in leave_idle().
            break;
        }
    }
    COHORT_CHECK(count_of(w) < (1u << 28), "too many writers in an rcu_sync");
    if (state_of(w) == state::enter) wait_until_passed();
}

bool rcu_sync::leave_idle() noexcept {
    {
        const sys::spin_guard hold(flags_);
        std::uint32_t idle = word_of(state::idle, 0);
        if (!word_.compare_exchange_strong(idle, word_of(state::enter, 1))) return false;
        set_flags(0);
    }
    run_grace_period();
    // release: passed. Whoever sees it may rely on the grace period. Pairs with the acquires of enter() and wait_until_passed().
    word_.fetch_add(word_of(state::passed, 0) - word_of(state::enter, 0), std::memory_order_release);
    sys::futex_wake(word_, INT_MAX);
    return true;
}

void rcu_sync::wait_until_passed() noexcept {
    for (;;) {
        const std::uint32_t w = word_.load(std::memory_order_acquire);
        if (state_of(w) != state::enter) return;
        sys::futex_wait(word_, w);
    }
}

void rcu_sync::exit() noexcept {
    std::uint32_t w = word_.load(std::memory_order_relaxed), next;
    do {
        COHORT_CHECK(count_of(w) > 0 && state_of(w) >= state::passed, "exit from an rcu_sync without enter");
        next = w - one;
        // A grace period runs that began before this writer went: it is not to be relied on.
        if (count_of(next) == 0 && state_of(next) == state::exit) next = word_of(state::replay, 0);
        // release: what the writer did comes before the grace period of settle(). Pairs with [acquire: settle].
    } while (!word_.compare_exchange_weak(w, next, std::memory_order_release, std::memory_order_relaxed));
}

bool rcu_sync::settle() noexcept {
    if (detail::current_mode() == detail::mode::atomics) return false;
    std::uint32_t nobody = word_of(state::passed, 0);
    if (!word_.compare_exchange_strong(nobody, word_of(state::exit, 0), std::memory_order_acquire, std::memory_order_relaxed)) return false;
    run_grace_period();
    return finish_exit();
}

bool rcu_sync::finish_exit() noexcept {
    const sys::spin_guard hold(flags_);
    std::uint32_t w = word_.load(std::memory_order_relaxed), next;
    do {
        const bool undisturbed = w == word_of(state::exit, 0);
        next = undisturbed ? word_of(state::idle, 0) : word_of(state::passed, count_of(w));
    } while (!word_.compare_exchange_weak(w, next));
    if (next != word_of(state::idle, 0)) return false;
    // A writer that finds idle from now on waits for flags_ before it clears them.
    set_flags(1);
    return true;
}

void rcu_sync::allow_here() noexcept {
    // Handlers come here, too, also one that interrupted the holder: it must not wait.
    if (!is_idle() || !flags_.try_lock()) return;
    if (is_idle()) {
        // relaxed: see Up in the header; the grace period was before idle.
        std::atomic_ref<std::uint32_t>(*this_cpu_ptr(fast_)).store(1, std::memory_order_relaxed);
    }
    flags_.unlock();
}

void rcu_sync::set_flags(std::uint32_t to) noexcept {
    // relaxed: the grace periods order them. A CPU that appears meanwhile brings its flag down.
    for_each_present_cpu(fast_, [to](unsigned, std::uint32_t& flag) { std::atomic_ref<std::uint32_t>(flag).store(to, std::memory_order_relaxed); });
}

void rcu_sync::run_grace_period() noexcept {
    const std::uint64_t start = sys::ticks();
    wait_();
    const std::uint64_t took = sys::ticks() - start, before = grace_ticks();
    // Smoothed, and one that was preempted does not count for more than four.
    grace_ticks_.store(before == 0 ? took : (3 * before + std::min(took, 4 * before)) / 4, std::memory_order_relaxed);
}

}  // namespace cohort::percpu
