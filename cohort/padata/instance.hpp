// SPDX-License-Identifier: Apache-2.0
/// A padata instance: workers, and two CPU masks that say where parallel() and serial() of its jobs may run.
///
///     auto inst = padata::instance::create({.name = "pencrypt"}).value();
///     padata::shell stream = padata::shell::create(*inst).value();            // an independent ordered stream
///     for (auto& p : packets) stream.submit([&] { encrypt(p); }, [&] { send(p); });
///     stream.drain();                                                         // every serial() has returned
///
/// Each mask has two faces. The *user mask* is what was asked for, CPUs that are offline included. The *usable mask* is what of it can be used now: user & online &
/// affinity & cpuset; it follows them while the instance lives. Where one of the two has no usable CPU the instance is *stopped* until one returns.
///
/// Kernel: struct padata_instance, padata_alloc, padata_set_cpumask (kernel/padata.c, v6.12). Differences: order is kept over mask changes and hotplug; a submit
/// answers EBUSY because of one only where that was asked for; affinity, cpuset and cpu.max are followed too.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/notifier/chain.hpp>
#include <cohort/padata/head.hpp>
#include <cohort/work/gate.hpp>

namespace cohort::machine {
class usable_events;
}
namespace cohort::work {
class worker_set;
}

namespace cohort::padata {

enum class mask_kind { parallel, serial };

struct instance_options {
    std::string name = "padata";
    /// User masks; unset means every CPU.
    std::optional<cpumask> parallel = {}, serial = {};
    /// At most so many workers run at once; 0: one for each CPU of the masks, capped by cpu.max.
    int max_workers = 0;
    /// Around each job; may be null; must outlive the instance.
    work::gate* gate = nullptr;
    /// False: no threads; jobs run only in poll() and inline. For programs that own their threads (DPDK, Seastar).
    bool own_threads = true;
    /// Overrides what this process may use, for good (tests, synthetic machines); workers are then not pinned to CPUs that are not there.
    std::optional<cpumask> usable = {};
    /// Follow CPUs that go on- and offline, the process's affinity, cpuset and cpu.max? With own_threads the running system is watched: at once where the kernel
    /// tells (hotplug), four times a second else. False: what was usable at creation is for good.
    bool follow = true;
    /// Who tells what is usable, if not the running system: a machine that is not there, driven by calls. Must outlive the instance.
    machine::usable_events* machine = nullptr;
    /// As the kernel: do_parallel answers EBUSY while a mask change is under way.
    bool busy_while_changing = false;
    /// Debug mode: a line on stderr for each parallel() and serial() in which the thread slept (voluntary context switches). Costs two system calls a callback,
    /// and no job runs inside do_parallel.
    bool report_sleepers = false;
    /// Stuck-head watchdog: a job that stands at the head of its stream for so long is told: one line on stderr and on_stuck. 0: off. Looked at four times in that
    /// time; each job is told once.
    std::chrono::nanoseconds watchdog{0};
    /// Called by a background thread of the library, which all instances share: it must be short, and not destroy the instance.
    std::function<void(const head_state&)> on_stuck = {};
};

/// Events of instance::changes(); the data is a mask_change.
inline constexpr unsigned long masks_changing = 1;  ///< about to become so; nothing has happened yet
inline constexpr unsigned long masks_changed = 2;   ///< it is so

struct mask_change {
    cpumask user_parallel, user_serial;
    cpumask usable_parallel, usable_serial;
    bool stopped = false;
};

/// Synchronization: every member may be called by any thread at any time, save destruction.
class instance {
public:
    /// Errors: EINVAL, a mask is empty, beyond the machine, or without a usable CPU; EAGAIN, a thread could not be started. Cost: starts one thread per CPU of
    /// the masks.
    static result<std::unique_ptr<instance>> create(instance_options options = {});
    /// All shells must be gone (a caller's bug otherwise: COHORT_CHECK); a shell goes when its jobs have. Joins the workers. Not from a job, on_stuck or changes().
    ~instance();
    instance(const instance&) = delete;
    instance& operator=(const instance&) = delete;

    /// Replaces a user mask while jobs fly; order is kept. After it returns, no worker outside the new mask claims jobs; a batch already
    /// claimed (at most 32 jobs) still finishes where it is. A mask without a usable CPU is taken and stops the instance, as in the kernel.
    /// Errors, nothing is changed then: EINVAL: empty, or beyond the machine; EAGAIN, a thread could not be started; ENOMEM; EDEADLK, from a callback of changes().
    result<void> set_cpumask(mask_kind kind, const cpumask& mask);
    cpumask user_mask(mask_kind kind) const;
    /// User mask & what this process may use; empty: the instance is stopped.
    cpumask usable_mask(mask_kind kind) const;

    /// Stopped: do_parallel answers EINVAL; what was submitted before is finished, in order, by the workers of the last usable masks. It starts again by itself.
    bool stopped() const;
    /// Why, in words: "no CPU of the parallel mask 2-3 is usable; this process may use 0-1"; empty when it is not stopped.
    std::string why_stopped() const;
    /// What could not be followed and why, the last time something changed; empty: nothing.
    std::string follow_error() const;

    /// Hears of each change of a user or usable mask, by the thread that makes it. Callbacks may read the instance and submit jobs, but not change masks.
    notifier::blocking_chain& changes();

    /// The oldest job in flight of each shell that has one, longest there first. Cost: a look at each shell and at each thread that runs jobs.
    std::vector<head_state> heads() const;

    /// Lends the calling thread: runs at most one batch of work (jobs, serial turns) on it. Returns whether it found any. Never waits.
    bool poll();

    const std::string& name() const;
    /// The threads below, for do_multithreaded and deferred items.
    work::worker_set& workers();

    class impl;
    impl& internals() { return *impl_; }

private:
    explicit instance(std::unique_ptr<impl> body);
    std::unique_ptr<impl> impl_;
};

}  // namespace cohort::padata
