// SPDX-License-Identifier: Apache-2.0
/// The sequences of rseq.hpp for x86-64.
/// The frame of each, and how to read one: sys/rseq_section.hpp. %rax holds this CPU's offset from the second instruction on.
#pragma once
#if defined(__x86_64__)

#include <cstdint>
#include <type_traits>

#include <cohort/percpu/detail/presence.hpp>
#include <cohort/sys/rseq_section.hpp>

#define COHORT_RSEQ_BY_CID "movslq %%fs:(%[id]), %%rax\n\t"
#define COHORT_RSEQ_OFFSET_OR_ABSENT "movl (%[table],%%rax,4), %%eax\n\ttestl %%eax, %%eax\n\tjz %l[absent]\n\t"
#define COHORT_RSEQ_INPUTS(index) \
    [area] "r"(COHORT_RSEQ_AREA), [table] "r"(table_for(index, Layout)), [at] "r"(at)
#define COHORT_RSEQ_CID_INPUT [id] "r"(sys::rseq_offset() + cid_at.load(std::memory_order_relaxed))

// body is run with the copy's word at "(%[at],%%rax)". GCC: an asm goto with outputs is to be volatile and followed by an empty one (gcc bug 113921).
#define COHORT_RSEQ_RUN(body, outputs, ...)                                                                                      \
    if constexpr (Index == by::cpu) {                                                                                            \
        asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU COHORT_RSEQ_OFFSET_OR_ABSENT body COHORT_RSEQ_END                 \
                          : outputs                                                                                              \
                          : COHORT_RSEQ_INPUTS(by::cpu) __VA_OPT__(, ) __VA_ARGS__                                               \
                          : "rax", "rcx", "memory", "cc"                                                                         \
                          : absent);                                                                                             \
    } else {                                                                                                                     \
        asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CID COHORT_RSEQ_OFFSET_OR_ABSENT body COHORT_RSEQ_END                 \
                          : outputs                                                                                              \
                          : COHORT_RSEQ_INPUTS(by::cid), COHORT_RSEQ_CID_INPUT __VA_OPT__(, ) __VA_ARGS__                        \
                          : "rax", "rcx", "memory", "cc"                                                                         \
                          : absent);                                                                                             \
    }

// The same for the four sizes: suffix of the instruction, and the modifier that names a register of that size.
#define COHORT_RSEQ_BY_SIZE(Word, run)       \
    if constexpr (sizeof(Word) == 8) {       \
        run("q", "q");                       \
    } else if constexpr (sizeof(Word) == 4) { \
        run("l", "k");                       \
    } else if constexpr (sizeof(Word) == 2) { \
        run("w", "w");                       \
    } else {                                 \
        run("b", "b");                       \
    }

namespace cohort::percpu::detail::sequence {

#define COHORT_COPY "(%[at],%%rax)"
#define COHORT_NO_OUTPUTS

#define COHORT_DEFINE_UPDATE(name, instruction)                                                                  \
    template <by Index, layout Layout, class Word>                                                               \
    [[gnu::always_inline]] inline bool name(std::uintptr_t at, Word value) noexcept {                            \
        COHORT_RSEQ_BY_SIZE(Word, instruction)                                                                   \
        COHORT_RSEQ_ANSWER;                                                                   \
    }

#define COHORT_ONE_INSTRUCTION(mnemonic, s, m, kind) COHORT_RSEQ_RUN(mnemonic s " %" m "[value], " COHORT_COPY, COHORT_NO_OUTPUTS, [value] kind(value))
// "er": a register, or a constant that fits 32 bits with its sign; bytes need a register that has a byte form, which is all of them.
#define COHORT_ADD(s, m) COHORT_ONE_INSTRUCTION("add", s, m, "er")
#define COHORT_AND(s, m) COHORT_ONE_INSTRUCTION("and", s, m, "er")
#define COHORT_OR(s, m) COHORT_ONE_INSTRUCTION("or", s, m, "er")
#define COHORT_MOV(s, m) COHORT_ONE_INSTRUCTION("mov", s, m, "er")
COHORT_DEFINE_UPDATE(add, COHORT_ADD)
COHORT_DEFINE_UPDATE(bit_and, COHORT_AND)
COHORT_DEFINE_UPDATE(bit_or, COHORT_OR)
COHORT_DEFINE_UPDATE(write, COHORT_MOV)

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool read(std::uintptr_t at, Word& value) noexcept {
#define COHORT_READ(s, m) COHORT_RSEQ_RUN("mov" s " " COHORT_COPY ", %" m "[value]", [value] "=&r"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_READ)
    COHORT_RSEQ_ANSWER;
}

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool add_return(std::uintptr_t at, Word value, Word& sum) noexcept {
#define COHORT_ADD_RETURN(s, m)                                                                                                            \
    COHORT_RSEQ_RUN("mov" s " " COHORT_COPY ", %" m "[sum]\n\tadd" s " %" m "[value], %" m "[sum]\n\tmov" s " %" m "[sum], " COHORT_COPY, \
                    [sum] "=&r"(sum), [value] "er"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_ADD_RETURN)
    COHORT_RSEQ_ANSWER;
}

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool exchange(std::uintptr_t at, Word value, Word& old) noexcept {
#define COHORT_EXCHANGE(s, m) \
    COHORT_RSEQ_RUN("mov" s " " COHORT_COPY ", %" m "[old]\n\tmov" s " %" m "[value], " COHORT_COPY, [old] "=&r"(old), [value] "r"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_EXCHANGE)
    COHORT_RSEQ_ANSWER;
}

/// old == expected afterwards: exchanged.
template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool compare_exchange(std::uintptr_t at, Word expected, Word desired, Word& old) noexcept {
#define COHORT_COMPARE_EXCHANGE(s, m)                                                                                                          \
    COHORT_RSEQ_RUN("mov" s " " COHORT_COPY ", %" m "[old]\n\tcmp" s " %" m "[expected], %" m "[old]\n\tjne 2f\n\tmov" s " %" m "[desired], " \
                    COHORT_COPY, [old] "=&r"(old), [expected] "r"(expected), [desired] "r"(desired))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_COMPARE_EXCHANGE)
    COHORT_RSEQ_ANSWER;
}

/// Adds if the 32-bit word at flag_distance bytes from `at`, in the same copy, is not 0. False: it is 0, or the CPU is absent.
template <by Index, layout Layout, int FlagDistance, class Word>
[[gnu::always_inline]] inline bool add_if_set(std::uintptr_t at, Word value) noexcept {
#define COHORT_ADD_IF_SET(s, m) \
    COHORT_RSEQ_RUN("cmpl $0, %c[flag]" COHORT_COPY "\n\tje %l[absent]\n\tadd" s " %" m "[value], " COHORT_COPY, COHORT_NO_OUTPUTS, \
                    [value] "er"(value), [flag] "i"(FlagDistance))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_ADD_IF_SET)
    COHORT_RSEQ_ANSWER;
}

/// Adds if -below < new value < below, below being low + 1 and range twice low. False: it would not be, or the CPU is absent.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool add_within(std::uintptr_t at, std::uint64_t value, std::uint64_t low, std::uint64_t range) noexcept {
    std::uint64_t shifted;
    COHORT_RSEQ_RUN("movq " COHORT_COPY ", %%rcx\n\taddq %[value], %%rcx\n\tleaq (%%rcx,%[low]), %[shifted]\n\tcmpq %[range], %[shifted]\n\t"
                    "ja %l[absent]\n\tmovq %%rcx, " COHORT_COPY, [shifted] "=&r"(shifted), [value] "er"(value), [low] "r"(low), [range] "r"(range))
    COHORT_RSEQ_ANSWER;
}

/// node's word at next_at := head; head := node.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool list_push(std::uintptr_t at, std::uintptr_t node, std::uintptr_t next_at) noexcept {
    COHORT_RSEQ_RUN("movq " COHORT_COPY ", %%rcx\n\tmovq %%rcx, (%[next])\n\tmovq %[node], " COHORT_COPY, COHORT_NO_OUTPUTS, [node] "r"(node),
                    [next] "r"(next_at))
    COHORT_RSEQ_ANSWER;
}

/// node := head; head := the word at node + next_distance. node is 0 when the list was empty.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool list_pop(std::uintptr_t at, std::ptrdiff_t next_distance, std::uintptr_t& node) noexcept {
    COHORT_RSEQ_RUN("movq " COHORT_COPY ", %[node]\n\ttestq %[node], %[node]\n\tjz 2f\n\tmovq (%[node],%[next]), %%rcx\n\tmovq %%rcx, " COHORT_COPY,
                    [node] "=&r"(node), [next] "r"(next_distance))
    COHORT_RSEQ_ANSWER;
}

// The stacks of the magazines: this CPU's block is found in a table of addresses; 0 there, or in the way below, means the slow way.
// A stack is {word: 8 bytes; items: 8 bytes each}; the word's low byte counts the items, the bytes above count what was ever taken.
#define COHORT_RSEQ_STACK(body, outputs, ...)                                                                                              \
    asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU "movq (%[table],%%rax,8), %%rax\n\ttestq %%rax, %%rax\n\tjz %l[absent]\n\t" \
                      "addq %[distance], %%rax\n\tmovzbl (%%rax), %%ecx\n\t" body COHORT_RSEQ_END                                           \
                      : outputs                                                                                                            \
                      : [area] "r"(COHORT_RSEQ_AREA), [table] "r"(table), [distance] "er"(distance) __VA_OPT__(, ) __VA_ARGS__           \
                      : "rax", "rcx", "memory", "cc"                                                                                       \
                      : absent)

/// False: this CPU's entry of the table is 0, or its stack is empty. distance: of the stack, from the start of the block.
[[gnu::always_inline]] inline bool stack_pop(const std::atomic<std::uintptr_t>* table, std::ptrdiff_t distance, std::uint64_t& item) noexcept {
    COHORT_RSEQ_STACK("testl %%ecx, %%ecx\n\tjz %l[absent]\n\tmovq (%%rax,%%rcx,8), %[item]\n\taddq $255, (%%rax)", [item] "=&r"(item));
    COHORT_RSEQ_ANSWER;
}

/// False: this CPU's entry of the table is 0, or its stack holds `capacity` items.
[[gnu::always_inline]] inline bool stack_push(const std::atomic<std::uintptr_t>* table, std::ptrdiff_t distance, std::uint32_t capacity,
                                              std::uint64_t item) noexcept {
    COHORT_RSEQ_STACK("cmpl %[capacity], %%ecx\n\tjae %l[absent]\n\tmovq %[item], 8(%%rax,%%rcx,8)\n\tincq (%%rax)", COHORT_NO_OUTPUTS,
                      [item] "r"(item), [capacity] "ir"(capacity));
    COHORT_RSEQ_ANSWER;
}

}  // namespace cohort::percpu::detail::sequence

#endif
