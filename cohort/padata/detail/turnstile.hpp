// SPDX-License-Identifier: Apache-2.0
/// The ring behind a shell: jobs enter in order, finish in any order, and leave in the order in which they entered.
///
///     turnstile<job> ring(1024);
///     { std::lock_guard hold(ring); ring.enter(&j); }          // order is fixed here
///     auto r = ring.claim(8);                                  // a worker takes up to 8 jobs
///     if (ring.finish(r)) do { serial(r); } while (ring.advance(r));   // whoever gets the turn drains
///
/// Kernel: the reorder lists of kernel/padata.c (v6.12). Differences: one exchange in the place of a lock and sorted lists; 64-bit sequence; one sequence
/// space over mask changes. The protocol and its proof obligations are in ../README.md; turnstile_model_test.cpp walks its interleavings.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>

#include <cohort/base/check.hpp>
#include <cohort/sys/biased_lock.hpp>

namespace cohort::padata::detail {

/// Jobs [first, first + count) of one stream.
struct run_of_jobs {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    std::uint64_t end() const { return first + count; }
};

/// Synchronization:
///      0 ─ drained ─┐ head      ┌ a run is finished ┐             claim           tail
///                   [TURN][    ][DONE,3][  ][  ][    ] ...         [  ][  ][  ]    ...
/// * head <= claim <= tail; only grow. Slots head .. tail-1 hold jobs; claim .. tail-1 wait for a worker.
/// * The lock guards entering: tail_, turn_home_.
/// * A worker that claimed a run owns its jobs until it finishes the run (or a part of it) by putting DONE|count into the word of the part's first slot.
/// * There is one turn. It stands in a word (TURN), or with a thread that drains, or at home (turn_home_: everything has left the ring).
///   Whoever puts the second of {DONE, TURN} into a word has the turn from that slot on.
/// * After the exchange in finish() or advance() that leaves the turn with somebody else, or the unlock that leaves it at home, nothing of the ring is touched.
///
/// Atomic and Lock are parameters for the model test alone.
template <class Job, template <class> class Atomic = std::atomic, class Lock = sys::biased_lock>
class COHORT_CAPABILITY("mutex") turnstile {
    static constexpr std::uint64_t idle = 0, turn = 1, done = 2;  // a word: idle, turn, or done | count << 2

    struct slot {
        Atomic<std::uint64_t> word{idle};  // [atomic: finish() and advance() exchange; see the protocol]
        Job* job = nullptr;                // [written by enter() under the lock; read by the claimer and the drainer]
    };

public:
    /// window: 1 .. 2^20, a power of two.
    explicit turnstile(std::uint32_t window) : mask_(window - 1), slots_(std::make_unique<slot[]>(window)) {
        COHORT_CHECK(std::has_single_bit(window), "the window of a turnstile is no power of two");
    }

    // Not analysed inside: to clang they are the lock itself.
    void lock() noexcept COHORT_ACQUIRE() COHORT_NO_THREAD_SAFETY_ANALYSIS { lock_.lock(); }
    void unlock() noexcept COHORT_RELEASE() COHORT_NO_THREAD_SAFETY_ANALYSIS { lock_.unlock(); }

    std::uint64_t head() const { return head_.load(std::memory_order_acquire); }
    std::uint64_t head_seq_cst() const { return head_.load(std::memory_order_seq_cst); }
    std::uint64_t tail() const { return tail_.load(std::memory_order_relaxed); }
    std::uint64_t claimed() const { return claim_.load(std::memory_order_relaxed); }
    std::uint32_t window() const { return mask_ + 1; }
    Job* job_at(std::uint64_t seq) const { return slots_[seq & mask_].job; }
    /// Does the turn stand in this place, the head? Then its job is not finished, or the one who finished it drains just now. For those who only look.
    bool turn_waits_at(std::uint64_t seq) const { return slots_[seq & mask_].word.load(std::memory_order_relaxed) == turn; }
    /// Brings the jobs of a run that another CPU wrote near: the line that each begins in.
    void prefetch(run_of_jobs r) const {
        for (std::uint64_t seq = r.first; seq != r.end(); ++seq) __builtin_prefetch(job_at(seq), 1);
    }

    // ---- with the lock

    bool full() const { return tail() - head() > mask_; }
    /// Nothing in the ring and nobody draining.
    bool at_home() const { return turn_home_; }

    /// Puts a job at the end; the caller has looked at full(). Returns its place.
    std::uint64_t enter(Job* j) {
        std::uint64_t seq = tail();
        slot& s = slots_[seq & mask_];
        s.job = j;
        if (turn_home_) {
            turn_home_ = false;
            s.word.store(turn, std::memory_order_relaxed);  // published by tail_
        }
        // release: publishes the slot to claim(). It also stands before the publisher's look for idle workers (work/README.md, rule 1): seq_cst does that,
        // or, where the publisher holds the lock by bias, the barrier that an idle worker raises on all threads before its own look.
        if (lock_.held_by_bias()) tail_.store(seq + 1, std::memory_order_release);
        else tail_.store(seq + 1, std::memory_order_seq_cst);
        return seq;
    }

    /// Takes the place at the end together with the turn, claimed by the caller; the ring is at_home().
    std::uint64_t enter_with_turn(Job* j) {
        std::uint64_t seq = tail();
        slots_[seq & mask_].job = j;
        turn_home_ = false;
        // claim before tail: claim == tail, so no claim() can succeed in between; release pairs with [acquire: claim].
        claim_.store(seq + 1, std::memory_order_relaxed);
        tail_.store(seq + 1, std::memory_order_release);
        return seq;
    }

    // ---- without the lock

    /// May there be a publisher that passes no fence between entering and looking for idle workers?
    bool biased() const { return lock_.biased(); }
    bool ready() const { return claim_.load(std::memory_order_seq_cst) < tail_.load(std::memory_order_seq_cst); }

    /// Takes up to `most` jobs out of the waiting ones, at most a 1/sharers part of them (at least one). count 0: none wait.
    run_of_jobs claim(std::uint32_t most, std::uint32_t sharers = 1) {
        std::uint64_t first = claim_.load(std::memory_order_relaxed);
        for (;;) {
            // acquire: sees the slots that enter() filled. Pairs with [seq_cst: enter].
            std::uint64_t waiting = tail_.load(std::memory_order_acquire) - first;
            if (waiting == 0 || waiting > window()) {       // the second: `first` is older than this tail; look again
                std::uint64_t again = claim_.load(std::memory_order_acquire);
                if (again == first) return {};
                first = again;
                continue;
            }
            std::uint64_t share = waiting / sharers;
            std::uint32_t count = share < 1 ? 1 : share < most ? static_cast<std::uint32_t>(share) : most;
            if (claim_.compare_exchange_weak(first, first + count, std::memory_order_relaxed)) return {first, count};
        }
    }

    /// A claimed run, or the first part of one, is finished. True: the caller has the turn and drains from r on. False: r and the ring are not to be
    /// touched any more.
    bool finish(run_of_jobs r) {
        slot& s = slots_[r.first & mask_];
        // acquire: what the previous holder of the turn did. Pairs with [acq_rel: pass] and with tail_ for a turn put by enter(). Nobody but us writes the
        // word once the turn stands in it, so it needs no exchange.
        if (s.word.load(std::memory_order_acquire) == turn) return true;
        // acq_rel: release publishes the finished jobs to whoever drains them, acquire takes the turn if it came meanwhile. Pairs with [acq_rel: pass].
        return s.word.exchange(done | std::uint64_t{r.count} << 2, std::memory_order_acq_rel) == turn;
    }

    /// The holder of the turn has run serial() of r: frees its slots. Then look for waiters, then pass_on().
    void leave(run_of_jobs r) {
        slots_[r.first & mask_].word.store(idle, std::memory_order_relaxed);  // before head_: the slot is entered again only after that
        // Release for [acquire: full()]; before the look for waiters: a waiter raises a barrier on all threads between telling and looking (wait_for_head), or, where
        // there is none, seq_cst pairs with [seq_cst: head_seq_cst].
        head_.store(r.end(), asymmetric_ ? std::memory_order_release : std::memory_order_seq_cst);
    }
    /// As leave() for a job that entered with the turn; the caller takes the lock next, which orders the look for waiters.
    void leave_inline(std::uint64_t seq) { head_.store(seq + 1, std::memory_order_release); }

    /// Passes the turn to the slot at `at`. True: that run is finished already, r is it, and the turn stays with the caller. False: it went to the slot
    /// (nothing may be touched), or may_go_home is set: everything has left the ring, and the caller still has the turn (see go_home).
    bool pass_on(std::uint64_t at, run_of_jobs& r, bool& may_go_home) {
        may_go_home = tail_.load(std::memory_order_acquire) == at;
        if (may_go_home) return false;
        // acq_rel [pass]: release hands on all that serial() did, acquire takes the finished jobs. Pairs with finish().
        std::uint64_t seen = slots_[at & mask_].word.exchange(turn, std::memory_order_acq_rel);
        if (seen == idle) return false;
        r = {at, static_cast<std::uint32_t>(seen >> 2)};
        return true;
    }

    /// With the lock: true, the turn is at home; after unlock nothing may be touched. False: something entered meanwhile, call pass_on again.
    bool go_home(std::uint64_t at) {
        if (tail() != at) return false;
        turn_home_ = true;
        return true;
    }

private:
    const std::uint32_t mask_;                      // [const after init]
    const bool asymmetric_ = sys::has_asymmetric_fence();  // [const after init]
    std::unique_ptr<slot[]> slots_;                 // [const after init]
    alignas(64) Lock lock_;
    bool turn_home_ = true;                         // [guarded: lock_]
    Atomic<std::uint64_t> tail_{0};                 // [guarded for writing: lock_; atomic: publishes slots]
    alignas(64) Atomic<std::uint64_t> claim_{0};    // [atomic: claim() adds by compare-exchange; orders nothing, tail_ does]
    alignas(64) Atomic<std::uint64_t> head_{0};     // [atomic: written by the holder of the turn]
};

}  // namespace cohort::padata::detail
