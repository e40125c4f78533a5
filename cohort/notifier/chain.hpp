// SPDX-License-Identifier: Apache-2.0
/// Notifier chains: callbacks in order of priority, any of which may stop the call.
///
///     notifier::blocking_chain hotplug;
///     notifier::block mine([](unsigned long event, void* cpu) { return adapt(event, cpu) ? notifier::ok : notifier::bad; }, /*priority*/ 10);
///     hotplug.add(mine);                                      // EEXIST the second time; add_unique: EBUSY if 10 is taken
///     int r = hotplug.call(cpu_down, &cpu);                   // the last answer
///     r = hotplug.call_robust(going_down, down_failed, &cpu); // who had agreed hears down_failed when a later one refuses
///     hotplug.remove(mine);                                   // after it no callback of mine runs
///
/// Kernel: include/linux/notifier.h, kernel/notifier.c (v6.12): raw, atomic and blocking notifier heads.
/// Differences: what would deadlock there (changing a blocking chain, or leaving an atomic one, from its own callback) answers EDEADLK here.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/base/error.hpp>
#include <cohort/base/mutex.hpp>

namespace cohort::notifier {

/// What a callback answers; numbers are the kernel's.
inline constexpr int done = 0x0000;        ///< not interested
inline constexpr int ok = 0x0001;          ///< handled
inline constexpr int stop_mask = 0x8000;   ///< nobody after this one is called
inline constexpr int bad = stop_mask | 2;  ///< refused
inline constexpr int stop = ok | stop_mask;

/// A positive errno as an answer that stops the call; 0 is ok. Kernel: notifier_from_errno.
constexpr int from_errno(int code) { return code ? stop_mask | (ok + code) : ok; }
/// The errno inside of an answer; 0 where there is none. Kernel: notifier_to_errno. (bad is EPERM, as there.)
constexpr int to_errno(int answer) { return (answer & ~stop_mask) > ok ? (answer & ~stop_mask) - ok : 0; }

namespace detail {
class list;
}

/// A callback with a priority. Its owner keeps it in place from add() until remove() has returned; on one chain at a time.
class block {
public:
    /// Called with the event and the data of call(). Must not throw.
    using callback = std::function<int(unsigned long event, void* data)>;
    explicit block(callback f, int priority = 0) : callback_(std::move(f)), priority_(priority) {}
    block(const block&) = delete;
    block& operator=(const block&) = delete;
    ~block() { COHORT_CHECK(owner_.load() == nullptr, "a notifier block is destroyed while it is on a chain"); }

    int priority() const { return priority_; }

private:
    friend class detail::list;
    const callback callback_;                   // [const after init]
    const int priority_;                        // [const after init]
    std::atomic<block*> next_{nullptr};         // [guarded for writing: the chain's lock; read by its calls]
    std::atomic<const void*> owner_{nullptr};   // [guarded for writing: the chain's lock]
};

namespace detail {

/// The list below all three kinds: higher priorities first, equal ones in the order of adding.
/// Synchronization: add and remove by one thread at a time; walk by any, beside them. A removed block keeps its next_, so that a walk that stands on it
/// goes on; its owner may free it only when such walks have ended, which is what the kinds differ in.
class list {
public:
    result<void> add(block& b, bool unique);
    result<void> remove(block& b);
    /// At most `limit` callbacks (negative: all). calls: how many ran. The last answer; done when none ran.
    int walk(unsigned long event, void* data, int limit, int& calls) const;
    int walk_robust(unsigned long up, unsigned long down, void* data) const;
    bool empty() const { return head_.load() == nullptr; }

private:
    std::atomic<block*> head_{nullptr};  // [guarded for writing: the chain's lock; read by walks]
};

/// Marks the calls of the running thread, so that a chain knows when it is changed from its own callback.
class call_mark {
public:
    explicit call_mark(const void* chain) : chain_(chain), below_(top_) { top_ = this; }
    ~call_mark() { top_ = below_; }
    call_mark(const call_mark&) = delete;
    call_mark& operator=(const call_mark&) = delete;
    static bool inside(const void* chain) {
        for (const call_mark* m = top_; m; m = m->below_) {
            if (m->chain_ == chain) return true;
        }
        return false;
    }

private:
    static thread_local const call_mark* top_;
    const void* chain_;
    const call_mark* below_;
};

}  // namespace detail

// Of all three kinds: add answers EEXIST when the block is on a chain; add_unique also EBUSY when the priority is taken; remove ENOENT when the block is not
// on this chain. After an error nothing has changed.

/// Callbacks may sleep. Kernel: blocking_notifier_head.
/// Synchronization: any thread may call anything. Calls run at the same time; add and remove wait for calls under way and hold new ones off. From a
/// callback of the same chain add, add_unique and remove answer EDEADLK; call and call_robust nest.
class blocking_chain {
public:
    blocking_chain() = default;
    blocking_chain(const blocking_chain&) = delete;
    blocking_chain& operator=(const blocking_chain&) = delete;
    ~blocking_chain() { COHORT_CHECK(list_.empty(), "a notifier chain is destroyed while blocks are on it"); }

    result<void> add(block& b);
    result<void> add_unique(block& b);
    result<void> remove(block& b);
    /// Calls from the highest priority down until one answers with stop_mask, or `limit` have run (negative: no limit). Answers what the last one answered;
    /// done when none ran. calls, if given: how many ran.
    int call(unsigned long event, void* data, int limit = -1, int* calls = nullptr);
    /// call(up); when one stops it, those that ran before that one are called with `down`, highest first, as far as none of them stops in turn.
    int call_robust(unsigned long up, unsigned long down, void* data);
    /// Is the calling thread inside of a callback of this chain?
    bool in_callback() const { return detail::call_mark::inside(this); }

private:
    template <class Body>
    int as_reader(Body body) COHORT_NO_THREAD_SAFETY_ANALYSIS;
    result<void> change(const char* act, block& b, result<void> (*how)(detail::list&, block&));

    shared_mutex lock_;
    detail::list list_;  // [guarded: lock_]
};

/// call never waits and takes no lock: for hot paths and whoever holds a spinlock; callbacks must not block. Kernel: atomic_notifier_head.
/// Synchronization: any thread may call anything. add may be called from a callback of the same chain (whether the call under way reaches the new block is
/// open). remove waits until every call that may see the block has ended; from a callback of the same chain it answers EDEADLK.
class atomic_chain {
public:
    atomic_chain() = default;
    atomic_chain(const atomic_chain&) = delete;
    atomic_chain& operator=(const atomic_chain&) = delete;
    ~atomic_chain() { COHORT_CHECK(list_.empty(), "a notifier chain is destroyed while blocks are on it"); }

    result<void> add(block& b);
    result<void> add_unique(block& b);
    result<void> remove(block& b);
    int call(unsigned long event, void* data, int limit = -1, int* calls = nullptr);
    int call_robust(unsigned long up, unsigned long down, void* data);

private:
    template <class Body>
    int as_reader(Body body);
    void wait_for_readers();
    void wait_for(int phase);

    mutex lock_;                            // of add and remove
    mutex grace_;                           // of one wait for readers at a time
    detail::list list_;                     // [guarded for writing: lock_]
    std::atomic<int> phase_{0};             // [atomic: wait_for_readers flips it under grace_]
    std::atomic<int> readers_[2]{};         // [atomic: calls under way, by the phase they began in; seq_cst, see as_reader]
};

/// No lock at all: the owner sees to it that calls and changes do not meet. Kernel: raw_notifier_head.
/// Synchronization: none. From a callback of the chain: add is fine; remove is fine for the running block and for any block save the one that is next: that
/// one is still called by the call under way and must stay in place until it has ended.
class raw_chain {
public:
    raw_chain() = default;
    raw_chain(const raw_chain&) = delete;
    raw_chain& operator=(const raw_chain&) = delete;
    ~raw_chain() { COHORT_CHECK(list_.empty(), "a notifier chain is destroyed while blocks are on it"); }

    result<void> add(block& b) { return list_.add(b, false); }
    result<void> add_unique(block& b) { return list_.add(b, true); }
    result<void> remove(block& b) { return list_.remove(b); }
    int call(unsigned long event, void* data, int limit = -1, int* calls = nullptr);
    int call_robust(unsigned long up, unsigned long down, void* data) { return list_.walk_robust(up, down, data); }

private:
    detail::list list_;
};

}  // namespace cohort::notifier
