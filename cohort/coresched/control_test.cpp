// SPDX-License-Identifier: Apache-2.0
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/coresched/control.hpp>
#include <cohort/coresched/testing/fake_kernel.hpp>
#include <cohort/sys/failing.hpp>

namespace cohort::coresched {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<int> ids(const std::vector<tagged>& all) {
    std::vector<int> out;
    for (const tagged& t : all) out.push_back(t.id);
    return out;
}

class core_control : public ::testing::Test {
protected:
    testing::fake_kernel host;
    process_table& tasks = host.tasks();
    const int init = tasks.start({.name = "init"});
    const int a = tasks.start({.name = "a"}), a2 = tasks.clone(a);
    const int b = tasks.start({.group = a, .name = "b"});
    control kernel{host};
    const int me = host.self();

    /// Everything as another user: one that may look at its own only.
    void become(unsigned uid) {
        for (int t : {me, a, a2, b}) tasks.set_uid(t, uid);
    }
    std::string line(const tag_report& r) { return r.failure ? r.failure->line() : "ok"; }
};

TEST_F(core_control, verbs_reach_threads_processes_and_groups) {
    ASSERT_TRUE(kernel.create(a, scope::process));
    EXPECT_EQ(kernel.get(a).value(), kernel.get(a2).value());
    EXPECT_EQ(kernel.get(b).value(), no_cookie);
    EXPECT_EQ(kernel.get(0).value(), no_cookie);
    ASSERT_TRUE(kernel.share_from(a));
    EXPECT_EQ(host.of(me), host.of(a));
    ASSERT_TRUE(kernel.create(a2, scope::process_group));
    EXPECT_EQ(host.of(b), host.of(a2));
    EXPECT_NE(host.of(me), host.of(a));
    ASSERT_TRUE(kernel.share_to(b, scope::thread));
    EXPECT_EQ(host.of(b), host.of(me));
    EXPECT_NE(host.of(a), host.of(me));
}

TEST_F(core_control, clearing_leaves_the_caller_its_cookie) {
    ASSERT_TRUE(kernel.create(0, scope::thread));
    ASSERT_TRUE(kernel.share_to(a, scope::process));
    const cookie mine = host.of(me);
    ASSERT_TRUE(kernel.clear(a, scope::process));
    EXPECT_EQ(host.of(a), no_cookie);
    EXPECT_EQ(host.of(a2), no_cookie);
    EXPECT_EQ(host.of(me), mine);
    ASSERT_TRUE(kernel.clear(0, scope::thread)) << "even its own";
    EXPECT_EQ(host.of(me), no_cookie);
    EXPECT_FALSE(host.cookies().enabled());
    ASSERT_TRUE(kernel.create(b, scope::thread));
    ASSERT_TRUE(kernel.clear(b, scope::thread)) << "a caller without one does it itself";
    EXPECT_EQ(host.of(b), no_cookie);
}

TEST_F(core_control, clearing_needs_somebody_without_a_cookie_to_share_from) {
    become(7);
    for (int t : {me, a, b}) ASSERT_TRUE(kernel.create(t, scope::process));
    const auto r = kernel.clear(a, scope::process);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EPERM);
    EXPECT_THAT(r.error().line(), HasSubstr("no process without a cookie is its to share from"));
    EXPECT_NE(host.of(a), no_cookie);
    tasks.start({.uid = 7});
    EXPECT_TRUE(kernel.clear(a, scope::process));
    EXPECT_EQ(host.of(a2), no_cookie);
}

TEST_F(core_control, refusals_are_told_apart) {
    tasks.built_in = false;
    EXPECT_EQ(kernel.get(0).error().line(), "this thread: get its cookie: EINVAL: CONFIG_SCHED_CORE is not set in kernel 6.12.0-test");
    EXPECT_EQ(facility(host).code, EINVAL);
    EXPECT_EQ(line(tag(host, {}, {.ids = {a}})), "core scheduling: tag: EINVAL: CONFIG_SCHED_CORE is not set in kernel 6.12.0-test");
    EXPECT_TRUE(tag(host, {}, {.ids = {a}}).unsupported);
    tasks.built_in = true;
    tasks.smt = false;
    EXPECT_THAT(kernel.create(a, scope::process).error().line(), HasSubstr("ENODEV: no core has two CPUs online"));
    EXPECT_EQ(take(host, {}).error().code, ENODEV);
    EXPECT_EQ(list(host).error().code, ENODEV);
    tasks.smt = true;
    EXPECT_THAT(kernel.share_to(77, scope::thread).error().line(), HasSubstr("thread 77: share to it: ESRCH: there is no such thread"));
    EXPECT_EQ(kernel.get(-1).error().code, ESRCH);
    become(7);
    tasks.set_uid(b, 8);
    EXPECT_THAT(kernel.share_from(b).error().line(), HasSubstr("EPERM"));
    EXPECT_THAT(kernel.create(a, scope::process_group).error().line(), HasSubstr("nothing was changed by this call"));
    tasks.no_memory = true;
    EXPECT_THAT(kernel.create(a, scope::thread).error().line(), HasSubstr("ENOMEM"));
    sys::failing filtered(host, {.call = "sched_core", .code = EPERM, .times = -1});
    EXPECT_THAT(facility(filtered).why, HasSubstr("seccomp"));
}

TEST_F(core_control, one_cookie_is_given_to_many_and_the_caller_keeps_its_own) {
    ASSERT_TRUE(kernel.create(0, scope::thread));
    const cookie mine = host.of(me);
    const auto r = tag(host, {.what = origin::fresh}, {.ids = {a, b}});
    ASSERT_TRUE(r.ok()) << line(r);
    EXPECT_THAT(ids(r.changed), UnorderedElementsAre(a, a2, b));
    EXPECT_EQ(r.value, host.of(a));
    EXPECT_EQ(host.of(a2), host.of(b));
    EXPECT_EQ(host.of(me), mine);
    EXPECT_NE(r.value, mine);
    EXPECT_EQ(r.changed[0].name, "a");
    EXPECT_EQ(r.changed[0].before, no_cookie);

    const auto copy = tag(host, {.what = origin::of, .id = a}, {.ids = {me}});
    ASSERT_TRUE(copy.ok()) << line(copy);
    EXPECT_EQ(host.of(me), host.of(a));
    EXPECT_THAT(ids(copy.changed), ElementsAre(me)) << "the thread that does it is not among them";
    const auto again = tag(host, {.what = origin::of, .id = a}, {.ids = {me}});
    EXPECT_THAT(again.changed, IsEmpty());
    EXPECT_THAT(ids(again.already), ElementsAre(me));

    const auto none = tag(host, {.what = origin::none}, {.ids = {a, b, me}});
    ASSERT_TRUE(none.ok()) << line(none);
    EXPECT_EQ(none.changed.size(), 4u);
    EXPECT_FALSE(host.cookies().enabled());
    EXPECT_THAT(line(tag(host, {.what = origin::of, .id = a}, {.ids = {b}})), HasSubstr("EINVAL: it has none"));
}

TEST_F(core_control, a_cgroup_is_looked_at_again_until_no_thread_is_new) {
    host.cgroup("/web", {a});
    host.cgroup("/web/below", {b});
    // Untagged threads fork before each of the first calls; what is born late is untagged, too.
    int forks = 0;
    host.always = [&] {
        if (++forks <= 40 && host.of(b) == no_cookie) host.fork_in_cgroup("/web/below", b);
    };
    const auto r = tag(host, {}, {.cgroups = {cgroup_directory(host, "web").value()}});
    ASSERT_TRUE(r.ok()) << line(r);
    EXPECT_GT(r.changed.size(), 3u);
    for (const auto& [tid, t] : tasks.threads()) EXPECT_EQ(t.tag, tid == me || tid == init ? no_cookie : r.value) << tid;
    EXPECT_EQ(cgroup_directory(host, "/sys/fs/cgroup/web").value(), "/sys/fs/cgroup/web");
    EXPECT_EQ(cgroup_directory(host, "nowhere").error().code, ENOENT);
    EXPECT_THAT(line(tag(host, {}, {.cgroups = {"/sys/fs/cgroup/nowhere"}})), HasSubstr("ENOENT"));
}

TEST_F(core_control, a_fork_after_the_last_change_is_found) {
    host.cgroup("/web", {a});
    // b is outside and has no cookie; it puts a child into the group while the last look is on.
    const int calls_of_all = [&] {
        testing::fake_kernel twin;
        const int x = twin.tasks().start({.name = "a"});
        twin.tasks().clone(x);
        twin.cgroup("/web", {x});
        EXPECT_TRUE(tag(twin, {}, {.cgroups = {"/sys/fs/cgroup/web"}}).ok());
        return twin.calls();
    }();
    for (int nth = 1; nth < calls_of_all - 4; ++nth) {
        host.before_call(nth, [&] { host.fork_in_cgroup("/web", b); });
        const auto r = tag(host, {}, {.cgroups = {"/sys/fs/cgroup/web"}});
        ASSERT_TRUE(r.ok());
        for (const auto& [tid, t] : tasks.threads()) EXPECT_EQ(t.tag, tid == me || tid == init || tid == b ? no_cookie : r.value) << tid << " with a fork before call " << nth;
    }
}

TEST_F(core_control, a_chain_of_processes_that_live_for_a_moment_is_caught) {
    // Each forks the next and ends: where one is listed, it is gone before it is looked at, and its child is not in the list. Now and then the looking is faster.
    for (int pace = 2; pace < 8; ++pace) {
        const std::string group = "/chain" + std::to_string(pace);
        int link = tasks.start({.name = "chain"}), calls = 0;
        host.cgroup(group, {link});
        host.always = [&] {
            if (++calls % 40 < 30 + pace && host.of(link) == no_cookie) {
                host.fork_in_cgroup(group, link);
                tasks.exit(link);
                tasks.reap(link);
                link = tasks.threads().rbegin()->first;
            }
        };
        const auto r = tag(host, {}, {.cgroups = {"/sys/fs/cgroup" + group}});
        host.always = {};
        ASSERT_TRUE(r.ok()) << line(r);
        EXPECT_EQ(host.of(link), r.value) << pace;
    }
}

TEST_F(core_control, threads_that_come_faster_than_they_are_tagged_end_it_with_a_report) {
    host.cgroup("/web", {a});
    host.always = [&] { host.fork_in_cgroup("/web", b); };
    const auto r = tag(host, {}, {.cgroups = {"/sys/fs/cgroup/web"}}, {.most_rounds = 4});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.failure->code, EAGAIN);
    EXPECT_EQ(r.rounds, 4);
    EXPECT_FALSE(r.changed.empty());
}

TEST_F(core_control, a_lack_of_permission_is_found_before_anything_is_changed) {
    become(7);
    const int foreign = tasks.start({.uid = 8});
    const auto r = tag(host, {}, {.ids = {a, foreign}});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.failure->code, EPERM);
    EXPECT_EQ(r.failed_id, foreign);
    EXPECT_THAT(r.changed, IsEmpty());
    EXPECT_EQ(host.of(a), no_cookie);
    EXPECT_FALSE(r.unsupported);
    EXPECT_EQ(tag(host, {}, {.ids = {a, 77}}).failed_id, 77);
    EXPECT_EQ(tag(host, {}, {.ids = {a, 77}}).failure->code, ESRCH);
    EXPECT_EQ(tag(host, {.what = origin::of, .id = foreign}, {.ids = {a}}).failed_id, foreign);
    EXPECT_EQ(host.cookies().times_enabled(), 0u);
}

TEST_F(core_control, a_lack_of_permission_half_way_tells_what_has_been_changed) {
    become(7);
    // b becomes another user's after it was looked at: it is the second process to be changed.
    host.always = [&] {
        if (host.of(a) != no_cookie) tasks.set_uid(b, 8);
    };
    const auto r = tag(host, {}, {.ids = {a, b}});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.failure->code, EPERM);
    EXPECT_EQ(r.failed_id, b);
    EXPECT_THAT(ids(r.changed), UnorderedElementsAre(a, a2));
    EXPECT_EQ(host.of(b), no_cookie);
    EXPECT_EQ(r.changed[0].after, host.of(a));
}

TEST_F(core_control, who_ends_meanwhile_is_noted_and_is_no_failure) {
    const auto end = [&](int tid) {
        if (tasks.there(tid)) tasks.exit(tid), tasks.reap(tid);
    };
    host.always = [&] {
        if (host.of(a) != no_cookie) end(a2);
    };
    const auto r = tag(host, {}, {.ids = {a, b}});
    ASSERT_TRUE(r.ok()) << line(r);
    EXPECT_THAT(r.gone, ElementsAre(a2));
    EXPECT_THAT(ids(r.changed), UnorderedElementsAre(a, b));
}

TEST_F(core_control, a_dry_run_tells_and_changes_nothing) {
    ASSERT_TRUE(kernel.create(b, scope::process));
    const cookie before = host.of(b);
    const auto r = tag(host, {.what = origin::of, .id = b}, {.ids = {a, b}}, {.dry_run = true});
    ASSERT_TRUE(r.ok());
    EXPECT_THAT(ids(r.changed), ElementsAre(a, a2));
    EXPECT_THAT(ids(r.already), ElementsAre(b));
    EXPECT_EQ(host.of(a), no_cookie);
    EXPECT_EQ(host.of(b), before);
    EXPECT_THAT(ids(tag(host, {}, {.ids = {b}}, {.dry_run = true}).changed), ElementsAre(b));
    EXPECT_THAT(ids(tag(host, {.what = origin::none}, {.ids = {a, b}}, {.dry_run = true}).changed), ElementsAre(b));
}

TEST_F(core_control, danger_is_told_and_nothing_is_done_unless_it_is_wanted) {
    EXPECT_TRUE(facility(host).safe());
    host.add_file("/sys/kernel/sched_ext/state", "disabled\n");
    EXPECT_TRUE(facility(host).safe());
    host.add_file("/sys/kernel/sched_ext/state", "enabled\n");
    host.add_file("/sys/kernel/sched_ext/root/ops", "lavd\n");
    EXPECT_THAT(facility(host).dangers, ElementsAre(HasSubstr("sched_ext is enabled (lavd)")));
    const auto r = tag(host, {}, {.ids = {a}});
    EXPECT_EQ(r.failure->code, EOPNOTSUPP);
    EXPECT_TRUE(r.unsupported);
    EXPECT_EQ(take(host, {}).error().code, EOPNOTSUPP);
    EXPECT_FALSE(host.cookies().enabled());
    EXPECT_TRUE(tag(host, {}, {.ids = {a}}, {.even_if_unsafe = true}).ok());
    host.add_file("/proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
    host.add_file("/proc/sys/kernel/sched_schedstats", "0\n");
    EXPECT_THAT(facility(host).notes, ElementsAre(HasSubstr("5.15.0-91-generic: before 5.18"), HasSubstr("sched_schedstats is 0")));
    for (const char* good : {"5.18.0", "6.1.0-43-amd64", "5.10.0", "odd"}) {
        host.add_file("/proc/sys/kernel/osrelease", std::string(good) + "\n");
        EXPECT_EQ(facility(host).notes.size(), 1u) << good;
    }
}

TEST_F(core_control, a_launcher_takes_a_cookie_for_itself) {
    const cookie first = take(host, {}).value();
    EXPECT_EQ(host.of(me), first);
    EXPECT_EQ(take(host, {.what = origin::of, .id = 0}).value(), first);
    ASSERT_TRUE(kernel.create(a, scope::process));
    EXPECT_EQ(take(host, {.what = origin::of, .id = a}).value(), host.of(a));
    EXPECT_EQ(take(host, {.what = origin::none}).value(), no_cookie);
    EXPECT_EQ(host.of(me), no_cookie);
    EXPECT_EQ(take(host, {.what = origin::of, .id = b}).error().code, EINVAL);
}

TEST_F(core_control, threads_are_listed_by_cookie) {
    become(7);
    tasks.start({.uid = 8});
    ASSERT_TRUE(kernel.create(b, scope::process));
    ASSERT_TRUE(kernel.create(a, scope::process));
    const auto all = list(host).value();
    EXPECT_THAT(ids(all.threads), ElementsAre(b, a, a2)) << "by cookie";
    EXPECT_EQ(all.untagged, 1u);
    EXPECT_EQ(all.hidden, 2u) << "init, too";
    host.cgroup("/web", {a});
    EXPECT_THAT(ids(list(host, {"/sys/fs/cgroup/web"}).value().threads), ElementsAre(a, a2));
    EXPECT_EQ(list(host, {"/sys/fs/cgroup/no"}).error().code, ENOENT);
}

// Every call of the system fails once: an error comes out, or it did not matter; the caller's cookie stays and none is left behind.
TEST_F(core_control, every_call_may_fail) {
    host.cgroup("/web", {a});
    ASSERT_TRUE(kernel.create(0, scope::thread));
    const cookie mine = host.of(me);
    for (const char* call : {"sched_core", "in_new_thread", "list_dir", "open", "read"}) {
        for (int nth = 1; nth < 200; ++nth) {
            sys::failing os(host, {.call = call, .nth = nth, .code = EPERM});
            const auto r = tag(os, {}, {.ids = {b}, .cgroups = {"/sys/fs/cgroup/web"}});
            EXPECT_EQ(host.of(me), mine);
            const bool all_have_it = host.of(a) == r.value && host.of(a2) == r.value && host.of(b) == r.value;
            EXPECT_TRUE(!r.ok() || all_have_it) << call << nth;
            for (const tagged& t : r.changed) EXPECT_EQ(host.of(t.id), t.after) << call << nth;
            ASSERT_TRUE(tag(host, {.what = origin::none}, {.ids = {a, b}}).ok());
            EXPECT_EQ(host.cookies().live(), 1u);
            if (os.failures() == 0) break;
        }
    }
}

// On this machine's own kernel, whatever it has.
TEST(core_control_here, the_running_kernel_answers_as_one_without_it_or_does_it) {
    control kernel(sys::real());
    const availability here = facility(sys::real());
    if (!here.there()) {
        EXPECT_THAT(here.code, ::testing::AnyOf(EINVAL, ENODEV, EPERM, ENOSYS));
        EXPECT_EQ(kernel.create(0, scope::thread).error().code, here.code);
        EXPECT_EQ(kernel.clear(0, scope::process).error().code, here.code);
        EXPECT_EQ(tag(sys::real(), {}, {.ids = {sys::real().getpid()}}).failure->code, here.code);
        return;
    }
    if (!here.safe()) GTEST_SKIP() << here.dangers.front();
    ASSERT_TRUE(sys::real().in_new_thread([&] {
        ASSERT_TRUE(kernel.create(0, scope::thread));
        EXPECT_NE(kernel.get(0).value(), no_cookie);
        ASSERT_TRUE(kernel.clear(0, scope::thread)) << "the thread that has started this one has none";
        EXPECT_EQ(kernel.get(0).value(), no_cookie);
    }));
}

}  // namespace
}  // namespace cohort::coresched
