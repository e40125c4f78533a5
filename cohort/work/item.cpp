// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/item.hpp>

#include <algorithm>
#include <chrono>
#include <limits>
#include <system_error>

#include <cohort/base/check.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::work {

/// One for each item that the thread is inside; they nest where a function flushes another item.
struct queue::frame {
    frame(queue& q, item& w) : owner(&q), running(&w), outer(std::exchange(top, this)) {}
    ~frame() { top = outer; }
    frame(const frame&) = delete;
    frame& operator=(const frame&) = delete;
    static bool inside(const item& w) {
        for (frame* f = top; f; f = f->outer) {
            if (f->running == &w) return true;
        }
        return false;
    }
    static bool inside(const queue& q) {
        for (frame* f = top; f; f = f->outer) {
            if (f->owner == &q) return true;
        }
        return false;
    }

    queue* owner;
    item* running;
    frame* outer;
    static thread_local frame* top;
};
thread_local queue::frame* queue::frame::top = nullptr;

item::~item() { COHORT_CHECK(owner_.load(std::memory_order_acquire) == nullptr, "an item is destroyed while it is pending or runs"); }

queue::queue(worker_set& set, queue_options options, sys::os& clock) : options_(std::move(options)), set_(&set), clock_(clock) {}
queue::queue(sys::os& clock, queue_options options) : options_(std::move(options)), set_(nullptr), clock_(clock) {}

queue::~queue() {
    COHORT_CHECK(!frame::inside(*this), "a queue is destroyed from one of its own items");
    (void)drain();
    std::thread timer;
    {
        lock_guard hold(lock_);
        COHORT_CHECK(delayed_.empty(), "a queue is destroyed while an item waits for its delay");
        ending_ = true;
        timer = std::move(timer_);
    }
    timer_changed_.notify_one();
    if (timer.joinable()) timer.join();
    if (set_) set_->retire(source_);
}

// ---- where an item stands

/// False: its function is to be left alone (cancel_sync).
bool queue::own_locked(item& w) {
    queue* was = nullptr;
    bool ours = w.owner_.compare_exchange_strong(was, this, std::memory_order_acq_rel) || was == this;
    COHORT_CHECK(ours, "an item is used on a second queue while it is pending or runs on the first");
    return w.cancelling_ == 0;
}

/// The last access to an item that is done with: its owner may destroy it.
void queue::release_locked(item& w) {
    if (w.place_ == place::nowhere && w.running_ == 0 && w.cancelling_ == 0) w.owner_.store(nullptr, std::memory_order_release);
}

/// It is due: to the tail of the list, or, while it runs, behind itself.
void queue::put_locked(item& w) {
    if (w.running_) {
        w.place_ = place::behind_itself;
        return;
    }
    w.place_ = place::listed;
    w.prev_ = tail_;
    w.next_ = nullptr;
    (tail_ ? tail_->next_ : head_) = &w;
    tail_ = &w;
    update_locked();
}

void queue::delay_locked(item& w, std::uint64_t ns) {
    std::uint64_t now = clock_.now();
    w.due_ = ns > std::numeric_limits<std::uint64_t>::max() - now ? std::numeric_limits<std::uint64_t>::max() : now + ns;
    w.order_ = ++delays_;
    w.place_ = place::delayed;
    delayed_.emplace(w.due_, w.order_, &w);
}

/// Takes it from wherever it is pending. False: it was not.
bool queue::take_locked(item& w) {
    place was = std::exchange(w.place_, place::nowhere);
    if (was == place::delayed) delayed_.erase({w.due_, w.order_, &w});
    if (was == place::listed) {
        (w.prev_ ? w.prev_->next_ : head_) = w.next_;
        (w.next_ ? w.next_->prev_ : tail_) = w.prev_;
        update_locked();
    }
    return was != place::nowhere;
}

bool queue::take_due_locked() {
    bool any = false;
    for (std::uint64_t now = delayed_.empty() ? 0 : clock_.now(); !delayed_.empty() && std::get<0>(*delayed_.begin()) <= now; any = true) {
        item& w = *std::get<2>(*delayed_.begin());
        delayed_.erase(delayed_.begin());
        put_locked(w);
    }
    return any;
}

/// seq_cst: what publish() has made visible. Pairs with the look in worker_set::dry().
void queue::update_locked() { ready_.store(head_ && (options_.max_active <= 0 || active_ < options_.max_active), std::memory_order_seq_cst); }

void queue::publish() {
    if (set_ && ready_.load(std::memory_order_relaxed)) set_->publish(source_);
}

// ---- queueing

bool queue::queue_work(item& w) {
    {
        lock_guard hold(lock_);
        if (!own_locked(w) || w.place_ != place::nowhere) return false;
        ++w.queued_;
        put_locked(w);
    }
    publish();
    return true;
}

result<bool> queue::queue_after(item& w, std::uint64_t ns) {
    if (ns == 0) return queue_work(w);
    if (auto r = start_timer(); !r) return std::unexpected(r.error());
    {
        lock_guard hold(lock_);
        if (!own_locked(w) || w.place_ != place::nowhere) return false;
        ++w.queued_;
        delay_locked(w, ns);
    }
    timer_changed_.notify_one();
    return true;
}

result<bool> queue::modify_delay(item& w, std::uint64_t ns) {
    if (auto r = start_timer(); !r) return std::unexpected(r.error());
    bool was;
    {
        lock_guard hold(lock_);
        if (!own_locked(w)) return false;
        was = take_locked(w);
        if (!was) ++w.queued_;
        if (ns == 0) put_locked(w);
        else delay_locked(w, ns);
    }
    publish();
    timer_changed_.notify_one();
    return was;
}

bool queue::cancel(item& w) {
    bool was;
    {
        lock_guard hold(lock_);
        (void)own_locked(w);
        was = take_locked(w);
        ends_.fetch_add(1, std::memory_order_seq_cst);
        release_locked(w);
    }
    sys::futex_wake(ends_, std::numeric_limits<int>::max());
    return was;
}

bool queue::pending(const item& w) const {
    lock_guard hold(lock_);
    return w.owner_.load(std::memory_order_relaxed) == this && w.place_ != place::nowhere;
}

// ---- waiting

/// `busy` is asked under lock_. While it holds, runs what it may run here: a worker that only waited would be missing as a worker, and in stepping mode
/// nobody else runs anything. `w`: the item that is waited for; null: all.
void queue::wait_while(item* w, const std::function<bool()>& busy) {
    bool helps = !set_ || set_->on_worker();
    for (;;) {
        item* mine = nullptr;
        std::uint32_t seen;
        {
            lock_guard hold(lock_);
            if (!busy()) return;
            if (helps) mine = claim_locked(w);
            seen = ends_.load(std::memory_order_seq_cst);
        }
        if (mine) {
            run_claimed(*mine, nullptr, -1);  // inside the gate that this worker has entered already
            continue;
        }
        if (!set_) sys::futex_wait(ends_, seen);
        else if (!set_->deliver_own_mail()) set_->wait_on(ends_, seen);
    }
}

bool queue::flush(item& w) {
    COHORT_CHECK(!frame::inside(w), "an item is flushed from its own function");
    COHORT_CHECK(options_.max_active != 1 || !frame::inside(*this), "an item of a queue that runs one at a time is flushed from another one of it");
    std::uint64_t last;
    bool busy;
    {
        lock_guard hold(lock_);
        (void)own_locked(w);
        last = w.queued_;
        busy = w.place_ != place::nowhere || w.running_ != 0;
        if (w.place_ == place::delayed) {
            (void)take_locked(w);
            put_locked(w);
        }
        release_locked(w);
    }
    publish();
    // An item that is not pending and does not run may belong to another queue by now; its numbers are looked at only while it is ours.
    wait_while(&w, [&] {
        if (w.owner_.load(std::memory_order_relaxed) != this) return false;
        bool pending_from_before = w.place_ != place::nowhere && w.queued_ <= last;
        return pending_from_before || (w.running_ != 0 && w.running_ <= last);
    });
    return busy;
}

bool queue::cancel_sync(item& w) {
    COHORT_CHECK(!frame::inside(w), "an item is cancelled, with waiting, from its own function");
    bool was;
    {
        lock_guard hold(lock_);
        (void)own_locked(w);
        was = take_locked(w);
        ++w.cancelling_;
        ends_.fetch_add(1, std::memory_order_seq_cst);
    }
    sys::futex_wake(ends_, std::numeric_limits<int>::max());
    wait_while(&w, [&] { return w.running_ != 0; });
    lock_guard hold(lock_);
    --w.cancelling_;
    release_locked(w);
    return was;
}

result<void> queue::drain() {
    COHORT_CHECK(!frame::inside(*this), "a queue is drained from one of its own items");
    bool threw;
    {
        wait_while(nullptr, [this]() COHORT_NO_THREAD_SAFETY_ANALYSIS {  // called under lock_
            if (!set_) (void)take_due_locked();  // else the timer does, and wakes a worker
            return head_ || active_ != 0;
        });
        lock_guard hold(lock_);
        threw = std::exchange(exception_is_new_, false);
    }
    if (threw) return fail(EIO, "queue \"" + options_.name + "\"", "drain", "an item's function threw an exception");
    return {};
}

std::exception_ptr queue::exception() const {
    lock_guard hold(lock_);
    return first_exception_;
}

// ---- running

/// The next one that may run, or `wanted` if that may.
item* queue::claim_locked(item* wanted) {
    if (!ready_.load(std::memory_order_relaxed)) return nullptr;
    item* w = wanted ? wanted : head_;
    if (w->place_ != place::listed) return nullptr;
    ++active_;
    w->running_ = w->queued_;
    (void)take_locked(*w);
    return w;
}

bool queue::run(context& ctx) {
    item* w;
    {
        lock_guard hold(lock_);
        w = claim_locked(nullptr);
    }
    if (!w) return false;
    ctx.found(source_);
    run_claimed(*w, set_->around(), ctx.cpu);
    return true;
}

bool queue::step() {
    item* w;
    {
        lock_guard hold(lock_);
        (void)take_due_locked();
        w = claim_locked(nullptr);
    }
    if (!w) return false;
    publish();  // what else became due
    run_claimed(*w, set_ ? set_->around() : nullptr, sys::current_cpu());
    return true;
}

void queue::run_claimed(item& w, gate* around, int cpu) {
    std::exception_ptr thrown;
    {
        const inside gated(around, cpu);
        frame f(*this, w);
        try {
            w.function_();
        } catch (...) {
            thrown = std::current_exception();
        }
    }
    {
        lock_guard hold(lock_);
        if (thrown) {
            exception_is_new_ = true;
            if (!first_exception_) first_exception_ = thrown;
        }
        --active_;
        w.running_ = 0;
        if (w.place_ == place::behind_itself) put_locked(w);
        update_locked();
        ends_.fetch_add(1, std::memory_order_seq_cst);
        release_locked(w);
    }
    sys::futex_wake(ends_, std::numeric_limits<int>::max());
    publish();
}

// ---- the timer

result<void> queue::start_timer() {
    if (!set_) return {};
    lock_guard hold(lock_);
    if (timer_.joinable()) return {};
    try {
        const sys::signals_blocked quiet;  // no handler of the program's runs on it
        timer_ = std::thread([this] { timer(); });
    } catch (const std::system_error& e) {
        return fail(EAGAIN, "queue \"" + options_.name + "\"", "start the timer thread", e.what());
    }
    return {};
}

void queue::timer() {
    sys::name_thread((options_.name + "/timer").c_str());
    for (;;) {
        {
            lock_guard hold(lock_);
            if (ending_) return;
            if (!take_due_locked()) {
                if (delayed_.empty()) {
                    timer_changed_.wait(lock_);
                    continue;
                }
                // At most a day at once: a clock that is not the machine's own, or a delay that means "never", needs no overflowing sum.
                std::uint64_t due = std::get<0>(*delayed_.begin()), now = clock_.now();
                auto left = std::min<std::uint64_t>(due > now ? due - now : 0, 86'400'000'000'000);
                (void)timer_changed_.wait_until(lock_, std::chrono::steady_clock::now() + std::chrono::nanoseconds(left));
                continue;
            }
        }
        publish();
    }
}

}  // namespace cohort::work
