// SPDX-License-Identifier: Apache-2.0
/// Where the kernel writes this thread's CPU number, and how sequences that are under way on other CPUs are made to start over.
///
///     if (sys::sequences_work()) ...                           // this thread is registered, and the fence below works
///     sys::restart_sequences();                                // every sequence of the process that had begun before is over or begins again
///
/// Kernel: rseq(2), registered for each thread by glibc 2.35 or newer; membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ.
#pragma once

#include <cstddef>
#include <cstdint>

#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

namespace cohort::sys {

/// Bytes from the start of the area that the kernel writes.
inline constexpr int rseq_cpu_id_at = 4, rseq_cs_at = 8, rseq_mm_cid_at = 24;

/// From the thread pointer to the area; the same in all threads. Meaningless where sequences_work() is false.
inline std::ptrdiff_t rseq_offset() noexcept {
#if defined(RSEQ_SIG)
    return __rseq_offset;
#else
    return 0;
#endif
}

/// The CPU the thread is on; -1 or -2: it is not registered. Only where the C library has rseq areas, registered or not.
inline std::int64_t rseq_cpu_id() noexcept {
#if defined(RSEQ_SIG) && defined(__x86_64__)
    std::int64_t id;  // read by the thread pointer's segment: one instruction
    asm volatile("movslq %%fs:%c[at](%[area]), %[id]" : [id] "=r"(id) : [area] "r"(__rseq_offset), [at] "i"(rseq_cpu_id_at));
    return id;
#elif defined(RSEQ_SIG)
    return *reinterpret_cast<const volatile std::int32_t*>(static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset + rseq_cpu_id_at);
#else
    return -1;
#endif
}

/// Is the calling thread registered?
bool rseq_registered() noexcept;
/// Is it, and does restart_sequences() work? Constant for all threads that the C library made.
bool sequences_work() noexcept;
/// Does the kernel (6.3 or newer) write mm_cid, a number that is small where few threads run?
bool rseq_has_cid() noexcept;
/// The calling thread's mm_cid. Only where rseq_has_cid().
int current_cid() noexcept;
/// Every thread of the process that was inside a restartable sequence has left it when this returns: by its end or by its start. A full barrier on all of
/// them, too. 0.5 to 10 us. One process: memory shared with another is not covered.
void restart_sequences() noexcept;
/// The same for threads that run on this CPU, where the kernel can (5.10 or newer); else for all.
void restart_sequences_on(int cpu) noexcept;

/// Signals are blocked in the calling thread while it lives: for locks that a signal handler may want, too.
class signals_blocked {
public:
    signals_blocked() noexcept;
    ~signals_blocked();
    signals_blocked(const signals_blocked&) = delete;
    signals_blocked& operator=(const signals_blocked&) = delete;

private:
    std::uint64_t before_[16];  // room for a sigset_t
};

}  // namespace cohort::sys
