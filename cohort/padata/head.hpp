// SPDX-License-Identifier: Apache-2.0
/// The job that everything behind it in its stream waits for.
///
///     for (const auto& h : inst->heads()) std::puts(h.line().c_str());
///     // shell "flow 7": job 1234 runs parallel() on cpu 3 (thread 4711) for 5.2 s; 63 jobs behind it
///
/// Kernel: no counterpart; there one job that never calls padata_do_serial blocks its shell for ever, in silence.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cohort::padata {

enum class head_phase {
    waiting,         ///< no worker has taken it yet
    running,         ///< its parallel() runs, or that of a later job of the batch it was claimed and will be finished with (see `job`)
    unfinished,      ///< its parallel() has returned, or is about to begin; do_serial has not been called
    in_do_parallel,  ///< its parallel() or serial() runs inside do_parallel, on the submitter's thread
    delivering,      ///< it is finished: its serial() runs, or its turn is on the way to a CPU
};

/// A value type; a snapshot, and its parts may be of moments some nanoseconds apart.
struct head_state {
    std::string instance, shell;           ///< a shell without a name is "#N", counted from 0 in the order of creation
    std::uint64_t seq = 0;                 ///< the head: the oldest job that is not through serial()
    std::uint64_t job = 0;                 ///< the job that holds it up: itself, or the one that runs in front of its being finished
    std::uint64_t behind = 0;              ///< jobs in flight after it
    head_phase phase = head_phase::waiting;
    int cpu = -1, thread = -1;             ///< where `job` runs, the CPU of its worker and the thread's id; -1: nowhere, or not known
    std::chrono::nanoseconds since{0};     ///< how long it has been seen there, by the watchdog or earlier calls of heads(); 0: first seen now

    /// One line for people, without a newline.
    std::string line() const;
};

}  // namespace cohort::padata
