// SPDX-License-Identifier: Apache-2.0
/// Core scheduling without the kernel: of the tasks that pass an executor's gates, only those with equal cookies run on a core at the same time.
///
///     auto ex = coresched::executor::create({.cores = {cpumask{0, 1}}}).value();         // two CPUs as one core; or cores_of(machine)
///     auto web = ex->add({.name = "web"}).value(), db = ex->add({.name = "db"}).value();
///     ex->create(web->id(), scope::thread);                                              // the verbs of the kernel; web has a cookie now
///     auto a = work::worker_set::create({.general = cpumask{0, 1}, .around = web.get()}).value();
///     auto b = work::worker_set::create({.general = cpumask{0, 1}, .around = db.get()}).value();
///     ex->report().overlap_ns == 0;                                                      // it was never otherwise
///
/// It speaks of the tasks that pass its gates alone: the kernel's threads, interrupts and other processes run where they run. A task is stopped by nobody; it makes way at its end, at
/// safepoint(), and where it says that it waits (blocking).
///
/// Kernel: kernel/sched/core_sched.c and the core-wide pick (v6.12), for kernels built without CONFIG_SCHED_CORE. README.md has the protocol.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/coresched/engine.hpp>
#include <cohort/coresched/verbs.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/work/gate.hpp>

namespace cohort::coresched {

class executor;

/// The CPUs of each core.
std::vector<cpumask> cores_of(const machine::topology& t);

struct executor_options {
    std::vector<cpumask> cores = {};      ///< the siblings of each; disjoint. A core of one CPU needs no care
    std::string source = "declared";      ///< where the cores come from, for the report
    std::uint64_t slice_ns = 3'000'000;   ///< a cookie that others wait for gives its core up after so long, and the task that is running
    bool hold = false;                    ///< a CPU that is forced idle is kept by a spinning thread; false: the system may use it
    std::uint32_t spin_ns = 20'000;       ///< not hold: how long a waiter on a free CPU spins before it sleeps; an eighth of a slice where a turn has ended and others are still inside
    bool detect = true;                   ///< compare what ran, by time stamps
    bool real_cpus = true;                ///< false: CPU numbers are taken as the gate gives them (machines that are not there)
};

struct tenant_options {
    std::string name = "tenant";
    /// Tenants of one owner are one process for scope::process. Empty: the tenant alone.
    std::string owner = {};
};

/// The gate of a worker set or a padata instance: what passes it runs with the tenant's cookie. Ends before the executor and after the set.
/// Synchronization: the gate is called by any thread; enter and leave of a task by one thread.
class tenant final : public work::gate {
public:
    ~tenant() override;
    tenant(const tenant&) = delete;
    tenant& operator=(const tenant&) = delete;

    int id() const { return id_; }  ///< for the verbs: 1, 2, ...
    const std::string& name() const { return options_.name; }

    void enter(int cpu) override;
    void leave(int cpu) override;
    void attach(int cpu) override;
    void rest(int cpu) override;
    bool admits_inline(int cpu) override;
    void blocking(int cpu, bool about_to) override;

private:
    friend class executor;
    friend struct presence;
    tenant(executor& owner, int id, tenant_options o) : executor_(owner), id_(id), options_(std::move(o)) {}

    executor& executor_;                   // [const after init]
    const int id_;                         // [const after init]
    const tenant_options options_;         // [const after init]
    std::atomic<cookie> tag_{no_cookie};   // [guarded for writing: the executor's lock; relaxed] counts for the tasks that begin
};

struct executor_report {
    struct cpu {
        int number;
        cpu_figures figures;
    };
    struct of_tenant {
        std::string name;
        int id;
        cookie tag;
        task_figures figures;              ///< switches: times it came in
    };
    std::string source;
    std::vector<cpu> cpus;                 ///< those of cores with siblings
    std::vector<of_tenant> tenants;        ///< those that live
    std::map<std::pair<cookie, cookie>, std::uint64_t> who_forced_whom;
    std::uint64_t overlap_ns = 0;          ///< unequal cookies on one core at once: 0, or something is broken
    std::uint64_t stretches = 0;           ///< that were compared; 0 without detect
    std::uint64_t turns = 0;               ///< times a core changed its cookie
    std::uint64_t changing_ns = 0;         ///< nobody ran although somebody wanted to: the price of the changes
    std::uint64_t change_p50_ns = 0, change_p99_ns = 0;   ///< of the changes that somebody waited for, from the last one out to the first one in
    std::uint64_t longest_wait_ns = 0;
    std::uint64_t astray = 0;              ///< tasks found on another core than theirs: overlap_ns does not speak of them
    std::uint64_t wide = 0;                ///< entries by threads that were not bound to one core: they had all cores that they could run on
};

/// A resource, held by unique_ptr. id of a verb: a tenant's; 0: the tenant whose task the calling thread runs, else the outside, which has a cookie too and runs nothing.
/// scope::process: the tenants of one owner; process_group: all. A new cookie counts for tasks that begin and at safepoints.
/// Synchronization: any thread may call anything.
class executor final : public verbs {
public:
    /// Errors: EINVAL, no core, or a CPU in two.
    static result<std::unique_ptr<executor>> create(executor_options o);
    /// Its tenants must be gone (a caller's bug otherwise).
    ~executor() override;
    executor(const executor&) = delete;
    executor& operator=(const executor&) = delete;

    /// Errors: none so far.
    result<std::unique_ptr<tenant>> add(tenant_options o);

    std::string name() const override { return "executor"; }
    /// Errors of all: ENODEV, no core has two CPUs; ESRCH, no such tenant.
    result<cookie> get(int id) override;
    result<void> create(int id, scope whom) override;
    result<void> share_to(int id, scope whom) override;
    result<void> share_from(int id) override;
    result<void> clear(int id, scope whom) override;

    executor_report report() const;
    const executor_options& options() const;

    class impl;
    impl& internals() { return *impl_; }

private:
    explicit executor(std::unique_ptr<impl> body);
    std::unique_ptr<impl> impl_;
};

/// A task that runs long says here that it may be interrupted: it makes way if its turn is over, and comes back. It holds no lock (checked). Elsewhere: nothing. Cost: 2 ns when nobody waits.
void safepoint();

/// A task that is about to wait gives its place up for the scope. It holds no lock (checked), as others' tasks may run, and wait for it, before it comes back. Elsewhere: nothing.
class blocking {
public:
    blocking();
    ~blocking();
    blocking(const blocking&) = delete;
    blocking& operator=(const blocking&) = delete;
};

}  // namespace cohort::coresched
