// SPDX-License-Identifier: Apache-2.0
/// The running system, watched for the whole process: what this process may use, as it changes.
///
///     auto live = work::follow_machine().value();             // shared; watched while somebody holds it
///     live->chain().add(my_block);                            // hears usable_cpus, on the background thread
///
/// Hotplug is heard of at once where the kernel's uevents reach us; everything is asked for four times a second besides. The affinity is that of the
/// background thread, which nobody binds: it changes when somebody changes those of all threads (taskset -a), or the cpuset, not when a thread binds itself.
#pragma once

#include <memory>

#include <cohort/base/error.hpp>
#include <cohort/machine/usable_events.hpp>

namespace cohort::work {

/// Errors: those of machine::usable() and of starting the thread. Cost: the first holder starts the thread.
result<std::shared_ptr<machine::usable_events>> follow_machine();

}  // namespace cohort::work
