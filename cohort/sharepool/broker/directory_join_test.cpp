// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include <cohort/sharepool/broker/testing/fake_processes.hpp>

namespace cohort::sharepool {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class directory_join : public ::testing::Test {
protected:
    directory_join() {
        for (const int pid : {10, 11, 12, 13}) start(d, pid);
    }
    void start(directory& in, int pid, unsigned uid = 1000) {
        all.start(pid, uid);
        EXPECT_EQ(line(in.attach(all.who(pid))), "");
    }
    void TearDown() override { EXPECT_EQ(d.fault(), ""); }

    fake_processes all;
    directory d{{.window = test_window}, all.look()};
};

TEST_F(directory_join, every_check_comes_in_its_place) {
    // Everything is wrong at first; each step puts one thing right, and the next check speaks.
    directory small({.window = {window_base, 6 * mib}, .most_groups = 2, .most_groups_of_process = 1, .most_members = 1, .group_bytes = 2 * mib, .only_owner_adds = true}, all.look());
    start(small, 11);
    start(small, 12, 2000);
    ASSERT_TRUE(small.create({12, 2000, 2000}, {.id = 7, .mode = 0}));
    ASSERT_TRUE(join(small, root, {.pid = 12, .id = 7}));
    ASSERT_TRUE(join(small, root, {.pid = 11, .id = 9}));
    ASSERT_TRUE(small.find(9));
    add_request ask{.pid = 10, .id = 0, .prot = static_cast<access>(7), .single = true};
    caller who{99, 1, 1};
    process_facts& f = all.known[10];
    f = {.exists = false, .exiting = true, .dumping = true, .kernel_thread = true, .attached = false, .leader = {10, 77}, .uid = 1000, .shares_memory = true};
    const auto ok = [](const auto& r) { EXPECT_EQ(line(r), ""); };
    const struct {
        int code;
        const char* check;
        std::function<void()> then;
    } steps[] = {
        {EINVAL, "protection", [&] { ask.prot = access::read_write; }},
        {EINVAL, "id in range", [&] { ask.id = spg_id_auto_min; }},
        {EINVAL, "id was given out", [&] { ask.id = 9; }},
        {ESRCH, "process", [&] { f.exists = true; }},
        {ESRCH, "process", [&] { f.exiting = false; }},
        {ESRCH, "process", [&] { f.kernel_thread = false; }},
        {EINVAL, "memory of its own", [&] { f.shares_memory = false; }},
        {EOPNOTSUPP, "attached", [&] { f.attached = true; }},
        {EOPNOTSUPP, "attached", [&] { ok(small.attach({10, 77})); }},
        {EBUSY, "core dump", [&] { f.dumping = false; }},
        {EPERM, "right to add it", [&] { who.uid = 1000, f.leader = all.who(11), who.pid = 11; }},
        {EEXIST, "membership", [&] { ask.single = false; }},
        {EEXIST, "membership", [&] { ask.id = 7; }},
        {ENOSPC, "groups of the process", [&] { f.leader = {10, 77}, ask.id = 9, (void)small.exit(all.who(11)); }},
        {ENODEV, "group", [&] { ask.id = 7; }},
        {EPERM, "owner", [&] { who.uid = 2000, f.uid = 2000; }},
        {EACCES, "mode", [&] { ask.id = 8; }},
        {ENOSPC, "groups of the machine", [&] { small.drop(9), ok(small.destroy(root, 7, true)), ok(small.create(root, {.id = 5, .bytes = 6 * mib})); }},
        {EOVERFLOW, "addresses", [&] { ok(small.destroy(root, 5, false)), ok(small.create(who, {.id = 7})), ok(join(small, who, {.pid = 12, .id = 7})), ask.id = 7; }},
        {ENOSPC, "members", [&] { (void)small.exit(all.who(12)); }},
    };
    std::size_t passed = 0;
    for (const auto& s : steps) {
        trace seen;
        const auto t = small.begin_add(who, ask, &seen);
        ASSERT_EQ(code(t), s.code) << "at " << s.check << ": " << line(t);
        ASSERT_FALSE(seen.empty());
        EXPECT_EQ(seen.back().what, s.check);
        EXPECT_EQ(seen.back().code, s.code);
        EXPECT_THAT(line(t), HasSubstr(seen.back().found));
        EXPECT_GE(seen.size(), passed) << "an earlier check spoke at " << s.check;
        passed = seen.size();
        for (std::size_t i = 0; i + 1 < seen.size(); ++i) EXPECT_EQ(seen[i].code, 0) << seen[i].what;
        ASSERT_EQ(small.fault(), "") << s.check;
        s.then();
    }
    trace seen;
    const auto t = small.begin_add(who, ask, &seen);
    ASSERT_EQ(line(t), "");
    std::vector<std::string> names;
    for (const check& c : seen) names.push_back(c.what);
    EXPECT_THAT(names, ElementsAre("protection", "default group", "id in range", "process", "memory of its own", "attached", "core dump", "right to add it", "membership", "groups of the process", "group", "members"));
    EXPECT_EQ(small.commit_add(*t).value_or(0), 7);
    std::vector<std::string> found;
    for (const check& c : seen) found.push_back(c.found);
    EXPECT_THAT(found, ElementsAre("reading and writing", "does not matter", "7, manual", "lives", "yes", "yes", "none", "the same uid", "none", "0 of 1", "lives, mode 0660", "0 of 1"));
}

TEST_F(directory_join, ids_that_may_be_asked_for) {
    for (const int id : {-1, 0, 200'001, 250'000, 299'999, 300'000, 800'000, 899'999, 900'001}) EXPECT_EQ(code(join(d, root, {.pid = 10, .id = id})), EINVAL) << id;
    for (const int id : {100'000, 150'000, 199'999}) EXPECT_EQ(code(join(d, root, {.pid = 10, .id = id})), EINVAL) << id;
    for (const int id : {1, 99'999}) EXPECT_EQ(join(d, root, {.pid = 10, .id = id}).value_or(0), id);
    EXPECT_EQ(join(d, root, {.pid = 10, .id = spg_id_auto}).value_or(0), 100'000);
    EXPECT_EQ(join(d, root, {.pid = 10, .id = spg_id_dvpp}).value_or(0), 800'000);
    EXPECT_EQ(join(d, root, {.pid = 11, .id = 100'000}).value_or(0), 100'000);  // it lives
    ASSERT_TRUE(d.find(100'000));
    ASSERT_TRUE(d.destroy(root, 100'000, true));
    EXPECT_EQ(code(join(d, root, {.pid = 12, .id = 100'000})), EINVAL);         // it is dead
    d.drop(100'000);
}

TEST_F(directory_join, the_default_group_replaces_whatever_is_asked_for) {
    directory fixed({.window = test_window, .default_group = 55}, all.look());
    start(fixed, 10);
    start(fixed, 11);
    EXPECT_EQ(join(fixed, root, {.pid = 10, .id = 7}).value_or(0), 55);
    trace seen;
    const auto t = fixed.begin_add(root, {.pid = 11, .id = -5}, &seen);  // the id that is replaced is not looked at
    ASSERT_EQ(line(t), "");
    EXPECT_EQ(t->id, 55);
    EXPECT_EQ(seen[1].found, "55 instead of -5");
    fixed.abort_add(*t);
    EXPECT_EQ(fixed.groups(), std::vector{55});
}

TEST_F(directory_join, says_what_and_why) {
    const auto said = [&](const caller& who, add_request r) { return line(d.begin_add(who, r, nullptr)); };
    EXPECT_EQ(said(root, {.pid = 99, .id = 7}), "group 7: add process 99: ESRCH: there is no such process");
    EXPECT_EQ(said(root, {.pid = 99}), "new group: add process 99: ESRCH: there is no such process");
    all.start(20).attached = false;
    EXPECT_EQ(said(root, {.pid = 20, .id = 7}),
              "group 7: add process 20: EOPNOTSUPP: it is not attached to the broker, and cannot be told to map: start it by `cohort pool exec`, or let it call share_pool::attach");
    EXPECT_EQ(said({11, 1001, 1001}, {.pid = 10, .id = 7}), "group 7: add process 10: EPERM: uid 1001 may not add a process of uid 1000");
    ASSERT_TRUE(d.create({10, 1000, 100}, {.id = 7, .mode = 0640}));
    all.start(30, 1002);
    ASSERT_TRUE(d.attach(all.who(30)));
    EXPECT_EQ(said({30, 1002, 100}, {.pid = 30, .id = 7}), "group 7: add process 30: EACCES: uid 1002, gid 100 may not join it for reading and writing: its mode is 0640, its owner 1000:100");
    ASSERT_TRUE(join(d, all.as(10), {.pid = 10, .id = 7}));
    EXPECT_EQ(said(root, {.pid = 10, .id = 7}), "group 7: add process 10: EEXIST: it is in it already");
    EXPECT_EQ(said(root, {.pid = 10, .id = 8, .single = true}), "group 8: add process 10: EEXIST: it is in group 7, and asks for one group only");
}

TEST_F(directory_join, the_mode_is_read_as_a_files) {
    struct {
        unsigned mode;
        caller who;
        access prot;
        int code;
    } const cases[] = {
        {0600, {10, 1000, 5}, access::read_write, 0},      {0400, {10, 1000, 5}, access::read, 0},       {0400, {10, 1000, 5}, access::read_write, EACCES}, {0200, {10, 1000, 5}, access::read_write, EACCES},
        {0066, {10, 1000, 5}, access::read, EACCES},       {0060, {10, 1001, 100}, access::read_write, 0}, {0040, {10, 1001, 100}, access::read, 0},         {0040, {10, 1001, 100}, access::read_write, EACCES},
        {0606, {10, 1001, 100}, access::read, EACCES},     {0006, {10, 1001, 5}, access::read_write, 0}, {0004, {10, 1001, 5}, access::read, 0},             {0660, {10, 1001, 5}, access::read, EACCES},
        {0000, {10, 0, 0}, access::read_write, 0},
    };
    int id = 1;
    for (const auto& c : cases) {
        ASSERT_TRUE(d.create({1, 1000, 100}, {.id = ++id, .bytes = 2 * mib, .mode = c.mode}));
        EXPECT_EQ(code(join(d, c.who, {.pid = 10, .id = id, .prot = c.prot})), c.code) << std::oct << c.mode << std::dec << ", uid " << c.who.uid << ", gid " << c.who.gid;
    }
}

TEST_F(directory_join, three_thousand_groups_of_a_process_and_1024_members_are_just_that) {  // openEuler: one fewer each
    for (int i = 1; i <= 3000; ++i) ASSERT_TRUE(d.create(root, {.id = i, .bytes = 2 * mib})) << i;
    for (int i = 1; i < 3000; ++i) ASSERT_TRUE(join(d, root, {.pid = 10, .id = i})) << i;
    const auto last = d.begin_add(root, {.pid = 10, .id = 3000}, nullptr);
    ASSERT_EQ(line(last), "");
    EXPECT_EQ(line(join(d, root, {.pid = 10, .id = 4000})), "group 4000: add process 10: ENOSPC: it is in 3000 of 3000 groups");  // one of them by a ticket
    EXPECT_EQ(code(d.begin_local(root, 10)), 0);  // does not count
    ASSERT_TRUE(d.commit_add(*last));
    EXPECT_EQ(code(join(d, root, {.pid = 10})), ENOSPC);
    ASSERT_TRUE(d.remove(root, 10, 5, false));
    EXPECT_EQ(join(d, root, {.pid = 10}).value_or(0), 100'000);

    for (int pid = 1000; pid < 2022; ++pid) {
        start(d, pid);
        ASSERT_TRUE(join(d, root, {.pid = pid, .id = 7})) << pid;
    }
    const auto a = d.begin_add(root, {.pid = 11, .id = 7}, nullptr);  // 10, 1,022 of them, and this
    ASSERT_EQ(line(a), "");
    EXPECT_EQ(line(join(d, root, {.pid = 12, .id = 7})), "group 7: add process 12: ENOSPC: it has 1024 of 1024 members");
    d.abort_add(*a);
    EXPECT_EQ(code(join(d, root, {.pid = 12, .id = 7})), 0);
    EXPECT_EQ(d.look_at(7)->members.size(), 1024u);
    EXPECT_EQ(code(join(d, root, {.pid = 13, .id = 7})), ENOSPC);
}

TEST_F(directory_join, a_join_that_is_put_back_leaves_nothing) {
    const auto before = d.count();
    const auto t = d.begin_add(root, {.pid = 10}, nullptr);
    ASSERT_EQ(line(t), "");
    EXPECT_TRUE(t->new_group);
    EXPECT_EQ(t->group.references, 1);
    EXPECT_EQ(t->joiner, member_facts{all.who(10)});
    EXPECT_EQ(code(d.begin_add(root, {.pid = 10, .id = t->id}, nullptr)), EEXIST);
    EXPECT_EQ(line(d.begin_add(root, {.pid = 10, .id = 7, .single = true}, nullptr)), "group 7: add process 10: EEXIST: it is being added to group 100000, and asks for one group only");
    d.abort_add(*t);
    d.abort_add(*t);  // again: nothing
    EXPECT_EQ(line(d.commit_add(*t)), "group 100000: add process 10: EINVAL: nobody is being added by ticket 1");
    EXPECT_EQ(d.count(), before);
    EXPECT_EQ(d.begin_add(root, {.pid = 10}, nullptr)->id, t->id);
}

TEST_F(directory_join, a_new_group_lives_if_anybodys_join_is_committed) {
    const auto a = d.begin_add(root, {.pid = 10, .id = 7}, nullptr);
    const auto b = d.begin_add(root, {.pid = 11, .id = 7}, nullptr);
    ASSERT_TRUE(a && b);
    EXPECT_TRUE(a->new_group && b->new_group);
    ASSERT_TRUE(d.find(7));
    d.abort_add(*a);
    EXPECT_FALSE(d.look_at(7)->dead);
    EXPECT_EQ(d.commit_add(*b).value_or(0), 7);
    EXPECT_FALSE(d.begin_add(root, {.pid = 12, .id = 7}, nullptr)->new_group);
    d.drop(7);
    const auto c = d.begin_add(root, {.pid = 13, .id = 8}, nullptr);
    ASSERT_TRUE(d.find(8));
    d.abort_add(*c);
    EXPECT_EQ(line(d.begin_add(root, {.pid = 13, .id = 8}, nullptr)), "group 8: add process 13: ENODEV: it is dead");
    d.drop(8);
    EXPECT_EQ(d.look_at(8), std::nullopt);
}

TEST_F(directory_join, commit_looks_again) {
    ASSERT_TRUE(d.create(root, {.id = 7}));
    const auto snapshot = d.snapshot();
    const auto after = [&](const std::function<void()>& meanwhile) {
        const process_facts was = all.known[10];
        const auto t = d.begin_add(root, {.pid = 10, .id = 7}, nullptr);
        EXPECT_EQ(line(t), "");
        meanwhile();
        const auto r = d.commit_add(*t);
        all.known[10] = was;
        EXPECT_EQ(d.fault(), "");
        return line(r);
    };
    const std::string begin = "group 7: add process 10: ";
    EXPECT_EQ(after([&] { all.known[10].exists = false; }), begin + "ESRCH: the process has ended meanwhile");
    EXPECT_EQ(after([&] { all.known[10].exiting = true; }), begin + "ESRCH: the process has ended meanwhile");
    EXPECT_EQ(after([&] { ++all.known[10].leader.mark; }), begin + "ESRCH: the process has ended meanwhile");
    EXPECT_EQ(after([&] { all.known[10].attached = false; }), begin + "ESRCH: the process has lost its connection to the broker meanwhile");
    EXPECT_EQ(after([&] { all.known[10].dumping = true; }), begin + "EBUSY: the process is writing a core file");
    EXPECT_EQ(d.snapshot(), snapshot);
    EXPECT_EQ(after([&] {
                  d.exit(all.who(10));
                  EXPECT_TRUE(d.attach(all.who(10)));  // connected again, but the one that was to map is gone
              }),
              begin + "ESRCH: the process has lost its connection to the broker meanwhile");
    EXPECT_EQ(after([&] { EXPECT_TRUE(d.destroy(root, 7, false)); }), begin + "ENODEV: it has died meanwhile");
    EXPECT_EQ(d.look_at(7), std::nullopt);
}

TEST_F(directory_join, a_group_whose_last_member_leaves_dies_under_a_join) {
    ASSERT_TRUE(join(d, root, {.pid = 11, .id = 7}));
    const auto t = d.begin_add(root, {.pid = 10, .id = 7}, nullptr);
    ASSERT_EQ(line(t), "");
    EXPECT_THAT(d.exit(all.who(11)), ElementsAre(7));
    EXPECT_TRUE(d.look_at(7)->dead);  // pinned by the ticket
    EXPECT_EQ(code(d.begin_add(root, {.pid = 12, .id = 7}, nullptr)), ENODEV);  // and never revived
    EXPECT_EQ(code(d.commit_add(*t)), ENODEV);
    EXPECT_EQ(d.look_at(7), std::nullopt);
}

TEST_F(directory_join, any_thread_stands_for_its_process) {
    all.known[510] = all.known[10];
    trace seen;
    const auto t = d.begin_add({10, 1000, 1000}, {.pid = 510, .id = 7}, &seen);
    ASSERT_EQ(line(t), "");
    EXPECT_EQ(t->joiner.process, all.who(10));
    EXPECT_EQ(seen[3].found, "lives, a thread of process 10");
    ASSERT_TRUE(d.commit_add(*t));
    EXPECT_EQ(code(join(d, root, {.pid = 10, .id = 7})), EEXIST);
    EXPECT_EQ(d.remove(root, 510, 7, false).value_or(false), true);
}

TEST_F(directory_join, removing_looks_in_its_order) {
    ASSERT_TRUE(join(d, root, {.pid = 10, .id = 7}));
    ASSERT_TRUE(join(d, root, {.pid = 11, .id = 7}));
    const std::string begin = "group 7: remove process ";
    EXPECT_EQ(line(d.remove(root, 10, 8, false)), "group 8: remove process 10: EINVAL: there is no such group");
    EXPECT_EQ(line(d.remove(root, 99, 7, true)), begin + "99: EINVAL: memory is allocated in it");
    const std::uint64_t base = d.look_at(7)->range.base;
    ASSERT_TRUE(d.import(all.as(10), 7, {.at = base, .bytes = 4096}));
    EXPECT_EQ(line(d.remove(root, 10, 7, false)), begin + "10: EINVAL: 1 areas are imported into it");
    ASSERT_TRUE(d.unshare(all.as(10), 7, base, 4096));
    EXPECT_EQ(line(d.remove(root, 99, 7, false)), begin + "99: ESRCH: there is no such process");
    EXPECT_EQ(line(d.remove(root, 12, 7, false)), begin + "12: ESRCH: the process is not in it");
    EXPECT_EQ(line(d.remove({12, 5, 5}, 10, 7, false)), begin + "10: EPERM: uid 5 may not remove a process of uid 1000");
    all.known[10].exiting = true;
    EXPECT_EQ(line(d.remove(root, 10, 7, false)), begin + "10: ESRCH: it is ending");
    all.known[10].exiting = false;
    EXPECT_EQ(d.remove({10, 5, 5}, 10, 7, false).value_or(true), false);  // oneself
    ASSERT_TRUE(d.find(7));
    EXPECT_EQ(d.remove({99, 1000, 5}, 11, 7, false).value_or(false), true);  // the last one
    EXPECT_EQ(line(d.remove(root, 11, 7, false)), begin + "11: EINVAL: it is dead");
    d.drop(7);
}

TEST_F(directory_join, a_local_group_is_its_processs_own) {
    const auto t = d.begin_local(root, 10);
    ASSERT_EQ(line(t), "");
    EXPECT_EQ(line(d.begin_local(root, 10)), "process 10: make its local group: EEXIST: it is being made");
    EXPECT_EQ(d.commit_add(*t).value_or(0), 200'001);
    EXPECT_EQ(line(d.begin_local(root, 10)), "process 10: make its local group: EEXIST: it has group 200001");
    EXPECT_EQ(line(d.destroy(root, 200'001, true)), "group 200001: destroy: EPERM: it is a process's own, and ends with it");
    EXPECT_EQ(line(d.remove(root, 10, 200'001, false)), "group 200001: remove process 10: EINVAL: it is a process's own");
    EXPECT_EQ(code(join(d, root, {.pid = 11, .id = 200'001})), EINVAL);
    EXPECT_EQ(join(d, root, {.pid = 10, .id = 7, .single = true}).value_or(0), 7);  // does not count as a group it is in
    EXPECT_EQ(d.count(), (directory::totals{.groups = 1, .local = 1, .members = 1, .processes = 4, .addresses = 128 * mib}));
    EXPECT_EQ(d.look_at(200'001)->owner_uid, 1000u);
    const struct {
        int code;
        std::function<void(process_facts&)> wrong;
    } cases[] = {{ESRCH, [](auto& f) { f.exists = false; }},         {ESRCH, [](auto& f) { f.exiting = true; }},  {EINVAL, [](auto& f) { f.kernel_thread = true; }},
                 {EINVAL, [](auto& f) { f.shares_memory = true; }}, {EOPNOTSUPP, [](auto& f) { f.attached = false; }}, {EBUSY, [](auto& f) { f.dumping = true; }}};
    for (const auto& c : cases) {
        const process_facts was = all.known[11];
        c.wrong(all.known[11]);
        EXPECT_EQ(code(d.begin_local(root, 11)), c.code);
        all.known[11] = was;
    }
    EXPECT_EQ(code(d.begin_local({12, 5, 5}, 11)), EPERM);
    directory full({.window = {window_base, 2 * mib}, .local_bytes = 2 * mib}, all.look());
    for (const int pid : {10, 11}) ASSERT_TRUE(full.attach(all.who(pid)));
    const auto first = full.begin_local(root, 10);
    ASSERT_TRUE(first);
    EXPECT_EQ(code(full.begin_local(root, 11)), EOVERFLOW);
    full.abort_add(*first);
    EXPECT_EQ(full.begin_local(root, 11)->id, 200'001);
}

}  // namespace
}  // namespace cohort::sharepool
