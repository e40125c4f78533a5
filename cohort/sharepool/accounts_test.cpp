// SPDX-License-Identifier: Apache-2.0
/// What is counted of a group and of its members, what is refused for it, and that a kill leaves nothing in it.
#include <thread>
#include <vector>

#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sharepool/view.hpp>

namespace cohort::sharepool {
namespace {

using testing::child;
using testing::join;

constexpr std::uint64_t mib = 1 << 20;

class accounts : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(accounts);

TEST_P(accounts, count_areas_for_their_owner_and_superblocks_for_the_group) {
    const group g = make();
    member m = join(g);
    void* area = m.alloc(100'000);
    void* block = m.alloc(64);
    std::vector<usage> all = m.accounts();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].bytes, 25u * 4096 + 65536);
    EXPECT_EQ(all[1].bytes, 25u * 4096);
    EXPECT_EQ(all[1].pid, ::getpid());
    EXPECT_EQ(all[0].limit, 0u);
    m.free(area);
    m.free(block);
    m.trim();
    all = m.accounts();
    EXPECT_EQ(all[0].bytes + all[1].bytes, 0u);
    EXPECT_EQ(all[1].peak, 25u * 4096);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(accounts, refuse_what_is_beyond_the_limit_and_say_whose_it_is) {
    const group g = group::create({.name = "test", .bytes = 64 * mib, .mode = GetParam(), .limit = 4 * mib}).value();
    member m = join(g);
    void* p = m.alloc_area(3 * mib, {}).value();
    const auto of_group = m.alloc_area(2 * mib, {});
    EXPECT_EQ(of_group.error().line(), "pool: allocate an area of 2097152 bytes: ENOMEM: the group is at its limit, 3145728 of 4194304");
    EXPECT_NE(m.try_alloc(2 * mib).error().reason.find("the group is at its limit"), std::string::npos);
    ASSERT_TRUE(m.set_limit(mib * 7 / 2, ::getpid()));
    EXPECT_NE(m.alloc_area(mib, {}).error().reason.find("this process is at its limit, 3145728 of 3670016"), std::string::npos);
    EXPECT_EQ(m.set_limit(mib, ::getpid()).error().code, EBUSY);
    EXPECT_EQ(m.set_limit(mib).error().code, EBUSY);
    EXPECT_EQ(m.set_limit(mib, 1).error().code, ESRCH);
    // Blocks count for the group alone.
    std::vector<void*> held;
    while (void* b = m.alloc(4096)) held.push_back(b);
    EXPECT_EQ(held.size(), mib / 4096);
    EXPECT_NE(m.try_alloc(4096).error().reason.find("the group is at its limit, 4194304 of 4194304"), std::string::npos);
    EXPECT_GT(m.accounts()[0].refused, 0u);
    ASSERT_TRUE(m.set_limit(0));
    ASSERT_TRUE(m.set_limit(0, ::getpid()));
    held.push_back(m.alloc_area(8 * mib, {}).value());
    held.push_back(p);
    for (void* b : held) m.free(b);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(accounts, of_what_another_frees_go_back_to_who_had_it_and_of_the_dead_to_the_group) {
    const group g = make();
    member m = join(g);
    testing::shared<void*> kept, freed;
    child c(g, [&](member& o) {
        *freed = o.alloc(200'000);
        *kept = o.alloc(300'000);
        (void)o.hand_over(*kept);
        (void)o.alloc(400'000);
        ::raise(SIGSTOP);
    });
    int status = 0;
    ASSERT_EQ(::waitpid(c.pid(), &status, WUNTRACED), c.pid());
    EXPECT_EQ(m.accounts()[2].bytes, (49u + 74u + 98u) * 4096);
    m.free(*freed);
    EXPECT_EQ(m.accounts()[2].bytes, (74u + 98u) * 4096);
    c.kill();
    c.wait();
    (void)m.recover_dead();
    ASSERT_EQ(m.accounts().size(), 2u);
    EXPECT_EQ(m.accounts()[0].bytes, 74u * 4096);
    EXPECT_EQ(m.accounts()[1].bytes, 0u);
    m.free(*kept);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(accounts, are_put_right_after_a_kill_between_a_state_and_its_charge) {
    const group g = group::create({.name = "test", .bytes = 64 * mib, .mode = GetParam(), .limit = 4 * mib}).value();
    member m = join(g);
    // What a kill leaves: charged and never published, in the middle of a change.
    EXPECT_EQ(child(g, [&](member& o) {
                  detail::heap& h = o.internals();
                  new detail::heap::account_change(h);
                  (void)h.charge(h.me, 3 * mib);
                  ::_exit(0);
              }).wait(), 0);
    EXPECT_FALSE(m.internals().settle()) << "the dead one is not known to be dead: it may be about to publish";
    EXPECT_FALSE(m.alloc_area(2 * mib, {}));
    (void)m.recover_dead();
    EXPECT_EQ(m.accounts()[0].bytes, 0u);
    m.free(m.alloc_area(2 * mib, {}).value());
    EXPECT_EQ(testing::wrong_when_empty(m), "");
    // Its row's next user begins with nothing.
    EXPECT_EQ(child(g, [&](member& o) { EXPECT_EQ(o.accounts()[2].bytes, 0u); }).wait(), 0);
}

TEST_P(accounts, are_not_settled_while_somebody_changes_them) {
    const group g = make();
    member m = join(g);
    detail::heap& h = m.internals();
    h.account_of(0).put_right(1000);
    {
        const detail::heap::account_change change(h);
        EXPECT_FALSE(h.settle());
        EXPECT_EQ(h.account_of(0).usage(), 1000);
    }
    // Somebody settles, and dies in it.
    EXPECT_EQ(child(g, [&](member& o) {
                  o.internals().head().settling = o.internals().me;
                  ::_exit(0);
              }).wait(), 0);
    EXPECT_FALSE(h.settle()) << "he may live";
    (void)m.recover_dead();
    EXPECT_EQ(h.account_of(0).usage(), 0);
    EXPECT_EQ(h.head().settling.load(), 0u);
}

TEST_P(accounts, add_up_after_threads_that_do_everything_at_once) {
    const group g = make();
    member m = join(g);
    std::vector<std::jthread> all;
    for (unsigned t = 0; t < 3; ++t) {
        all.emplace_back([&m, t] {
            for (int i = 0; i < 300; ++i) {
                void* p = m.alloc(40'000 + t * 1000);
                if (i % 3 == 0) (void)m.hand_over(p);
                if (i % 50 == 0) (void)m.internals().settle();
                m.free(p);
            }
        });
    }
    all.clear();
    EXPECT_EQ(m.accounts()[0].bytes + m.accounts()[1].bytes, 0u);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

}  // namespace
}  // namespace cohort::sharepool
