// SPDX-License-Identifier: Apache-2.0
/// The streams whose completions wait for somebody who polls.
#pragma once

#include <atomic>

#include <cohort/sys/spinlock.hpp>

namespace cohort::padata::detail {

/// What a stream that may stand in the list has inside. Synchronization: guarded by the list's lock.
struct turn_link {
    turn_link* prev_turn = nullptr;
    turn_link* next_turn = nullptr;
    bool is_posted = false;
};

/// Synchronization: any thread. Whoever pushes has the stream's turn, and gives it to whoever takes it out.
class turn_list {
public:
    /// `also` runs under the lock: after it, whoever takes the stream out may end it.
    template <class Also>
    void push(turn_link& t, Also also) {
        sys::spin_guard hold(lock_);
        t.prev_turn = last_;
        t.next_turn = nullptr;
        t.is_posted = true;
        (last_ ? last_->next_turn : first_) = &t;
        last_ = &t;
        any_.store(true, std::memory_order_relaxed);
        also();
    }
    /// The one that waits longest; null: none waits.
    turn_link* take_first() {
        if (!any_.load(std::memory_order_relaxed)) return nullptr;  // relaxed: a hint; who polls looks again
        sys::spin_guard hold(lock_);
        turn_link* t = first_;
        if (t) take_locked(*t);
        return t;
    }
    bool take(turn_link& t) {
        sys::spin_guard hold(lock_);
        if (!t.is_posted) return false;
        take_locked(t);
        return true;
    }
    bool has(const turn_link& t) {
        sys::spin_guard hold(lock_);
        return t.is_posted;
    }

private:
    void take_locked(turn_link& t) COHORT_REQUIRES(lock_) {
        (t.prev_turn ? t.prev_turn->next_turn : first_) = t.next_turn;
        (t.next_turn ? t.next_turn->prev_turn : last_) = t.prev_turn;
        t.is_posted = false;
        any_.store(first_ != nullptr, std::memory_order_relaxed);
    }

    sys::spinlock lock_;
    turn_link* first_ COHORT_GUARDED_BY(lock_) = nullptr;
    turn_link* last_ COHORT_GUARDED_BY(lock_) = nullptr;
    std::atomic<bool> any_{false};  // [guarded for writing: lock_]
};

}  // namespace cohort::padata::detail
