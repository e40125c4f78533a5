// SPDX-License-Identifier: Apache-2.0
/// A whole core for a program that somebody else wrote, on kernels without core scheduling: by affinity, and a name that says the core is taken.
///
///     auto cpus = take_whole_core(os);        // {2, 3}: the calling thread, and what it becomes or starts, runs there only
///
/// It keeps those apart that are started so, of one user. It keeps nothing else off the core: a cpuset partition does.
#pragma once

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::coresched {

/// Binds the calling thread to the first core that is free, all of whose online CPUs it may use. The core is free again when the last process that has inherited the name's
/// descriptor has ended. Errors: EBUSY, all are taken; EINVAL, no core is wholly ours; those of reading the topology.
result<cpumask> take_whole_core(sys::os& os);

}  // namespace cohort::coresched
