// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/worker_set.hpp>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/sys/biased_lock.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/ticks.hpp>
#include <cohort/work/detail/worker.hpp>

namespace cohort::work {

namespace {
thread_local const worker_set* set_of_this_thread = nullptr;
thread_local worker* worker_of_this_thread = nullptr;
}

worker* worker_set::own_worker() const { return set_of_this_thread == this ? worker_of_this_thread : nullptr; }

// ---- creating, resizing, ending

worker_set::worker_set(worker_set_options options)
    : options_(std::move(options)),
      by_cpu_(static_cast<std::size_t>(std::max({options_.possible_cpus, options_.general.last() + 1, options_.bound.last() + 1}))) {}

result<std::unique_ptr<worker_set>> worker_set::create(worker_set_options options) {
    std::unique_ptr<worker_set> set(new worker_set(std::move(options)));
    (void)sys::ns_per_tick();
    if (auto r = set->set_cpus(set->options_.general, set->options_.bound, set->options_.max_workers); !r) return std::unexpected(r.error());
    return set;
}

worker_set::~worker_set() COHORT_NO_THREAD_SAFETY_ANALYSIS {
    {
        sys::spin_guard hold(lock_);
        COHORT_CHECK(head_ == nullptr, "a worker set is destroyed while something is published on it");
        stopping_.store(true, std::memory_order_seq_cst);
        for (auto& w : workers_) unpark_locked(*w);
    }
    for (auto& w : workers_) {  // the list is ours alone now
        ring(w.get());
        if (w->thread.joinable()) w->thread.join();
    }
}

/// Which CPUs get a general worker when there are fewer workers than CPUs: those that have one, then from the one after the caller's on, so that it keeps its own.
cpumask worker_set::capped(const cpumask& general, int most) const {
    if (most <= 0 || general.weight() <= most) return general;
    cpumask out;
    for (int cpu : chosen_ & general) {
        if (most == 0) break;
        out.set(cpu);
        --most;
    }
    for (int cpu = sys::current_cpu(); most > 0;) {
        cpu = general.next(cpu + 1);
        if (cpu < 0) cpu = general.first();
        if (out.test(cpu)) continue;
        out.set(cpu);
        --most;
    }
    return out;
}

result<worker*> worker_set::start_worker(int cpu) {
    auto w = std::make_unique<worker>();
    w->cpu = cpu;
    worker* raw = w.get();
    {  // before there is a thread: nothing below may throw
        std::vector<std::unique_ptr<worker>> more;
        std::vector<worker*> more_idle;
        more.reserve(by_cpu_.size());
        more_idle.reserve(by_cpu_.size());
        sys::spin_guard hold(lock_);
        if (workers_.capacity() < by_cpu_.size()) {
            for (auto& old : workers_) more.push_back(std::move(old));
            workers_.swap(more);
            for (worker* old : idle_) more_idle.push_back(old);
            idle_.swap(more_idle);
        }
    }
    std::atomic<int> started{0};  // 1 = runs, else -errno of binding
    try {
        raw->thread = std::thread([this, raw, &started] {
            auto bound = options_.pin ? sys::pin_thread(cpumask{raw->cpu}) : result<void>{};
            bool ok = bound.has_value();
            raw->tid = sys::thread_id();
            sys::name_thread((options_.name + "/" + std::to_string(raw->cpu)).c_str());
            started.store(ok ? 1 : -bound.error().code, std::memory_order_release);
            started.notify_one();
            if (ok) main(*raw);
        });
    } catch (const std::system_error& e) {
        return fail(EAGAIN, "worker set \"" + options_.name + "\"", "start a worker for cpu " + std::to_string(cpu), e.what());
    }
    started.wait(0, std::memory_order_acquire);
    if (int s = started.load(std::memory_order_acquire); s != 1) {
        raw->thread.join();
        return fail(-s, "worker set \"" + options_.name + "\"", "bind a worker to cpu " + std::to_string(cpu), errno_text(-s));
    }
    sys::spin_guard hold(lock_);
    workers_.push_back(std::move(w));
    by_cpu_[static_cast<std::size_t>(cpu)].store(raw, std::memory_order_release);
    return raw;
}

result<void> worker_set::set_cpus(const cpumask& general, const cpumask& bound, int max_workers) {
    if (general.empty()) return fail(EINVAL, "worker set \"" + options_.name + "\"", "set CPUs", "the mask is empty");
    lock_guard one(resize_);
    if (int last = std::max(general.last(), bound.last()); last >= static_cast<int>(by_cpu_.size())) {
        return fail(EINVAL, "worker set \"" + options_.name + "\"", "set CPUs", "cpu " + std::to_string(last) + " is beyond the machine");
    }
    if (max_workers < 0) max_workers = max_workers_;
    cpumask chosen = capped(general, max_workers);
    if (options_.own_threads) {
        for (int cpu : chosen | bound) {
            if (find(cpu)) continue;
            if (auto w = start_worker(cpu); !w) return std::unexpected(w.error());
        }
    }
    std::vector<worker*> changed, choosing;
    changed.reserve(by_cpu_.size());
    choosing.reserve(by_cpu_.size());
    // From here on nothing fails.
    max_workers_ = max_workers;
    chosen_ = chosen;
    used_ = chosen | bound;
    {
        sys::spin_guard hold(lock_);
        options_.general = chosen;
        for (auto& w : workers_) {
            bool now = chosen.test(w->cpu);
            if (w->general.exchange(now, std::memory_order_seq_cst) == now) continue;
            if (worker* woken = unpark_locked(*w)) changed.push_back(woken);  // it parks again in its new role
            if (!now && w.get() != own_worker()) choosing.push_back(w.get());
        }
        general_count_.store(options_.own_threads ? chosen.weight() : 0, std::memory_order_relaxed);
    }
    for (worker* w : changed) ring(w);
    for (worker* w : choosing) {  // those that looked at their role before it changed: until they have claimed a batch or found none
        // seq_cst: after the store to `general`. Pairs with main(), which stores `choosing` before it looks at `general`.
        for (int i = 0; w->choosing.load(std::memory_order_seq_cst); ++i) {
            if (i < 256) sys::cpu_relax();
            else sys::yield_thread();
        }
    }
    return {};
}

void worker_set::bind_again() {
    if (!options_.pin) return;
    lock_guard one(resize_);
    for (int cpu : used_) {
        // EINVAL: it went away again; whoever tells us of that calls us again.
        if (worker* w = find(cpu)) (void)sys::real().sched_setaffinity(w->tid, cpumask{cpu});
    }
}

std::vector<int> worker_set::threads() const {
    std::vector<int> out;
    for (int cpu = 0; cpu < static_cast<int>(by_cpu_.size()); ++cpu) {
        if (const worker* w = find(cpu); w && w->tid != 0) out.push_back(w->tid);
    }
    return out;
}

cpumask worker_set::general_cpus() const {
    sys::spin_guard hold(lock_);
    return options_.general;
}

// ---- the list

void worker_set::append_locked(runnable& r) {
    r.prev_ = tail_;
    r.next_ = nullptr;
    (tail_ ? tail_->next_ : head_) = &r;
    tail_ = &r;
}

void worker_set::unlink_locked(runnable& r) {
    (r.prev_ ? r.prev_->next_ : head_) = r.next_;
    (r.next_ ? r.next_->prev_ : tail_) = r.prev_;
}

void worker_set::list_locked(runnable& r) {
    if (r.listed_.load(std::memory_order_relaxed) || r.retiring_.load(std::memory_order_relaxed)) return;
    // Whoever had no work saves nothing up: it starts as if it had kept pace with the others.
    const std::uint64_t limit = limit_.load(std::memory_order_relaxed), pace = limit > quantum_ns ? limit - quantum_ns : 0;
    if (r.used_.load(std::memory_order_relaxed) < pace) r.used_.store(pace, std::memory_order_relaxed);
    append_locked(r);
    r.listed_.store(true, std::memory_order_seq_cst);
    listed_count_.fetch_add(1, std::memory_order_seq_cst);
}

void worker_set::list(runnable& r, lender by) {
    worker* woken = nullptr;
    {
        sys::spin_guard hold(lock_);
        list_locked(r);
        if (unpack(state_.load(std::memory_order_seq_cst)).searching == 0) woken = choose_idle_locked(by);
    }
    ring(woken);
}

void worker_set::publish_on(runnable& r, const cpumask& cpus) {
    std::vector<worker*> woken;
    {
        sys::spin_guard hold(lock_);
        list_locked(r);
        for (int cpu : cpus) {
            worker* w = find(cpu);
            if (w && w->general.load(std::memory_order_relaxed) && unpark_locked(*w)) woken.push_back(w);
        }
    }
    for (worker* w : woken) ring(w);
    wake_if_idle();
}

/// Takes a runnable that has nothing to claim off the list. Returns false when it had something after all.
bool worker_set::dry_locked(runnable& r) {
    if (!r.listed_.load(std::memory_order_relaxed)) return !r.ready();
    // seq_cst: unlist, before the look. Pairs with the publisher's store and look in publish().
    r.listed_.store(false, std::memory_order_seq_cst);
    if (r.unfenced()) sys::barrier_on_all_threads();
    if (r.ready() && !r.retiring_.load(std::memory_order_relaxed)) {
        r.listed_.store(true, std::memory_order_seq_cst);
        return false;
    }
    unlink_locked(r);
    listed_count_.fetch_sub(1, std::memory_order_seq_cst);
    return true;
}

bool worker_set::dry(runnable& r) {
    sys::spin_guard hold(lock_);
    return dry_locked(r);
}

/// The next one in turn that has not used its share; see README.md, "Whose turn it is". It goes to the end of the list: the next worker gets the next one.
runnable* worker_set::pick_locked() {
    runnable* r = head_;
    if (!r) return nullptr;
    if (r != tail_) {
        const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
        runnable* least = nullptr;
        std::uint64_t least_used = 0;
        const int looks = std::min(listed_count_.load(std::memory_order_relaxed), most_skips);
        for (int i = 0;; ++i) {
            r = head_;
            const std::uint64_t used = r->used_.load(std::memory_order_relaxed);
            unlink_locked(*r);
            append_locked(*r);
            if (used < limit) break;
            if (!least || used < least_used) least = r, least_used = used;
            if (i + 1 < looks) continue;
            // A round is over, or a long way of it: the next one. Whoever was not looked at and has used less still may run.
            limit_.store(std::max(limit, least_used) + std::max(quantum_ns, typical_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
            if (least != tail_) {
                unlink_locked(*least);
                append_locked(*least);
            }
            r = least;
            break;
        }
    }
    r->users_.fetch_add(1, std::memory_order_relaxed);
    return r;
}

runnable* worker_set::pick() {
    if (listed_count_.load(std::memory_order_relaxed) == 0) return nullptr;
    sys::spin_guard hold(lock_);
    return pick_locked();
}

/// While others wait. Alone, a runnable uses what nobody wants.
void worker_set::charge(runnable& r, std::uint64_t ticks) {
    std::uint64_t cost = quantum_ns;
    if (ticks != 0) {
        cost = static_cast<std::uint64_t>(static_cast<double>(ticks) * sys::ns_per_tick()) * runnable::default_weight / r.weight_ + 1;
        const std::int64_t typical = typical_.load(std::memory_order_relaxed), sample = static_cast<std::int64_t>(std::min<std::uint64_t>(cost, 1u << 30));
        typical_.store(static_cast<std::uint32_t>(typical + (sample - typical) / 64), std::memory_order_relaxed);
    }
    r.used_.fetch_add(cost, std::memory_order_relaxed);
}

void worker_set::drop(runnable*& current) {
    if (!current) return;
    runnable* r = std::exchange(current, nullptr);
    // release: everything done inside happens before retire() returns. Pairs with [acquire: retire]. The last access to r.
    r->users_.fetch_sub(1, std::memory_order_release);
}

void worker_set::retire(runnable& r) {
    r.retiring_.store(true, std::memory_order_seq_cst);
    {
        sys::spin_guard hold(lock_);
        if (r.listed_.exchange(false, std::memory_order_seq_cst)) {
            unlink_locked(r);
            listed_count_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }
    const auto busy = [&r] { return r.users_.load(std::memory_order_acquire) != 0; };  // acquire: pairs with [release: drop]
    for (int i = 0; i < 256 && busy(); ++i) sys::cpu_relax();
    if (!busy()) return;
    const waits here(options_.around, sys::current_cpu());  // who is inside may wait in the gate, for a place that the caller has
    while (busy()) sys::yield_thread();
}

bool worker_set::others_listed(const runnable* current) const {
    int mine = current && current->listed_.load(std::memory_order_relaxed) ? 1 : 0;
    return listed_count_.load(std::memory_order_seq_cst) > mine;
}

// ---- running

/// One batch out of `current` or the list. False: nothing ready, and nothing else is listed.
bool worker_set::step(context& ctx, runnable*& current) {
    if (current && current->retiring_.load(std::memory_order_relaxed)) drop(current);
    if (!current) current = pick();
    while (current) {
        ctx.spent = 0;
        if (current->run(ctx)) {
            if (!others_listed(current)) return true;
            charge(*current, ctx.spent);
            if (current->used_.load(std::memory_order_relaxed) >= limit_.load(std::memory_order_relaxed)) drop(current);  // their turn
            return true;
        }
        if (!others_listed(current)) return false;
        runnable* next;
        {
            sys::spin_guard hold(lock_);  // once for both: a stream of one job at a time costs no more
            (void)dry_locked(*current);
            next = pick_locked();
        }
        drop(current);
        current = next;
    }
    return false;
}

bool worker_set::poll(bool helping) {
    context ctx{this, nullptr, sys::current_cpu(), helping};
    if (deliver_stray(ctx)) return true;
    runnable* current = nullptr;
    bool did = step(ctx, current);
    if (!did && current) (void)dry(*current);
    drop(current);
    return did;
}

void worker_set::main(worker& w) {
    set_of_this_thread = this;
    worker_of_this_thread = &w;
    gate* const around = options_.around;
    if (around) around->attach(w.cpu);
    context ctx{this, &w, w.cpu};
    runnable* current = nullptr;
    while (!stopping_.load(std::memory_order_acquire)) {
        if (w.has_mail.load(std::memory_order_relaxed)) {
            drop(current);  // mail may take long; whoever retires `current` need not wait for it
            if (deliver_mail(ctx, w)) continue;
        }
        // seq_cst: before the look at `general`; set_cpus() waits for it. context::found() ends it earlier, once a batch is claimed.
        w.choosing.store(true, std::memory_order_seq_cst);
        bool general = w.general.load(std::memory_order_seq_cst), stands_back = general && must_stand_back(w);
        bool did = general && !stands_back && step(ctx, current);
        w.choosing.store(false, std::memory_order_release);  // pairs with [seq_cst: set_cpus]
        if (did) continue;
        if (around) around->rest(w.cpu);
        if (stands_back) {
            give_way(w, current);
            continue;
        }
        if (general) {
            if (!w.searching) {
                w.searching = true;
                state_.fetch_add(one_searching, std::memory_order_seq_cst);
            }
        }
        if (!search(w, current)) park(w, current);
    }
    if (around) around->rest(w.cpu);
    drop(current);
    if (w.searching) state_.fetch_sub(one_searching, std::memory_order_seq_cst);
}

}  // namespace cohort::work
