// SPDX-License-Identifier: Apache-2.0
/// The ring behind a shell: jobs enter in order, finish in any order, and leave in the order in which they entered.
///
///     turnstile<job> ring(1024);
///     { std::lock_guard hold(ring); ring.enter(&j); }          // order is fixed here
///     auto r = ring.claim(8);                                  // a worker takes up to 8 jobs
///     if (ring.finish(r)) do { serial(r); } while (ring.advance(r));   // whoever gets the turn drains
///
/// Kernel: the reorder lists of kernel/padata.c (v6.12). Differences: one exchange in the place of a lock and sorted lists; 64-bit sequence; one sequence
/// space over mask changes; memory grows with what is in flight. The protocol and its proof obligations are in ../README.md; turnstile_model_test.cpp
/// walks its interleavings.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/sys/biased_lock.hpp>

namespace cohort::padata::detail {

/// Jobs [first, first + count) of one stream.
struct run_of_jobs {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    std::uint64_t end() const { return first + count; }
};

/// Where the larger rings come from. A parameter of the turnstile for the model test alone.
struct heap_memory {
    static void* get(std::size_t bytes) { return ::operator new(bytes, std::align_val_t{64}, std::nothrow); }
    static void put(void* p) { ::operator delete(p, std::align_val_t{64}); }
    static void use(const void*) {}
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
/// Blocks. Slots stand in blocks; the first, of `first_slots`, is part of the object. Where one more job finds its slot taken and the window allows it, enter's
/// caller puts a block of four times the size before it, for the jobs from there on; older jobs stay where they are:
///      current_ ─> [first = 20, 64 slots] ─prev─> [first = 4, 16 slots] ─prev─> [first = 0, 4 slots]        job n: the first block with first <= n
/// Whoever looks a slot up owns a job of it, or the turn that stands there: n >= head. A block is freed, under the lock, once head >= first of the block
/// before it, so no lookup gets that far any more; when the turn goes home all but the first are. A block of n slots stood for more than n / 4 jobs at once,
/// so this costs a few nanoseconds a job, and a stream at rest holds no memory beyond the object.
///
/// Atomic, Lock, Memory and first_slots are parameters for the model test alone.
template <class Job, template <class> class Atomic = std::atomic, class Lock = sys::biased_lock, class Memory = heap_memory, std::uint32_t first_slots = 4>
class COHORT_CAPABILITY("mutex") turnstile {
    static constexpr std::uint64_t idle = 0, turn = 1, done = 2;  // a word: idle, turn, or done | count << 2

    struct slot {
        Atomic<std::uint64_t> word{idle};  // [atomic: finish() and advance() exchange; see the protocol]
        Job* job = nullptr;                // [written by enter() under the lock; read by the claimer and the drainer]
    };
    /// Followed by its slots. [const while jobs of it are in flight; guarded for writing: lock_]
    struct block {
        std::uint64_t first = 0;  // the first job that stands in it; the others follow, slot = seq & mask
        block* prev = nullptr;    // where older jobs stand
        std::uint32_t mask = 0;
        slot& at(std::uint64_t seq) { return reinterpret_cast<slot*>(this + 1)[seq & mask]; }
        slot* slots() { return reinterpret_cast<slot*>(this + 1); }
    };
    struct first_block : block {
        slot space[first_slots];
    };
    static_assert(sizeof(block) % alignof(slot) == 0 && sizeof(first_block) == sizeof(block) + sizeof(slot) * first_slots);

public:
    /// window: 1 .. 2^20, a power of two.
    explicit turnstile(std::uint32_t window) : mask_(window - 1) {
        COHORT_CHECK(std::has_single_bit(window), "the window of a turnstile is no power of two");
        own_.mask = std::min(window, first_slots) - 1;
    }
    ~turnstile() { free_from(current_.load(std::memory_order_relaxed)); }
    turnstile(const turnstile&) = delete;
    turnstile& operator=(const turnstile&) = delete;

    // Not analysed inside: to clang they are the lock itself.
    void lock() noexcept COHORT_ACQUIRE() COHORT_NO_THREAD_SAFETY_ANALYSIS { lock_.lock(); }
    void unlock() noexcept COHORT_RELEASE() COHORT_NO_THREAD_SAFETY_ANALYSIS { lock_.unlock(); }

    std::uint64_t head() const { return head_.load(std::memory_order_acquire); }
    std::uint64_t head_seq_cst() const { return head_.load(std::memory_order_seq_cst); }
    std::uint64_t tail() const { return tail_.load(std::memory_order_relaxed); }
    std::uint64_t claimed() const { return claim_.load(std::memory_order_relaxed); }
    std::uint32_t window() const { return mask_ + 1; }
    /// Of the blocks, beyond the object itself.
    std::size_t extra_bytes() const { return extra_.load(std::memory_order_relaxed); }
    Job* job_at(std::uint64_t seq) const { return slot_of(seq).job; }
    /// With the lock. Does the turn stand in this place, the head? Then its job is not finished, or the one who finished it drains just now. For those who only look.
    bool turn_waits_at(std::uint64_t seq) const { return slot_of(seq).word.load(std::memory_order_relaxed) == turn; }
    /// Brings the jobs of a run that another CPU wrote near: the line that each begins in.
    void prefetch(run_of_jobs r) const {
        for (std::uint64_t seq = r.first; seq != r.end(); ++seq) __builtin_prefetch(job_at(seq), 1);
    }

    // ---- with the lock

    bool full() const { return tail() - head() > mask_; }
    /// Is there a place for one more job? False: the window is full, or it is not and there was no memory for more slots; then some job is in flight.
    bool has_place() {
        const std::uint64_t in_flight = tail() - head();
        if (in_flight <= current_.load(std::memory_order_relaxed)->mask) [[likely]] return true;  // so its slot is free, whatever stands in older blocks
        return in_flight <= mask_ && grow();
    }
    /// Nothing in the ring and nobody draining.
    bool at_home() const { return turn_home_; }

    /// Puts a job at the end; has_place() has said yes. Returns its place.
    std::uint64_t enter(Job* j) {
        std::uint64_t seq = tail();
        slot& s = current_.load(std::memory_order_relaxed)->at(seq);
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
        current_.load(std::memory_order_relaxed)->at(seq).job = j;
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
        slot& s = slot_of(r.first);
        // acquire: what the previous holder of the turn did. Pairs with [acq_rel: pass] and with tail_ for a turn put by enter(). Nobody but us writes the
        // word once the turn stands in it, so it needs no exchange.
        if (s.word.load(std::memory_order_acquire) == turn) return true;
        // acq_rel: release publishes the finished jobs to whoever drains them, acquire takes the turn if it came meanwhile. Pairs with [acq_rel: pass].
        return s.word.exchange(done | std::uint64_t{r.count} << 2, std::memory_order_acq_rel) == turn;
    }

    /// The holder of the turn has run serial() of r: frees its slots. Then look for waiters, then pass_on().
    void leave(run_of_jobs r) {
        slot_of(r.first).word.store(idle, std::memory_order_relaxed);  // before head_: the slot is entered again only after that
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
        std::uint64_t seen = slot_of(at).word.exchange(turn, std::memory_order_acq_rel);
        if (seen == idle) return false;
        r = {at, static_cast<std::uint32_t>(seen >> 2)};
        return true;
    }

    /// With the lock: true, the turn is at home; after unlock nothing may be touched. False: something entered meanwhile, call pass_on again.
    bool go_home(std::uint64_t at) {
        if (tail() != at) return false;
        turn_home_ = true;
        if (block* b = current_.load(std::memory_order_relaxed); b != &own_) {
            own_.first = at;
            current_.store(&own_, std::memory_order_relaxed);  // published by tail_
            free_from(b);
        }
        return true;
    }

private:
    static std::size_t bytes_of(std::size_t slots) { return sizeof(block) + slots * sizeof(slot); }

    /// Of a job in flight, for its owner or the turn's.
    slot& slot_of(std::uint64_t seq) const {
        // acquire: pairs with [release: grow]. Whoever knows of the job has seen its block, or a later one, which is as good.
        block* b = current_.load(std::memory_order_acquire);
        Memory::use(b);
        while (seq < b->first) [[unlikely]] {
            b = b->prev;
            Memory::use(b);
        }
        return b->at(seq);
    }

    /// With the lock: the next job's slot in the current block may be taken.
    [[gnu::cold, gnu::noinline]] bool grow() {
        block* b = current_.load(std::memory_order_relaxed);
        const std::uint64_t seq = tail();
        if (seq - b->first <= b->mask) return true;  // the others stand in older blocks
        if (head() >= b->first) free_from(std::exchange(b->prev, nullptr));
        const std::uint32_t slots = std::min(mask_ + 1, 4 * (b->mask + 1));
        void* p = Memory::get(bytes_of(slots));
        if (!p) return false;
        block* next = new (p) block{seq, b, slots - 1};
        std::uninitialized_value_construct_n(next->slots(), slots);
        extra_.store(extra_.load(std::memory_order_relaxed) + bytes_of(slots), std::memory_order_relaxed);
        // release: the owner of an older job may see it before tail_ moves. Pairs with [acquire: slot_of].
        current_.store(next, std::memory_order_release);
        return true;
    }
    void free_from(block* b) {
        while (b && b != &own_) {
            block* prev = b->prev;
            extra_.store(extra_.load(std::memory_order_relaxed) - bytes_of(b->mask + 1), std::memory_order_relaxed);
            Memory::put(b);
            b = prev;
        }
    }

    const std::uint32_t mask_;                      // [const after init]
    const bool asymmetric_ = sys::has_asymmetric_fence();  // [const after init]
    std::atomic<block*> current_{&own_};            // [guarded for writing: lock_] no step of the model: a look at it comes before one
    std::atomic<std::size_t> extra_{0};             // [guarded for writing: lock_; stats]
    first_block own_;                               // as any block
    alignas(64) Lock lock_;
    bool turn_home_ = true;                         // [guarded: lock_]
    Atomic<std::uint64_t> tail_{0};                 // [guarded for writing: lock_; atomic: publishes slots]
    alignas(64) Atomic<std::uint64_t> claim_{0};    // [atomic: claim() adds by compare-exchange; orders nothing, tail_ does]
    alignas(64) Atomic<std::uint64_t> head_{0};     // [atomic: written by the holder of the turn]
};

}  // namespace cohort::padata::detail
