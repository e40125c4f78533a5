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
///              └ waits at its place: spins (the holder of a free CPU), or sleeps in its word; one who is next
///                sleeps until shortly before the turn will end, by how long after their turns' ends others went lately
///
/// The rules, each a step under the lock: (1) who comes while others wait and the turn is over waits too, his own cookie or not: **nobody is passed by for more than a turn of each
/// cookie that waited before him, and the task that is running**; (2) the room changes its cookie only when nobody is inside: a member is counted from the moment he is let in, awake or not;
/// (3) the last one out lets the next in; so a room that somebody waits for is never empty.
///
/// Kernel: pick_next_task and queue_core_balance (kernel/sched/core.c, v6.12), without the power to stop a task: it is left at its end and at safepoints.
#pragma once

#include <algorithm>
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
    std::uint64_t wake_ns = 100'000; ///< so much before the expected end of a turn a waiter on a free CPU is awake
    std::uint64_t spin_ns = 20'000;  ///< not holding: how long a waiter on a free CPU spins before it sleeps; one that is called: slice_ns / 8, if that is more
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
            w.next_turn = head_->tag == tag;
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
                if (Rules::may_flip(members_)) {
                    learn(now);
                    flip(place, now, out);
                }
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
        bool next_turn = false;  // when it came it was among those who come in first
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

    /// How long after its turn is over a cookie goes: that is the length of its tasks, as it was lately.
    void learn(std::uint64_t now) {
        auto over = static_cast<std::int64_t>(now - until_.load(std::memory_order_relaxed));
        if (over < 0) return;  // it had nothing more to do
        over = std::min(over, static_cast<std::int64_t>(options_.slice_ns / 2));  // one who was kept from its CPU tells nothing of tasks
        const std::int64_t mean = over_mean_.load(std::memory_order_relaxed), off = over_off_.load(std::memory_order_relaxed);
        over_mean_.store(mean + (over - mean) / 4, std::memory_order_relaxed);
        over_off_.store(off + ((over > mean ? over - mean : mean - over) - off) / 4, std::memory_order_relaxed);
    }
    struct window {
        std::uint64_t from = 0, to = 0;  // 0: nobody can say
    };
    /// When the turn will end, by what was learned. relaxed: hints; they may be of different turns.
    window expected_end(std::uint64_t now) const {
        const std::uint64_t until = until_.load(std::memory_order_relaxed);
        const auto mean = static_cast<std::uint64_t>(over_mean_.load(std::memory_order_relaxed)), off = static_cast<std::uint64_t>(over_off_.load(std::memory_order_relaxed));
        const std::uint64_t early = 2 * off + options_.wake_ns, late = 2 * off + options_.spin_ns;
        if (until <= now || early + late > options_.slice_ns / 4) return {};
        return {until + mean - std::min(until + mean, early), until + mean + late};
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
        std::uint64_t spun_from = Platform::now(), budget = options_.spin_ns;
        bool guessed = options_.spin_ns == 0 || !w.next_turn;
        for (;;) {
            // acquire: pairs with [acq_rel: wakes].
            std::uint32_t s = w.word.load(std::memory_order_acquire);
            if (s == granted) return;
            if (s == called && w.word.compare_exchange_weak(s, waiting, std::memory_order_acq_rel)) {
                spun_from = Platform::now();
                budget = std::max(options_.spin_ns, options_.slice_ns / 8);  // the others are at their last tasks
            }
            // relaxed: an old answer spins or sleeps once more; who is let in hears of it by the word.
            const bool holds = w.place >= 0 && at(w.place).holder.load(std::memory_order_relaxed) == &w;
            if (holds && (options_.hold || Platform::now() - spun_from < budget)) {
                Platform::relax(w.word, at(w.place).holder);
                continue;
            }
            window due;
            if (holds && !std::exchange(guessed, true)) due = expected_end(Platform::now());
            s = waiting;
            if (!w.word.compare_exchange_weak(s, asleep, std::memory_order_acq_rel) && s != asleep) continue;
            const std::uint64_t now = due.to > 0 ? Platform::now() : 0;
            Platform::sleep(w.word, asleep, due.from > now ? static_cast<std::int64_t>(due.from - now) : -1);
            s = asleep;
            // Awake in time: from here on it is as if it had just come.
            if (due.to == 0 || !w.word.compare_exchange_weak(s, waiting, std::memory_order_acq_rel)) continue;
            spun_from = Platform::now();
            budget = due.to - std::min(due.to, spun_from);
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
    typename Platform::template atomic<std::int64_t> over_mean_{0}, over_off_{0};  // [guarded for writing: lock_; hints] ns from the end of a turn to the last one out, and how far off that is
    std::vector<place_state> places_;                                     // [const size after init]
    typename Platform::books books_;                                      // [guarded: lock_]
};

}  // namespace cohort::coresched::detail
