// SPDX-License-Identifier: Apache-2.0
// prctl(PR_SCHED_CORE) by the kernel's rules. lab/coresched_guest.cpp makes the same claims on a kernel.
#include <climits>

#include <gtest/gtest.h>

#include <cohort/coresched/process_table.hpp>

namespace cohort::coresched {
namespace {

constexpr int get = 0, create = 1, share_to = 2, share_from = 3;
constexpr int pid = 0, tgid = 1, pgid = 2;

/// Two processes of two threads in one group, of one user; one of another user; one of root.
class prctl_rules : public ::testing::Test {
protected:
    int code(int by, int command, int id, int type, std::uintptr_t address = 0) {
        const auto r = table.call(by, command, id, type, command == get && address == 0 ? 8 : address);
        return r ? 0 : r.error().code;
    }
    cookie value(int tid) { return table.cookie_of(tid); }

    cookie_table cookies;
    process_table table{cookies};
    const int a = table.start({.uid = 7}), a2 = table.clone(a);
    const int b = table.start({.group = a, .uid = 7}), b2 = table.clone(b);
    const int other = table.start({.uid = 8});
    const int root = table.start({});
};

TEST_F(prctl_rules, rule_1_a_kernel_without_it_answers_einval_to_everything) {
    table.built_in = table.smt = false;
    for (int command : {get, create, share_to, share_from, 9}) {
        for (int id : {0, -1, a, 999'999}) EXPECT_EQ(code(a, command, id, pid), EINVAL);
    }
}

TEST_F(prctl_rules, rule_2_without_smt_enodev_comes_before_any_look_at_the_arguments_and_cookies_stay) {
    EXPECT_EQ(code(a, create, 0, pid), 0);
    const cookie mine = value(a);
    table.smt = false;
    for (int command : {get, create, share_to, share_from, 9}) EXPECT_EQ(code(a, command, -1, 99), ENODEV);
    EXPECT_EQ(value(a), mine);
}

TEST_F(prctl_rules, rule_3_wrong_arguments_are_einval_before_the_thread_is_looked_for) {
    EXPECT_EQ(code(a, get, 999'999, 3), EINVAL);
    EXPECT_EQ(code(a, 4, 999'999, pid), EINVAL);
    EXPECT_EQ(code(a, create, -1, pid), EINVAL);
    for (int command : {create, share_to, share_from}) EXPECT_EQ(code(a, command, 999'999, pid, 1), EINVAL);
}

TEST_F(prctl_rules, rule_4_id_0_is_the_calling_thread_and_a_missing_one_esrch) {
    EXPECT_EQ(code(a2, create, 0, pid), 0);
    EXPECT_EQ(value(a), no_cookie);
    EXPECT_NE(value(a2), no_cookie);
    for (int command : {get, create, share_to, share_from}) EXPECT_EQ(code(a, command, 999'999, pid), ESRCH);
}

TEST_F(prctl_rules, rule_5_others_may_not_be_looked_at_save_by_root_and_in_one_process) {
    for (int command : {get, create, share_to, share_from}) EXPECT_EQ(code(a, command, other, pid), EPERM);
    EXPECT_EQ(code(root, get, other, pid), 0);
    EXPECT_EQ(code(a, get, b, pid), 0) << "the same user's";
    const int hidden = table.start({.uid = 7, .dumpable = false}), hidden2 = table.clone(hidden);
    EXPECT_EQ(code(a, get, hidden, pid), EPERM);
    EXPECT_EQ(code(hidden, get, hidden2, pid), 0) << "its own process";
    EXPECT_EQ(code(root, get, hidden, pid), 0);
}

TEST_F(prctl_rules, rule_6_get_is_of_one_thread_and_into_an_aligned_address) {
    EXPECT_EQ(code(a, get, a, tgid), EINVAL);
    EXPECT_EQ(code(a, get, 999'999, tgid), ESRCH) << "looked for first";
    EXPECT_EQ(code(a, get, other, tgid), EPERM);
    EXPECT_EQ(code(a, get, a, pid, 12), EINVAL);
    EXPECT_EQ(table.call(a, get, a, pid, 0).error().code, EFAULT);
    EXPECT_EQ(table.call(a, get, a, pid, 16).value(), no_cookie);
}

TEST_F(prctl_rules, rule_7_create_may_find_no_memory_and_turns_the_machinery_on) {
    table.no_memory = true;
    EXPECT_EQ(code(a, create, 0, pid), ENOMEM);
    EXPECT_EQ(value(a), no_cookie);
    EXPECT_FALSE(cookies.enabled());
    table.no_memory = false;
    EXPECT_EQ(code(a, create, 0, pid), 0);
    EXPECT_TRUE(cookies.enabled());
    EXPECT_EQ(cookies.references(value(a)), 1u);
}

TEST_F(prctl_rules, rule_8_share_to_gives_the_callers_and_a_caller_without_one_clears) {
    EXPECT_EQ(code(a, create, 0, pid), 0);
    EXPECT_EQ(code(a, share_to, b, pid), 0);
    EXPECT_EQ(value(b), value(a));
    EXPECT_EQ(value(b2), no_cookie);
    EXPECT_EQ(code(a2, share_to, b, pid), 0) << "a2 has none";
    EXPECT_EQ(value(b), no_cookie);
    EXPECT_EQ(code(a2, share_to, a, pid), 0);
    EXPECT_FALSE(cookies.enabled()) << "off after the last";
}

TEST_F(prctl_rules, rule_9_share_from_sets_the_calling_thread_only) {
    EXPECT_EQ(code(b, create, 0, pid), 0);
    EXPECT_EQ(code(a, share_from, b, tgid), EINVAL);
    EXPECT_EQ(code(a, share_from, b, pid), 0);
    EXPECT_EQ(value(a), value(b));
    EXPECT_EQ(value(a2), no_cookie);
    EXPECT_EQ(code(a, share_from, b2, pid), 0) << "b2 has none";
    EXPECT_EQ(value(a), no_cookie);
}

TEST_F(prctl_rules, rule_10_a_group_is_changed_whole_or_not_at_all) {
    EXPECT_EQ(code(a, create, a, pgid), 0);
    for (int tid : {a, a2, b, b2}) EXPECT_EQ(value(tid), value(a));
    const cookie before = value(a);
    table.set_uid(b2, 8);
    EXPECT_EQ(code(a, create, a, pgid), EPERM);
    for (int tid : {a, a2, b, b2}) EXPECT_EQ(value(tid), before);
    EXPECT_EQ(cookies.live(), 1u) << "the cookie that was made for it is gone";
    EXPECT_EQ(code(a, share_to, b, tgid), EPERM);
    EXPECT_EQ(code(root, create, a, pgid), 0);
    EXPECT_NE(value(b2), before);
}

TEST_F(prctl_rules, rule_11_the_group_is_that_of_the_thread_named_which_need_not_lead) {
    EXPECT_EQ(code(root, create, b2, tgid), 0);
    EXPECT_EQ(value(b), value(b2));
    EXPECT_NE(value(b), no_cookie);
    EXPECT_EQ(value(a), no_cookie);
    EXPECT_EQ(code(root, create, b2, pgid), 0);
    EXPECT_EQ(value(a), value(b2));
}

TEST_F(prctl_rules, children_and_threads_inherit_and_the_dead_hold_until_they_are_reaped) {
    EXPECT_EQ(code(a, create, 0, pid), 0);
    const int child = table.fork(a), thread = table.clone(a);
    EXPECT_EQ(value(child), value(a));
    EXPECT_EQ(value(thread), value(a));
    EXPECT_EQ(value(table.clone(a2)), no_cookie) << "of the thread that does it, not of its process";
    const cookie c = value(a);
    EXPECT_EQ(cookies.references(c), 3u);
    EXPECT_EQ(code(root, share_to, a, pid), 0);
    EXPECT_EQ(code(root, share_to, thread, pid), 0);
    table.exit(child);
    EXPECT_EQ(cookies.references(c), 1u);
    EXPECT_TRUE(cookies.enabled());
    table.reap(child);
    EXPECT_FALSE(cookies.enabled());
}

TEST_F(prctl_rules, the_verbs_are_these_calls_and_a_change_is_told) {
    std::map<int, cookie> told;
    table.on_change = [&](int tid, cookie now) { told[tid] = now; };
    table_verbs v(table, a, "engine");
    EXPECT_EQ(v.name(), "engine");
    ASSERT_TRUE(v.create(0, scope::process));
    EXPECT_EQ(v.get(a2).value(), value(a));
    ASSERT_TRUE(v.share_to(b, scope::thread));
    EXPECT_EQ(told[b], value(a));
    ASSERT_TRUE(v.clear(b, scope::process_group));
    EXPECT_EQ(value(a), no_cookie);
    EXPECT_EQ(value(b), no_cookie);
    EXPECT_FALSE(cookies.enabled());
    EXPECT_EQ(v.clear(other, scope::thread).error().code, EPERM);
    EXPECT_EQ(v.share_from(other).error().line(), "thread " + std::to_string(other) + ": prctl PR_SCHED_CORE: EPERM: it may not be looked at");
}

}  // namespace
}  // namespace cohort::coresched
