// SPDX-License-Identifier: Apache-2.0
// Sequences that are interrupted where it hurts most, each time: after the old value was loaded, before the new one is stored. A page fault does it. The
// copy's page is closed at first: the first fault opens it for reading only, so that the sequence begins again, loads, and faults at its store;
// the second fault's handler changes the word, as a handler that uses the same counter does. What the sequence then stores
// must follow from the changed word. It does not where the section is not armed (or not again after the first abort), has a
// wrong signature, or ends before its store. With atomics in the place of sequences the same results are due.
#include <cohort/percpu/ops.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::bare_chunk;
using detail::layout;

constexpr std::uintptr_t page_bytes = 4096;

/// What the handler needs to know; one trap at a time.
struct trap_state {
    std::uintptr_t page = 0;
    void* word = nullptr;            // what the second fault changes, if there is anything to change
    unsigned char changed[16] = {};
    std::size_t changed_bytes = 0;
    int move_to = -1;                // the CPU that the first fault goes to, or -1
    volatile int faults = 0;
};
constinit trap_state trap;

void on_fault(int, siginfo_t* info, void*) {
    if ((reinterpret_cast<std::uintptr_t>(info->si_addr) & ~(page_bytes - 1)) != trap.page || trap.faults > 1) ::_exit(99);  // not ours
    auto* page = reinterpret_cast<void*>(trap.page);
    if (trap.faults == 0 && trap.move_to < 0) {
        ::mprotect(page, page_bytes, PROT_READ);
    } else {
        ::mprotect(page, page_bytes, PROT_READ | PROT_WRITE);
        std::memcpy(trap.word, trap.changed, trap.changed_bytes);
    }
    if (trap.move_to >= 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(trap.move_to, &one);
        ::sched_setaffinity(0, sizeof one, &one);
    }
    trap.faults = trap.faults + 1;
}

/// Runs `op`, on one CPU, with the page of `word` closed; the second fault puts `changed` at `word`. Returns the number of faults.
template <class T, class F>
int interrupted(T* word, T changed, F&& op) {
    const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(word);
    trap.page = at & ~(page_bytes - 1);
    trap.word = word;
    trap.changed_bytes = sizeof changed;
    std::memcpy(trap.changed, &changed, sizeof changed);
    trap.faults = 0;
    struct sigaction act {}, before {};
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO;
    EXPECT_EQ(::sigaction(SIGSEGV, &act, &before), 0);
    EXPECT_EQ(::mprotect(reinterpret_cast<void*>(trap.page), page_bytes, PROT_NONE), 0);
    op();
    EXPECT_EQ(::mprotect(reinterpret_cast<void*>(trap.page), page_bytes, PROT_READ | PROT_WRITE), 0);
    EXPECT_EQ(::sigaction(SIGSEGV, &before, nullptr), 0);
    return trap.faults;
}

template <class T>
class interrupted_op : public ::testing::Test {
protected:
    interrupted_op() : affinity_(sys::thread_affinity().value()) { EXPECT_TRUE(sys::pin_thread(cpumask{affinity_.first()})); }
    ~interrupted_op() override { EXPECT_TRUE(sys::pin_thread(affinity_)); }

    static constexpr T first = 0x35, changed = 0x5a;

    template <by I, class F>
    static void expect(const char* name, T left, F&& op) {
        const bare_chunk chunk;
        const auto h = chunk.at<T, I>(64);
        this_cpu::write(h, first);  // the CPU is present from here on
        T* word = this_cpu_ptr(h);
        EXPECT_EQ(interrupted(word, changed, [&] { op(h); }), 2) << name;
        EXPECT_EQ(*word, left) << name;
    }
    template <by I>
    static void every_operation() {
        expect<I>("write", 9, [](auto h) { this_cpu::write(h, 9); });
        expect<I>("add", T(changed + 7), [](auto h) { this_cpu::add(h, 7); });
        expect<I>("sub", T(changed - 7), [](auto h) { this_cpu::sub(h, 7); });
        expect<I>("and_", T(changed & 0x0f), [](auto h) { this_cpu::and_(h, 0x0f); });
        expect<I>("or_", T(changed | 0x0f), [](auto h) { this_cpu::or_(h, 0x0f); });
        expect<I>("add_return", T(changed + 7), [](auto h) { EXPECT_EQ(this_cpu::add_return(h, 7), T(changed + 7)); });
        expect<I>("xchg", 9, [](auto h) { EXPECT_EQ(this_cpu::xchg(h, 9), changed); });
        expect<I>("cmpxchg", changed, [](auto h) { EXPECT_EQ(this_cpu::cmpxchg(h, first, 9), changed) << "compared with a value that was gone"; });
    }

    cpumask affinity_;  // as the test found it
};
using words = ::testing::Types<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>;
TYPED_TEST_SUITE(interrupted_op, words);

TYPED_TEST(interrupted_op, follows_from_what_the_handler_left) { this->template every_operation<by::cpu>(); }
TYPED_TEST(interrupted_op, follows_from_what_the_handler_left_by_cid) { this->template every_operation<by::cid>(); }

/// The sequences below have no form with atomics of their own.
#define SKIP_WITHOUT_SEQUENCES() \
    if (detail::current_mode() != detail::mode::sequences) GTEST_SKIP() << "no restartable sequences here (rseq is not registered)"

using interrupted_sequence = interrupted_op<std::uint64_t>;

struct node {
    std::uintptr_t next = 0;
};
std::uintptr_t at(const node& n) { return reinterpret_cast<std::uintptr_t>(&n); }

TEST_F(interrupted_sequence, push_links_to_the_head_that_the_handler_pushed) {
    SKIP_WITHOUT_SEQUENCES();
    const bare_chunk chunk;
    const auto head = chunk.at<std::uintptr_t>(64);
    node a, b, c;
    this_cpu::write(head, at(a));
    std::uintptr_t* word = this_cpu_ptr(head);
    const auto push = [&] { EXPECT_TRUE((detail::sequence::list_push<by::cpu, layout::coloured>(head.value(), at(c), at(c)))); };
    EXPECT_EQ(interrupted(word, at(b), push), 2);
    EXPECT_EQ(*word, at(c));
    EXPECT_EQ(c.next, at(b)) << "b would be lost";
}

TEST_F(interrupted_sequence, pop_takes_what_the_handler_left_at_the_head) {
    SKIP_WITHOUT_SEQUENCES();
    const bare_chunk chunk;
    const auto head = chunk.at<std::uintptr_t>(64);
    node c, b{at(c)}, a{at(b)};
    this_cpu::write(head, at(a));
    std::uintptr_t* word = this_cpu_ptr(head);
    std::uintptr_t taken = 0;
    const auto pop = [&] { EXPECT_TRUE((detail::sequence::list_pop<by::cpu, layout::coloured>(head.value(), 0, taken))); };
    EXPECT_EQ(interrupted(word, at(b), pop), 2);
    EXPECT_EQ(taken, at(b)) << "a was taken by the handler";
    EXPECT_EQ(*word, at(c));
}

TEST_F(interrupted_sequence, add_if_set_sees_the_flag_that_the_handler_cleared) {
    SKIP_WITHOUT_SEQUENCES();
    struct flagged {
        std::uint32_t count, flag;
    };
    const bare_chunk chunk;
    const auto h = chunk.at<flagged>(64);
    this_cpu::write(h, flagged{5, 1});
    flagged* word = this_cpu_ptr(h);
    bool done = true;
    const auto add = [&] { done = detail::sequence::add_if_set<by::cpu, layout::coloured, 4>(h.value(), std::uint32_t{1}); };
    EXPECT_EQ(interrupted(word, flagged{6, 0}, add), 2);
    EXPECT_FALSE(done);
    EXPECT_EQ(word->count, 6u);
}

/// One stack, the same for every CPU: the thread is pinned.
class interrupted_stack : public interrupted_sequence {
protected:
    struct block {
        std::uint64_t count, items[3];
    };
    interrupted_stack() {
        memory_ = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory_ == MAP_FAILED) std::abort();
        stack = static_cast<block*>(memory_);
        for (auto& entry : table) entry = reinterpret_cast<std::uintptr_t>(memory_) - 16;
    }
    ~interrupted_stack() override { ::munmap(memory_, page_bytes); }

    block* stack;
    static constinit std::atomic<std::uintptr_t> table[max_cpus];

private:
    void* memory_;
};
constinit std::atomic<std::uintptr_t> interrupted_stack::table[max_cpus];

struct top_two {
    std::uint64_t count, first;
};

TEST_F(interrupted_stack, pop_takes_what_the_handler_left_on_top) {
    SKIP_WITHOUT_SEQUENCES();
    *stack = {2, {11, 22, 33}};
    std::uint64_t item = 0;
    const auto pop = [&] { EXPECT_TRUE(detail::sequence::stack_pop(table, 16, item)); };
    EXPECT_EQ(interrupted(reinterpret_cast<top_two*>(stack), top_two{1, 44}, pop), 2);
    EXPECT_EQ(item, 44u);
    EXPECT_EQ(stack->count & 255, 0u);  // above the low byte: how many were ever taken
}

TEST_F(interrupted_stack, push_goes_above_what_the_handler_pushed) {
    SKIP_WITHOUT_SEQUENCES();
    *stack = {0, {0, 0, 0}};
    const auto push = [&] { EXPECT_TRUE(detail::sequence::stack_push(table, 16, 3, 99)); };
    EXPECT_EQ(interrupted(reinterpret_cast<top_two*>(stack), top_two{1, 44}, push), 2);
    EXPECT_EQ(stack->count & 255, 2u);
    EXPECT_EQ(stack->items[0], 44u);
    EXPECT_EQ(stack->items[1], 99u);
}

TEST_F(interrupted_stack, push_sees_that_the_handler_filled_it) {
    SKIP_WITHOUT_SEQUENCES();
    *stack = {0, {0, 0, 0}};
    bool done = true;
    const auto push = [&] { done = detail::sequence::stack_push(table, 16, 1, 99); };
    EXPECT_EQ(interrupted(reinterpret_cast<top_two*>(stack), top_two{1, 44}, push), 2);
    EXPECT_FALSE(done);
    EXPECT_EQ(stack->count & 255, 1u);
    EXPECT_EQ(stack->items[0], 44u);
}

TEST_F(interrupted_stack, bounds_are_kept) {
    SKIP_WITHOUT_SEQUENCES();
    *stack = {0, {0, 0, 0}};
    std::uint64_t item = 7;
    EXPECT_FALSE(detail::sequence::stack_pop(table, 16, item));
    for (const std::uint64_t n : {1u, 2u, 3u}) EXPECT_TRUE(detail::sequence::stack_push(table, 16, 3, n));
    EXPECT_FALSE(detail::sequence::stack_push(table, 16, 3, 4));
    for (const std::uint64_t n : {3u, 2u, 1u}) {
        EXPECT_TRUE(detail::sequence::stack_pop(table, 16, item));
        EXPECT_EQ(item, n);
    }
    EXPECT_FALSE(detail::sequence::stack_pop(table, 16, item));
}

TEST_F(interrupted_sequence, that_comes_back_on_another_cpu_acts_on_that_cpus_copy) {
    SKIP_WITHOUT_SEQUENCES();
    if (affinity_.weight() < 2) GTEST_SKIP() << "this process may use one CPU only";
    const bare_chunk chunk;
    const auto h = chunk.at<long>(64);
    const unsigned from = static_cast<unsigned>(affinity_.nth(0)), to = static_cast<unsigned>(affinity_.nth(1));
    for (const unsigned cpu : {from, to}) *per_cpu(h, cpu) = 100;
    trap.move_to = static_cast<int>(to);
    EXPECT_EQ(interrupted(per_cpu(h, from), 100L, [&] { this_cpu::inc(h); }), 1);
    trap.move_to = -1;
    EXPECT_EQ(*per_cpu(h, from), 100);
    EXPECT_EQ(*per_cpu(h, to), 101);
}

}  // namespace
}  // namespace cohort::percpu
