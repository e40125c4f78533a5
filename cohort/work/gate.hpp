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
    /// Before a job on `cpu`; may wait. Never throws. May nest: a job may run others.
    virtual void enter(int cpu) = 0;
    /// After the job, on the same thread.
    virtual void leave(int cpu) = 0;
    /// The calling thread is a worker, bound to `cpu`. From now on it calls rest() when it finds nothing more to run, before it waits for work or ends: what leave() kept for the
    /// next job has to be given up then.
    virtual void attach(int cpu) { (void)cpu; }
    virtual void rest(int cpu) { (void)cpu; }
    /// May a job run on a thread that is not a worker, on `cpu` (the submitter's own)? Asked before it is run inline.
    virtual bool admits_inline(int cpu) { (void)cpu; return true; }
    /// The calling thread is about to wait (true) or has waited (false); inside a job others may use its place meanwhile. Outside of jobs: nothing.
    virtual void blocking(int cpu, bool about_to) { (void)cpu; (void)about_to; }
};

/// Inside for a scope. around: may be null.
class inside {
public:
    inside(gate* around, int cpu) : around_(around), cpu_(cpu) {
        if (around_) around_->enter(cpu_);
    }
    ~inside() { end(); }
    /// Earlier than the scope.
    void end() {
        if (around_) around_->leave(cpu_);
        around_ = nullptr;
    }
    inside(const inside&) = delete;
    inside& operator=(const inside&) = delete;

private:
    gate* around_;
    const int cpu_;
};

/// The calling thread waits, for a scope. around: may be null.
class waits {
public:
    waits(gate* around, int cpu) : around_(around), cpu_(cpu) {
        if (around_) around_->blocking(cpu_, true);
    }
    ~waits() {
        if (around_) around_->blocking(cpu_, false);
    }
    waits(const waits&) = delete;
    waits& operator=(const waits&) = delete;

private:
    gate* const around_;
    const int cpu_;
};

}  // namespace cohort::work
