// SPDX-License-Identifier: Apache-2.0
/// One job of an ordered stream: parallel() runs on any worker, serial() in the order of submission.
///
///     struct packet : padata::job {
///         void parallel() override { encrypt(bytes); padata::do_serial(*this); }   // or do_serial later, from any thread
///         void serial() override { wire.send(bytes); delete this; }
///         std::string bytes;
///     };
///
/// Kernel: struct padata_priv, padata_do_serial (kernel/padata.c, v6.12). Differences: total order per shell whatever the CPUs;
/// exceptions are carried to serial(); a job may carry a size that counts against the shell's window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

namespace cohort::padata {

namespace detail {
class shell_core;
struct job_access;
}  // namespace detail

/// Intrusive; the engine allocates nothing for it and never copies it. It belongs to the engine from a do_parallel that succeeded until
/// serial() is entered; serial() may free or resubmit it.
/// Synchronization: parallel() happens before serial(); serial() of a job happens before serial() of the next one of its shell.
class job {
public:
    job() = default;
    job(const job&) = delete;
    job& operator=(const job&) = delete;
    virtual ~job() = default;

    /// Runs once, on a worker of the shell's instance (or inline in the submitter, or in poll()). Whoever finishes the job calls
    /// do_serial(job) once: here, or later from any thread. May return before that. An exception completes the job with error().
    virtual void parallel() = 0;
    /// Runs once, after do_serial of this job and after serial() of every earlier job of the shell has returned.
    virtual void serial() = 0;

    /// An errno for serial() to see, as padata_priv::info: 0, -ECANCELED (the shell was cancelled before parallel() ran), -EIO (parallel() threw, or its
    /// completion handle was dropped), or whatever parallel() put there.
    int info = 0;
    /// What counts against the shell's byte window while the job is in flight. Set before do_parallel.
    std::uint32_t bytes = 0;

    /// What parallel() threw, or null. Valid in serial().
    const std::exception_ptr& error() const { return error_; }
    /// The job's place in its shell's order, from 0. Valid from parallel() on.
    std::uint64_t seq() const { return seq_; }
    /// Where serial() was asked to run: a CPU of the serial mask or any_cpu.
    int cb_cpu() const { return cb_cpu_; }
    /// Was the shell cancelled after this job was submitted? For long parallel() to poll; a relaxed load.
    bool stop_requested() const;

private:
    friend struct detail::job_access;
    detail::shell_core* shell_ = nullptr;  // [owner: engine from do_parallel to serial]
    std::uint64_t seq_ = 0;                // [const after it entered the ring; before that, guarded: the ring's lock, the next job that waits to enter]
    std::exception_ptr error_;             // [written by the thread that runs parallel(), read in serial()]
    int cb_cpu_ = -1;                      // [const after do_parallel]
};

/// serial() runs in place: on the thread that completes the stream's oldest unfinished job, if that thread's CPU is in the serial mask.
inline constexpr int any_cpu = -1;

/// Completes a job whose parallel() has run: exactly once per job, from any thread, at any time after parallel() was entered. May run
/// serial() of this and following jobs before it returns. The job must not be touched afterwards. Never blocks on other jobs.
/// Cost: one exchange; uncontended about 10 ns.
void do_serial(job& j);

}  // namespace cohort::padata
