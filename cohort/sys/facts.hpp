// SPDX-License-Identifier: Apache-2.0
/// The calling thread's place, the clock and the environment, as an interface that tests replace. Use it through sys::os (os.hpp).
///
///     sys::cpu_place here = os.getcpu();
///     auto mask = os.sched_getaffinity(0);                    // result<cpumask>, the calling thread's
///     std::uint64_t until = os.now() + 50'000'000;            // monotonic nanoseconds
///     os.sleep_until(until);
///
/// Kernel: getcpu, sched_getaffinity, sched_setaffinity, get_mempolicy, set_mempolicy, mbind, migrate_pages, clock_gettime(CLOCK_MONOTONIC), clock_nanosleep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::sys {

struct cpu_place {
    int cpu = 0, node = 0;
};

/// A memory policy as the kernel numbers it: mode is an MPOL_* of linux/mempolicy.h, its flags in it.
struct mempolicy {
    int mode = 0;        ///< 0: MPOL_DEFAULT
    nodemask nodes = {};
    bool operator==(const mempolicy&) const = default;
};
inline constexpr int mempolicy_bind = 2;  ///< MPOL_BIND

/// Synchronization: any thread may call anything.
class facts {
public:
    virtual ~facts() = default;

    virtual cpu_place getcpu() = 0;
    /// tid 0: the calling thread. Errors: ESRCH, EPERM; EINVAL, the mask has no CPU that the thread may use.
    virtual result<cpumask> sched_getaffinity(int tid) = 0;
    virtual result<void> sched_setaffinity(int tid, const cpumask& mask) = 0;

    /// The calling thread's policy. All four: ENOSYS, a kernel without NUMA.
    virtual result<mempolicy> get_mempolicy() = 0;
    /// Errors: EINVAL, no node that the thread may use; a mode that is not known.
    virtual result<void> set_mempolicy(const mempolicy& policy) = 0;
    /// The policy of an address range; move: pages that are elsewhere and are not shared move. Errors: as set_mempolicy; EFAULT; EIO, pages could not be moved.
    virtual result<void> mbind(void* address, std::size_t bytes, const mempolicy& policy, bool move) = 0;
    /// Moves a process's pages from nodes to nodes; pid 0: this one. Answers how many could not be moved. Errors: ESRCH, EPERM, EINVAL.
    virtual result<std::size_t> migrate_pages(int pid, const nodemask& from, const nodemask& to) = 0;

    /// Monotonic nanoseconds from an arbitrary start.
    virtual std::uint64_t now() = 0;
    /// Returns once now() >= deadline.
    virtual void sleep_until(std::uint64_t deadline) = 0;

    virtual int getpid() = 0;
    /// The calling thread's number.
    virtual int gettid() = 0;
    virtual std::optional<std::string> getenv(const std::string& name) = 0;
};

}  // namespace cohort::sys
