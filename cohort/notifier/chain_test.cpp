// SPDX-License-Identifier: Apache-2.0
#include <cohort/notifier/chain.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace cohort::notifier {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Blocks with names that write down who heard what.
struct listeners {
    std::vector<std::string> heard;
    std::vector<std::unique_ptr<block>> blocks;
    block& make(const std::string& name, int priority = 0, int answer = ok) {
        blocks.push_back(std::make_unique<block>(
            [this, name, answer](unsigned long event, void*) {
                heard.push_back(name + std::to_string(event));
                return answer;
            },
            priority));
        return *blocks.back();
    }
};

template <class Chain>
class any_chain : public ::testing::Test {};
using kinds = ::testing::Types<blocking_chain, atomic_chain, raw_chain>;
TYPED_TEST_SUITE(any_chain, kinds);

TYPED_TEST(any_chain, calls_higher_priorities_first_and_equal_ones_in_order_of_adding) {
    listeners l;
    TypeParam chain;
    block &low = l.make("low", -5), &a = l.make("a"), &b = l.make("b"), &high = l.make("high", 7), &c = l.make("c");
    for (block* x : {&low, &a, &b, &high, &c}) ASSERT_TRUE(chain.add(*x));
    int calls = 0;
    EXPECT_EQ(chain.call(1, nullptr, -1, &calls), ok);
    EXPECT_EQ(calls, 5);
    EXPECT_THAT(l.heard, ElementsAre("high1", "a1", "b1", "c1", "low1"));
    l.heard.clear();
    EXPECT_EQ(chain.call(2, nullptr, 2, &calls), ok);
    EXPECT_EQ(calls, 2);
    EXPECT_THAT(l.heard, ElementsAre("high2", "a2"));
    EXPECT_EQ(chain.call(3, nullptr, 0, &calls), done);
    EXPECT_EQ(calls, 0);
    for (block* x : {&a, &high, &low, &c, &b}) ASSERT_TRUE(chain.remove(*x));
    l.heard.clear();
    EXPECT_EQ(chain.call(4, nullptr), done) << "an empty chain";
    EXPECT_THAT(l.heard, IsEmpty());
}

TYPED_TEST(any_chain, data_reaches_the_callback) {
    int seen = 0;
    TypeParam chain;
    block b([&](unsigned long, void* data) { return seen = *static_cast<int*>(data), done; });
    ASSERT_TRUE(chain.add(b));
    int value = 42;
    EXPECT_EQ(chain.call(0, &value), done);
    EXPECT_EQ(seen, 42);
    ASSERT_TRUE(chain.remove(b));
}

TYPED_TEST(any_chain, registration_errors_change_nothing) {
    listeners l;
    TypeParam chain, other;
    block &a = l.make("a", 3), &b = l.make("b", 3), &c = l.make("c", 4);
    ASSERT_TRUE(chain.add(a));
    EXPECT_EQ(chain.add(a).error().line(), "notifier block of priority 3: add: EEXIST: it is on this chain");
    EXPECT_EQ(other.add(a).error().code, EEXIST);
    EXPECT_EQ(chain.add_unique(a).error().code, EEXIST);
    EXPECT_EQ(chain.add_unique(b).error().line(), "notifier block of priority 3: add: EBUSY: the priority is taken");
    ASSERT_TRUE(chain.add_unique(c));
    EXPECT_EQ(chain.remove(b).error().code, ENOENT);
    EXPECT_EQ(other.remove(a).error().code, ENOENT);
    ASSERT_TRUE(chain.add(b)) << "only add_unique asks for a priority of its own";
    chain.call(1, nullptr);
    EXPECT_THAT(l.heard, ElementsAre("c1", "a1", "b1"));
    for (block* x : {&a, &b, &c}) ASSERT_TRUE(chain.remove(*x));
    EXPECT_EQ(chain.remove(a).error().code, ENOENT);
    ASSERT_TRUE(other.add(a)) << "removed, it may join another chain";
    ASSERT_TRUE(other.remove(a));
}

TYPED_TEST(any_chain, stop_ends_the_call_and_is_its_answer) {
    listeners l;
    for (int answer : {stop, bad, from_errno(ENOMEM)}) {
        TypeParam chain;
        block &a = l.make("a", 3), &b = l.make("b", 2, answer), &c = l.make("c", 1);
        for (block* x : {&a, &b, &c}) ASSERT_TRUE(chain.add(*x));
        l.heard.clear();
        int calls = 0;
        EXPECT_EQ(chain.call(1, nullptr, -1, &calls), answer);
        EXPECT_EQ(calls, 2);
        EXPECT_THAT(l.heard, ElementsAre("a1", "b1"));
        for (block* x : {&a, &b, &c}) ASSERT_TRUE(chain.remove(*x));
    }
}

TYPED_TEST(any_chain, robust_call_undoes_those_that_had_agreed) {
    listeners l;
    TypeParam chain;
    block &a = l.make("a", 4), &b = l.make("b", 3, done), &c = l.make("c", 2, bad), &d = l.make("d", 1);
    for (block* x : {&a, &b, &c, &d}) ASSERT_TRUE(chain.add(*x));
    EXPECT_EQ(chain.call_robust(1, 9, nullptr), bad);
    EXPECT_THAT(l.heard, ElementsAre("a1", "b1", "c1", "a9", "b9")) << "highest first; not the one that refused, not those after it";
    ASSERT_TRUE(chain.remove(c));
    l.heard.clear();
    EXPECT_EQ(chain.call_robust(1, 9, nullptr), ok);
    EXPECT_THAT(l.heard, ElementsAre("a1", "b1", "d1"));
    for (block* x : {&a, &b, &d}) ASSERT_TRUE(chain.remove(*x));
}

TYPED_TEST(any_chain, robust_call_refused_by_the_first_undoes_nothing) {
    listeners l;
    TypeParam chain;
    block &a = l.make("a", 1, bad), &b = l.make("b");
    ASSERT_TRUE(chain.add(a));
    ASSERT_TRUE(chain.add(b));
    EXPECT_EQ(chain.call_robust(1, 9, nullptr), bad);
    EXPECT_THAT(l.heard, ElementsAre("a1"));
    ASSERT_TRUE(chain.remove(a));
    ASSERT_TRUE(chain.remove(b));
}

TYPED_TEST(any_chain, calls_nest) {
    TypeParam chain;
    int depth = 0;
    block b([&](unsigned long, void*) { return ++depth < 3 ? chain.call(0, nullptr) : stop; });
    ASSERT_TRUE(chain.add(b));
    EXPECT_EQ(chain.call(0, nullptr), stop);
    EXPECT_EQ(depth, 3);
    ASSERT_TRUE(chain.remove(b));
}

TEST(answers, carry_an_errno) {
    EXPECT_EQ(from_errno(0), ok);
    EXPECT_EQ(to_errno(from_errno(EBUSY)), EBUSY);
    EXPECT_TRUE(from_errno(EBUSY) & stop_mask);
    EXPECT_EQ(to_errno(done), 0);
    EXPECT_EQ(to_errno(ok), 0);
    EXPECT_EQ(to_errno(stop), 0);
    EXPECT_EQ(to_errno(bad), EPERM);
}

TEST(blocking_chain, changes_from_its_own_callback_answer_edeadlk) {
    blocking_chain chain, other;
    listeners l;
    block& extra = l.make("x");
    std::vector<int> codes;
    block b([&](unsigned long, void*) {
        codes = {chain.add(extra).error().code, chain.add_unique(extra).error().code, chain.remove(b).error().code};
        EXPECT_TRUE(other.add(extra)) << "another chain may be changed";
        EXPECT_TRUE(other.remove(extra));
        return ok;
    });
    ASSERT_TRUE(chain.add(b));
    chain.call(0, nullptr);
    EXPECT_THAT(codes, ElementsAre(EDEADLK, EDEADLK, EDEADLK));
    ASSERT_TRUE(chain.remove(b)) << "outside of the call it works again";
}

TEST(atomic_chain, may_grow_but_not_shrink_from_its_own_callback) {
    atomic_chain chain;
    listeners l;
    block& extra = l.make("x", -1);
    int code = 0;
    block b([&](unsigned long, void*) {
        EXPECT_TRUE(chain.add(extra));
        code = chain.remove(extra).error().code;
        return ok;
    });
    ASSERT_TRUE(chain.add(b));
    chain.call(0, nullptr);
    EXPECT_EQ(code, EDEADLK);
    ASSERT_TRUE(chain.remove(extra));
    ASSERT_TRUE(chain.remove(b));
}

TEST(raw_chain, may_change_from_its_own_callback) {
    raw_chain chain;
    listeners l;
    block &late = l.make("late", -1), &next = l.make("next", 1), &behind = l.make("behind", 0);
    block self(
        [&](unsigned long, void*) {
            EXPECT_TRUE(chain.remove(self));
            EXPECT_TRUE(chain.remove(next));
            EXPECT_TRUE(chain.remove(behind));
            EXPECT_TRUE(chain.add(late));
            return ok;
        },
        2);
    for (block* x : {&self, &next, &behind}) ASSERT_TRUE(chain.add(*x));
    chain.call(1, nullptr);
    EXPECT_THAT(l.heard, ::testing::Contains("next1")) << "the next one was chosen already";
    l.heard.clear();
    chain.call(2, nullptr);
    EXPECT_THAT(l.heard, ElementsAre("late2"));
    ASSERT_TRUE(chain.remove(late));
}

/// After remove() has returned, the block may be freed: threads call while others come and go.
template <class Chain>
void come_and_go() {
    Chain chain;
    std::atomic<bool> stop_now{false};
    std::atomic<long> heard{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
            while (!stop_now) chain.call(1, nullptr);
        });
    }
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 300; ++i) {
                auto alive = std::make_unique<int>(i);
                auto b = std::make_unique<block>([&heard, p = alive.get()](unsigned long, void*) { return heard += *p >= 0, ok; }, t);
                ASSERT_TRUE(chain.add(*b));
                const long before = heard;
                while (i % 50 == 0 && heard == before) std::this_thread::yield();
                ASSERT_TRUE(chain.remove(*b));
                alive.reset();  // the sanitizers see a callback that runs later
                b.reset();
            }
        });
    }
    threads[2].join();
    threads[3].join();
    stop_now = true;
    threads[0].join();
    threads[1].join();
    EXPECT_GT(heard, 0);
}
TEST(blocking_chain, removed_block_is_not_called_again) { come_and_go<blocking_chain>(); }
TEST(atomic_chain, removed_block_is_not_called_again) { come_and_go<atomic_chain>(); }

TEST(atomic_chain, remove_waits_for_the_callback_that_runs) {
    atomic_chain chain;
    std::atomic<int> stage{0};
    block b([&](unsigned long, void*) {
        stage = 1;
        while (stage != 2) std::this_thread::yield();
        for (int i = 0; i < 100; ++i) std::this_thread::yield();
        stage = 3;
        return ok;
    });
    ASSERT_TRUE(chain.add(b));
    std::thread caller([&] { chain.call(0, nullptr); });
    while (stage != 1) std::this_thread::yield();
    stage = 2;
    ASSERT_TRUE(chain.remove(b));
    EXPECT_EQ(stage, 3);
    caller.join();
}

TEST(chain_death, what_is_still_registered_must_not_go) {
    EXPECT_DEATH(
        {
            raw_chain chain;
            block b([](unsigned long, void*) { return ok; });
            (void)chain.add(b);
        },
        "destroyed while");
}

}  // namespace
}  // namespace cohort::notifier
