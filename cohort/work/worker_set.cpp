// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/worker_set.hpp>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/sys/biased_lock.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::work {

/// One thread. Fields without a mark belong to the thread itself.
struct worker {
    int cpu = 0;                            // [const after init]
    std::atomic<bool> general{false};       // [atomic: set_cpus writes, the thread looks before each batch]
    std::atomic<std::uint32_t> token{0};    // [atomic: 1 = wake up; futex word]
    bool parked = false;                    // [guarded: set's lock_]
    bool idle = false;                      // [guarded: set's lock_] it stands in idle_ and counts as parked
    std::atomic<bool> back{false};          // [atomic: it stands back for a lent thread; written under lock_]
    std::atomic<std::uint64_t> lent{0};     // [atomic: ticks at which a thread last said that it runs work on this CPU]
    bool searching = false;                 // counts as searching; written by the waker before the token
    std::atomic<bool> has_mail{false};      // [atomic: mailbox not empty]
    sys::spinlock mail_lock;
    mail* mail_head COHORT_SYS_TS(guarded_by(mail_lock)) = nullptr;
    mail* mail_tail COHORT_SYS_TS(guarded_by(mail_lock)) = nullptr;
    std::thread thread;
};

namespace {
thread_local const worker_set* set_of_this_thread = nullptr;
}

bool worker_set::on_worker() const { return set_of_this_thread == this; }

void context::found(runnable& r) {
    bool more = false;
    if (own && own->searching) {
        own->searching = false;
        // rmw: found; before the looks below. Pairs with [seq_cst] in wake_if_idle: a publisher that still saw us searching published before this.
        set->state_.fetch_sub(worker_set::one_searching, std::memory_order_seq_cst);
        // Only where somebody could be woken does it matter what is left.
        if (worker_set::unpack(set->state_.load(std::memory_order_seq_cst)).parked > 0) {
            if (r.unfenced()) sys::barrier_on_all_threads();
            more = set->listed_count_.load(std::memory_order_seq_cst) > 1;
        }
    }
    if (more || r.ready()) set->wake_if_idle();
}

// ---- creating, resizing, ending

worker_set::worker_set(worker_set_options options)
    : options_(std::move(options)),
      by_cpu_(static_cast<std::size_t>(std::max({options_.possible_cpus, options_.general.last() + 1, options_.bound.last() + 1}))) {}

result<std::unique_ptr<worker_set>> worker_set::create(worker_set_options options) {
    std::unique_ptr<worker_set> set(new worker_set(std::move(options)));
    (void)sys::ns_per_tick();
    if (auto r = set->set_cpus(set->options_.general, set->options_.bound); !r) return std::unexpected(r.error());
    return set;
}

worker_set::~worker_set() COHORT_SYS_TS(no_thread_safety_analysis) {
    {
        sys::spin_guard hold(lock_);
        COHORT_CHECK(head_ == nullptr, "a worker set is destroyed while something is published on it");
        stopping_.store(true, std::memory_order_seq_cst);
        for (auto& w : workers_) unpark_locked(*w);
    }
    for (auto& w : workers_) {  // the list is ours alone now
        give_token(w.get());
        if (w->thread.joinable()) w->thread.join();
    }
}

/// Which CPUs get a general worker when there are fewer workers than CPUs: from the one after the caller's on, so that it keeps its own.
cpumask worker_set::capped(const cpumask& general) const {
    if (options_.max_workers <= 0 || general.weight() <= options_.max_workers) return general;
    cpumask out;
    int cpu = sys::current_cpu();
    for (int i = 0; i < options_.max_workers; ++i) {
        cpu = general.next(cpu + 1);
        if (cpu < 0) cpu = general.first();
        out.set(cpu);
    }
    return out;
}

result<worker*> worker_set::start_worker(int cpu) {
    auto w = std::make_unique<worker>();
    w->cpu = cpu;
    worker* raw = w.get();
    std::atomic<int> started{0};  // 1 = runs, else -errno of binding
    try {
        raw->thread = std::thread([this, raw, &started] {
            auto bound = options_.pin ? sys::pin_thread(cpumask{raw->cpu}) : result<void>{};
            bool ok = bound.has_value();
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

result<void> worker_set::set_cpus(const cpumask& general, const cpumask& bound) {
    if (general.empty()) return fail(EINVAL, "worker set \"" + options_.name + "\"", "set CPUs", "the mask is empty");
    sys::spin_guard one(resize_);
    if (int last = std::max(general.last(), bound.last()); last >= static_cast<int>(by_cpu_.size())) {
        return fail(EINVAL, "worker set \"" + options_.name + "\"", "set CPUs", "cpu " + std::to_string(last) + " is beyond the machine");
    }
    cpumask chosen = capped(general);
    if (options_.own_threads) {
        for (int cpu : chosen | bound) {
            if (find(cpu)) continue;
            if (auto w = start_worker(cpu); !w) return std::unexpected(w.error());
        }
    }
    std::vector<worker*> changed;
    {
        sys::spin_guard hold(lock_);
        options_.general = chosen;
        for (auto& w : workers_) {
            bool now = chosen.test(w->cpu);
            if (w->general.exchange(now, std::memory_order_seq_cst) == now) continue;
            if (worker* woken = unpark_locked(*w)) changed.push_back(woken);  // it parks again in its new role
        }
        general_count_.store(options_.own_threads ? chosen.weight() : 0, std::memory_order_relaxed);
    }
    for (worker* w : changed) give_token(w);
    return {};
}

cpumask worker_set::general_cpus() const {
    sys::spin_guard hold(lock_);
    return options_.general;
}

// ---- the list

void worker_set::list_locked(runnable& r) {
    if (r.listed_.load(std::memory_order_relaxed) || r.retiring_.load(std::memory_order_relaxed)) return;
    r.prev_ = tail_;
    r.next_ = nullptr;
    (tail_ ? tail_->next_ : head_) = &r;
    tail_ = &r;
    r.listed_.store(true, std::memory_order_seq_cst);
    listed_count_.fetch_add(1, std::memory_order_seq_cst);
}

void worker_set::list(runnable& r, int lent_cpu) {
    worker* woken = nullptr;
    {
        sys::spin_guard hold(lock_);
        list_locked(r);
        if (unpack(state_.load(std::memory_order_seq_cst)).searching == 0) woken = choose_idle_locked(lent_cpu);
    }
    give_token(woken);
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
    for (worker* w : woken) give_token(w);
    wake_if_idle();
}

/// Takes a runnable that has nothing to claim off the list. Returns false when it had something after all.
bool worker_set::dry(runnable& r) {
    sys::spin_guard hold(lock_);
    if (!r.listed_.load(std::memory_order_relaxed)) return !r.ready();
    // seq_cst: unlist, before the look. Pairs with the publisher's store and look in publish().
    r.listed_.store(false, std::memory_order_seq_cst);
    if (r.unfenced()) sys::barrier_on_all_threads();
    if (r.ready() && !r.retiring_.load(std::memory_order_relaxed)) {
        r.listed_.store(true, std::memory_order_seq_cst);
        return false;
    }
    (r.prev_ ? r.prev_->next_ : head_) = r.next_;
    (r.next_ ? r.next_->prev_ : tail_) = r.prev_;
    listed_count_.fetch_sub(1, std::memory_order_seq_cst);
    return true;
}

runnable* worker_set::pick() {
    if (listed_count_.load(std::memory_order_relaxed) == 0) return nullptr;
    sys::spin_guard hold(lock_);
    runnable* r = head_;
    if (!r) return nullptr;
    if (r != tail_) {  // rotate: the next worker gets the next one
        head_ = r->next_;
        head_->prev_ = nullptr;
        r->prev_ = tail_;
        r->next_ = nullptr;
        tail_->next_ = r;
        tail_ = r;
    }
    r->users_.fetch_add(1, std::memory_order_relaxed);
    return r;
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
            (r.prev_ ? r.prev_->next_ : head_) = r.next_;
            (r.next_ ? r.next_->prev_ : tail_) = r.prev_;
            listed_count_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }
    for (int i = 0; r.users_.load(std::memory_order_acquire) != 0; ++i) {  // acquire: pairs with [release: drop]
        if (i < 256) sys::cpu_relax();
        else sys::yield_thread();
    }
}

bool worker_set::others_listed(const runnable* current) const {
    int mine = current && current->listed_.load(std::memory_order_relaxed) ? 1 : 0;
    return listed_count_.load(std::memory_order_seq_cst) > mine;
}

// ---- waking and parking

/// Takes a parked worker out of its sleep; the caller gives it the token after unlocking. Null when it was awake.
worker* worker_set::unpark_locked(worker& w) {
    if (!w.parked) return nullptr;
    w.parked = false;
    if (w.idle) {
        w.idle = false;
        idle_.erase(std::find(idle_.begin(), idle_.end(), &w));
        w.searching = true;
        // rmw: counted as searching before anyone can see it leave the parked ones.
        state_.fetch_add(one_searching - one_parked, std::memory_order_seq_cst);
    }
    return &w;
}

/// The worker that parked last has the warmest cache; one on the caller's own CPU would only take it away, so it comes last, and where the caller runs
/// work there itself it only stands by.
worker* worker_set::choose_idle_locked(int lent_cpu) {
    if (idle_.empty()) return nullptr;
    int here = lent_cpu >= 0 ? lent_cpu : sys::current_cpu();
    worker* best = idle_.back();
    if (best->cpu == here && idle_.size() > 1) best = idle_[idle_.size() - 2];
    if (best->cpu != lent_cpu) return unpark_locked(*best);
    idle_.erase(std::find(idle_.begin(), idle_.end(), best));
    best->idle = false;  // still parked, but neither searching nor to be woken by publishers: it looks by itself
    best->back.store(true, std::memory_order_relaxed);
    best->lent.store(sys::ticks(), std::memory_order_relaxed);
    state_.fetch_sub(one_parked, std::memory_order_seq_cst);
    return best;
}

void worker_set::give_token(worker* w) {
    if (!w) return;
    // release: what the waker wrote (searching). Pairs with [acquire: park].
    w->token.store(1, std::memory_order_release);
    sys::futex_wake(w->token, 1);
}

void worker_set::wake_one(int lent_cpu) {
    worker* w = nullptr;
    {
        sys::spin_guard hold(lock_);
        if (unpack(state_.load(std::memory_order_seq_cst)).searching == 0) w = choose_idle_locked(lent_cpu);
    }
    give_token(w);
}

void worker_set::lend(int cpu) {
    worker* w = find(cpu);
    if (w) w->lent.store(sys::ticks(), std::memory_order_relaxed);
}

bool worker_set::lent_lately(const worker& w) const {
    std::uint64_t at = w.lent.load(std::memory_order_relaxed);
    return at != 0 && static_cast<double>(sys::ticks() - at) * sys::ns_per_tick() < stand_back_us * 1'000;
}

/// Between batches, while a lender runs work on this CPU: two threads that take turns there would only hold each other's claimed jobs up.
void worker_set::give_way(worker& w, runnable*& current) {
    drop(current);
    {
        sys::spin_guard hold(lock_);
        if (w.has_mail.load(std::memory_order_seq_cst) || stopping_.load(std::memory_order_relaxed)) return;
        if (std::exchange(w.searching, false)) state_.fetch_sub(one_searching, std::memory_order_seq_cst);
        w.parked = true;
        w.back.store(true, std::memory_order_relaxed);
    }
    wake_if_idle();
    sleep(w);
}

/// Until the token comes, or, standing back, until it is needed.
void worker_set::sleep(worker& w) {
    if (w.back.load(std::memory_order_relaxed) && stand_back(w)) return;
    do {
        // acquire: pairs with [release: give_token]; then `searching` is ours again.
        while (w.token.load(std::memory_order_acquire) == 0) sys::futex_wait(w.token, 0);
        w.token.store(0, std::memory_order_relaxed);
    } while (w.back.load(std::memory_order_relaxed) && !stand_back(w));
}

/// The worker's CPU is lent: sleeps until the lender has been silent for a while or the work is gone. False: woken for something else, look at once.
/// A publisher need not wake it again, so nothing is lost if the lender goes away with work left: this one looks again after stand_back_us.
bool worker_set::stand_back(worker& w) {
    for (int naps = 1;; naps = std::min(naps * 2, 4)) {
        sys::futex_wait(w.token, 0, naps * stand_back_us * 1'000);
        sys::spin_guard hold(lock_);
        bool called = !w.parked;  // mail, a new role or the end
        if (!called && head_ && lent_lately(w)) continue;
        w.back.store(false, std::memory_order_relaxed);
        w.parked = false;
        return !called;
    }
}

/// Looks for work for a while. True: something is there, or the role changed.
bool worker_set::search(worker& w, runnable* current) const {
    std::uint64_t limit = static_cast<std::uint64_t>(options_.spin_ns / sys::ns_per_tick());
    std::uint64_t begin = sys::ticks();
    for (int i = 1;; ++i) {
        if (w.has_mail.load(std::memory_order_relaxed) || stopping_.load(std::memory_order_relaxed)) return true;
        if (!w.general.load(std::memory_order_relaxed)) return false;
        if (current && (current->retiring_.load(std::memory_order_relaxed) || current->ready())) return true;
        if (others_listed(current)) return true;
        if (sys::ticks() - begin > limit) return false;
        if (i % 32 == 0) sys::yield_thread();
        else sys::cpu_relax();
    }
}

void worker_set::park(worker& w, runnable*& current) {
    bool was_general = w.general.load(std::memory_order_relaxed);
    if (current && was_general && !dry(*current)) return;
    drop(current);
    if (!was_general) wake_if_idle();  // what it leaves listed is for others
    {
        sys::spin_guard hold(lock_);
        bool general = w.general.load(std::memory_order_seq_cst);
        if (w.has_mail.load(std::memory_order_seq_cst) || stopping_.load(std::memory_order_relaxed)) return;
        if (general && head_) return;
        std::uint64_t change = 0;
        if (w.searching) change -= one_searching;
        if (general) change += one_parked;
        w.searching = false;
        w.parked = true;
        w.idle = general;
        if (general) idle_.push_back(&w);
        // rmw: park, under lock_ and after the look at the list. Pairs with [seq_cst] in wake_if_idle.
        state_.fetch_add(change, std::memory_order_seq_cst);
    }
    sleep(w);
}

// ---- running

void worker_set::post(mail& m, int cpu) {
    worker* woken = nullptr;
    {
        sys::spin_guard hold(lock_);
        worker* w = find(cpu);
        if (!w && !workers_.empty()) w = workers_.front().get();
        if (!w) {
            m.next_mail_ = nullptr;
            mail** end = &strays_;
            while (*end) end = &(*end)->next_mail_;
            *end = &m;
            stray_mail_.store(true, std::memory_order_release);
            return;
        }
        sys::spin_guard box(w->mail_lock);
        m.next_mail_ = nullptr;
        (w->mail_head ? w->mail_tail->next_mail_ : w->mail_head) = &m;
        w->mail_tail = &m;
        w->has_mail.store(true, std::memory_order_seq_cst);
        woken = unpark_locked(*w);
    }
    give_token(woken);
}

bool worker_set::deliver_mail(context& ctx, worker& w) {
    mail* list = nullptr;
    {
        sys::spin_guard box(w.mail_lock);
        list = std::exchange(w.mail_head, nullptr);
        w.has_mail.store(false, std::memory_order_relaxed);
    }
    if (!list) return false;
    if (std::exchange(w.searching, false)) {
        state_.fetch_sub(one_searching, std::memory_order_seq_cst);
        if (listed_count_.load(std::memory_order_seq_cst) > 0) wake_if_idle();
    }
    while (list) {
        mail* m = std::exchange(list, list->next_mail_);
        m->deliver(ctx);
    }
    return true;
}

bool worker_set::deliver_stray(context& ctx) {
    if (!stray_mail_.load(std::memory_order_acquire)) return false;
    mail* m = nullptr;
    {
        sys::spin_guard hold(lock_);
        m = strays_;
        if (m) strays_ = m->next_mail_;
        stray_mail_.store(strays_ != nullptr, std::memory_order_relaxed);
    }
    if (m) m->deliver(ctx);
    return m != nullptr;
}

/// One batch out of `current` or the list. False: nothing ready, and nothing else is listed.
bool worker_set::step(context& ctx, runnable*& current) {
    for (;;) {
        if (current && current->retiring_.load(std::memory_order_relaxed)) drop(current);
        if (!current) current = pick();
        if (!current) return false;
        if (current->run(ctx)) {
            if (others_listed(current)) drop(current);  // their turn
            return true;
        }
        if (!others_listed(current)) return false;
        if (dry(*current)) drop(current);
    }
}

bool worker_set::poll() {
    context ctx{this, nullptr, sys::current_cpu()};
    if (deliver_stray(ctx)) return true;
    runnable* current = nullptr;
    bool did = step(ctx, current);
    if (!did && current) (void)dry(*current);
    drop(current);
    return did;
}

void worker_set::main(worker& w) {
    set_of_this_thread = this;
    context ctx{this, &w, w.cpu};
    runnable* current = nullptr;
    while (!stopping_.load(std::memory_order_acquire)) {
        if (w.has_mail.load(std::memory_order_relaxed)) {
            drop(current);  // mail may take long; whoever retires `current` need not wait for it
            if (deliver_mail(ctx, w)) continue;
        }
        if (w.general.load(std::memory_order_relaxed)) {
            if (lent_lately(w)) {
                give_way(w, current);
                continue;
            }
            if (step(ctx, current)) continue;
            if (!w.searching) {
                w.searching = true;
                state_.fetch_add(one_searching, std::memory_order_seq_cst);
            }
        }
        if (!search(w, current)) park(w, current);
    }
    drop(current);
    if (w.searching) state_.fetch_sub(one_searching, std::memory_order_seq_cst);
}

}  // namespace cohort::work
