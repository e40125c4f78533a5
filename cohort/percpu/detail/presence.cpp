// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/presence.hpp>

#include <optional>

#include <cohort/base/check.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/sys/spinlock.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu::detail {

constinit offset_table offset_tables[2][2];
constinit std::atomic<int> cid_at{sys::rseq_mm_cid_at};
constinit std::atomic<mode> chosen_mode{mode::undecided};
constinit arrivals present[2];

namespace {

constinit sys::spinlock lock;                      // of arrivals; signals are blocked while it is held
constinit unit_initializer initializer = nullptr;  // [guarded: lock]
constinit std::optional<sys::signals_blocked> quiet_fork;  // [guarded: the caller of lock_arrivals_for_fork()]

/// The number of the calling thread's copy at this moment.
unsigned current_number(by index) noexcept {
    if (index == by::cid && sys::rseq_has_cid()) return static_cast<unsigned>(sys::current_cid());
    return static_cast<unsigned>(sys::current_cpu());
}

void add(by index, unsigned cpu) noexcept {
    arrivals& a = present[static_cast<int>(index)];
    if (initializer) initializer(index, cpu);
    const std::uint32_t n = a.count.load(std::memory_order_relaxed);
    a.number[n].store(static_cast<std::uint16_t>(cpu), std::memory_order_relaxed);
    for (const layout l : {layout::coloured, layout::flat}) a.offset[static_cast<int>(l)][n].store(offset_of(l, cpu), std::memory_order_relaxed);
    // release: whoever counts this one reads its number and its unit's initial values. Pairs with [acquire: present_count, is_present].
    a.count.store(n + 1, std::memory_order_release);
    a.mask[cpu / 64].fetch_or(std::uint64_t{1} << (cpu % 64), std::memory_order_release);
    if (chosen_mode.load(std::memory_order_relaxed) != mode::sequences) return;
    // Sequences read the entry with a plain load: all of the above must be seen by every thread before the entry is.
    sys::restart_sequences();
    for (const layout l : {layout::coloured, layout::flat}) {
        offset_tables[static_cast<int>(index)][static_cast<int>(l)].offset[cpu].store(offset_of(l, cpu), std::memory_order_release);
    }
}

}  // namespace

mode decide() noexcept {
    if (!sys::rseq_has_cid()) cid_at.store(sys::rseq_cpu_id_at, std::memory_order_relaxed);
    mode m = mode::undecided;
    const mode wanted = sys::sequences_work() ? mode::sequences : mode::atomics;
    return chosen_mode.compare_exchange_strong(m, wanted) ? wanted : m;
}

void make_present(by index, unsigned cpu) noexcept {
    if (is_present(index, cpu)) return;
    COHORT_CHECK(cpu < possible_cpus(), "a CPU beyond the possible ones of this machine");
    current_mode();
    const sys::signals_blocked quiet;
    const sys::spin_guard hold(lock);
    if (!is_present(index, cpu)) add(index, cpu);
}

bool arrive(by index) noexcept {
    if (current_mode() == mode::atomics) return false;
    COHORT_CHECK(sys::rseq_registered(), "this thread has no restartable sequences, others of this program do: it was not made by the C library, or ended its registration");
    make_present(index, current_number(index));
    return true;
}

std::uint32_t current_offset(by index, layout l) noexcept {
    const unsigned n = current_number(index);
    make_present(index, n);
    return offset_of(l, n);
}

void set_unit_initializer(unit_initializer f) noexcept {
    const sys::signals_blocked quiet;
    const sys::spin_guard hold(lock);
    initializer = f;
}

void make_all_present_for_fork() noexcept {
    const auto mask = sys::thread_affinity();
    if (!mask) return;  // then it is as unlikely as it was
    unsigned cid = 0;
    for (const int cpu : *mask) {
        if (static_cast<unsigned>(cpu) >= possible_cpus()) continue;
        make_present(by::cpu, static_cast<unsigned>(cpu));
        make_present(by::cid, cid++);
    }
}

void lock_arrivals_for_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS {
    quiet_fork.emplace();  // a handler that arrives would wait for this thread
    lock.lock();
}

void unlock_arrivals_after_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS {
    lock.unlock();
    quiet_fork.reset();
}

void with_arrivals_stopped(void (*f)(void*), void* data) noexcept {
    const sys::signals_blocked quiet;
    const sys::spin_guard hold(lock);
    f(data);
}

}  // namespace cohort::percpu::detail
