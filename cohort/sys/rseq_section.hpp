// SPDX-License-Identifier: Apache-2.0
/// The frame of a restartable sequence: what stands before and behind the instructions of each.
///
/// How to read one: `6:` is where an abort begins again; 3: the descriptor that the kernel looks at {start, length, abort}, whose address is stored into the thread's area;
/// 1: .. 2: the sequence, whose last instruction commits; 4: the abort handler, behind the signature that the kernel asks for, in a section where the compiler puts nothing.
/// COHORT_RSEQ_BY_CPU puts this CPU's number into %rax (x9); -1 or -2 where the thread is not registered. Sections with '?' go with the function, should the linker drop a
/// copy of it. An operand [area] "r"(COHORT_RSEQ_AREA) is to be given.
/// A library that is unloaded with dlclose() defines COHORT_PERCPU_UNLOADABLE: a sleeping thread may still name one of its descriptors, unless each sequence
/// withdraws it at its end (one store more).
/// Source: Documentation/userspace-api/rseq.rst and uapi/linux/rseq.h (v6.12), for the protocol.
#pragma once

#include <cstdint>

#include <cohort/sys/rseq.hpp>

#if defined(__x86_64__) && defined(RSEQ_SIG)
#define COHORT_HAS_SEQUENCES 1

// A program that is built for one C library may promise the area's place (COHORT_RSEQ_OFFSET), which saves a register and a load.
#if defined(COHORT_RSEQ_OFFSET)
#define COHORT_RSEQ_AT(field) "%%fs:" COHORT_RSEQ_TEXT(COHORT_RSEQ_OFFSET) "+" #field
#define COHORT_RSEQ_TEXT(x) COHORT_RSEQ_TEXT_(x)
#define COHORT_RSEQ_TEXT_(x) #x
#else
#define COHORT_RSEQ_AT(field) "%%fs:" #field "(%[area])"
#endif
#if defined(COHORT_PERCPU_UNLOADABLE)
#define COHORT_RSEQ_WITHDRAW "movq $0, " COHORT_RSEQ_AT(8) "\n\t"
#define COHORT_RSEQ_LEFT_EARLY ::cohort::sys::withdraw_sequence()
#else
#define COHORT_RSEQ_WITHDRAW
#define COHORT_RSEQ_LEFT_EARLY (void)0
#endif
#define COHORT_RSEQ_AREA (::cohort::sys::rseq_offset())

#define COHORT_RSEQ_START                                                \
    ".pushsection __rseq_cs, \"aw?\"\n\t.balign 32\n3:\n\t"              \
    ".long 0, 0\n\t.quad 1f, 2f - 1f, 4f\n\t.popsection\n\t"             \
    ".pushsection __rseq_cs_ptr_array, \"aw?\"\n\t.quad 3b\n\t.popsection\n" \
    "6:\n\tleaq 3b(%%rip), %%rax\n\tmovq %%rax, " COHORT_RSEQ_AT(8) "\n1:\n\t"
#define COHORT_RSEQ_BY_CPU "movslq " COHORT_RSEQ_AT(4) ", %%rax\n\t"
// 0x53053053 with an undefined instruction before it, so that it cannot be run.
#define COHORT_RSEQ_END                                                                                     \
    "\n2:\n\t" COHORT_RSEQ_WITHDRAW ".pushsection __rseq_failure, \"ax?\"\n\t.byte 0x0f, 0xb9, 0x3d\n\t"   \
    ".long 0x53053053\n4:\n\tjmp 6b\n\t.popsection\n\t"

#elif defined(__aarch64__) && defined(RSEQ_SIG)
#define COHORT_HAS_SEQUENCES 1

#if defined(COHORT_PERCPU_UNLOADABLE)
#define COHORT_RSEQ_WITHDRAW "str xzr, [%[area], #8]\n\t"
#define COHORT_RSEQ_LEFT_EARLY ::cohort::sys::withdraw_sequence()
#else
#define COHORT_RSEQ_WITHDRAW
#define COHORT_RSEQ_LEFT_EARLY (void)0
#endif

#define COHORT_RSEQ_START                                                        \
    ".pushsection __rseq_cs, \"aw?\"\n\t.balign 32\n3:\n\t"                      \
    ".word 0, 0\n\t.quad 1f, 2f - 1f, 4f\n\t.popsection\n\t"                     \
    ".pushsection __rseq_cs_ptr_array, \"aw?\"\n\t.quad 3b\n\t.popsection\n"     \
    "6:\n\tadrp x9, 3b\n\tadd x9, x9, :lo12:3b\n\tstr x9, [%[area], #8]\n1:\n\t"
#define COHORT_RSEQ_BY_CPU "ldrsw x9, [%[area], #4]\n\t"
#define COHORT_RSEQ_END                                                                                         \
    "\n2:\n\t" COHORT_RSEQ_WITHDRAW ".pushsection __rseq_failure, \"ax?\"\n\t.inst 0xd428bc00\n4:\n\tb 6b\n\t.popsection\n\t"
#define COHORT_RSEQ_AREA (static_cast<char*>(__builtin_thread_pointer()) + ::cohort::sys::rseq_offset())

#else
// Another machine, or a C library without rseq: every operation goes the slow way.
#define COHORT_HAS_SEQUENCES 0
#endif

// GCC: an asm goto with outputs is to be volatile and followed by an empty one (gcc bug 113921).
#define COHORT_RSEQ_ANSWER  \
    asm volatile("");       \
    return true;            \
    absent:                 \
    COHORT_RSEQ_LEFT_EARLY; \
    return false

#if COHORT_HAS_SEQUENCES && defined(COHORT_PERCPU_UNLOADABLE)
namespace cohort::sys {
/// COHORT_RSEQ_WITHDRAW for a sequence that was left before its end.
inline void withdraw_sequence() noexcept {
    *reinterpret_cast<volatile std::uint64_t*>(static_cast<char*>(__builtin_thread_pointer()) + rseq_offset() + rseq_cs_at) = 0;
}
}  // namespace cohort::sys
#endif
