// SPDX-License-Identifier: Apache-2.0
/// A shell: one ordered stream of jobs. Many shells share the workers of an instance.
///
///     auto stream = padata::shell::create(*inst, {.window = 4096}).value();
///     int cpu = padata::any_cpu;
///     if (auto r = stream.do_parallel(my_job, cpu); !r) report(r.error());      // EAGAIN only where full_policy::eagain was asked for
///     stream.submit([] { heavy(); }, [] { in_order(); });                       // the lambda form: one allocation
///     auto end = stream.drain();                                                // the first exception that a serial() threw, if any
///
/// Kernel: struct padata_shell, padata_do_parallel (kernel/padata.c, v6.12).
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <cohort/base/error.hpp>
#include <cohort/padata/completion.hpp>
#include <cohort/padata/executor.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>

namespace cohort::padata {

/// What do_parallel does when the window is full.
enum class full_policy {
    block,     ///< the submitter waits until half of the window is free
    help,      ///< the submitter runs queued jobs of this stream itself while it waits, if its CPU is in the parallel mask
    help_all,  ///< as help, but jobs of every stream of the instance: for a thread that feeds many. Inside a callback it is help
    eagain,    ///< EAGAIN at once; nothing changed
};

struct shell_options {
    /// For reports (the watchdog, heads()); may be empty.
    std::string name = {};
    /// Jobs in flight (submitted and not yet through serial()): 1 .. 2^20, rounded up to a power of two.
    std::uint32_t window = 1024;
    /// Sum of job::bytes in flight; 0: no limit. A job larger than that is admitted when nothing else is in flight.
    std::uint64_t window_bytes = 0;
    full_policy when_full = full_policy::help;
    /// May jobs that are cheaper than a hand-over run inside do_parallel (parallel() and, when due, serial())? A submitter that holds a lock which
    /// its callbacks take must say false; then callbacks run only on workers and in poll().
    bool inline_jobs = true;
    /// The stream's share of the workers' time where other streams have work too: 1 .. 10,000, as cpu.weight of a cgroup. A stream with work gets a batch in
    /// each round, which takes at most 64 us * weight / 100, and one batch beyond that, of every other stream with work (of more, where jobs take longer than that).
    std::uint32_t weight = 100;
    /// Where serial() runs. Null: on CPUs, as cb_cpu and the serial mask say. by_polling(): inside poll(). Else where this executor, which outlives the shell, runs
    /// the turns that are posted to it; cb_cpu is then checked and ignored. Order is total in each.
    executor* serial = nullptr;
};

struct shell_stats {
    std::uint64_t submitted = 0, delivered = 0;
    std::uint64_t ran_inline = 0;     ///< jobs run inside do_parallel
    std::uint64_t handovers = 0;      ///< times the turn moved to another CPU's worker
    std::uint64_t waits = 0;          ///< times a submitter waited for room
    std::uint64_t failed = 0;         ///< jobs whose parallel() threw or that were cancelled
    std::uint64_t batches = 0;        ///< claims by workers
    double job_ns = 0;                ///< moving average of the time of one parallel()
    std::uint64_t memory_bytes = 0;   ///< what the stream holds now: itself and the slots of what is in flight
};

/// A resource: move-only.
/// Synchronization: do_parallel, submit, cancel and stats may be called by any thread, also from callbacks. drain and destruction must not be called
/// from a callback of the same shell.
class shell {
public:
    /// Errors: EINVAL, window or weight out of range. Throws std::bad_alloc. Cost: about 700 bytes; slots come when jobs fly and go when none does.
    static result<shell> create(instance& inst, shell_options options = {});
    shell(shell&&) noexcept;
    shell& operator=(shell&&) noexcept;
    /// Waits for every job in flight, as drain().
    ~shell();

    /// Takes the next place in the order and queues the job. cb_cpu: where serial() shall run, a CPU number or any_cpu; a CPU that is not in the
    /// usable serial mask is replaced by the (cb_cpu % weight)-th of the mask and written back, as the kernel does.
    /// Errors, in this order; nothing is changed by them, save cb_cpu by EBUSY: EINVAL, the instance is stopped, or cb_cpu beyond the machine; EBUSY, a mask change is
    /// under way (only with instance_options::busy_while_changing); with full_policy::eagain, EAGAIN, full, and ENOMEM, no memory for more slots (other policies wait
    /// until a job leaves). ESHUTDOWN after the shell was moved from.
    /// Called from parallel() or serial() of the same shell it never waits: beyond the window the job is kept in a list.
    /// Cost: about 20 ns; about 15 ns in all where the job runs inline.
    result<void> do_parallel(job& j, int& cb_cpu);
    result<void> do_parallel(job& j) { int cpu = any_cpu; return do_parallel(j, cpu); }

    /// The lambda form: `parallel` may take nothing, or the completion, and finish later; `serial` nothing or a const job& (for info and error()). One
    /// allocation per job.
    template <class P, class S>
        requires(std::invocable<P> || std::invocable<P, completion>) && (std::invocable<S> || std::invocable<S, const job&>)
    result<void> submit(P parallel, S serial);

    /// Lends the calling thread to this stream: runs what is due of its serial() where that is by_polling(), else at most one batch of its parallel(). Returns
    /// whether there was any. Never waits. Not from a callback of the same shell.
    bool poll();
    /// Waits until every job submitted before the call is through serial(). Helps to run them where the policy is help; polls where serial() is by_polling().
    /// Errors: EIO, a serial() threw since the last drain; exception() holds the first.
    result<void> drain();
    std::exception_ptr exception() const;
    /// Jobs whose parallel() has not started are delivered, in order, with info -ECANCELED and without parallel(); running ones see stop_requested().
    /// Jobs submitted after the call run as usual.
    void cancel();
    /// A snapshot; each figure is exact only while nothing flies.
    shell_stats stats() const;

private:
    explicit shell(std::unique_ptr<detail::shell_core> core);
    std::unique_ptr<detail::shell_core> core_;
};

namespace detail {

template <class P, class S>
class lambda_job final : public job {
public:
    lambda_job(P p, S s) : parallel_(std::move(p)), serial_(std::move(s)) {}
    void parallel() override {
        if constexpr (std::invocable<P>) {
            parallel_();
            do_serial(*this);
        } else {
            P mine(std::move(parallel_));  // the job may be gone before it returns
            mine(take(*this));
        }
    }
    void serial() override {
        std::unique_ptr<lambda_job> self(this);
        if constexpr (std::invocable<S, const job&>) serial_(*self);
        else serial_();
    }

private:
    [[no_unique_address]] P parallel_;
    [[no_unique_address]] S serial_;
};

}  // namespace detail

template <class P, class S>
    requires(std::invocable<P> || std::invocable<P, completion>) && (std::invocable<S> || std::invocable<S, const job&>)
result<void> shell::submit(P parallel, S serial) {
    auto node = std::make_unique<detail::lambda_job<P, S>>(std::move(parallel), std::move(serial));
    auto done = do_parallel(*node);
    if (done) (void)node.release();  // serial() frees it; it may be gone already
    return done;
}

}  // namespace cohort::padata
