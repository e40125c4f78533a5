// SPDX-License-Identifier: Apache-2.0
/// What a thread does about its CPU on hot paths.
///
///     sys::pin_thread(cpumask{3});                 // result<void>
///     for (int i = 0; i < 64 && !ready(); ++i) sys::cpu_relax();
///
/// Kernel: sched_setaffinity(2), getcpu(2), sched_yield(2), getrusage(2), gettid(2).
#pragma once

#include <sched.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include <cstdint>
#include <functional>
#include <thread>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::sys {

/// The CPU the caller runs on; may be old by the time it is used. One load where glibc (2.35 or newer) registered rseq, else getcpu(2).
inline int current_cpu() noexcept {
#if defined(RSEQ_SIG)
    if (__rseq_size != 0) {
        auto* area = reinterpret_cast<const volatile struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
        int cpu = static_cast<int>(area->cpu_id);
        if (cpu >= 0) return cpu;
    }
#endif
    return ::sched_getcpu();
}

/// Lets a sibling hyperthread run; for spin loops.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

/// Gives the CPU to another runnable thread on it, if there is one. About 0.3 us.
inline void yield_thread() noexcept { ::sched_yield(); }

/// CPU time that the calling thread has used, in nanoseconds. About 0.2 us.
std::uint64_t thread_cpu_ns() noexcept;

/// How often the calling thread has given its CPU up to wait for something (voluntary context switches). About 0.3 us.
std::uint64_t thread_sleeps() noexcept;
/// The calling thread's number, as ps -L shows it.
int thread_id() noexcept;

/// Binds the calling thread. Errors: EINVAL, no CPU of the mask is usable.
result<void> pin_thread(const cpumask& cpus);
/// The CPUs the calling thread may run on.
result<cpumask> thread_affinity();
/// A thread that no signal is delivered to: they are its program's.
std::thread start_quiet_thread(std::function<void()> body);
/// Shown by ps and gdb; cut to 15 bytes.
void name_thread(const char* name) noexcept;

}  // namespace cohort::sys
