// SPDX-License-Identifier: Apache-2.0
/// Per-CPU stacks of free objects: what makes allocation and free as cheap as an operation on this CPU.
///
///     table[cpu] ─> block of the CPU: [ stack of class 0 | stack of class 1 | ... ]     stack: {word: count, ever taken; items}
///
/// Each object has a tag, one byte beside the chunk's maps: what starts there. One load tells a free the class, and that the object is live. A tag is written by
/// who owns the object: its user while it is live, then whoever takes it from a magazine. So a second free is found, whenever it comes; only two threads that
/// free one object at the very same time may both pass.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <cohort/percpu/detail/classes.hpp>
#include <cohort/percpu/detail/layout.hpp>
#include <cohort/percpu/detail/rseq.hpp>
#include <cohort/sys/usdt.hpp>

#if defined(__SANITIZE_THREAD__)
#define COHORT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COHORT_TSAN 1
#endif
#endif
#if defined(COHORT_TSAN)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace cohort::percpu::detail {

/// One of an allocator's; entry c is CPU c's block, 0 while it has none or somebody empties it.
struct alignas(alias_bytes) magazine_table {
    std::atomic<std::uintptr_t> unused[table_colour / sizeof(std::uintptr_t) - 4] = {};
    std::atomic<std::uintptr_t> unregistered[4] = {};   // CPUs -4 .. -1: threads without rseq
    std::atomic<std::uintptr_t> block[max_cpus] = {};   // [atomic: release after the block is ready; sequences read it plainly]
};
/// Those of the default allocators, by index: here, so that the fast path knows their address.
extern constinit magazine_table default_magazines[2];

/// What starts at a place of the unit: a state, and in the low bits the class.
enum tag : std::uint8_t {
    tag_none = 0,
    tag_live = 0x80,
    tag_cached = 0x40,    ///< in a magazine
    tag_deferred = 0x20,  ///< freed while its shard was locked by the freeing thread itself; who holds the lock finishes it
    tag_direct = 0x1f,    ///< in place of a class: from the maps at once
};
constexpr std::uint8_t tagged(tag state, int cls) { return static_cast<std::uint8_t>(state | cls); }

/// The chunk's own data, not at its very start: the first objects that a chunk gives out lie there in their pages, see stack_places.
inline constexpr std::size_t chunk_at = 0x7c0;
inline constexpr std::size_t tags_at = 64 << 10;
inline constexpr std::size_t metadata_bytes = tags_at + unit_bits;

/// What a chunk's own data begin with.
struct chunk_prefix {
    magazine_table* const magazines;  // [const after init]
    const layout kind_of;             // [const after init]
    const by index;                   // [const after init] of its allocator
};
inline chunk_prefix& prefix_of(std::uintptr_t value) { return *reinterpret_cast<chunk_prefix*>(chunk_start(value) + chunk_at); }

/// The tag of the object with this handle, whose chunk exists.
inline std::atomic<std::uint8_t>& tag_of(std::uintptr_t value) {
    return *reinterpret_cast<std::atomic<std::uint8_t>*>(chunk_start(value) + tags_at + offset_in_unit(value) / min_alloc_bytes);
}

/// The rest of a free, of an object that is tagged as cached and cleared, when its magazine could not take it.
[[gnu::cold]] void free_to_maps(std::uintptr_t value, int cls) noexcept;

/// ThreadSanitizer does not see that an object passes from one thread to the next inside a sequence.
inline void annotate_given([[maybe_unused]] std::uintptr_t value) {
#if defined(COHORT_TSAN)
    __tsan_release(&tag_of(value));
#endif
}
inline void annotate_taken([[maybe_unused]] std::uintptr_t value) {
#if defined(COHORT_TSAN)
    __tsan_acquire(&tag_of(value));
#endif
}

/// The same for the nodes of lists.
inline void annotate_node_given([[maybe_unused]] void* node) {
#if defined(COHORT_TSAN)
    __tsan_release(node);
#endif
}
inline void annotate_node_taken([[maybe_unused]] void* node) {
#if defined(COHORT_TSAN)
    __tsan_acquire(node);
#endif
}

/// An object of this class, live from now on, or 0.
[[gnu::always_inline]] inline std::uintptr_t take(const magazine_table& t, int cls) noexcept {
    std::uint64_t value;
    if (!sequence::stack_pop(t.block, stack_places[static_cast<std::size_t>(cls)], value)) return 0;
    if (value == 0) __builtin_unreachable();  // no test of what is never 0
    annotate_taken(value);
    tag_of(value).store(tagged(tag_live, cls), std::memory_order_relaxed);
    return value;
}

/// Takes an object that is cleared and tagged as cached; false: the stack is full, or there is none.
[[gnu::always_inline]] inline bool give(const magazine_table& t, int cls, std::uintptr_t value) noexcept {
    annotate_given(value);
    return sequence::stack_push(t.block, stack_places[static_cast<std::size_t>(cls)], class_capacities[static_cast<std::size_t>(cls)], value);
}

/// Makes bytes zero, by writing only if they are not: a copy that nobody used stays shared among caches, and its page unpopulated. bytes: a multiple of 4.
template <std::size_t Align>
[[gnu::always_inline]] inline void clear_if_dirty(std::byte* at, std::size_t bytes) noexcept {
    std::size_t i = 0;
    bool dirty = false;
#if defined(__SSE2__)
    if (bytes >= 16) {
        __m128i any = _mm_setzero_si128();
        for (; i + 16 <= bytes; i += 16) {
            const auto* words = reinterpret_cast<const __m128i*>(at + i);
            any = _mm_or_si128(any, Align >= 16 ? _mm_load_si128(words) : _mm_loadu_si128(words));
        }
        dirty = _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff;
    }
#endif
    std::uint64_t rest = 0;
    for (; i + 8 <= bytes; i += 8) {
        std::uint64_t w;
        std::memcpy(&w, at + i, 8);
        rest |= w;
    }
    if (i < bytes) {
        std::uint32_t w;
        std::memcpy(&w, at + i, 4);
        rest |= w;
    }
    if (dirty || rest != 0) std::memset(at, 0, bytes);
}

/// Clears the object's copies on all CPUs that are present; the others are zero. This CPU's own was likely written a moment ago: a wide load after narrow stores
/// would wait for them, so it is overwritten without a look. Align: of the object, a compile-time promise.
template <std::size_t Align = min_alloc_bytes>
[[gnu::always_inline]] inline void clear_copies(by index, layout l, std::uintptr_t value, std::size_t bytes) noexcept {
    const std::uintptr_t own = value + (index == by::cpu && COHORT_HAS_SEQUENCES ? offset_of_this_cpu(l) : 0);
    for (std::uint32_t i = 0, n = present_count(index); i < n; ++i) {
        const std::uintptr_t at = value + present_offset(index, l, i);
        if (at == own) std::memset(reinterpret_cast<std::byte*>(at), 0, bytes);
        else clear_if_dirty<Align>(reinterpret_cast<std::byte*>(at), bytes);
    }
}

/// One load and a comparison tell that a handle lies in a chunk that exists, as a rule: written when chunks are made and destroyed, under their allocator's growth
/// lock. A chunk that another has driven out of its place is found by space::find().
inline constexpr std::size_t chunk_places = 1024;
extern constinit std::atomic<std::uintptr_t> known_chunks[chunk_places];
inline std::atomic<std::uintptr_t>& place_of_chunk(std::uintptr_t start) { return known_chunks[start / chunk_alignment % chunk_places]; }

/// The class of a size and alignment that are known at run time only; classes: none, or they are illegal.
[[gnu::always_inline]] inline int class_at_run_time(std::size_t size, std::size_t align) noexcept {
    if (size - 1 >= static_cast<std::size_t>(largest_class_bytes) || !std::has_single_bit(align) || align > 64) return classes;
    return class_tables[static_cast<std::size_t>(std::countr_zero(align))][(size + 3) / 4];
}

/// The usual free of an object of a class: the tag says that it is live.
template <int Class, by Index, layout Layout>
[[gnu::always_inline]] inline void free_of_class(std::uintptr_t value, std::atomic<std::uint8_t>& tag, magazine_table& magazines) noexcept {
    COHORT_USDT(percpu_free_percpu, value);
    tag.store(tagged(tag_cached, Class), std::memory_order_relaxed);
    clear_copies<class_align(Class)>(Index, Layout, value, class_bytes[Class]);
    if (!give(magazines, Class, value)) [[unlikely]] free_to_maps(value, Class);
}

}  // namespace cohort::percpu::detail
