// SPDX-License-Identifier: Apache-2.0
/// A bounded queue of raw pointers between two processes, in the pool's memory. Records change hands by it: each belongs to who pushed it, then to the queue, then to who popped it, whoever is killed when.
///
///     channel* c = channel::create(m, 1024).value();          // in one member; its address means the same in every other
///     auto w = channel_writer::open(m, c);                    // in the process that writes
///     w->push(record);                                        // an object of the pool; from now on the queue's
///     w->close();                                             // the end of the stream
///     ...
///     auto r = channel_reader::open(other, c);                // in the process that reads
///     while (auto next = r->pop()) other.free(*next);         // ENODATA: the end; EOWNERDEAD: the writer has died, and all it had pushed has been popped
///
/// One process at a time has an end, and one thread at a time uses it. When a process dies another may open its end and go on where it was. Several writers have a channel each.
///
/// What holds, whoever is killed at whichever instruction: a record whose push() came to its end is popped exactly once. One whose push() did not is freed with what else its process owned, or is popped once. A
/// record whose pop() did not come to its end is popped by the next reader. What pop() gave belongs to that process and is freed when it dies; how many of those it had not called done() for, inherited() tells the next.
/// Kernel: none; what a pipe is for bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/detail/ownership.hpp>
#include <cohort/sharepool/member.hpp>

namespace cohort::sharepool {

/// Synchronization: an end belongs to who has taken it by compare-and-swap; all else of the end is written by its holder only. `me` is its tag. Each step is one store, and the process may be killed between any two.
///
///     cells      [p][p][p][ ][ ][ ]
///                 │ read      │ written                (both only grow; place = position modulo `places`)
///
/// push(p), w = written:  1. writer.record := p; writer.at := w   2. cell[w] := p   3. p: me -> me, kept   4. **written := w + 1**
/// pop, r = read < written, p = cell[r]:  1. reader.at := r; reader.record := p   2. p: whoever's, kept -> me, kept (by exchange)   3. **read := r + 1**   4. p: me, kept -> me   5. reader.record := null
///
/// A record in the queue is kept by its word in the pool's metadata (tag or state), so that no recovery of a dead member frees it. Who opens an end whose holder d has died looks at d's `record` and `at` first:
///     writer, written = at:  push did not come to its end. Is the record d's and kept, it is freed: nobody else knows of it. Else it goes with all that d owned.
///     reader, read = at:     pop did not come to its end. The record is in the queue, and kept.
///     reader, read = at + 1: the record is d's. Is it kept still, it is freed.
/// "d's and kept" is said of a word that nobody but d makes so. A recovery of d by somebody else makes it "nobody's and kept": open the end before you recover, else the one record of that moment may stay until the
/// group ends; it is never freed twice.
///
/// Waiting: a flag that is the futex. Who waits sets it, looks again, and sleeps; who has pushed (popped) looks at the flag, without a fence between: a store that a CPU has not passed on when the sleeper looks is
/// passed on long before its first nap of a millisecond is over, after which it looks again. Later naps end every 100 ms, to see whether the other end's holder lives.
class channel {
public:
    /// places: 2 to 2^20, rounded up to a power of two. Errors: EINVAL; ENOMEM.
    static result<channel*> create(member& m, std::uint32_t places);
    /// Frees what is in it, and itself. The number of records freed. Errors: EBUSY, a living process has an end of it; EBADMSG, there is no channel.
    static result<std::uint64_t> destroy(member& m, channel* c);

    struct figures {
        std::uint64_t pushed = 0, popped = 0, done = 0;
        std::uint64_t writer_waits = 0, reader_waits = 0;  ///< times that an end slept
    };
    figures count() const noexcept;

private:
    friend class channel_end;
    friend class channel_writer;
    friend class channel_reader;
    static constexpr std::uint64_t magic = 0x6c656e6e61686320;
    enum class holding : std::uint32_t { nobody, held, closed };
    struct alignas(64) end {
        std::atomic<void*> record{nullptr};       // [atomic: its holder; read by the next]
        std::atomic<std::uint64_t> at{0};         // [the same]
        std::atomic<std::uint32_t> by{0};         // [the same] whose record and at are
        std::atomic<std::uint64_t> done{0};       // [atomic: the reader] records that were said to be done with
        std::atomic<std::uint64_t> waits{0};      // [stats: its holder]
    };

    explicit channel(std::uint32_t n) : places(n) {}
    std::atomic<void*>* cells() noexcept { return reinterpret_cast<std::atomic<void*>*>(this + 1); }

    std::atomic<std::uint64_t> magic_word{magic};             // 0: destroyed
    const std::uint32_t places;
    alignas(64) std::atomic<std::uint64_t> written{0};        // [atomic: the writer; release: the cell and the record. Pairs with the reader's acquire]
    end writer;
    alignas(64) std::atomic<std::uint64_t> read{0};           // [atomic: the reader; release: the cell may be used again. Pairs with the writer's acquire]
    end reader;
    alignas(64) std::atomic<std::uint64_t> writer_is{0};      // [atomic: compare-and-swap] holding << 32 | tag
    std::atomic<std::uint64_t> reader_is{0};                  // [the same]
    std::atomic<std::uint32_t> writer_sleeps{0}, reader_sleeps{0};  // [atomic: set by who sleeps, cleared by who wakes it; the futexes]
};

/// What both ends have.
class channel_end {
public:
    channel_end(channel_end&& o) noexcept : c_(std::exchange(o.c_, nullptr)), h_(o.h_), mask_(o.mask_), mine_(o.mine_), other_(o.other_) {}
    channel_end& operator=(channel_end&&) = delete;
    channel* where() const { return c_; }

protected:
    friend class channel;
    channel_end(member& m, channel* c) : c_(c), h_(&m.internals()), mask_(c->places - 1) {}
    static result<channel*> examine(member& m, void* at);
    static bool gone(detail::heap& h, detail::tag t) noexcept;
    /// The end becomes ours. Errors: EBUSY, a living process has it; EPIPE, it was closed.
    result<void> take(std::atomic<std::uint64_t>& holder, const char* name);
    enum class peer { there, closed, dead };
    peer look_at(const std::atomic<std::uint64_t>& holder) const noexcept;
    /// Sleeps until woken, or a while. nap: the first time.
    void sleep(std::atomic<std::uint32_t>& flag, bool nap, std::int64_t most_ns) noexcept;
    static void wake(std::atomic<std::uint32_t>& flag) noexcept;

    channel* c_;                 // [const after open] null: moved from
    detail::heap* h_;            // [const]
    std::uint64_t mask_;         // [const]
    std::uint64_t mine_ = 0;     // [the holder] written, or read
    std::uint64_t other_ = 0;    // [the holder] the other end's, as last seen
};

/// Synchronization: one thread at a time.
class channel_writer : public channel_end {
public:
    /// Errors: EBADMSG, there is no channel; EBUSY, a living process writes; EPIPE, its last writer closed it.
    static result<channel_writer> open(member& m, channel* c);
    channel_writer(channel_writer&&) noexcept = default;
    /// Closes it.
    ~channel_writer() { close(); }

    /// Gives the record away if there is room now; it must be an object of the group that the caller's process owns. False: no room. A record that is none of ours is a bug: it ends the program.
    bool try_push(void* record) noexcept {
        const std::uint64_t w = mine_;
        if (w - other_ > mask_) [[unlikely]] {
            other_ = c_->read.load(std::memory_order_acquire);  // pairs with the reader's release
            if (w - other_ > mask_) return false;
        }
        channel& c = *c_;
        // In this order: the place of this push never stands beside the record of the one before.
        c.writer.record.store(record, std::memory_order_relaxed);
        c.writer.at.store(w, std::memory_order_release);
        c.cells()[w & mask_].store(record, std::memory_order_relaxed);
        detail::owner_word owner(*h_, record);
        if (const int e = owner.keep(); e != 0) [[unlikely]] not_ours(record, e);
        c.written.store(mine_ = w + 1, std::memory_order_release);  // pairs with the reader's acquire
        if (c.reader_sleeps.load(std::memory_order_relaxed) != 0) [[unlikely]] wake(c.reader_sleeps);
        return true;
    }
    /// The same, and waits for room. Errors: EPIPE, the reader has closed; EOWNERDEAD, it has died (another may take its place: push again then); ETIMEDOUT. After an error the record is the caller's still.
    result<void> push(void* record, std::int64_t timeout_ns = -1);
    /// The end of the stream. What was pushed will be popped.
    void close() noexcept;
    std::uint64_t pushed() const { return mine_; }

private:
    using channel_end::channel_end;
    [[noreturn, gnu::cold]] void not_ours(void* record, int code) const noexcept;
};

/// Synchronization: one thread at a time.
class channel_reader : public channel_end {
public:
    /// Errors: EBADMSG, there is no channel; EBUSY, a living process reads; EPIPE, its last reader closed it.
    static result<channel_reader> open(member& m, channel* c);
    channel_reader(channel_reader&&) noexcept = default;
    /// Closes it: what is in the queue stays there until destroy().
    ~channel_reader() { close(); }

    /// The next record, now the caller's; nullptr: none is there now.
    void* try_pop() noexcept {
        const std::uint64_t r = mine_;
        if (r == other_) {
            other_ = c_->written.load(std::memory_order_acquire);  // pairs with the writer's release
            if (r == other_) return nullptr;
        }
        channel& c = *c_;
        if (r + 4 < other_) __builtin_prefetch(c.cells()[(r + 4) & mask_].load(std::memory_order_relaxed));
        void* record = c.cells()[r & mask_].load(std::memory_order_relaxed);
        c.reader.at.store(r, std::memory_order_relaxed);
        c.reader.record.store(record, std::memory_order_release);
        detail::owner_word owner(*h_, record);
        if (const int e = owner.take(); e != 0) [[unlikely]] not_kept(record, e);
        c.read.store(mine_ = r + 1, std::memory_order_release);  // pairs with the writer's acquire
        owner.hold();
        c.reader.record.store(nullptr, std::memory_order_release);
        if (c.writer_sleeps.load(std::memory_order_relaxed) != 0) [[unlikely]] wake(c.writer_sleeps);
        return record;
    }
    /// The same, and waits for one. gather: so many are waited for, up to some microseconds, if there are fewer: two processes that follow each other record by record spend their time with moving cache lines.
    /// Errors: ENODATA, the writer has closed and there is nothing left; EOWNERDEAD, it has died, the same (another may take its place: pop again then); ETIMEDOUT.
    result<void*> pop(std::int64_t timeout_ns = -1, std::uint32_t gather = 1);
    /// For inherited(): all that was popped so far is done with, but for the last `left`.
    void done(std::uint64_t left = 0) noexcept { c_->reader.done.store(mine_ - left, std::memory_order_release); }
    /// Numbers of the records (from 0) that the reader before us, which died, had popped and not called done() for: [first, second).
    std::pair<std::uint64_t, std::uint64_t> inherited() const { return inherited_; }
    /// Nobody will pop any more: the writer is told by EPIPE.
    void close() noexcept;
    std::uint64_t popped() const { return mine_; }

private:
    using channel_end::channel_end;
    bool look(std::uint32_t gather) noexcept;
    [[noreturn, gnu::cold]] void not_kept(void* record, int code) const noexcept;
    std::pair<std::uint64_t, std::uint64_t> inherited_{0, 0};
};

}  // namespace cohort::sharepool
