// SPDX-License-Identifier: Apache-2.0
// The same calls, whoever carries them out.
#include <gtest/gtest.h>

#include <cohort/coresched/control.hpp>
#include <cohort/coresched/engine_verbs.hpp>
#include <cohort/coresched/testing/fake_kernel.hpp>

namespace cohort::coresched {
namespace {

/// Two tenants of two threads each are set apart, join, and are let go; the caller belongs to none. What each thread has is told by `of`.
template <class CookieOf>
void tenants_come_and_go(verbs& v, int a, int a2, int b, int b2, CookieOf of) {
    for (int id : {0, a, a2, b, b2}) EXPECT_EQ(v.get(id).value(), no_cookie) << v.name();
    ASSERT_TRUE(v.create(a, scope::process));
    ASSERT_TRUE(v.create(b2, scope::process));
    EXPECT_EQ(of(a), of(a2));
    EXPECT_EQ(of(b), of(b2));
    EXPECT_NE(of(a), of(b));
    EXPECT_NE(of(a), no_cookie);
    EXPECT_NE(v.get(a).value(), v.get(b).value());
    ASSERT_TRUE(v.share_from(a));
    EXPECT_EQ(v.get(0).value(), v.get(a).value());
    ASSERT_TRUE(v.share_to(b, scope::thread));
    EXPECT_EQ(of(b), of(a));
    EXPECT_NE(of(b2), of(a));
    for (int id : {a, b}) ASSERT_TRUE(v.clear(id, scope::process));
    for (int id : {a, a2, b, b2}) EXPECT_EQ(of(id), no_cookie);
    EXPECT_NE(v.get(0).value(), no_cookie) << "the caller keeps its own";
    ASSERT_TRUE(v.clear(0, scope::thread));
    EXPECT_EQ(v.get(0).value(), no_cookie);
    EXPECT_EQ(v.get(77).error().code, ESRCH);
    EXPECT_EQ(v.create(77, scope::process_group).error().code, ESRCH);
}

TEST(verbs, run_unchanged_on_a_kernel) {
    testing::fake_kernel host;
    host.tasks().start({.name = "init"});
    control kernel(host);
    const int a = host.tasks().start({}), a2 = host.tasks().clone(a), b = host.tasks().start({}), b2 = host.tasks().clone(b);
    EXPECT_EQ(kernel.name(), "kernel");
    tenants_come_and_go(kernel, a, a2, b, b2, [&](int id) { return host.of(id); });
    EXPECT_FALSE(host.cookies().enabled());
}

TEST(verbs, run_unchanged_on_the_engine_which_schedules_by_them) {
    sys::recorded none;
    const auto machine = machine::load("synthetic:pack:1 core:1 pu:2", none).value();
    engine e(machine);
    engine_threads threads(e);
    std::map<int, task_id> tasks;
    const auto start = [&](const char* name, int of, int cpu) {
        const task_id t = e.add({.name = name, .cpus = {cpu}});
        const int tid = of ? threads.clone(t, of) : threads.start(t, {.uid = 7});
        tasks[tid] = t;
        return tid;
    };
    const int caller = start("caller", 0, 0), a = start("a", 0, 0), a2 = start("a2", a, 1), b = start("b", 0, 1), b2 = start("b2", b, 1);
    table_verbs v = threads.by(caller);
    EXPECT_EQ(v.name(), "engine");
    tenants_come_and_go(v, a, a2, b, b2, [&](int id) {
        EXPECT_EQ(threads.table().cookie_of(id), e.cookie_of(tasks.at(id)));
        return e.cookie_of(tasks.at(id));
    });
    EXPECT_FALSE(e.cookies().enabled());
    // What the verbs say is what runs.
    e.wake(tasks.at(a)), e.wake(tasks.at(b));
    e.settle();
    EXPECT_TRUE(e.running(0) == tasks.at(a) && e.running(1) == tasks.at(b));
    ASSERT_TRUE(v.create(a, scope::process));
    e.settle();
    EXPECT_TRUE(e.forced_idle(0) || e.forced_idle(1));
    EXPECT_EQ(e.broken(), "");
    ASSERT_TRUE(v.share_from(a));
    ASSERT_TRUE(v.share_to(b, scope::process));
    e.settle();
    // As in the kernel, who waits and gets another cookie is looked at when the core chooses next.
    e.advance(4'000'000), e.tick(), e.settle();
    EXPECT_FALSE(e.forced_idle(0) || e.forced_idle(1));
    for (const auto& [tid, t] : tasks) threads.exit(tid);
    EXPECT_FALSE(e.cookies().enabled());
}

}  // namespace
}  // namespace cohort::coresched
