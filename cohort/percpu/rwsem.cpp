// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/rwsem.hpp>

#include <climits>

#include <cohort/base/check.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::percpu {

namespace {

/// Before a reader joins the queue. A writer that comes again and again gets tens of holds done meanwhile; handing over each time costs a line's way to
/// the other CPU and back (one reader, one writer that does nothing else: 3.5 us a write without, 0.2 us with it, and ten times the reads).
constexpr int spins_before_queue = 64;
/// Before they sleep: longer than a short hold, shorter than a switch to another thread and back.
constexpr int spins_in_queue = 100, spins_until_left = 100;
/// Slow readers of a CPU look at the time once in so many.
constexpr std::uint64_t reads_between_looks = 1024;
constexpr std::uint64_t quiet_grace_periods = 64;

bool by_atomics() noexcept { return detail::current_mode() == detail::mode::atomics; }

}  // namespace

/// On the stack of the thread that waits; gone as soon as it is granted.
struct rwsem::waiter {
    enum : std::uint32_t { awake, asleep, granted };
    std::atomic<std::uint32_t> state{awake};  // [atomic: asleep by the waiter, granted by unlock()]
    const bool writes;
    waiter* next = nullptr;                     // [guarded: queue_lock_]

    void wait() noexcept {
        for (int i = 0; i < spins_in_queue; ++i) {
            // acquire: sees what the holder before did. Pairs with [release: grant].
            if (state.load(std::memory_order_acquire) == granted) return;
            sys::cpu_relax();
        }
        std::uint32_t w = awake;
        if (!state.compare_exchange_strong(w, asleep, std::memory_order_acquire)) return;
        while (state.load(std::memory_order_acquire) == asleep) sys::futex_wait(state, asleep);
    }
    void grant() noexcept {
        // release: grant. Afterwards only the address is touched.
        if (state.exchange(granted, std::memory_order_acq_rel) == asleep) sys::futex_wake(state, 1);
    }
};

result<std::unique_ptr<rwsem>> rwsem::create() {
    auto memory = make<unit>();
    if (!memory) return std::unexpected(std::move(memory).error());
    return std::make_unique<rwsem>(std::move(*memory));
}

rwsem::rwsem(handle<unit> zeroed) noexcept : unit_(zeroed), sync_(zeroed.member(&unit::fast)) {}

rwsem::~rwsem() {
    COHORT_CHECK(block_.load() == open && all_left(), "a percpu rwsem is destroyed while somebody holds it");
    for_each_present_cpu(unit_, [](unsigned, unit& u) { u = {}; });
}

// ---- readers

std::uint64_t rwsem::come() noexcept {
    const std::uint64_t n = this_cpu::add_return(unit_.member(&unit::in), std::uint64_t{1});
    detail::full_fence();  // (A), pairs with (D)
    return n;
}

bool rwsem::may_stay() noexcept {
    // acquire: sees what the last writer did. Pairs with [release: open].
    if (block_.load(std::memory_order_acquire) == open) return true;
    leave();
    return false;
}

void rwsem::leave() noexcept {
    detail::release_fence();  // (B), pairs with the acquire in all_left()
    this_cpu::inc(unit_.member(&unit::out));
    // (W): the writer's grace period is the other half. Where there is none, a fence on both sides.
    if (by_atomics()) detail::full_fence();
    if (drain_.load(std::memory_order_relaxed) == 0) [[likely]] return;
    detail::full_fence();  // of all who leave now, the last one sees the others' outs
    if (all_left() && drain_.exchange(0) != 0) sys::futex_wake(drain_, 1);
}

void rwsem::lock_shared_slow() noexcept {
    sync_.allow_here();
    const std::uint64_t n = come();
    if (n % reads_between_looks == 0) settle_if_quiet();
    if (may_stay()) return;
    for (int i = 0; i < spins_before_queue; ++i) {
        sys::cpu_relax();
        if (block_.load(std::memory_order_relaxed) == open) {
            come();
            if (may_stay()) return;
        }
    }
    for (;;) {
        waiter me{.writes = false};
        if (enqueue(me)) return me.wait();
        come();
        if (may_stay()) return;
    }
}

bool rwsem::try_lock_shared_slow() noexcept {
    sync_.allow_here();
    come();
    return may_stay();
}

void rwsem::unlock_shared_slow() noexcept { leave(); }

/// Between ++in and the look at block: a writer that comes now waits for us, the length of a grace period at most.
void rwsem::settle_if_quiet() noexcept {
    if (sync_.now() != rcu_sync::state::passed || sync_.writers() > 0 || !quiet_lock_.try_lock()) return;
    const std::uint64_t now = sys::ticks(), writes = writes_.load(std::memory_order_relaxed);
    bool quiet = false;
    if (writes != quiet_writes_) {
        quiet_writes_ = writes;
        quiet_since_ = now;
    } else {
        quiet = now - quiet_since_ > quiet_grace_periods * sync_.grace_ticks();
    }
    quiet_lock_.unlock();
    if (quiet) sync_.settle();
}

bool rwsem::all_left() const noexcept {
    std::uint64_t came = 0, left = 0;
    // acquire: what the reader did (B), and its in, which the second pass must not miss (C).
    for_each_present_cpu(unit_, [&](unsigned, unit& u) { left += std::atomic_ref<std::uint64_t>(u.out).load(std::memory_order_acquire); });
    for_each_present_cpu(unit_, [&](unsigned, unit& u) { came += std::atomic_ref<std::uint64_t>(u.in).load(std::memory_order_relaxed); });
    return came == left;
}

// ---- writers

void rwsem::lock() noexcept {
    sync_.enter();
    take_block();
    wait_until_all_left();
    detail::told_acquire(&sync_);
    detail::told_acquire(&unit_);
}

bool rwsem::try_lock() noexcept {
    if (block_.load(std::memory_order_relaxed) != open) return false;
    if (sync_.is_idle() && !all_left()) return false;  // no grace period for nothing
    sync_.enter();
    std::uint32_t is = open;
    if (!block_.compare_exchange_strong(is, held)) {
        sync_.exit();
        return false;
    }
    detail::full_fence();  // (D), pairs with (A)
    if (!all_left()) {
        release_block();
        sync_.exit();
        return false;
    }
    detail::told_acquire(&sync_);
    detail::told_acquire(&unit_);
    return true;
}

void rwsem::unlock() noexcept {
    COHORT_CHECK(is_write_locked(), "unlock of a percpu rwsem that no writer holds");
    detail::told_release(&sync_);
    // relaxed: a statistic of the one who holds the lock; not an atomic addition.
    writes_.store(writes_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    release_block();
    sync_.exit();
}

void rwsem::take_block() noexcept {
    for (;;) {
        std::uint32_t is = open;
        // acquire: sees what the writer before did. Pairs with [release: open].
        if (block_.compare_exchange_strong(is, held, std::memory_order_acquire, std::memory_order_relaxed)) return;
        waiter me{.writes = true};
        if (enqueue(me)) return me.wait();
    }
}

void rwsem::wait_until_all_left() noexcept {
    detail::full_fence();  // (D), pairs with (A)
    for (int i = 0; i < spins_until_left; ++i) {
        if (all_left()) return;
        sys::cpu_relax();
    }
    do {
        drain_.store(1);
        if (by_atomics()) detail::full_fence();
        else sys::restart_sequences();  // (W)
        while (drain_.load(std::memory_order_relaxed) != 0 && !all_left()) sys::futex_wait(drain_, 1);
        // Who woke us saw nobody inside; an attempt that fails may be there again by now.
    } while (!all_left());
    drain_.store(0, std::memory_order_relaxed);
}

void rwsem::release_block() noexcept {
    std::uint32_t is = held;
    // release: open. Pairs with the acquires in may_stay() and take_block().
    if (!block_.compare_exchange_strong(is, open, std::memory_order_release, std::memory_order_relaxed)) hand_over();
}

/// False: the lock is open at this moment.
bool rwsem::enqueue(waiter& me) noexcept {
    const sys::spin_guard hold(queue_lock_);
    std::uint32_t is = block_.load(std::memory_order_relaxed);
    do {
        if (is == open) return false;
        // relaxed: the waiter itself is found under queue_lock_.
    } while (is == held && !block_.compare_exchange_weak(is, contended, std::memory_order_relaxed));
    (last_ ? last_->next : first_) = &me;
    last_ = &me;
    return true;
}

void rwsem::hand_over() noexcept {
    waiter* granted;
    {
        const sys::spin_guard hold(queue_lock_);
        granted = first_;
        waiter* last = nullptr;
        std::uint64_t readers = 0;
        waiter* w = first_;
        for (; w && !w->writes; last = w, w = w->next) ++readers;
        // They come here, on their behalf; before anybody can hold the lock who would look for them.
        if (readers > 0) this_cpu::add(unit_.member(&unit::in), readers);
        const bool to_writer = w != nullptr;
        if (to_writer) last = w, w = w->next;
        first_ = w;
        if (!first_) last_ = nullptr;
        last->next = nullptr;
        // release: open, or pairs with the acquire of the wait: the writer sees the readers that were let in.
        if (!to_writer) block_.store(open, std::memory_order_release);
        else if (!first_) block_.store(held, std::memory_order_relaxed);
    }
    while (granted) {
        waiter* const next = granted->next;
        granted->grant();
        granted = next;
    }
}

// ---- looks

bool rwsem::is_read_locked() const noexcept { return !all_left() && !is_write_locked(); }
bool rwsem::is_write_locked() const noexcept { return block_.load(std::memory_order_relaxed) != open; }

unsigned rwsem::waiting() const noexcept {
    const sys::spin_guard hold(queue_lock_);
    unsigned n = 0;
    for (const waiter* w = first_; w; w = w->next) ++n;
    return n;
}

void rwsem::assert_held() const noexcept { COHORT_CHECK(is_write_locked() || !all_left(), "nobody holds this percpu rwsem"); }

}  // namespace cohort::percpu
