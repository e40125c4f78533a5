// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include <cohort/base/held.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/coresched/executor.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::coresched {
namespace {

/// CPUs that are not there: a test says on which one a thread is.
executor_options siblings(int cpus = 2) { return {.cores = {cpumask::range(0, cpus - 1)}, .slice_ns = 0, .real_cpus = false}; }

struct two {
    explicit two(executor_options o = siblings()) : ex(executor::create(std::move(o)).value()), a(ex->add({.name = "a"}).value()), b(ex->add({.name = "b"}).value()) {
        EXPECT_TRUE(ex->create(a->id(), scope::thread));
        EXPECT_TRUE(ex->create(b->id(), scope::thread));
    }
    std::unique_ptr<executor> ex;
    std::unique_ptr<tenant> a, b;
};

void until(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
}

/// Runs one task of t on `cpu`, in a thread of its own, which tells when it is inside and stays until it may go.
struct one_task {
    one_task(tenant& t, int cpu, std::function<void()> inner = {})
        : thread([this, &t, cpu, inner] {
              t.enter(cpu);
              inside = true;
              if (inner) inner();
              until([this] { return may_go.load(); });
              t.leave(cpu);
              gone = true;
          }) {}
    ~one_task() { end(); }
    void end() {
        may_go = true;
        if (thread.joinable()) thread.join();
    }
    std::atomic<bool> inside{false}, may_go{false}, gone{false};
    std::thread thread;
};

/// As long as a waiter needs to be seen waiting.
void until_forced_idle(const executor& ex, int cpu) {
    const auto forced = [&] { return ex.report().cpus.at(static_cast<std::size_t>(cpu)).figures.forced_idle_ns; };
    const auto before = forced();
    until([&] { return forced() > before; });
}

TEST(executor, equal_cookies_share_a_core_and_unequal_ones_do_not) {
    two t;
    auto a2 = t.ex->add({.name = "a2"}).value();
    {
        one_task first(*t.a, 0);
        until([&] { return first.inside.load(); });
        one_task other(*t.b, 1);
        until_forced_idle(*t.ex, 1);
        EXPECT_FALSE(other.inside);
        first.end();
        until([&] { return other.inside.load(); });
    }
    const auto r = t.ex->report();
    EXPECT_EQ(r.overlap_ns, 0u);
    EXPECT_EQ(r.stretches, 2u);
    EXPECT_EQ(r.turns, 1u);
    EXPECT_GT(r.tenants[0].figures.forced_idle_ns, 0u);
    EXPECT_EQ(r.tenants[0].figures.forced_idle_ns, r.cpus[1].figures.forced_idle_ns) << "what a CPU lost is charged to whom it was lost for";
    const auto pair = std::pair{t.ex->get(t.a->id()).value(), t.ex->get(t.b->id()).value()};
    EXPECT_EQ(r.who_forced_whom.at(pair), r.cpus[1].figures.forced_idle_ns);
    EXPECT_GT(r.longest_wait_ns, 0u);
    // Both without a cookie: they trust each other.
    ASSERT_TRUE(t.ex->clear(t.a->id(), scope::thread));
    one_task x(*t.a, 0), y(*a2, 1);
    until([&] { return x.inside.load() && y.inside.load(); });
}

TEST(executor, a_worker_stays_inside_between_tasks_until_others_wait_or_it_rests) {
    two t;
    std::atomic<int> step{0};
    std::thread worker([&] {
        t.a->attach(0);
        t.a->enter(0);
        t.a->leave(0);
        t.a->enter(0);
        t.a->leave(0);
        step = 1;
        until([&] { return step == 2; });
        t.a->enter(0);
        t.a->leave(0);
        step = 3;
        until([&] { return step == 4; });
        t.a->enter(0);
        t.a->leave(0);
        t.a->rest(0);
        t.a->rest(0);
        step = 5;
    });
    until([&] { return step == 1; });
    EXPECT_EQ(t.ex->report().stretches, 0u) << "it has left between tasks";
    {
        one_task other(*t.b, 1);
        until_forced_idle(*t.ex, 1);
        step = 2;
        until([&] { return other.inside.load(); });  // it must go at the end of its task
    }
    until([&] { return step == 3; });
    step = 4;
    worker.join();
    EXPECT_EQ(t.ex->report().stretches, 3u);
    one_task other(*t.b, 1);
    until([&] { return other.inside.load(); });
}

TEST(executor, a_task_makes_way_at_a_safepoint_and_where_it_waits) {
    two t;
    std::atomic<bool> other_ran{false};
    one_task first(*t.a, 0, [&] {
        safepoint();  // nobody waits
        until([&] { return other_ran.load() || (safepoint(), false); });
        other_ran = false;
        const blocking here;
        until([&] { return other_ran.load(); });
    });
    for (int i = 0; i < 2; ++i) {
        one_task other(*t.b, 1);
        until([&] { return other.inside.load(); });
        other.end();
        other_ran = true;
        until([&] { return !other_ran || i == 1; });
    }
    first.end();
    EXPECT_EQ(t.ex->report().overlap_ns, 0u);
}

TEST(executor, a_task_of_another_cookie_inside_a_task_takes_its_place) {
    two t;
    auto same = t.ex->add({.name = "same"}).value();
    t.a->enter(0);
    EXPECT_TRUE(t.a->admits_inline(0));
    EXPECT_FALSE(t.b->admits_inline(0)) << "it would have to wait for itself";
    t.a->enter(0);  // nested: nothing
    t.b->enter(0);
    t.b->enter(0);
    t.b->leave(0);
    t.b->leave(0);
    t.a->leave(0);
    ASSERT_TRUE(t.ex->share_to(same->id(), scope::thread));
    EXPECT_TRUE(same->admits_inline(0));
    same->enter(0);
    { const blocking both; }
    same->leave(0);
    t.a->leave(0);
    const auto r = t.ex->report();
    EXPECT_EQ(r.overlap_ns, 0u);
    EXPECT_EQ(r.stretches, 4u) << "a, b, a again, and once more after it had blocked";
}

TEST(executor, verbs_as_the_kernel_has_them) {
    auto ex = executor::create(siblings()).value();
    auto a = ex->add({.name = "a", .owner = "p"}).value(), b = ex->add({.name = "b", .owner = "p"}).value(), c = ex->add({.name = "c"}).value();
    EXPECT_EQ(ex->name(), "executor");
    EXPECT_EQ(ex->get(a->id()).value(), no_cookie);
    ASSERT_TRUE(ex->create(a->id(), scope::process));
    const cookie p = ex->get(a->id()).value();
    EXPECT_NE(p, no_cookie);
    EXPECT_EQ(ex->get(b->id()).value(), p);
    EXPECT_EQ(ex->get(c->id()).value(), no_cookie);
    ASSERT_TRUE(ex->share_from(a->id()));
    EXPECT_EQ(ex->get(0).value(), p) << "the outside";
    ASSERT_TRUE(ex->share_to(c->id(), scope::process));
    EXPECT_EQ(ex->get(c->id()).value(), p);
    ASSERT_TRUE(ex->create(c->id(), scope::thread));
    EXPECT_NE(ex->get(c->id()).value(), p);
    ASSERT_TRUE(ex->clear(a->id(), scope::process_group));
    EXPECT_EQ(ex->get(c->id()).value(), no_cookie);
    ASSERT_TRUE(ex->create(0, scope::thread));
    EXPECT_NE(ex->get(0).value(), p);
    ASSERT_TRUE(ex->clear(0, scope::process_group));
    EXPECT_EQ(ex->get(0).value(), no_cookie);
    EXPECT_EQ(ex->get(77).error().line(), "tenant 77: get: ESRCH: there is no such tenant");
    EXPECT_EQ(ex->create(-1, scope::thread).error().code, ESRCH);
    for (const auto& r : {ex->share_to(77, scope::thread), ex->share_from(77), ex->clear(77, scope::process)}) EXPECT_EQ(r.error().code, ESRCH);
    const int gone = c->id();
    c.reset();
    EXPECT_EQ(ex->get(gone).error().code, ESRCH);
    // Inside a task the caller is its tenant.
    a->enter(0);
    ASSERT_TRUE(ex->create(0, scope::thread));
    a->leave(0);
    EXPECT_NE(ex->get(a->id()).value(), no_cookie);

    auto single = executor::create({.cores = {cpumask{0}, cpumask{1}}}).value();
    EXPECT_EQ(single->create(0, scope::thread).error().code, ENODEV);
}

TEST(executor, refuses_cores_that_make_no_sense) {
    EXPECT_EQ(executor::create({}).error().line(), "executor: create: EINVAL: no core is given");
    EXPECT_EQ(executor::create({.cores = {cpumask{}}}).error().line(), "executor: create: EINVAL: a core has no CPU");
    EXPECT_EQ(executor::create({.cores = {cpumask{0, 1}, cpumask{1, 2}}}).error().line(), "executor: create: EINVAL: cpu 1 is in two cores");
}

TEST(executor, cores_with_one_cpu_need_no_care) {
    auto ex = executor::create({.cores = {cpumask{0}, cpumask{1}}, .real_cpus = false}).value();
    auto a = ex->add({}).value();
    one_task x(*a, 0), y(*a, 1);
    until([&] { return x.inside.load() && y.inside.load(); });
    EXPECT_TRUE(a->admits_inline(0));
    EXPECT_EQ(ex->report().stretches, 0u) << "nothing to compare";
}

TEST(executor, bugs_of_callers_end_the_program) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    two t;
    EXPECT_DEATH(t.a->leave(0), "did not enter last");
    EXPECT_DEATH(
        {
            t.a->enter(0);
            const holding lock;
            const blocking here;
        },
        "while it holds a lock");
    EXPECT_DEATH(t.ex.reset(), "before its tenants");
#if defined(COHORT_DEBUG_LOCKS)
    EXPECT_DEATH(
        {
            mutex m;
            t.a->enter(0);
            lock_guard hold(m);
            const blocking here;
        },
        "while it holds a lock");
#endif
}

/// CPUs that are there: which of them this process may use.
std::vector<int> my_cpus() {
    std::vector<int> out;
    const cpumask mine = sys::real().sched_getaffinity(0).value();
    for (const int cpu : mine) out.push_back(cpu);
    return out;
}

TEST(executor, who_is_not_bound_to_a_core_has_all_that_it_could_run_on) {
    const auto cpus = my_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "needs two CPUs";
    // Each CPU is the sibling of one that is not there.
    const int beyond = sys::real().sched_getaffinity(0).value().last() + 1;
    two t({.cores = {cpumask{cpus[0], beyond}, cpumask{cpus[1], beyond + 1}}, .slice_ns = 0});
    one_task free(*t.a, cpus[0]);
    until([&] { return free.inside.load(); });
    EXPECT_EQ(t.ex->report().wide, 1u);
    std::atomic<int> inside{0};
    std::vector<std::thread> bound;
    for (int i = 0; i < 2; ++i) {
        bound.emplace_back([&, i] {
            ASSERT_TRUE(sys::pin_thread(cpumask{cpus[static_cast<std::size_t>(i)]}));
            t.b->enter(cpus[static_cast<std::size_t>(i)]);
            ++inside;
            t.b->leave(cpus[static_cast<std::size_t>(i)]);
        });
    }
    until([&] { return t.ex->report().turns == 0 && !t.a->admits_inline(cpus[0]); });
    EXPECT_EQ(inside, 0) << "it has both cores";
    free.end();
    for (auto& b : bound) b.join();
    EXPECT_EQ(inside, 2);
    EXPECT_EQ(t.ex->report().wide, 1u);
    EXPECT_EQ(t.ex->report().astray, 0u);
    EXPECT_EQ(t.ex->report().overlap_ns, 0u);
}

TEST(executor, who_is_found_on_another_core_is_told_of_and_shut_out_of_none_of_its_cores) {
    const auto cpus = my_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "needs two CPUs";
    const int beyond = sys::real().sched_getaffinity(0).value().last() + 1;
    two t({.cores = {cpumask{cpus[0], beyond}, cpumask{cpus[1], beyond + 1}}, .slice_ns = 0});
    std::thread worker([&] {
        ASSERT_TRUE(sys::pin_thread(cpumask{cpus[0]}));
        t.a->attach(cpus[0]);
        t.a->enter(cpus[0]);
        ASSERT_TRUE(sys::pin_thread(cpumask{cpus[1]}));  // as an administrator might, from outside
        t.a->leave(cpus[0]);
        t.a->enter(cpus[0]);  // where it is now
        t.a->leave(cpus[0]);
        t.a->rest(cpus[0]);
    });
    worker.join();
    EXPECT_EQ(t.ex->report().astray, 1u);
}

}  // namespace
}  // namespace cohort::coresched
