// SPDX-License-Identifier: Apache-2.0
/// Which CPUs this process may use, how much of them, and who says so.
///
///     auto mine = machine::usable(sys::real()).value();
///     mine.cpus.list();                                       // possible & online & affinity & cpuset
///     mine.cpu_quota;                                         // 1.5 under cpu.max "150000 100000"; infinity where nothing limits
///     mine.max_workers;                                       // what a pool of threads should not exceed: 2
///     for (auto& p : mine.parts) print(p.name, p.value, p.from);
///
/// Kernel: cpuset_cpus_allowed, sched_getaffinity, CFS bandwidth control (cpu.max; cpu.cfs_quota_us in v1).
#pragma once

#include <limits>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::machine {

/// A value type.
struct usable_cpus {
    /// One voice in the answer.
    struct part {
        std::string name;    ///< "possible", "online", "affinity", "cpuset", "quota"
        bool limits = false; ///< whether it was found; when not, it does not restrict and `from` tells why
        std::string value;   ///< "0-7", "1.5 CPUs", "no limit"
        std::string from;    ///< the file or call, or the reason why there is none
        bool operator==(const part&) const = default;
    };

    cpumask possible, online, affinity, cpuset;  ///< each; a part that was not found is the set of `online`
    cpumask cpus;                                ///< all of them together; never empty
    double cpu_quota = std::numeric_limits<double>::infinity();  ///< CPUs' worth of time
    int max_workers = 1;                         ///< min(cpus.weight(), max(1, ceil(cpu_quota)))
    std::vector<part> parts;                     ///< in the order of the names above
    bool operator==(const usable_cpus&) const = default;
};

/// Asks now; the answer ages as others write cpusets and affinities. Both cgroup versions, and both at once; the smallest quota from the process's group
/// up to the top counts. Errors: those of sched_getaffinity. Cost: some twenty small files.
result<usable_cpus> usable(sys::os& os);

/// The same for a machine that is not there: all of its online CPUs, no quota.
usable_cpus usable_of(const topology& machine);

}  // namespace cohort::machine
