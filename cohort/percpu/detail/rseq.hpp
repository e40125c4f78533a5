// SPDX-License-Identifier: Apache-2.0
/// Restartable sequences on one word of this CPU's copy. Each reads the CPU's number, finds the copy and commits with its last instruction; if the thread
/// is moved, preempted or signalled in between, it begins again. Each answers false when the CPU is absent (presence.hpp); nothing was changed then.
///
/// Words are 1, 2, 4 or 8 bytes, as unsigned integers; ops.hpp gives them types. Nothing is ordered, as with relaxed atomics.
/// The instructions stand in rseq_x86_64.hpp and rseq_aarch64.hpp. Source: Documentation/userspace-api/rseq.rst and uapi/linux/rseq.h (v6.12), for the protocol.
#pragma once

#include <cstdint>

#include <cohort/percpu/detail/presence.hpp>
#include <cohort/sys/rseq_section.hpp>

#if COHORT_HAS_SEQUENCES
#include <cohort/percpu/detail/rseq_aarch64.hpp>
#include <cohort/percpu/detail/rseq_x86_64.hpp>
#else
namespace cohort::percpu::detail::sequence {
template <by, layout, class... Any>
inline bool add(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool read(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool write(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool bit_and(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool bit_or(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool add_return(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool exchange(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool compare_exchange(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool add_if_set(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool add_within(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool list_push(Any&&...) noexcept { return false; }
template <by, layout, class... Any>
inline bool list_pop(Any&&...) noexcept { return false; }
template <class... Any>
inline bool stack_push(Any&&...) noexcept { return false; }
template <class... Any>
inline bool stack_pop(Any&&...) noexcept { return false; }
}  // namespace cohort::percpu::detail::sequence
#endif
