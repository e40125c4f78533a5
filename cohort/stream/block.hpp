// SPDX-License-Identifier: Apache-2.0
/// Bytes on their way through a stream: a buffer that keeps its memory, and the free lists that buffers and codec contexts come from.
///
///     buffer_pool pool{64 << 20};                 // keeps idle buffers while all buffers together are under 64 MiB
///     buffer b = pool.take(4 << 20);              // capacity at least 4 MiB, size 0
///     b.append(bytes); use(b.view());
///     pool.give(std::move(b));                    // its pages stay mapped for the next block
///
/// Kernel: mempool and the per-CPU page lists serve the same end; a fresh page costs a fault, a used one does not.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/sys/memory.hpp>

namespace cohort::stream {

using byte_view = std::span<const std::uint8_t>;

/// Thrown where a buffer would take its group over its limit; `why` names the group.
struct over_limit : std::bad_alloc {
    explicit over_limit(error e) : why(std::move(e)) {}
    error why;
};

/// Where buffers have their memory, if not from the system. Outlives them. Synchronization: any thread.
class memory_source {
public:
    virtual ~memory_source() = default;
    /// nullptr: there is none.
    virtual std::uint8_t* take(std::size_t bytes) = 0;
    virtual void give(std::uint8_t* memory) = 0;
};

/// Contiguous memory with a size and a capacity; never initialised, so that pages nobody writes are never touched. A resource: move-only.
class buffer {
public:
    buffer() = default;
    /// Charged to the group, if there is one, until it is freed. Throws std::bad_alloc, over_limit.
    explicit buffer(std::size_t capacity, account::group payer = {}, memory_source* from = nullptr)
        : charge_(charge(payer, capacity)), memory_(allocate(capacity, from)), capacity_(capacity) {}
    /// Memory that somebody else took from the source, with content.
    buffer(memory_source& from, std::uint8_t* memory, std::size_t size, std::size_t capacity) : memory_(memory, release{capacity, &from}), size_(size), capacity_(capacity) {}
    buffer(buffer&& b) noexcept
        : charge_(std::move(b.charge_)), memory_(std::move(b.memory_)), size_(std::exchange(b.size_, 0)), capacity_(std::exchange(b.capacity_, 0)) {}
    buffer& operator=(buffer&& b) noexcept {
        memory_ = std::move(b.memory_);
        charge_ = std::move(b.charge_);
        size_ = std::exchange(b.size_, 0);
        capacity_ = std::exchange(b.capacity_, 0);
        return *this;
    }

    std::uint8_t* data() { return memory_.get(); }
    const std::uint8_t* data() const { return memory_.get(); }
    std::size_t size() const { return size_; }
    std::size_t capacity() const { return capacity_; }
    std::size_t room() const { return capacity_ - size_; }
    byte_view view() const { return {memory_.get(), size_}; }
    /// What may still be written, behind the content.
    std::span<std::uint8_t> tail() { return {memory_.get() + size_, room()}; }
    /// n <= capacity(); what lies between the old and the new size has been written by the caller.
    void resize(std::size_t n) { size_ = n; }
    void clear() { size_ = 0; }
    /// n bytes must fit into room().
    void append(byte_view bytes) {
        if (bytes.empty()) return;
        std::memcpy(memory_.get() + size_, bytes.data(), bytes.size());
        size_ += bytes.size();
    }
    /// Grows the capacity, keeping the content. Throws std::bad_alloc, over_limit.
    void reserve(std::size_t capacity) {
        if (capacity <= capacity_) return;
        buffer bigger(capacity, charge_.where(), memory_ ? memory_.get_deleter().from : nullptr);
        bigger.append(view());
        *this = std::move(bigger);
    }

    /// Its memory, which is the caller's from now on; only of one that has it from a source.
    std::uint8_t* let_go() {
        charge_ = {};
        size_ = capacity_ = 0;
        return memory_.release();
    }

private:
    struct release {
        std::size_t bytes;
        memory_source* from;
        void operator()(std::uint8_t* p) const { from ? from->give(p) : sys::unmap_pages(p, bytes); }
    };
    static account::charged charge(account::group payer, std::size_t n) {
        if (!payer) return {};
        auto held = account::charged::take(payer, n);
        if (!held) throw over_limit(std::move(held).error());
        return std::move(*held);
    }
    /// Pages of their own: malloc would keep freed blocks of many sizes, and the process would grow beyond its window.
    static std::unique_ptr<std::uint8_t, release> allocate(std::size_t n, memory_source* from) {
        const std::size_t bytes = n ? n : 1;
        auto* p = from ? from->take(bytes) : static_cast<std::uint8_t*>(sys::map_pages(bytes));
        if (!p) throw std::bad_alloc();
        return {p, release{bytes, from}};
    }

    account::charged charge_;
    std::unique_ptr<std::uint8_t, release> memory_;
    std::size_t size_ = 0, capacity_ = 0;
};

/// Idle buffers. Synchronization: every member may be called by any thread.
class buffer_pool {
public:
    /// limit: of bytes in use and idle together; a buffer in use is never refused, but idle ones go first.
    /// payer: the group that every buffer is charged to, in use or idle. from: where they have their memory; null: from the system.
    explicit buffer_pool(std::size_t limit, account::group payer = {}, memory_source* from = nullptr) : limit_(limit), payer_(payer), from_(from) {}
    /// The smallest idle buffer that is large enough but not four times too large, or a new one. Size 0. Throws std::bad_alloc, over_limit.
    buffer take(std::size_t capacity);
    void give(buffer&& b);
    /// A buffer of so many bytes that was not taken here will be given; or one that was taken will not.
    void comes(std::size_t capacity);
    void goes(std::size_t capacity);

private:
    void drop_idle(std::vector<buffer>& dropped);
    void drop_all_idle();

    const std::size_t limit_;      // [const after init]
    const account::group payer_;   // [const after init]
    memory_source* const from_;    // [const after init]
    std::mutex lock_;
    std::vector<buffer> idle_;     // [guarded: lock_]
    std::size_t held_ = 0;         // [guarded: lock_] capacities of idle buffers and of those taken
};

/// Idle contexts of one kind (compressors, decoders): as many come to exist as jobs run at once, and each keeps its tables.
/// Synchronization: as buffer_pool.
template <class T>
class free_list {
public:
    /// An idle one, or null: then the caller makes a new one and gives that back.
    std::unique_ptr<T> take() {
        std::scoped_lock hold(lock_);
        if (idle_.empty()) return nullptr;
        auto one = std::move(idle_.back());
        idle_.pop_back();
        return one;
    }
    void give(std::unique_ptr<T> one) {
        std::scoped_lock hold(lock_);
        idle_.push_back(std::move(one));
    }

private:
    std::mutex lock_;
    std::vector<std::unique_ptr<T>> idle_;  // [guarded: lock_]; the last given is the first taken: its tables are warm
};

}  // namespace cohort::stream
