// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/ref.hpp>

#include <cohort/base/check.hpp>

namespace cohort::percpu {

result<std::unique_ptr<ref>> ref::create(function release, ref_flags flags) {
    auto memory = make<unit>();
    if (!memory) return std::unexpected(std::move(memory).error());
    return std::make_unique<ref>(std::move(*memory), std::move(release), flags);
}

ref::ref(handle<unit> zeroed, function release, ref_flags flags) noexcept
    : unit_(zeroed),
      release_(std::move(release)),
      allow_reinit_(flags != ref_flags::none),
      word_(has(flags, ref_flags::init_dead) ? dead : one),
      mode_(mode::atomic),
      force_atomic_(has(flags, ref_flags::init_atomic)) {
    if (has(flags, ref_flags::init_dead | ref_flags::init_atomic)) return;
    word_.fetch_add(bias);
    // Flags go up as CPUs come by: a ref that is never used costs nothing on them.
    mode_.store(mode::percpu);
}

ref::~ref() {
    for_each_present_cpu(unit_, [](unsigned, unit& u) {
        std::atomic_ref<std::uint32_t>(u.fast).store(0, std::memory_order_relaxed);
        std::atomic_ref<std::uint64_t>(u.count).store(0, std::memory_order_relaxed);
    });
}

// ---- counting in word_

/// The caller's CPU has its flag down: up with it, if the mode allows. Handlers come here, too: it must not wait.
void ref::allow_here() noexcept {
    if (mode_.load(std::memory_order_relaxed) != mode::percpu || detail::current_mode() == detail::mode::atomics || !flags_.try_lock()) return;
    if (mode_.load(std::memory_order_relaxed) == mode::percpu) {
        // release: the bias comes before what is counted in the unit. Pairs with the dependency of the sequence's store on the flag.
        std::atomic_ref<std::uint32_t>(this_cpu_ptr(unit_)->fast).store(1, std::memory_order_release);
    }
    flags_.unlock();
}

void ref::get_slow(std::uint64_t n) noexcept {
    allow_here();
    // relaxed: whoever hands out the reference orders the object's content.
    const std::uint64_t was = word_.fetch_add(n * one, std::memory_order_relaxed);
    COHORT_CHECK(count_of(was) > 0, "get on a percpu ref whose count is 0");
}

bool ref::tryget_slow(std::uint64_t n, bool live) noexcept {
    allow_here();
    std::uint64_t w = word_.load(std::memory_order_relaxed);
    do {
        if (count_of(w) == 0 || (live && (w & dead))) return false;
        // relaxed: as in get_slow().
    } while (!word_.compare_exchange_weak(w, w + n * one, std::memory_order_relaxed));
    return true;
}

void ref::put_slow(std::uint64_t n) noexcept {
    allow_here();  // while the reference is held: nothing is touched behind the last one
    // release: what this holder did. acquire: the last one sees what all did. Pairs with itself.
    const std::int64_t left = count_of(word_.fetch_sub(n * one, std::memory_order_acq_rel) - n * one);
    COHORT_CHECK(left >= 0, "more puts than gets on a percpu ref");
    if (left > 0) return;
    detail::told_acquire(&unit_);
    if (release_) release_();
}

// ---- modes

void ref::set_mode(mode to) noexcept {
    const sys::spin_guard hold(flags_);
    mode_.store(to, std::memory_order_relaxed);
    const std::uint32_t up = to == mode::percpu && detail::current_mode() == detail::mode::sequences;
    // release: as in allow_here(). Down: the grace period orders it.
    for_each_present_cpu(unit_, [up](unsigned, unit& u) { std::atomic_ref<std::uint32_t>(u.fast).store(up, std::memory_order_release); });
}

void ref::to_atomic(const function& confirm) {
    if (mode_.load(std::memory_order_relaxed) == mode::percpu) {
        set_mode(mode::atomic);
        if (detail::current_mode() == detail::mode::sequences) sys::restart_sequences();
        detail::told_acquire(&unit_);
        std::uint64_t total = 0;
        for_each_present_cpu(unit_, [&](unsigned, unit& u) {
            // relaxed: nobody counts here any more, and the grace period was a barrier on those who did.
            total += std::atomic_ref<std::uint64_t>(u.count).exchange(0, std::memory_order_relaxed);
        });
        const std::uint64_t change = total * one - bias;
        const std::int64_t now = count_of(word_.fetch_add(change, std::memory_order_acq_rel) + change);
        COHORT_CHECK(now > 0, "more puts than gets on a percpu ref, found as it became atomic");
    }
    if (confirm) confirm();
}

void ref::to_percpu() {
    if (mode_.load(std::memory_order_relaxed) == mode::percpu) return;
    COHORT_CHECK(!is_zero(), "a percpu ref whose count is 0 becomes percpu");
    word_.fetch_add(bias);
    set_mode(mode::percpu);
}

void ref::kill_and_confirm(const function& confirm) {
    {
        const lock_guard hold(switching_);
        COHORT_CHECK((word_.fetch_or(dead) & dead) == 0, "a percpu ref is killed twice");
        to_atomic(confirm);
    }
    put();  // without switching_: the function may destroy this
}

void ref::switch_to_atomic(const function& confirm) {
    const lock_guard hold(switching_);
    force_atomic_ = true;
    to_atomic(confirm);
}

void ref::switch_to_percpu() {
    const lock_guard hold(switching_);
    COHORT_CHECK(allow_reinit_, "a percpu ref without allow_reinit becomes percpu");
    force_atomic_ = false;
    if (!is_dying()) to_percpu();
}

void ref::revive(bool must_be_zero) {
    const lock_guard hold(switching_);
    COHORT_CHECK(allow_reinit_, "a percpu ref without allow_reinit is revived");
    COHORT_CHECK(is_dying(), "a percpu ref is revived that is not dying");
    COHORT_CHECK(!must_be_zero || is_zero(), "reinit of a percpu ref whose count is not 0");
    word_.fetch_add(one - dead);  // living, and the owner's reference, in one step
    if (!force_atomic_) to_percpu();
}

void ref::reinit() { revive(true); }
void ref::resurrect() { revive(false); }

}  // namespace cohort::percpu
