// SPDX-License-Identifier: Apache-2.0
/// A set of worker threads, one per CPU of a mask; see README.md for the protocol.
///
///     auto set = work::worker_set::create({.name = "crypt", .general = cpumask{0, 1}}).value();
///     greetings hello;                      // a runnable
///     set->publish(hello);                  // some worker runs it
///     set->retire(hello);                   // no worker is in it any more; it may be destroyed
///
/// Kernel: struct workqueue_struct, alloc_workqueue, apply_workqueue_attrs (kernel/workqueue.c, v6.12).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/sys/spinlock.hpp>
#include <cohort/work/gate.hpp>
#include <cohort/work/runnable.hpp>

namespace cohort::work {

struct worker_set_options {
    std::string name = "work";
    cpumask general = {};       ///< CPUs whose workers run runnables
    cpumask bound = {};         ///< CPUs whose workers run mail only (besides those of `general`)
    int possible_cpus = 0;      ///< CPU numbers that set_cpus may name later are below it; 0: those above only
    int max_workers = 0;        ///< at most so many general workers; 0: one per CPU
    bool own_threads = true;    ///< false: only poll() runs anything
    bool pin = true;            ///< false: threads are not bound (a machine that is not there)
    gate* around = nullptr;     ///< around each job; may be null; outlives the set
    std::uint32_t spin_ns = 20'000;  ///< how long an idle worker looks before it parks
};

/// A thread that is about to run work on this CPU itself, so that the worker there stands back. -1: nobody is.
struct lender {
    int cpu = -1;
    bool runs_all = false;  ///< it runs whatever is listed, as poll(); false: its own runnable alone
};

/// A resource, held by unique_ptr.
/// Synchronization: all members may be called from any thread. `lock_` guards the list, the mailboxes' owners and the parked workers; it is never held
/// while a callback runs. Lock order: lock_ before a mailbox's lock.
class worker_set {
public:
    /// Errors: EINVAL, `general` is empty; EAGAIN, a thread could not be started; EINVAL, a CPU cannot be bound to.
    static result<std::unique_ptr<worker_set>> create(worker_set_options options);
    /// Everything published must have been retired. Joins the threads; mail not delivered yet is dropped.
    ~worker_set();

    /// The caller has made work of `r` visible by a seq_cst store. `by`: the caller, if it lends itself (lend() tells that it still does).
    /// Cost: two loads when workers are awake; a futex wake when one must be woken.
    void publish(runnable& r, lender by = {}) {
        // seq_cst: after the caller's store. Pairs with [seq_cst: unlist] in dry().
        if (!r.listed_.load(std::memory_order_seq_cst)) return list(r, by);
        wake_if_idle(by);
    }
    /// As publish(), and wakes the workers of these CPUs, whether others search or not: for helpers that are to stand on certain nodes.
    void publish_on(runnable& r, const cpumask& cpus);
    /// The calling thread still runs work on `by.cpu`; to be said at least every stand_back_us while it does.
    void lend(lender by);
    /// Waits until no worker is inside `r` or holds it. Not from a callback of `r`.
    void retire(runnable& r);
    /// Hands `m` to the worker of `cpu`; where it has none, to whoever polls, or to the first worker.
    void post(mail& m, int cpu);

    /// New masks; threads for new CPUs are started. After it returns no worker outside `general` claims a batch; one claimed before goes on. Threads are kept
    /// until the set ends: the worker of a CPU that left the masks still takes the mail of that CPU. max_workers: as in the options; -1: as it was.
    /// Errors: as create; the masks are as before then, also when it throws bad_alloc. From a callback: yes, once it has called context::found().
    result<void> set_cpus(const cpumask& general, const cpumask& bound, int max_workers = -1);
    /// Binds the workers of the masks to their CPUs again: the system unbinds a thread whose CPU goes offline or leaves the cpuset, and others may.
    void bind_again();

    /// Lends the calling thread for one batch or the mail that nobody owns. Returns whether it did anything. helping: it waits for such work anyway.
    bool poll(bool helping = false);

    gate* around() const { return options_.around; }
    int general_workers() const { return general_count_.load(std::memory_order_relaxed); }
    /// Runnables that have work, or had until a moment ago.
    int listed() const { return std::max(listed_count_.load(std::memory_order_relaxed), 1); }
    /// The numbers of its threads, by their CPU, those of CPUs that have left the masks among them.
    std::vector<int> threads() const;
    /// CPUs of the general workers.
    cpumask general_cpus() const;
    const std::string& name() const { return options_.name; }
    /// Is the calling thread one of this set's workers?
    bool on_worker() const { return own_worker() != nullptr; }
    /// For a job that has to wait inside a worker: runs the mail of that worker, if any. What it waits for may be in there.
    bool deliver_own_mail();
    /// futex_wait, which on a worker also returns when mail comes (`word` is then increased). Callers look at both again.
    void wait_on(std::atomic<std::uint32_t>& word, std::uint32_t seen);

    struct idle_state {  // packed into state_
        std::uint32_t searching, parked;
    };
    /// General workers that look for work, and that sleep until there is some; old by the time it is read.
    idle_state idle_workers() const { return unpack(state_.load(std::memory_order_relaxed)); }

private:
    friend struct context;
    explicit worker_set(worker_set_options options);

    static constexpr int stand_back_us = 200;
    static constexpr std::uint32_t quantum_ns = 64'000;  // what a runnable of weight 100 may use in a round
    static constexpr int most_skips = 64;                // of those that have used theirs, in one look at the list
    static constexpr std::uint64_t one_searching = 1, one_parked = std::uint64_t{1} << 32;
    static idle_state unpack(std::uint64_t s) { return {static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(s >> 32)}; }

    worker* own_worker() const;  // the calling thread's, if it is one of this set's
    void wake_if_idle(lender by = {}) {
        // seq_cst: after the caller's store. Pairs with [rmw: park] and [rmw: found].
        idle_state s = unpack(state_.load(std::memory_order_seq_cst));
        if (s.parked > 0 && s.searching == 0) wake_one(by);
    }
    void list_locked(runnable& r) COHORT_REQUIRES(lock_);
    void list(runnable& r, lender by);
    void wake_one(lender by);
    static void ring(worker* w);
    worker* unpark_locked(worker& w) COHORT_REQUIRES(lock_);
    worker* choose_idle_locked(lender by) COHORT_REQUIRES(lock_);
    worker* successor_locked() COHORT_REQUIRES(lock_);
    bool must_stand_back(const worker& w) const;
    void give_way(worker& w, runnable*& current);
    void sleep(worker& w);
    bool dry(runnable& r);
    bool dry_locked(runnable& r) COHORT_REQUIRES(lock_);
    void unlink_locked(runnable& r) COHORT_REQUIRES(lock_);
    void append_locked(runnable& r) COHORT_REQUIRES(lock_);
    runnable* pick_locked() COHORT_REQUIRES(lock_);
    runnable* pick();
    void charge(runnable& r, std::uint64_t ticks);
    static void drop(runnable*& current);
    bool others_listed(const runnable* current) const;
    bool step(context& ctx, runnable*& current);
    bool deliver_mail(context& ctx, worker& w);
    bool deliver_stray(context& ctx);
    bool search(worker& w, runnable* current) const;
    void park(worker& w, runnable*& current);
    void main(worker& w);
    result<worker*> start_worker(int cpu);
    worker* find(int cpu) const {
        return cpu >= 0 && cpu < static_cast<int>(by_cpu_.size()) ? by_cpu_[static_cast<std::size_t>(cpu)].load(std::memory_order_acquire) : nullptr;
    }
    cpumask capped(const cpumask& general, int most) const COHORT_REQUIRES(resize_);

    worker_set_options options_;                              // [const after init]
    alignas(64) std::atomic<std::uint64_t> state_{0};         // [atomic: {searching, parked}; see README.md]
    std::atomic<int> listed_count_{0};                        // [guarded for writing: lock_; read by searching workers]
    std::atomic<bool> stopping_{false};                       // [atomic: destructor sets]
    std::atomic<bool> stray_mail_{false};                     // [atomic: strays_ is not empty]
    std::atomic<int> general_count_{0};                       // [stats]
    std::atomic<std::uint64_t> limit_{0};                     // [guarded for writing: lock_; relaxed] who has used less may run
    std::atomic<std::uint32_t> typical_{0};                   // [atomic, relaxed: moving average of what is charged for a batch]
    alignas(64) mutable sys::spinlock lock_;
    runnable* head_ COHORT_GUARDED_BY(lock_) = nullptr;
    runnable* tail_ COHORT_GUARDED_BY(lock_) = nullptr;
    mail* strays_ COHORT_GUARDED_BY(lock_) = nullptr;
    std::vector<worker*> idle_ COHORT_GUARDED_BY(lock_);  // parked general workers, last parked last
    std::vector<std::unique_ptr<worker>> workers_ COHORT_GUARDED_BY(lock_);  // grows only; entries live as long as the set
    std::vector<std::atomic<worker*>> by_cpu_;                // [const size after init; entries set once, under lock_]
    mutex resize_;                                            // one set_cpus at a time; before lock_
    int max_workers_ COHORT_GUARDED_BY(resize_) = 0;
    cpumask chosen_ COHORT_GUARDED_BY(resize_);               // those of the general CPUs that have a general worker
    cpumask used_ COHORT_GUARDED_BY(resize_);                 // chosen and bound ones
};

}  // namespace cohort::work
