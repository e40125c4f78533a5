// SPDX-License-Identifier: Apache-2.0
/// What a thread does about its CPU on hot paths.
///
///     sys::pin_thread(cpumask{3});                 // result<void>
///     for (int i = 0; i < 64 && !ready(); ++i) sys::cpu_relax();
///
/// Kernel: sched_setaffinity(2), getcpu(2), sched_yield(2).
#pragma once

#include <sched.h>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::sys {

/// The CPU the caller runs on; may be old by the time it is used. About 2 ns where rseq is registered.
inline int current_cpu() noexcept { return ::sched_getcpu(); }

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

/// Binds the calling thread. Errors: EINVAL, no CPU of the mask is usable.
result<void> pin_thread(const cpumask& cpus);
/// The CPUs the calling thread may run on.
result<cpumask> thread_affinity();
/// Shown by ps and gdb; cut to 15 bytes.
void name_thread(const char* name) noexcept;

}  // namespace cohort::sys
