// SPDX-License-Identifier: Apache-2.0
/// The room of a core: its tasks are inside with one cookie at a time. Group mutual exclusion with turns.
///
///     room<machine_platform> r({.slice_ns = 3'000'000}, 2);          // two siblings: places 0 and 1
///     auto ticket = r.enter(0, web, tenant);                         // waits while another cookie has the core
///     if (r.must_go()) r.leave(0, ticket);                           // at the end of a task, once others wait and the turn is over
///
///      enter ── nobody inside and nobody waits, or my cookie's turn ──────────────────────> inside
///        │ else                                                                              │ leave
///        └─> queue: [db@0][db@1][web@0] ── the last one out flips: the first waiter's ──<────┘
///              │                           cookie is next, all who wait with it are inside
///              └ waits at its place: spins (the holder of a free CPU), or sleeps in its word
///
/// The rules, each a step under the lock: (1) who comes while others wait and the turn is over waits too, his own cookie or not: **nobody is passed by for more than a turn of each
/// cookie that waited before him, and the task that is running**; (2) the room changes its cookie only when nobody is inside: a member is counted from the moment he is let in, awake or not;
/// (3) the last one out lets the next in; so a room that somebody waits for is never empty.
///
/// Kernel: pick_next_task and queue_core_balance (kernel/sched/core.c, v6.12), without the power to stop a task: it is left at its end and at safepoints.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include <cohort/coresched/cookie.hpp>

namespace cohort::coresched::detail {

/// What is decided, apart from how: tests decide otherwise and must be found out.
struct room_rules {
    static bool may_join(int members, bool same, bool waited_for, bool turn_over) { return members == 0 ? !waited_for : same && (!waited_for || !turn_over); }
    static bool must_go(bool waited_for, bool turn_over) { return waited_for && turn_over; }
    static bool may_flip(int members) { return members == 0; }
    static bool goes_with(cookie heir, cookie c) { return heir == c; }
    static int counted(int let_in) { return let_in; }
};

struct room_options {
    std::uint64_t slice_ns = 3'000'000;
    bool hold = false;               ///< a CPU that is forced idle is kept by a spinning waiter
    std::uint64_t spin_ns = 20'000;  ///< not holding: how long a waiter on a free CPU spins before it sleeps
};

/// Synchronization: any thread may enter; who entered leaves, on any thread. must_go() takes no lock. `lock_` is held for some hundred instructions, and never while a thread sleeps or is woken.
/// A waiter's word goes waiting -> asleep -> called -> waiting ... -> granted; it belongs to the waiter, and after `granted` nobody else touches it but for its address.
template <class Platform, class Rules = room_rules>
class room {
public:
    using ticket = std::uint32_t;

    room(room_options o, int places) : options_(o), places_(static_cast<std::size_t>(places)), books_(places) {}

    /// place: 0 .. places-1, or -1 for who may be on any of them. Returns inside.
    ticket enter(int place, cookie tag, std::uint32_t who) {
        waiter w{.tag = tag, .place = place};
        {
            typename Platform::guard hold(lock_);
            const std::uint64_t now = Platform::now();
            if (Rules::may_join(members_, tag == tag_, head_ != nullptr, now >= until_.load(std::memory_order_relaxed))) {
                if (members_ == 0) begin_turn(tag, now);
                admit(place);
                return books_.begin(place, tag, who, now, false);
            }
            append(w);
            waited_for_.store(true, std::memory_order_relaxed);
            books_.waits(place, tag, now);
            if (place >= 0 && at(place).members == 0 && !at(place).holder.load(std::memory_order_relaxed)) at(place).holder.store(&w, std::memory_order_relaxed);
        }
        wait(w);
        typename Platform::guard hold(lock_);
        return books_.begin(place, tag, who, Platform::now(), true);
    }

    /// Cost: the last one out wakes those who are let in.
    void leave(int place, ticket t) {
        wakes out;
        {
            typename Platform::guard hold(lock_);
            const std::uint64_t now = Platform::now();
            books_.end(t, now);
            --members_;
            if (place >= 0) --at(place).members;
            if (head_) {
                if (Rules::may_flip(members_)) flip(place, now, out);
                // Whoever comes in next is awake by then: it takes as long as the others need to leave.
                else if (options_.hold || now >= until_.load(std::memory_order_relaxed)) call_holder(place, out);
            }
        }
        out.send();
    }

    /// Others wait, and this turn is over. A hint that is old by the time it is used; relaxed: it orders nothing, the lock does.
    bool must_go() const {
        if (!waited_for_.load(std::memory_order_relaxed)) return false;
        return Rules::must_go(true, Platform::now() >= until_.load(std::memory_order_relaxed));
    }
    /// Would enter() return at once? Old by the time it is used.
    bool is_open_to(cookie tag) {
        typename Platform::guard hold(lock_);
        return Rules::may_join(members_, tag == tag_, head_ != nullptr, Platform::now() >= until_.load(std::memory_order_relaxed));
    }

    /// The books, while nobody changes them.
    template <class F>
    auto with_books(F&& f) {
        typename Platform::guard hold(lock_);
        return f(books_, Platform::now());
    }

private:
    enum word : std::uint32_t { waiting, asleep, called, granted };
    struct waiter {
        cookie tag;
        int place;
        typename Platform::template atomic<std::uint32_t> word{waiting};
        waiter* next = nullptr;  // [guarded: lock_]
    };
    struct place_state {
        int members = 0;                                                 // [guarded: lock_]
        typename Platform::template atomic<waiter*> holder{nullptr};     // [guarded for writing: lock_; its waiter looks] who may spin here
    };
    /// Who is to be woken, without the lock; the last one first.
    class wakes {
    public:
        void add(waiter& w, std::uint32_t to) {
            auto* word = &w.word;
            // acq_rel: what was done under the lock before. Pairs with [acquire: wait]. Nothing of the waiter is touched after `granted`.
            if (word->exchange(to, std::memory_order_acq_rel) != asleep) return;
            if (count_ == most) send();
            to_[count_++] = word;
        }
        void send() {
            while (count_ > 0) Platform::wake(*to_[--count_]);
        }

    private:
        static constexpr int most = 16;
        typename Platform::template atomic<std::uint32_t>* to_[most];
        int count_ = 0;
    };

    place_state& at(int place) { return places_[static_cast<std::size_t>(place)]; }

    void begin_turn(cookie tag, std::uint64_t now) {
        tag_ = tag;
        until_.store(now + options_.slice_ns, std::memory_order_relaxed);
    }
    void admit(int place) {
        ++members_;
        if (place < 0) return;
        ++at(place).members;
        at(place).holder.store(nullptr, std::memory_order_relaxed);  // it sleeps: the CPU is another's now
    }
    void append(waiter& w) {
        (tail_ ? tail_->next : head_) = &w;
        tail_ = &w;
    }

    /// last: the place of the one who goes; its own CPU's waiter is woken last, which would only take the CPU away from it.
    void flip(int last, std::uint64_t now, wakes& out) {
        const cookie heir = head_->tag;
        begin_turn(heir, now);
        waiter* elsewhere = nullptr;
        waiter* rest = head_;
        head_ = tail_ = nullptr;
        int let_in = 0;
        while (rest) {
            waiter& w = *std::exchange(rest, rest->next);
            w.next = nullptr;
            if (!Rules::goes_with(heir, w.tag)) {
                append(w);
                continue;
            }
            ++let_in;
            if (w.place >= 0) {
                ++at(w.place).members;
                at(w.place).holder.store(nullptr, std::memory_order_relaxed);
            }
            books_.comes(w.place, w.tag, now);
            if (w.place == last) out.add(w, granted);
            else w.next = std::exchange(elsewhere, &w);
        }
        while (elsewhere) out.add(*std::exchange(elsewhere, elsewhere->next), granted);
        members_ += Rules::counted(let_in);
        waited_for_.store(head_ != nullptr, std::memory_order_relaxed);
        if (!head_ || !options_.hold) return;
        for (int p = 0; p < static_cast<int>(places_.size()); ++p) call_holder(p, out);
    }

    /// A CPU has come free: somebody who waits there spins, first of all one who is next.
    void call_holder(int place, wakes& out) {
        if (place < 0 || at(place).members > 0) return;
        if (options_.hold && at(place).holder.load(std::memory_order_relaxed)) return;
        waiter* best = nullptr;
        for (waiter* w = head_; w; w = w->next) {
            if (w->place != place) continue;
            if (!best || (best->tag != head_->tag && w->tag == head_->tag)) best = w;
        }
        if (!best) return;
        at(place).holder.store(best, std::memory_order_relaxed);
        out.add(*best, called);
    }

    void wait(waiter& w) {
        std::uint64_t spun_from = Platform::now();
        for (;;) {
            // acquire: pairs with [acq_rel: wakes].
            std::uint32_t s = w.word.load(std::memory_order_acquire);
            if (s == granted) return;
            if (s == called && w.word.compare_exchange_weak(s, waiting, std::memory_order_acq_rel)) spun_from = Platform::now();
            // relaxed: an old answer spins or sleeps once more; who is let in hears of it by the word.
            const bool holds = w.place >= 0 && at(w.place).holder.load(std::memory_order_relaxed) == &w;
            if (holds && (options_.hold || Platform::now() - spun_from < options_.spin_ns)) {
                Platform::relax(w.word, at(w.place).holder);
                continue;
            }
            s = waiting;
            if (w.word.compare_exchange_weak(s, asleep, std::memory_order_acq_rel) || s == asleep) Platform::sleep(w.word, asleep);
        }
    }

    const room_options options_;                                          // [const after init]
    typename Platform::lock lock_;
    cookie tag_ = no_cookie;                                              // [guarded: lock_] whose turn it is
    int members_ = 0;                                                     // [guarded: lock_] inside, or let in and not awake yet
    waiter* head_ = nullptr;                                              // [guarded: lock_] in the order of coming
    waiter* tail_ = nullptr;                                              // [guarded: lock_]
    typename Platform::template atomic<bool> waited_for_{false};          // [guarded for writing: lock_; hint] the queue is not empty
    typename Platform::template atomic<std::uint64_t> until_{0};          // [guarded for writing: lock_; hint] when this turn is over
    std::vector<place_state> places_;                                     // [const size after init]
    typename Platform::books books_;                                      // [guarded: lock_]
};

}  // namespace cohort::coresched::detail
