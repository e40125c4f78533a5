// SPDX-License-Identifier: Apache-2.0
/// A padata instance: workers, and two CPU masks that say where parallel() and serial() of its jobs may run.
///
///     auto inst = padata::instance::create({.name = "pencrypt"}).value();
///     padata::shell stream = padata::shell::create(*inst).value();            // an independent ordered stream
///     for (auto& p : packets) stream.submit([&] { encrypt(p); }, [&] { send(p); });
///     stream.drain();                                                         // every serial() has returned
///
/// Kernel: struct padata_instance, padata_alloc, padata_set_cpumask (kernel/padata.c, v6.12). Differences: order is kept over mask changes
/// and a submit never answers EBUSY because of one.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/work/gate.hpp>

namespace cohort::work {
class worker_set;
}

namespace cohort::padata {

enum class mask_kind { parallel, serial };

struct instance_options {
    std::string name = "padata";
    /// User masks; unset means every CPU. What is used is the user mask & what this process may use.
    std::optional<cpumask> parallel = {}, serial = {};
    /// At most so many workers run at once; 0: one for each CPU of the masks, capped by cpu.max.
    int max_workers = 0;
    /// Around each job; may be null; must outlive the instance.
    work::gate* gate = nullptr;
    /// False: no threads; jobs run only in poll() and inline. For programs that own their threads (DPDK, Seastar).
    bool own_threads = true;
    /// Overrides what this process may use (tests, synthetic machines); workers are then not pinned to CPUs that are not there.
    std::optional<cpumask> usable = {};
};

/// Synchronization: every member may be called by any thread at any time, save destruction.
class instance {
public:
    /// Errors: EINVAL, a mask has no usable CPU; EAGAIN, a thread could not be started. Cost: starts one thread per CPU of the masks.
    static result<std::unique_ptr<instance>> create(instance_options options = {});
    /// All shells must be gone (a caller's bug otherwise: COHORT_CHECK). Joins the workers.
    ~instance();
    instance(const instance&) = delete;
    instance& operator=(const instance&) = delete;

    /// Replaces a user mask while jobs fly; order is kept. After it returns, no worker outside the new mask claims jobs; a batch already
    /// claimed (at most 32 jobs) still finishes where it is. Errors: EINVAL: empty, beyond the machine, or without a usable CPU; the old mask stays.
    result<void> set_cpumask(mask_kind kind, const cpumask& mask);
    cpumask user_mask(mask_kind kind) const;
    /// User mask & what this process may use.
    cpumask usable_mask(mask_kind kind) const;

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
