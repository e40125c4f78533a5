// SPDX-License-Identifier: Apache-2.0
/// Which CPUs this process has used per-CPU memory on, and how the operations find their copy: one table of offsets per index and layout.
///
/// A CPU is absent until the first operation on it, or the first look at its copies from elsewhere. The entry of an absent CPU is 0, which sends every
/// operation to arrive(). So a CPU that nobody uses costs no page and no clearing, and sums run over those that are present. Nothing becomes absent again.
///
/// Restartable sequences or atomics: chosen once, at the first arrival. With atomics the tables stay empty for ever, so that every operation goes the
/// slow way and finds its atomic form there; the two are never mixed.
///
/// Synchronization: a CPU is added under one lock, with signals blocked (a handler may need to arrive, too). What is added is seen by all threads
/// (restart_sequences() is a barrier on each of them) before its table entry is, so that whoever saw an operation's result also sees that its CPU is present.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <cohort/percpu/detail/layout.hpp>
#include <cohort/sys/rseq.hpp>

namespace cohort::percpu {

/// What numbers the copies. by::cpu: the CPU the thread runs on; units may be bound to its node. by::cid: mm_cid, at most as high as the number of
/// threads that run at the same time, for many objects on large machines; a copy then moves among CPUs. Where the kernel has no mm_cid (before
/// 6.3), the CPU's number takes its place.
enum class by : unsigned char { cpu, cid };

namespace detail {

struct offset_table {
    std::uint32_t unregistered[4] = {};                // entries -4 .. -1: threads without rseq have -1 or -2 for a CPU
    std::atomic<std::uint32_t> offset[max_cpus] = {};  // [atomic: written once, under the lock of arrivals]
};
extern constinit offset_table offset_tables[2][2];     // [by][layout]

inline const std::atomic<std::uint32_t>* table_for(by index, layout l) {
    return offset_tables[static_cast<int>(index)][static_cast<int>(l)].offset;
}

/// From the rseq area to the number that by::cid takes: mm_cid, or cpu_id where the kernel has none. [atomic: relaxed; written before the first arrival]
extern constinit std::atomic<int> cid_at;

enum class mode : unsigned char { undecided, sequences, atomics };
extern constinit std::atomic<mode> chosen_mode;
/// Decides, if nobody has.
mode decide() noexcept;
inline mode current_mode() noexcept {
    const mode m = chosen_mode.load(std::memory_order_relaxed);
    return m != mode::undecided ? m : decide();
}

/// CPUs (or cids) that are present, in the order of arrival. [atomic: count with release after the entry; acquire by readers]
struct arrivals {
    std::atomic<std::uint32_t> count{0};
    std::atomic<std::uint16_t> number[max_cpus] = {};
    std::atomic<std::uint32_t> offset[2][max_cpus] = {};  // by layout: offset_of(number)
    std::atomic<std::uint64_t> mask[max_cpus / 64] = {};
};
extern constinit arrivals present[2];                  // [by]

inline std::uint32_t present_count(by index) noexcept { return present[static_cast<int>(index)].count.load(std::memory_order_acquire); }
inline unsigned present_at(by index, std::uint32_t nth) noexcept {
    return present[static_cast<int>(index)].number[nth].load(std::memory_order_relaxed);
}
inline std::uint32_t present_offset(by index, layout l, std::uint32_t nth) noexcept {
    return present[static_cast<int>(index)].offset[static_cast<int>(l)][nth].load(std::memory_order_relaxed);
}
inline bool is_present(by index, unsigned cpu) noexcept {
    // acquire: the initial values of the unit. Pairs with [release: add].
    return present[static_cast<int>(index)].mask[cpu / 64].load(std::memory_order_acquire) >> (cpu % 64) & 1;
}
/// The offset of the copy of the CPU that the thread is on; 0: it is absent, or the thread has no rseq. Where sequences are in use only.
inline std::uint32_t offset_of_this_cpu(layout l) noexcept { return table_for(by::cpu, l)[sys::rseq_cpu_id()].load(std::memory_order_relaxed); }
/// Makes one present. Signal-safe. Cost: at first some microseconds, later a load.
void make_present(by index, unsigned cpu) noexcept;

/// The slow way of an operation: true, the calling thread's CPU is present now and the sequence is to be tried again; false, atomics are in use:
/// the operation is to be made by atomics on the copy at `handle + current_offset()`. A thread without rseq in a program that uses it ends the program.
[[gnu::cold, gnu::noinline]] bool arrive(by index) noexcept;
/// The offset of the calling thread's copy at this moment, made present.
std::uint32_t current_offset(by index, layout l) noexcept;

/// What a unit holds when it appears: called under the arrivals' lock before a CPU is announced. See variable.hpp.
using unit_initializer = void (*)(by index, unsigned cpu) noexcept;
void set_unit_initializer(unit_initializer f) noexcept;
/// Before the next: the CPUs that the calling thread may run on. A handler that arrived during a fork would wait for it, and the fork perhaps for malloc(),
/// which the handler may have interrupted.
void make_all_present_for_fork() noexcept;
/// Around fork(): the arrivals' lock, with signals blocked.
void lock_arrivals_for_fork() noexcept;
void unlock_arrivals_after_fork() noexcept;
/// Runs f under the arrivals' lock: no CPU arrives meanwhile.
void with_arrivals_stopped(void (*f)(void*), void* data) noexcept;

}  // namespace detail
}  // namespace cohort::percpu
