// SPDX-License-Identifier: Apache-2.0
/// Holds running commands to their cohort's CPUs and nodes where no set of the kernel's does: a tree of affinities for each process (cpuset/live_affinity.hpp).
///
///     holder h(os);
///     h.take(pid, cohort, *plan.machine.cpusets);             // a child that is not reaped yet
///     h.look();                        // from time to time: what has widened its own affinity is narrowed again
///     h.drop(pid);                     // before it is reaped: its number may be another's afterwards
///
/// Kernel: sched_setaffinity, migrate_pages.
#pragma once

#include <map>
#include <memory>

#include <cohort/base/mutex.hpp>
#include <cohort/cpuset/live_affinity.hpp>
#include <cohort/group/cpuset_view.hpp>

namespace cohort::group::detail {

/// Synchronization: any thread may call anything; mutex_ is held over the calls to the kernel, so that no mask is set after drop() has returned.
class holder {
public:
    explicit holder(sys::os& os) : os_(os) {}

    /// `seen`: as the cohort's plan saw it; it outlives drop(). Errors: those of affinity_backend, save that the process is gone.
    result<void> take(int pid, const cohort_plan& cohort, const cpuset_view& seen);
    void drop(int pid);
    /// Looks at all of them, or at none when little time has passed since the last look took much.
    void look();

private:
    sys::os& os_;                                  // [const after init]
    mutex mutex_;
    std::map<int, std::unique_ptr<cpuset::affinity_backend>> trees_ COHORT_GUARDED_BY(mutex_);  // [guarded: mutex_]
    std::uint64_t next_ COHORT_GUARDED_BY(mutex_) = 0;  // [guarded: mutex_] when to look again
};

}  // namespace cohort::group::detail
