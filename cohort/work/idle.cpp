// SPDX-License-Identifier: Apache-2.0
/// Who wakes whom: the half of a worker set that searches, parks, stands back and wakes. README.md has the rules.
#include <algorithm>
#include <utility>

#include <cohort/sys/biased_lock.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/ticks.hpp>
#include <cohort/work/detail/worker.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::work {

namespace {
/// What stands in worker::lent: ticks, but for the lowest bit.
std::uint64_t lent_now(lender by) { return (sys::ticks() & ~std::uint64_t{1}) | (by.runs_all ? 1 : 0); }
}  // namespace

void context::found(runnable& r) {
    bool more = false;
    if (own) own->choosing.store(false, std::memory_order_release);  // claimed; pairs with [seq_cst: set_cpus]
    if (own && own->searching) {
        own->searching = false;
        // rmw: found; before the looks below. Pairs with [seq_cst] in wake_if_idle: a publisher that still saw us searching published before this.
        set->state_.fetch_sub(worker_set::one_searching, std::memory_order_seq_cst);
        // Only where somebody could be woken does it matter what is left.
        if (worker_set::unpack(set->state_.load(std::memory_order_seq_cst)).parked > 0) {
            if (r.unfenced()) sys::barrier_on_all_threads();
            // The count first: `r` itself may leave the list or not be on it yet.
            int listed = set->listed_count_.load(std::memory_order_seq_cst);
            more = listed > (r.listed_.load(std::memory_order_seq_cst) ? 1 : 0);
        }
    }
    if (more || r.ready()) set->wake_if_idle();
}

/// Takes a parked worker out of its sleep; the caller rings after unlocking. Null when it was awake.
worker* worker_set::unpark_locked(worker& w) {
    if (!w.parked) return nullptr;
    w.parked = false;
    w.token.fetch_add(1, std::memory_order_release);  // pairs with [acquire: sleep]
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
worker* worker_set::choose_idle_locked(lender by) {
    if (idle_.empty()) return nullptr;
    int here = by.cpu >= 0 ? by.cpu : sys::current_cpu();
    worker* best = idle_.back();
    if (best->cpu == here && idle_.size() > 1) best = idle_[idle_.size() - 2];
    if (best->cpu != by.cpu) return unpark_locked(*best);
    idle_.erase(std::find(idle_.begin(), idle_.end(), best));
    best->idle = false;  // still parked, but neither searching nor to be woken by publishers: it looks by itself
    best->back = true;
    best->token.fetch_add(1, std::memory_order_release);  // pairs with [acquire: sleep]
    best->lent.store(lent_now(by), std::memory_order_relaxed);
    state_.fetch_sub(one_parked, std::memory_order_seq_cst);
    return best;
}

/// Without lock_. What it was called for may have been done meanwhile, and the set be gone: it uses the address alone.
void worker_set::ring(worker* w) {
    if (w) sys::futex_wake(w->token, 1);
}

void worker_set::wake_one(lender by) {
    worker* w = nullptr;
    {
        sys::spin_guard hold(lock_);
        if (unpack(state_.load(std::memory_order_seq_cst)).searching == 0) w = choose_idle_locked(by);
    }
    ring(w);
}

void worker_set::lend(lender by) {
    worker* w = find(by.cpu);
    if (w) w->lent.store(lent_now(by), std::memory_order_relaxed);
}

/// A lender that runs its own work alone holds up nobody else's: where something else is listed too, its worker is needed.
bool worker_set::must_stand_back(const worker& w) const {
    std::uint64_t at = w.lent.load(std::memory_order_relaxed);
    if (at == 0 || ((at & 1) == 0 && listed_count_.load(std::memory_order_relaxed) != 1)) return false;
    // Signed: the clock may be read before `at`, and the lender speak in between.
    return static_cast<double>(static_cast<std::int64_t>(sys::ticks() - at)) * sys::ns_per_tick() < stand_back_us * 1'000;
}

/// For a worker that stops searching without having looked (it lost its role, or stands back): publishers that saw it searching woke nobody.
worker* worker_set::successor_locked() {
    return head_ && unpack(state_.load(std::memory_order_seq_cst)).searching == 0 ? choose_idle_locked({}) : nullptr;
}

/// Between batches, while a lender runs work on this CPU: two threads that take turns there would only hold each other's claimed jobs up.
void worker_set::give_way(worker& w, runnable*& current) {
    drop(current);
    worker* next = nullptr;
    {
        sys::spin_guard hold(lock_);
        if (w.has_mail.load(std::memory_order_seq_cst) || stopping_.load(std::memory_order_relaxed)) return;
        if (std::exchange(w.searching, false)) state_.fetch_sub(one_searching, std::memory_order_seq_cst);
        w.parked = true;
        w.back = true;
        next = successor_locked();
    }
    ring(next);
    sleep(w);
}

/// Until somebody unparks it. A worker that stands back for a lender looks by itself from time to time, so that nothing is lost when the lender goes
/// away with work left; publishers need not wake it.
void worker_set::sleep(worker& w) {
    for (int naps = 1;; naps = std::min(naps * 2, 8)) {
        // acquire: pairs with [release: unpark_locked, choose_idle_locked]. Read before `parked`, so that an unparking after it makes the wait return.
        std::uint32_t seen = w.token.load(std::memory_order_acquire);
        bool back;
        {
            sys::spin_guard hold(lock_);
            if (w.back && w.parked && !must_stand_back(w)) w.parked = false;
            if (!w.parked) {
                w.back = false;
                return;
            }
            back = w.back;
        }
        sys::futex_wait(w.token, seen, back ? naps * stand_back_us * 1'000 : -1);
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
    if (current && w.general.load(std::memory_order_relaxed) && !dry(*current)) return;
    drop(current);
    worker* next = nullptr;
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
        if (!general) next = successor_locked();
    }
    ring(next);
    sleep(w);
}

}  // namespace cohort::work
