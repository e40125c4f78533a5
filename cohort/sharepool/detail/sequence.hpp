// SPDX-License-Identifier: Apache-2.0
/// The two restartable sequences of the pool, on the magazines of the CPU that the thread is on. The protocol is the README's, steps 1 and 2: pop writes the taker's tag and
/// then commits with the count; push writes the item and then commits with the count.
///
/// Both answer false, with nothing changed but perhaps the tag of a block that stays linked, when the CPU has no magazines yet, the thread is not registered, the magazine is empty
/// (full), or what it holds is no item or count of ours: the slow way looks which.
/// Memory order: whoever sees a count sees the tags and items before it; whoever sees an item sees the tag of the one that was popped from its place before. x86-64 needs nothing
/// for it, aarch64 stores with release. Partner: mark() in recovery.cpp, which loads both with acquire.
/// The frame: sys/rseq_section.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cohort/sharepool/detail/layout.hpp>
#include <cohort/sys/rseq_section.hpp>

namespace cohort::sharepool::detail::sequence {

#if COHORT_HAS_SEQUENCES

#if defined(__x86_64__)
#define COHORT_POOL_MAGAZINE \
    "movl %c[cpus](%[meta],%%rax,4), %%eax\n\ttestl %%eax, %%eax\n\tjz %l[absent]\n\taddq %[meta], %%rax\n\taddq %[place], %%rax\n\tmovl (%%rax), %%ecx\n\t"
#define COHORT_POOL_RUN(body, outputs, ...)                                                                                                  \
    asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU COHORT_POOL_MAGAZINE body COHORT_RSEQ_END                                         \
                      : outputs                                                                                                              \
                      : [area] "r"(COHORT_RSEQ_AREA), [meta] "r"(meta), [place] "r"(place), [cpus] "i"(cpu_table_at), __VA_ARGS__            \
                      : "rax", "rcx", "memory", "cc"                                                                                         \
                      : absent)
#define COHORT_POOL_POP                                                                                                                      \
    "leal -1(%%rcx), %[taken]\n\tcmpl %[most], %[taken]\n\tjae %l[absent]\n\tmovl (%%rax,%%rcx,4), %[taken]\n\tcmpl %[end], %[taken]\n\t"    \
    "jae %l[absent]\n\tmovl %[mine], (%[tags],%q[taken],4)\n\tdecl (%%rax)"
#define COHORT_POOL_DROP_COUNT "cmpl %[most], %%ecx\n\tjbe %l[absent]\n\tmovl $0, (%%rax)"
#define COHORT_POOL_DROP_ITEM \
    "testl %%ecx, %%ecx\n\tjz %l[absent]\n\tcmpl %[most], %%ecx\n\tja %l[absent]\n\tcmpl %[end], (%%rax,%%rcx,4)\n\tjb %l[absent]\n\tdecl (%%rax)"
#define COHORT_POOL_PUSH "cmpl %[most], %%ecx\n\tjae %l[absent]\n\tmovl %[given], 4(%%rax,%%rcx,4)\n\tincl (%%rax)"
#elif defined(__aarch64__)
// x9: the magazine; w10: its count.
#define COHORT_POOL_MAGAZINE \
    "add x10, %[meta], %[cpus]\n\tldr w9, [x10, x9, lsl #2]\n\tcbnz w9, 5f\n\tb %l[absent]\n5:\n\tadd x9, x9, %[meta]\n\tadd x9, x9, %[place]\n\tldr w10, [x9]\n\t"
#define COHORT_POOL_RUN(body, outputs, ...)                                                                                                  \
    asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU COHORT_POOL_MAGAZINE body COHORT_RSEQ_END                                         \
                      : outputs                                                                                                              \
                      : [area] "r"(COHORT_RSEQ_AREA), [meta] "r"(meta), [place] "r"(place), [cpus] "r"(cpu_table_at), __VA_ARGS__            \
                      : "x9", "x10", "x11", "memory", "cc"                                                                                   \
                      : absent)
#define COHORT_POOL_POP                                                                                                                      \
    "sub w11, w10, #1\n\tcmp w11, %w[most]\n\tblo 5f\n\tb %l[absent]\n5:\n\tldr %w[taken], [x9, x10, lsl #2]\n\tcmp %w[taken], %w[end]\n\t"  \
    "blo 5f\n\tb %l[absent]\n5:\n\tstr %w[mine], [%[tags], %[taken], lsl #2]\n\tstlr w11, [x9]"
#define COHORT_POOL_DROP_COUNT "cmp w10, %w[most]\n\tbhi 5f\n\tb %l[absent]\n5:\n\tstlr wzr, [x9]"
#define COHORT_POOL_DROP_ITEM                                                                                                                \
    "sub w11, w10, #1\n\tcmp w11, %w[most]\n\tblo 5f\n\tb %l[absent]\n5:\n\tldr w10, [x9, x10, lsl #2]\n\tcmp w10, %w[end]\n\tbhs 5f\n\tb %l[absent]\n5:\n\t" \
    "stlr w11, [x9]"
#define COHORT_POOL_PUSH                                                                                                                     \
    "cmp w10, %w[most]\n\tblo 5f\n\tb %l[absent]\n5:\n\tadd w10, w10, #1\n\tadd x11, x9, x10, lsl #2\n\tstlr %w[given], [x11]\n\tstlr w10, [x9]"
#endif

/// A thread that is not registered has CPU -1 or -2, whose entries of the table are 0.
/// place: of the class's magazine behind the start of a CPU's; end: items from there on are none of this group.
[[gnu::always_inline]] inline bool pop(std::byte* meta, std::byte* tags, std::uint64_t place, item end, tag mine, std::uint64_t& block) noexcept {
    std::uint32_t found;
    COHORT_POOL_RUN(COHORT_POOL_POP, [taken] "=&r"(found), [tags] "r"(tags), [end] "r"(end), [mine] "r"(mine), [most] "i"(most_items));
    asm volatile("");
    block = found;
    return true;
absent:
    COHORT_RSEQ_LEFT_EARLY;
    return false;
}

[[gnu::always_inline]] inline bool push(std::byte* meta, std::uint64_t place, std::uint32_t capacity, item block) noexcept {
    COHORT_POOL_RUN(COHORT_POOL_PUSH, , [given] "r"(block), [most] "r"(capacity));
    COHORT_RSEQ_ANSWER;
}

/// A count that is none becomes 0. False: it is one.
inline bool drop_count(std::byte* meta, std::uint64_t place) noexcept {
    COHORT_POOL_RUN(COHORT_POOL_DROP_COUNT, , [most] "i"(most_items));
    COHORT_RSEQ_ANSWER;
}
/// The last item is dropped if it is none. False: it is one, or there is none.
inline bool drop_item(std::byte* meta, std::uint64_t place, item end) noexcept {
    COHORT_POOL_RUN(COHORT_POOL_DROP_ITEM, , [end] "r"(end), [most] "i"(most_items));
    COHORT_RSEQ_ANSWER;
}

#else
template <class... Any>
inline bool pop(Any&&...) noexcept { return false; }
template <class... Any>
inline bool push(Any&&...) noexcept { return false; }
template <class... Any>
inline bool drop_count(Any&&...) noexcept { return false; }
template <class... Any>
inline bool drop_item(Any&&...) noexcept { return false; }
#endif

}  // namespace cohort::sharepool::detail::sequence
