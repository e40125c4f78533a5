// SPDX-License-Identifier: Apache-2.0
/// A gate stands around every job that a worker runs: whoever decides who may share a core (coresched) says there when a job may start.
///
///     struct counting_gate : work::gate {
///         void enter(int) override { ++running; }
///         void leave(int) override { --running; }
///     };
///
/// Kernel: no counterpart; what core scheduling does in pick_next_task happens here before a job starts.
#pragma once

namespace cohort::work {

/// Implemented by the owner of a policy; must outlive the worker set it is given to. Called by the thread that runs the job.
class gate {
public:
    virtual ~gate() = default;
    /// Before a job on `cpu`; may wait. Never throws.
    virtual void enter(int cpu) = 0;
    /// After the job, on the same thread.
    virtual void leave(int cpu) = 0;
    /// May a job run on a thread that is not a worker, on `cpu` (the submitter's own)? Asked before it is run inline.
    virtual bool admits_inline(int cpu) { (void)cpu; return true; }
    /// The job tells that it is about to wait (true) or has waited (false), so that others may use its place.
    virtual void blocking(int cpu, bool about_to) { (void)cpu; (void)about_to; }
};

}  // namespace cohort::work
