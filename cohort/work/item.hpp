// SPDX-License-Identifier: Apache-2.0
/// Deferred work: functions that a worker runs later, each queued once while it is pending.
///
///     work::queue q(*set);                                    // or work::queue q(clock) and q.step() in tests
///     work::item tidy([] { std::puts("tidy"); });
///     q.queue_work(tidy);                                     // true
///     q.queue_work(tidy);                                     // false, if no worker has begun it yet
///     q.queue_after(tidy, 5'000'000);                         // in 5 ms
///     q.cancel_sync(tidy);                                    // neither pending nor running; may be destroyed
///
/// Kernel: struct work_struct, delayed_work, queue_work, mod_delayed_work, flush_work, cancel_work_sync, drain_workqueue (kernel/workqueue.c, v6.12).
/// Differences: flush() of a delayed item does what flush_delayed_work does; an item must not free itself; functions may throw.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include <cohort/base/error.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::work {

class queue;

/// A function that can be queued. At most once pending, at most once running, on one queue at a time; it may be queued again while it runs, also by
/// itself. Synchronization: its queue's lock. The destructor checks that it is neither pending nor running.
class item {
public:
    explicit item(std::function<void()> function) : function_(std::move(function)) {}
    item(const item&) = delete;
    item& operator=(const item&) = delete;
    ~item();

private:
    friend class queue;
    enum class place { nowhere, listed, delayed, behind_itself };

    std::function<void()> function_;        // [const after init]
    std::atomic<queue*> owner_{nullptr};    // [atomic: its queue, under the queue's lock; null while it is neither pending nor running]
    // All below: [guarded: lock_ of owner_]
    place place_ = place::nowhere;          // where it is pending
    std::uint64_t due_ = 0, order_ = 0;     // its key while delayed
    std::uint64_t queued_ = 0;              // number of the last queueing
    std::uint64_t running_ = 0;             // number of the queueing that runs; 0: none
    int cancelling_ = 0;                    // cancel_sync() calls that wait: it cannot be queued
    item *prev_ = nullptr, *next_ = nullptr;
};

struct queue_options {
    std::string name = "queue";
    int max_active = 0;  ///< items that run at the same time; 1: one after another in the order of queueing; 0: as many as there are workers
};

/// A queue on a worker set; or, without one, in stepping mode: items run only in step(), and in flush() and drain(), on the calling thread.
/// Synchronization: any thread may call anything, an item's function included where not excluded. `lock_` is not held while a function runs or a
/// worker is woken. Functions run inside the set's gate.
class queue {
public:
    explicit queue(worker_set& set, queue_options options = {}, sys::os& clock = sys::real());
    explicit queue(sys::os& clock, queue_options options = {});
    /// Drains. No item may be waiting for its delay. Not from an item of this queue.
    ~queue();
    queue(const queue&) = delete;
    queue& operator=(const queue&) = delete;

    /// False: it was pending already (also with a delay), or is being cancelled.
    bool queue_work(item& w);
    /// As queue_work, but not before `ns` have passed. Errors: EAGAIN, the timer thread could not be started (nothing is queued then).
    result<bool> queue_after(item& w, std::uint64_t ns);
    /// Queues it with this delay, in place of the one it was pending with, if any. True: it was pending. Errors: as queue_after.
    result<bool> modify_delay(item& w, std::uint64_t ns);

    /// Waits until what was queued before the call has run or was cancelled; a delayed item is queued at once. On a worker of the set the item may run in the
    /// calling thread. True: there was something to wait for. Not from the item's own function; not from any item of the queue if its max_active is 1.
    bool flush(item& w);
    /// True: it was pending and is not any more. Does not wait for the function.
    bool cancel(item& w);
    /// As cancel(), and waits until the function has returned; what it queues meanwhile is refused. Not from the item's own function.
    bool cancel_sync(item& w);
    /// Waits until nothing is pending, save what waits for its delay, and nothing runs. Errors: EIO, a function threw since the last drain.
    /// Not from an item of this queue.
    result<void> drain();

    bool pending(const item& w) const;
    /// Runs one item whose time has come, on the calling thread. False: there was none.
    bool step();
    /// The first exception that a function let out; a function that throws counts as run.
    std::exception_ptr exception() const;

private:
    using place = item::place;
    struct frame;  // the items that the calling thread is inside
    struct source final : runnable {
        explicit source(queue& q) : owner(q) {}
        bool run(context& ctx) override { return owner.run(ctx); }
        bool ready() const noexcept override { return owner.ready_.load(std::memory_order_seq_cst); }
        queue& owner;
    };

    bool run(context& ctx);
    void run_claimed(item& w, gate* around, int cpu);
    void wait_while(item* w, const std::function<bool()>& busy);
    result<void> start_timer();
    void timer();
    void publish();
    bool own_locked(item& w) COHORT_REQUIRES(lock_);
    void release_locked(item& w) COHORT_REQUIRES(lock_);
    void put_locked(item& w) COHORT_REQUIRES(lock_);
    void delay_locked(item& w, std::uint64_t ns) COHORT_REQUIRES(lock_);
    bool take_locked(item& w) COHORT_REQUIRES(lock_);
    item* claim_locked(item* wanted) COHORT_REQUIRES(lock_);
    bool take_due_locked() COHORT_REQUIRES(lock_);
    void update_locked() COHORT_REQUIRES(lock_);

    const queue_options options_;           // [const after init]
    worker_set* const set_;                 // [const after init] null in stepping mode
    sys::os& clock_;                        // [const after init]
    source source_{*this};
    std::atomic<bool> ready_{false};        // [atomic: written under lock_; an item may be claimed]
    std::atomic<std::uint32_t> ends_{0};    // [atomic: counts ends and cancellations; futex word of those who wait]
    mutable mutex lock_;                    // before none: nothing is locked inside it
    item* head_ COHORT_GUARDED_BY(lock_) = nullptr;
    item* tail_ COHORT_GUARDED_BY(lock_) = nullptr;
    int active_ COHORT_GUARDED_BY(lock_) = 0;
    std::set<std::tuple<std::uint64_t, std::uint64_t, item*>> delayed_ COHORT_GUARDED_BY(lock_);  // due, order, item
    std::uint64_t delays_ COHORT_GUARDED_BY(lock_) = 0;
    std::exception_ptr first_exception_ COHORT_GUARDED_BY(lock_);
    bool exception_is_new_ COHORT_GUARDED_BY(lock_) = false;
    bool ending_ COHORT_GUARDED_BY(lock_) = false;
    condition_variable timer_changed_;
    std::thread timer_ COHORT_GUARDED_BY(lock_);
};

}  // namespace cohort::work
