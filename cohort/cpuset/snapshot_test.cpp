// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/snapshot.hpp>

#include <gmock/gmock.h>

#include <functional>
#include <random>
#include <utility>

#include <cohort/cpuset/testing/random_ops.hpp>
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;
using testing::eight_cpus;
using testing::script;

snapshot taken(const std::string& lines, model_options o = {}) {
    script m(o);
    m.run(lines);
    return take(m.subject(), eight_cpus());
}

void loads_without_difference(const snapshot& s) {
    auto l = load(s);
    ASSERT_TRUE(l) << l.error().line();
    for (const difference& d : l->differences) ADD_FAILURE() << d.line();
    EXPECT_EQ(l->model.broken(), "");
}

TEST(snapshot, loads_into_a_model_that_shows_the_same) {
    loads_without_difference(taken("mkdir a; mkdir a/b; controller a +cpuset; write a cpuset.cpus 0-5; write a cpuset.mems 0; write a/b cpuset.cpus 1-2; attach a/b t; affinity t 2; attach . u"));
    loads_without_difference(taken("mkdir a; write a cpuset.cpus 0-3; write a cpuset.cpus.partition root; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus 0-1;"
                                   "write a/b cpuset.cpus.partition isolated; attach a/b t; mkdir c; cpu 6 offline; node 1 offline"));
    loads_without_difference(taken("mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 0-3; write a cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus 2-3;"
                                   "write a/b cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.partition root"));
    loads_without_difference(taken("mkdir a; write a cpuset.cpus 0-3; write a cpuset.mems 0; write a cpuset.cpu_exclusive 1; mkdir a/b; write a/b cpuset.cpus 1; write a/b cpuset.mems 0;"
                                   "write a/b cpuset.memory_migrate 1; write a/b cpuset.sched_load_balance 0; attach a/b t; cpu 0 offline", {.v1 = true}));
    loads_without_difference(taken("mkdir a; write a cpuset.cpus 6-7; write a cpuset.cpus.partition root; attach a t; cpu 6 offline; cpu 7 offline"));
}

TEST(snapshot, keeps_groups_without_a_controller_and_their_tasks) {
    const snapshot s = taken("mkdir a; mkdir a/b; attach a/b t; write a cpuset.cpus 3");
    EXPECT_FALSE(s.find("a/b")->has_cpuset());
    EXPECT_TRUE(s.find("a")->has_cpuset());
    EXPECT_EQ(s.find("c"), nullptr);
    EXPECT_EQ(s.tasks.at(0).cpus.list(), "3");
    loads_without_difference(s);
}

TEST(snapshot, tells_what_the_kernel_showed_and_the_model_does_not) {
    snapshot s = taken("mkdir a; write a cpuset.cpus 2-3; attach a t");
    s.sets[1].files["cpuset.cpus.effective"] = "2";
    s.sets[1].files["cpuset.cpus.strange"] = "7";
    s.tasks[0].mems = nodemask{1};
    const auto l = load(s);
    ASSERT_TRUE(l);
    ASSERT_EQ(l->differences.size(), 3u);
    EXPECT_EQ(l->differences[0].line(), "a: cpuset.cpus.effective: the kernel shows \"2\", the model says \"2-3\"");
    EXPECT_THAT(l->differences[1].modelled, HasSubstr("ENOENT"));
    EXPECT_EQ(l->differences[2].line(), "a: task t mems: the kernel shows \"1\", the model says \"0-1\"");
}

TEST(snapshot, tells_what_the_model_refuses) {
    snapshot s = taken("mkdir a; write a cpuset.cpus 2-3; attach a t; mkdir a/b");
    s.sets[1].hands_on = true;
    s.tasks.push_back({.id = "u", .path = "a/b"});
    s.sets[1].files["cpuset.mems"] = "5";
    const auto l = load(s);
    ASSERT_TRUE(l);
    std::string all;
    for (const difference& d : l->differences) all += d.line() + "\n";
    EXPECT_THAT(all, HasSubstr("a: write cpuset.mems \"5\": the kernel shows \"it was taken\", the model says \"EINVAL"));
    EXPECT_THAT(all, HasSubstr("a/b: attach u: the kernel shows \"it is there\", the model says \"EOPNOTSUPP"));
}

TEST(snapshot, takes_a_narrower_mask_for_the_task_s_own_wish) {
    snapshot s = taken("mkdir a; write a cpuset.cpus 2-5; attach a t; affinity t 3-4");
    s.tasks[0].asked.reset();
    auto l = load(s);
    ASSERT_TRUE(l);
    EXPECT_TRUE(l->differences.empty());
    EXPECT_TRUE(l->model.perform(*parse_operation("write a cpuset.cpus 0-7")).ok());
    EXPECT_EQ(l->model.perform(*parse_operation("task t")).value, "3-4");
}

TEST(snapshot, that_contradicts_itself_is_refused_with_the_place) {
    const snapshot good = taken("mkdir a; attach a t");
    const std::pair<const char*, std::function<void(snapshot&)>> cases[] = {
        {"there is no root", [](snapshot& s) { s.sets.clear(); }},
        {"set \"a\": EINVAL: the first set", [](snapshot& s) { s.sets.erase(s.sets.begin()); }},
        {"set \".\": EINVAL", [](snapshot& s) { s.sets[1].path = "."; }},
        {"its parent does not stand before it", [](snapshot& s) { s.sets[1].path = "x/y"; }},
        {"it is no path", [](snapshot& s) { s.sets[1].path = "x//y"; }},
        {"it is no path", [](snapshot& s) { s.sets[1].path = "../y"; }},
        {"it is there twice", [](snapshot& s) { s.sets.push_back(s.sets[1]); }},
        {"task \"t\": EINVAL: its set \"z\"", [](snapshot& s) { s.tasks[0].path = "z"; }},
        {"task \"t\": EINVAL: each task", [](snapshot& s) { s.tasks.push_back(s.tasks[0]); }},
        {"online \"9\"", [](snapshot& s) { s.online = {9}; }},
        {"nodes \"\"", [](snapshot& s) { s.memory = {}; }},
        {"machine", [](snapshot& s) { s.machine = {}; }},
    };
    for (const auto& [says, spoil] : cases) {
        snapshot s = good;
        spoil(s);
        const auto l = load(s);
        ASSERT_FALSE(l) << says;
        EXPECT_EQ(l.error().code, EINVAL);
        EXPECT_THAT(l.error().line(), HasSubstr(says));
    }
}

TEST(model, goes_on_in_a_clone_as_it_would_itself) {
    for (unsigned seed = 1; seed <= 60; ++seed) {
        std::mt19937 rng(seed);
        const bool v1 = seed % 3 == 0;
        model m(eight_cpus(), {.profile = seed % 3 == 1 ? kernel::v6_12 : kernel::v7_0, .v1 = v1});
        testing::random_ops next([&](unsigned n) { return rng() % n; }, {.v1 = v1});
        for (int i = 0; i < 60; ++i) m.perform(next(m));
        model twin = m.clone();
        ASSERT_EQ(testing::dump(twin), testing::dump(m)) << "seed " << seed;
        std::vector<operation> rest;
        for (int i = 0; i < 30; ++i) {
            rest.push_back(next(m));
            const answer here = m.perform(rest.back());
            ASSERT_EQ(twin.perform(rest.back()), here) << "seed " << seed << ": " << to_line(rest.back());
        }
        ASSERT_EQ(testing::dump(twin), testing::dump(m)) << "seed " << seed;
    }
}

}  // namespace
}  // namespace cohort::cpuset
