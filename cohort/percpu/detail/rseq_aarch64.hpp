// SPDX-License-Identifier: Apache-2.0
/// The sequences of rseq.hpp for aarch64. Read rseq_x86_64.hpp first: the labels and sections are the same.
///
/// x9 holds this CPU's offset, then the address of its copy; x10, x11 are free for the body. Single-copy-atomic plain loads and stores: no exclusive pairs are
/// needed, since nobody else writes the copy while the sequence is not aborted.
#pragma once
#if defined(__aarch64__)

#include <cstdint>
#include <type_traits>

#include <cohort/percpu/detail/presence.hpp>
#include <cohort/sys/rseq_section.hpp>

#define COHORT_RSEQ_BY_CID "ldrsw x9, [%[id]]\n\t"
// The label of the slow way may be farther than a conditional branch reaches.
#define COHORT_RSEQ_OFFSET_OR_ABSENT "ldr w9, [%[table], x9, lsl #2]\n\tcbnz w9, 5f\n\tb %l[absent]\n5:\n\tadd x9, x9, %[at]\n\t"
#define COHORT_RSEQ_INPUTS(index) [area] "r"(COHORT_RSEQ_AREA), [table] "r"(table_for(index, Layout)), [at] "r"(at)
#define COHORT_RSEQ_CID_INPUT [id] "r"(COHORT_RSEQ_AREA + cid_at.load(std::memory_order_relaxed))

// body is run with the address of the copy's word in x9.
#define COHORT_RSEQ_RUN(body, outputs, ...)                                                                                      \
    if constexpr (Index == by::cpu) {                                                                                            \
        asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU COHORT_RSEQ_OFFSET_OR_ABSENT body COHORT_RSEQ_END                 \
                          : outputs                                                                                              \
                          : COHORT_RSEQ_INPUTS(by::cpu) __VA_OPT__(, ) __VA_ARGS__                                               \
                          : "x9", "x10", "x11", "memory", "cc"                                                                   \
                          : absent);                                                                                             \
    } else {                                                                                                                     \
        asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CID COHORT_RSEQ_OFFSET_OR_ABSENT body COHORT_RSEQ_END                 \
                          : outputs                                                                                              \
                          : COHORT_RSEQ_INPUTS(by::cid), COHORT_RSEQ_CID_INPUT __VA_OPT__(, ) __VA_ARGS__                        \
                          : "x9", "x10", "x11", "memory", "cc"                                                                   \
                          : absent);                                                                                             \
    }

// The same for the four sizes: suffix of load and store, and the letter of a register of that width.
#define COHORT_RSEQ_BY_SIZE(Word, run)       \
    if constexpr (sizeof(Word) == 8) {       \
        run("", "x");                        \
    } else if constexpr (sizeof(Word) == 4) { \
        run("", "w");                        \
    } else if constexpr (sizeof(Word) == 2) { \
        run("h", "w");                       \
    } else {                                 \
        run("b", "w");                       \
    }

namespace cohort::percpu::detail::sequence {

#define COHORT_NO_OUTPUTS
#define COHORT_LOAD(s, r, to) "ldr" s " " r to ", [x9]\n\t"
#define COHORT_STORE(s, r, from) "str" s " " r from ", [x9]"

#define COHORT_DEFINE_UPDATE(name, run)                                                                          \
    template <by Index, layout Layout, class Word>                                                               \
    [[gnu::always_inline]] inline bool name(std::uintptr_t at, Word value) noexcept {                            \
        COHORT_RSEQ_BY_SIZE(Word, run)                                                                           \
        COHORT_RSEQ_ANSWER;                                                                           \
    }

#define COHORT_LOAD_OP_STORE(op, s, r) \
    COHORT_RSEQ_RUN(COHORT_LOAD(s, r, "10") op " " r "10, " r "10, %" r "[value]\n\t" COHORT_STORE(s, r, "10"), COHORT_NO_OUTPUTS, [value] "r"(value))
#define COHORT_ADD(s, r) COHORT_LOAD_OP_STORE("add", s, r)
#define COHORT_AND(s, r) COHORT_LOAD_OP_STORE("and", s, r)
#define COHORT_OR(s, r) COHORT_LOAD_OP_STORE("orr", s, r)
#define COHORT_MOV(s, r) COHORT_RSEQ_RUN("str" s " %" r "[value], [x9]", COHORT_NO_OUTPUTS, [value] "r"(value))
COHORT_DEFINE_UPDATE(add, COHORT_ADD)
COHORT_DEFINE_UPDATE(bit_and, COHORT_AND)
COHORT_DEFINE_UPDATE(bit_or, COHORT_OR)
COHORT_DEFINE_UPDATE(write, COHORT_MOV)

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool read(std::uintptr_t at, Word& value) noexcept {
#define COHORT_READ(s, r) COHORT_RSEQ_RUN("ldr" s " %" r "[value], [x9]", [value] "=&r"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_READ)
    COHORT_RSEQ_ANSWER;
}

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool add_return(std::uintptr_t at, Word value, Word& sum) noexcept {
#define COHORT_ADD_RETURN(s, r)                                                                                                      \
    COHORT_RSEQ_RUN("ldr" s " %" r "[sum], [x9]\n\tadd %" r "[sum], %" r "[sum], %" r "[value]\n\tstr" s " %" r "[sum], [x9]", \
                    [sum] "=&r"(sum), [value] "r"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_ADD_RETURN)
    COHORT_RSEQ_ANSWER;
}

template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool exchange(std::uintptr_t at, Word value, Word& old) noexcept {
#define COHORT_EXCHANGE(s, r) \
    COHORT_RSEQ_RUN("ldr" s " %" r "[old], [x9]\n\tstr" s " %" r "[value], [x9]", [old] "=&r"(old), [value] "r"(value))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_EXCHANGE)
    COHORT_RSEQ_ANSWER;
}

/// old == expected afterwards: exchanged. expected is zero-extended, as loads of bytes and half words are.
template <by Index, layout Layout, class Word>
[[gnu::always_inline]] inline bool compare_exchange(std::uintptr_t at, Word expected, Word desired, Word& old) noexcept {
    using wide = std::conditional_t<sizeof(Word) == 8, std::uint64_t, std::uint32_t>;
    const wide wanted = expected;
#define COHORT_COMPARE_EXCHANGE(s, r)                                                                                                       \
    COHORT_RSEQ_RUN("ldr" s " %" r "[old], [x9]\n\tcmp %" r "[old], %" r "[wanted]\n\tbne 2f\n\tstr" s " %" r "[desired], [x9]", \
                    [old] "=&r"(old), [wanted] "r"(wanted), [desired] "r"(desired))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_COMPARE_EXCHANGE)
    COHORT_RSEQ_ANSWER;
}

/// Adds if the 32-bit word at FlagDistance bytes from `at`, in the same copy, is not 0. False: it is 0, or the CPU is absent.
template <by Index, layout Layout, int FlagDistance, class Word>
[[gnu::always_inline]] inline bool add_if_set(std::uintptr_t at, Word value) noexcept {
    static_assert(FlagDistance >= -256 && FlagDistance < 256, "reach of ldur");
#define COHORT_ADD_IF_SET(s, r)                                                                                                                 \
    COHORT_RSEQ_RUN("ldur w10, [x9, %[flag]]\n\tcbnz w10, 5f\n\tb %l[absent]\n5:\n\t" COHORT_LOAD(s, r, "10") "add " r "10, " r "10, %" r \
                    "[value]\n\t" COHORT_STORE(s, r, "10"), COHORT_NO_OUTPUTS, [value] "r"(value), [flag] "i"(FlagDistance))
    COHORT_RSEQ_BY_SIZE(Word, COHORT_ADD_IF_SET)
    COHORT_RSEQ_ANSWER;
}

/// Adds if -below < new value < below, below being low + 1 and range twice low. False: it would not be, or the CPU is absent.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool add_within(std::uintptr_t at, std::uint64_t value, std::uint64_t low, std::uint64_t range) noexcept {
    COHORT_RSEQ_RUN("ldr x10, [x9]\n\tadd x10, x10, %[value]\n\tadd x11, x10, %[low]\n\tcmp x11, %[range]\n\tbls 5f\n\tb %l[absent]\n5:\n\tstr x10, [x9]",
                    COHORT_NO_OUTPUTS, [value] "r"(value), [low] "r"(low), [range] "r"(range))
    COHORT_RSEQ_ANSWER;
}

/// node's word at next_at := head; head := node.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool list_push(std::uintptr_t at, std::uintptr_t node, std::uintptr_t next_at) noexcept {
    COHORT_RSEQ_RUN("ldr x10, [x9]\n\tstr x10, [%[next]]\n\tstr %[node], [x9]", COHORT_NO_OUTPUTS, [node] "r"(node), [next] "r"(next_at))
    COHORT_RSEQ_ANSWER;
}

/// node := head; head := the word at node + next_distance. node is 0 when the list was empty.
template <by Index, layout Layout>
[[gnu::always_inline]] inline bool list_pop(std::uintptr_t at, std::ptrdiff_t next_distance, std::uintptr_t& node) noexcept {
    COHORT_RSEQ_RUN("ldr %[node], [x9]\n\tcbz %[node], 2f\n\tldr x10, [%[node], %[next]]\n\tstr x10, [x9]", [node] "=&r"(node), [next] "r"(next_distance))
    COHORT_RSEQ_ANSWER;
}

// The stacks of the magazines; see rseq_x86_64.hpp. x9: the stack, x10: its word, x11: its count.
#define COHORT_RSEQ_STACK(body, outputs, ...)                                                                                              \
    asm volatile goto(COHORT_RSEQ_START COHORT_RSEQ_BY_CPU "ldr x9, [%[table], x9, lsl #3]\n\tcbnz x9, 5f\n\tb %l[absent]\n5:\n\t"         \
                      "add x9, x9, %[distance]\n\tldr x10, [x9]\n\tand x11, x10, #255\n\t" body COHORT_RSEQ_END                                                  \
                      : outputs                                                                                                            \
                      : [area] "r"(COHORT_RSEQ_AREA), [table] "r"(table), [distance] "r"(distance) __VA_OPT__(, ) __VA_ARGS__              \
                      : "x9", "x10", "x11", "memory", "cc"                                                                                 \
                      : absent)

/// False: this CPU's entry of the table is 0, or its stack is empty. distance: of the stack, from the start of the block.
[[gnu::always_inline]] inline bool stack_pop(const std::atomic<std::uintptr_t>* table, std::ptrdiff_t distance, std::uint64_t& item) noexcept {
    COHORT_RSEQ_STACK("cbnz x11, 5f\n\tb %l[absent]\n5:\n\tldr %[item], [x9, x11, lsl #3]\n\tadd x10, x10, #255\n\tstr x10, [x9]",
                      [item] "=&r"(item));
    COHORT_RSEQ_ANSWER;
}

/// False: this CPU's entry of the table is 0, or its stack holds `capacity` items.
[[gnu::always_inline]] inline bool stack_push(const std::atomic<std::uintptr_t>* table, std::ptrdiff_t distance, std::uint32_t capacity,
                                              std::uint64_t item) noexcept {
    COHORT_RSEQ_STACK("cmp w11, %w[capacity]\n\tblo 5f\n\tb %l[absent]\n5:\n\tadd x11, x11, #1\n\tstr %[item], [x9, x11, lsl #3]\n\tadd x10, x10, #1\n\tstr x10, [x9]",
                      COHORT_NO_OUTPUTS, [item] "r"(item), [capacity] "r"(capacity));
    COHORT_RSEQ_ANSWER;
}

}  // namespace cohort::percpu::detail::sequence

#endif
