// SPDX-License-Identifier: Apache-2.0
/// Memory that has a copy for each CPU: objects of 4 bytes to 32 KiB, zero-filled, at about the price of malloc's fast path.
///
///     percpu::ptr<packet_stats> stats = percpu::make<packet_stats>().value();   // goes back by itself
///     this_cpu::inc(stats->member(&packet_stats::packets));
///     auto raw = percpu::default_allocator().alloc(96, 64);    // result<uintptr_t>: size known at run time
///     percpu::free(*raw);                                      // 0; EINVAL for what is no live object
///
/// Kernel: alloc_percpu, __alloc_percpu_gfp, __alloc_reserved_percpu, free_percpu (mm/percpu.c, v6.12). Differences: README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/sys/address_space.hpp>

namespace cohort::work {
class queue;
}
namespace cohort::percpu::detail {
struct magazine_table;
struct maker;
}

namespace cohort::percpu {

/// The largest object. Kernel: PCPU_MIN_UNIT_SIZE.
inline constexpr std::size_t unit_limit = detail::max_alloc_bytes;

/// How an allocation is made; may be or-ed.
enum class alloc_flags : unsigned {
    none = 0,
    nowarn = 1,         ///< a refusal is not told on stderr (at most 10 are, over a program's life)
    nofail = 2,         ///< a stop token is not looked at
    noretry = 4,        ///< what is there has to do: no new chunk, but the first
    account = 8,        ///< charges size * possible CPUs and the record of it to the current group (account::scope)
    populate_now = 16,  ///< every possible CPU's copy has its page when the call returns; else pages come at the first touch
};
constexpr alloc_flags operator|(alloc_flags a, alloc_flags b) { return static_cast<alloc_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool has(alloc_flags set, alloc_flags f) { return (static_cast<unsigned>(set) & static_cast<unsigned>(f)) != 0; }

/// Why there is no object.
enum class refusal : unsigned char {
    none,
    illegal,          ///< EINVAL: size 0 or over 32 KiB, or alignment not a power of two or over 4,096
    reserved_full,    ///< ENOMEM: "alloc from reserved chunk failed"
    atomic_full,      ///< ENOMEM: "atomic alloc failed, no space left"
    no_chunk,         ///< ENOMEM: "failed to allocate new chunk"
    no_populate,      ///< ENOMEM: "failed to populate"
    over_limit,       ///< ENOMEM: a group is at its limit
    stopped,          ///< EINTR: the stop token was triggered
    busy,             ///< EAGAIN: a signal handler interrupted the allocator itself
};
const char* text_of(refusal r) noexcept;
int errno_of(refusal r) noexcept;

/// A handle's value, or the reason why there is none: what a signal handler can be given.
struct attempt {
    std::uintptr_t value = 0;
    refusal why = refusal::none;
    explicit operator bool() const { return value != 0; }
};

struct allocator_options {
    std::string name = "percpu";         ///< for messages and statistics
    by index = by::cpu;                  ///< which numbers its objects are accessed by; by::cpu binds units to their CPU's node
    std::size_t reserved_bytes = 8 << 10;  ///< of the first chunk, for alloc_reserved(); 0: none. At most 64 KiB
    bool magazines = true;               ///< per-CPU stacks of free objects over the bitmaps
    sys::address_space* memory = nullptr;  ///< where pages come from; null: the system
    std::vector<int> node_of = {};       ///< the node of each CPU, to bind units by; empty: as the system says
};

struct allocator_stats;

/// Synchronization: any thread may call anything. alloc_atomic() and free() may also be called by signal handlers, whatever they interrupted. After fork() the
/// child goes on with its copy.
class allocator {
public:
    /// Errors: EINVAL, reserved_bytes is over its limit; ENOMEM.
    static result<std::unique_ptr<allocator>> create(allocator_options options = {});
    /// Objects that are still there are told on stderr, with size and number, and end with it.
    ~allocator();
    allocator(const allocator&) = delete;
    allocator& operator=(const allocator&) = delete;

    /// size: 1 .. 32768 bytes, rounded up to 4; align: a power of two, 1 .. 4096, raised to 4. The object is zero on every CPU.
    /// Errors: those of refusal. Cost: 5 to 10 ns from a magazine (sizes to 1 KiB, alignment to 64), some 100 ns from the bitmaps, more when a chunk is made.
    result<std::uintptr_t> alloc(std::size_t size, std::size_t align = 8, alloc_flags flags = alloc_flags::none, std::stop_token stop = {});
    /// From populated pages only: no system call, no waiting for one. Also for signal handlers; there it answers `busy` where it interrupted the allocator.
    attempt alloc_atomic(std::size_t size, std::size_t align = 8, alloc_flags flags = alloc_flags::none) noexcept;
    /// From the reserved part of the first chunk only. align: 1 .. 64. Errors: EINVAL; ENOMEM, it is full or there is none.
    result<std::uintptr_t> alloc_reserved(std::size_t size, std::size_t align = 8, alloc_flags flags = alloc_flags::none);

    /// 0, or EINVAL: no live object of this allocator has this handle (freed already, inside an object, foreign); nothing changed then. 0 is freed as nothing.
    /// Cost: as alloc; clears the copies on the CPUs that are present.
    int free(std::uintptr_t value) noexcept;
    /// Its size as allocated (rounded); 0 when it is no live object.
    std::size_t size_of(std::uintptr_t value) const noexcept;

    /// The balance work: empties magazines that were idle, gives back pages, destroys chunks, refills the reserve of populated pages. Done by threads that
    /// free and allocate when it is due, or by a queue's workers where one is attached.
    void balance();
    /// As balance(), and keeps nothing: magazines and all free pages are given back.
    void trim();
    /// From now on balance work runs there, a while after it became due. Null: as before. The queue must outlive the allocator or be detached.
    void attach(work::queue* q);

    allocator_stats stats() const;
    const std::string& name() const;
    percpu::by index() const;
    std::size_t reserved_bytes() const;

    class core;
    core& internals() { return *core_; }

private:
    friend allocator& default_allocator(percpu::by);
    explicit allocator(std::unique_ptr<core> c);
    attempt alloc_slow(std::size_t size, std::size_t align, alloc_flags flags, const std::stop_token* stop) noexcept;
    attempt alloc_atomic_slow(std::size_t size, std::size_t align, alloc_flags flags) noexcept;
    error error_of(std::size_t size, std::size_t align, refusal why) const;

    std::unique_ptr<core> core_;                   // [const after init]
    const detail::magazine_table* magazines_;      // [const after init] the core's
};

/// The program's own, made at the first use; for by::cpu and for by::cid. They live as long as the program.
allocator& default_allocator(by index = by::cpu);

/// As allocator::free, whoever's it is.
int free(std::uintptr_t value) noexcept;

/// Owns an object. Move-only. T is all zeroes at first on every CPU, and nothing is run for it at the end.
template <class T, by Index = by::cpu>
class ptr {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>, "copies are made of zero bytes and dropped without a destructor");

public:
    ptr() = default;
    /// Takes over an object of the default allocator, as release() gave it away; another allocator's ends the program.
    explicit ptr(handle<T, Index> owned);
    ptr(ptr&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    ptr& operator=(ptr&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    [[gnu::always_inline]] ~ptr() {
        if (handle_) drop(handle_);
    }

    handle<T, Index> get() const { return handle_; }
    const handle<T, Index>* operator->() const { return &handle_; }
    explicit operator bool() const { return static_cast<bool>(handle_); }
    handle<T, Index> release() { return std::exchange(handle_, {}); }
    void reset() {
        if (handle_) drop(std::exchange(handle_, {}));
    }

private:
    friend struct detail::maker;
    enum class ours { made };
    ptr(ours, std::uintptr_t value) : handle_(value) {}
    static void drop(handle<T, Index> h) noexcept;

    handle<T, Index> handle_;
};

/// An object of the default allocator. Errors: those of allocator::alloc.
template <class T, by Index = by::cpu>
result<ptr<T, Index>> make(alloc_flags flags = alloc_flags::none);
/// The same without the words: empty where make() would answer an error. Half a nanosecond less, since the pointer stays in a register.
template <class T, by Index = by::cpu>
ptr<T, Index> try_make(alloc_flags flags = alloc_flags::none) noexcept;
/// n of them side by side, as one object: element i is get() + i. n: 1 or more, at most 32 KiB together.
template <class T, by Index = by::cpu>
result<ptr<T, Index>> make_array(std::size_t n, alloc_flags flags = alloc_flags::none);

}  // namespace cohort::percpu

#include <cohort/percpu/detail/allocator_inline.hpp>
