// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <filesystem>
#include <mutex>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/run.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::group {
namespace {

using sys::testing::scratch_dir;
using testing::Contains;
using testing::HasSubstr;
using form = cookie_keeping::form;

/// One core of two CPUs, and one more with a single one.
machine_view three_cpus() {
    machine_view m;
    m.name = "made up";
    m.possible = m.usable = cpumask{0, 1, 2};
    m.order = {0, 1, 2};
    m.core = {0, 0, 1};
    m.no_core_scheduling = "CONFIG_SCHED_CORE is not set";
    return m;
}

spec_reading read(const std::string& text) {
    return read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
}

std::string cohort_of(const std::string& name, const std::string& cpus, const std::string& more = {}) {
    return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + more;
}
std::string cookie(const std::string& name, const std::string& policy = "emulate") { return "cookie = \"" + name + "\"\ncoresched = \"" + policy + "\"\n"; }
std::string pipe_in(const std::string& cohort, const std::string& input = "in") {
    return "[[job]]\nname = \"of-" + cohort + "\"\ncohort = \"" + cohort + "\"\nkind = \"pipe\"\ninput = \"" + input + "\"\noutput = \"" + cohort + ".zst\"\ncodec = \"zstd\"\nblock = \"16K\"\n";
}
std::string program_in(const std::string& cohort) { return "[[job]]\nname = \"of-" + cohort + "\"\ncohort = \"" + cohort + "\"\nkind = \"exec\"\ncommand = [\"true\"]\n"; }

plan planned(const std::string& text, machine_view m = three_cpus()) {
    const auto r = read(text);
    EXPECT_TRUE(r.faults.empty()) << r.faults.front().line();
    return make_plan(r.value, m, "/w");
}

TEST(cookies, who_has_a_core_alone_needs_nothing_more) {
    const plan p = planned(cohort_of("a", "0-1", cookie("x")) + cohort_of("b", "2", cookie("y")) + program_in("a") + program_in("b"));
    EXPECT_TRUE(p.holds());
    EXPECT_EQ(p.cohorts[0].cookie.by, form::cores);
    EXPECT_EQ(p.cohorts[1].cookie.by, form::cores);
    EXPECT_THAT(p.cohorts[0].enforced, Contains(HasSubstr("cookie \"x\": no job of this spec with another cookie runs on its cores while its own do: whole cores, by affinity")));
    EXPECT_THAT(p.cohorts[0].advisory, Contains(HasSubstr("not by the kernel: CONFIG_SCHED_CORE is not set")));
    EXPECT_THAT(plan_text(p), HasSubstr("cookie    \"x\" kept by whole cores (not the kernel: CONFIG_SCHED_CORE is not set)"));
    const auto json = nlohmann::json::parse(plan_json(p))["cohorts"][0]["cookie"];
    EXPECT_EQ(json["by"], "whole cores");
    EXPECT_EQ(json["policy"], "emulate");
    // One CPU runs one task at a time, and equal cookies trust each other.
    EXPECT_EQ(planned(cohort_of("a", "2", cookie("x")) + cohort_of("b", "2") + program_in("a") + program_in("b")).cohorts[0].cookie.by, form::cores);
    EXPECT_EQ(planned(cohort_of("a", "0", cookie("x")) + cohort_of("b", "1", cookie("x")) + program_in("a") + program_in("b")).cohorts[0].cookie.by, form::cores);
    EXPECT_EQ(planned(cohort_of("a", "0", cookie("x")) + cohort_of("b", "1") + program_in("a") + program_in("b")).cohorts[0].cookie.by, form::nothing);
}

TEST(cookies, blocks_of_pipes_are_kept_apart_by_the_executor) {
    const plan p = planned(cohort_of("a", "0", cookie("x")) + cohort_of("b", "1") + cohort_of("c", "2") + pipe_in("a") + pipe_in("b") + program_in("c"));
    EXPECT_TRUE(p.holds());
    EXPECT_EQ(p.cohorts[0].cookie.by, form::executor);
    EXPECT_TRUE(p.cohorts[0].cookie.passes_gate && p.cohorts[1].cookie.passes_gate);
    EXPECT_FALSE(p.cohorts[2].cookie.passes_gate);
    const auto json = nlohmann::json::parse(plan_json(p))["cohorts"];
    EXPECT_EQ(json[1]["cookie"], (nlohmann::json{{"executor_gate", true}}));
    EXPECT_EQ(json[2]["cookie"], nullptr);
}

TEST(cookies, jobs_that_wait_for_each_other_never_meet) {
    const std::string two = cohort_of("a", "0", cookie("x")) + cohort_of("b", "1") + pipe_in("a") + pipe_in("b");
    const auto by = [&](const std::string& checker, const std::string& after) {
        return planned(two + "[[job]]\nname = \"later\"\ncohort = \"" + checker + "\"\nkind = \"exec\"\ncommand = [\"true\"]\nafter = [" + after + "]\n").cohorts[0].cookie.by;
    };
    EXPECT_EQ(by("b", "\"of-a\""), form::executor);
    EXPECT_EQ(by("b", "\"of-b\""), form::nothing);
    EXPECT_EQ(by("a", "\"of-b\""), form::executor);
    EXPECT_EQ(by("a", "\"of-a\""), form::nothing);
    // Through another job, and where nothing is left that meets.
    EXPECT_EQ(by("a", "\"between\"]\n[[job]]\nname = \"between\"\ncohort = \"b\"\nkind = \"exec\"\ncommand = [\"true\"]\nafter = [\"of-b\", \"of-a\""), form::executor);
    const std::string in_turn = cohort_of("a", "0", cookie("x")) + cohort_of("b", "1") + program_in("a") + program_in("b") + "after = [\"of-a\"]\n";
    EXPECT_EQ(planned(in_turn).cohorts[0].cookie.by, form::cores);
}

/// Two packages of two cores of two CPUs.
machine_view four_cores() {
    machine_view m = three_cpus();
    m.possible = m.usable = cpumask::range(0, 7);
    m.order = {0, 1, 2, 3, 4, 5, 6, 7};
    m.core = {0, 0, 1, 1, 2, 2, 3, 3};
    return m;
}

TEST(cookies, cohorts_that_name_no_cpus_have_whole_cores_dealt_out) {
    const auto anywhere = [](const std::string& name, const std::string& more) { return "[[cohort]]\nname = \"" + name + "\"\n" + more; };
    const std::string programs = program_in("a") + program_in("b");
    const plan p = planned(anywhere("a", cookie("x")) + anywhere("b", "") + programs, four_cores());
    ASSERT_TRUE(p.holds());
    EXPECT_EQ(p.cohorts[0].cookie.by, form::cores);
    EXPECT_EQ(p.cohorts[0].cpus, cpumask::range(4, 7)) << "neighbours stay together";
    EXPECT_EQ(p.cohorts[1].cpus, four_cores().usable - p.cohorts[0].cpus);
    EXPECT_EQ(p.jobs[0].cpus, p.cohorts[0].cpus);
    EXPECT_THAT(p.cohorts[1].dropped.at(0).reason, HasSubstr("whole cores are dealt out"));
    // What is named stays, and who can have nothing else comes first.
    const plan named = planned(anywhere("a", cookie("x")) + cohort_of("b", "2-7") + programs, four_cores());
    EXPECT_EQ(named.cohorts[0].cpus, (cpumask{0, 1}));
    EXPECT_EQ(named.cohorts[1].cpus, cpumask::range(2, 7));
    const plan half = planned(anywhere("a", cookie("x")) + "[[cohort]]\nname = \"b\"\ncpus = { part = \"1/4\" }\n" + programs, four_cores());
    EXPECT_EQ(half.cohorts[1].cpus, (cpumask{0, 1}));
    EXPECT_EQ(half.cohorts[0].cpus, cpumask::range(2, 7));
    // Equal cookies are dealt to as one.
    const plan three = planned(anywhere("a", cookie("x")) + anywhere("b", "") + anywhere("c", cookie("x")) + programs + program_in("c"), four_cores());
    EXPECT_EQ(three.cohorts[0].cpus, three.cohorts[2].cpus);
    EXPECT_FALSE(three.cohorts[0].cpus.intersects(three.cohorts[1].cpus));
    // Where there is not enough for all, nothing is dealt.
    EXPECT_TRUE(planned(cohort_of("a", "0", cookie("x")) + cohort_of("b", "1") + programs, four_cores()).unsupported());
    const plan one = planned(anywhere("a", cookie("x", "prefer")) + anywhere("b", "") + programs, [] {
        machine_view m = three_cpus();
        m.possible = m.usable = cpumask{0, 1};
        m.order = {0, 1};
        return m;
    }());
    EXPECT_EQ(one.cohorts[0].cookie.by, form::nothing);
    EXPECT_EQ(one.cohorts[1].cpus, (cpumask{0, 1}));
}

TEST(cookies, programs_on_a_shared_core_are_refused_or_told_of_as_the_policy_says) {
    const auto text = [](const char* policy) { return cohort_of("a", "0", cookie("x", policy)) + cohort_of("b", "1") + pipe_in("a") + program_in("b"); };
    const plan emulate = planned(text("emulate"));
    EXPECT_FALSE(emulate.holds());
    EXPECT_TRUE(emulate.unsupported());
    EXPECT_EQ(emulate.refusals.at(0).line(), "s.toml:4:10: cohort \"a\": cookie \"x\": coresched = \"emulate\": it shares cores with cohort \"b\", and job \"of-b\" runs a program, which no executor holds; give it whole cores");
    const plan prefer = planned(text("prefer"));
    EXPECT_TRUE(prefer.holds());
    EXPECT_EQ(prefer.cohorts[0].cookie.by, form::nothing);
    EXPECT_THAT(prefer.cohorts[0].advisory, Contains(HasSubstr("nothing keeps it: it shares cores")));
    const plan require = planned(text("require"));
    EXPECT_TRUE(require.unsupported());
    EXPECT_THAT(require.refusals.at(0).line(), HasSubstr("coresched = \"require\": CONFIG_SCHED_CORE is not set"));
}

TEST(cookies, the_kernel_comes_first_where_it_can) {
    machine_view m = three_cpus();
    m.no_core_scheduling.clear();
    const auto text = [](const char* policy) { return cohort_of("a", "0", cookie("x", policy)) + cohort_of("b", "1") + program_in("a") + program_in("b"); };
    EXPECT_EQ(planned(text("require"), m).cohorts[0].cookie.by, form::kernel);
    EXPECT_EQ(planned(text("prefer"), m).cohorts[0].cookie.by, form::kernel);
    EXPECT_TRUE(planned(text("emulate"), m).unsupported()) << "that is without the kernel";
    const plan declared = planned("[machine]\ncores = [\"0,2\"]\n" + text("require"), m);
    EXPECT_TRUE(declared.unsupported());
    EXPECT_THAT(declared.refusals.at(0).line(), HasSubstr("cores that a spec declares"));
    EXPECT_EQ(planned("[machine]\ncores = [\"0,2\"]\n" + text("prefer"), m).cohorts[0].cookie.by, form::cores) << "0 and 1 share no core then";
}

TEST(cookies, faults_of_a_spec) {
    const auto faults = [](const std::string& text) {
        const auto r = read(text);
        return r.faults.empty() ? std::string() : r.faults.front().line();
    };
    EXPECT_THAT(faults(cohort_of("a", "0", "coresched = \"require\"\n")), HasSubstr("s.toml:4:13: cohort \"a\": \"coresched\" says by what a cookie is kept: this cohort has no \"cookie\""));
    EXPECT_THAT(faults(cohort_of("a", "0", cookie("x", "requir"))), HasSubstr("require"));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = 7\n")), HasSubstr("s.toml:4:"));
    EXPECT_THAT(faults("[machine]\ncores = [\"0-1\", \"1-2\"]\n" + cohort_of("a", "0")), HasSubstr("CPU 1 is in two cores"));
    EXPECT_THAT(faults("[machine]\ncores = [\"0-x\"]\n" + cohort_of("a", "0")), HasSubstr("s.toml:2:9: machine: cores \"0-x\""));
    EXPECT_THAT(faults("[machine]\ncores = [\"\"]\n" + cohort_of("a", "0")), HasSubstr("cores \"\": the list is empty"));
    const auto beyond = check_cpus(read("[machine]\ncores = [\"2-4\"]\n" + cohort_of("a", "0")).value, three_cpus());
    ASSERT_EQ(beyond.size(), 1u);
    EXPECT_EQ(beyond[0].line(), "s.toml:2:9: machine: cores \"2-4\": machine made up has CPUs 0-2, not CPUs 3-4");
}

TEST(cookies, are_sets_of_parts_and_equal_sets_are_equal_cookies) {
    const auto r = read(cohort_of("a", "0", "cookie = [\"x\", \"own\"]\n") + cohort_of("b", "1", "cookie = { same_as = \"a\" }\n") + cohort_of("c", "2", "cookie = [\"y\", { same_as = \"d\" }, \"y\"]\n") +
                        cohort_of("d", "2", "cookie = \"x\"\n") + cohort_of("e", "2", "cookie = [\"x\", \"y\"]\n") + cohort_of("f", "2", "cookie = [\"x\"]\n") + cohort_of("g", "2", "cookie = \"own\"\n") + cohort_of("h", "2", "cookie = \"none\"\n") +
                        cohort_of("i", "2", "inside = \"d\"\ncookie = \"own\"\n") + cohort_of("j", "2", "inside = \"d\"\n"));
    ASSERT_TRUE(r.faults.empty()) << r.faults.front().line();
    std::vector<std::string> cookies;
    for (const cohort_spec& c : r.value.cohorts) cookies.push_back(c.cookie);
    EXPECT_THAT(cookies, testing::ElementsAre("own(a)+x", "own(a)+x", "x+y", "x", "x+y", "x", "own(g)", "", "own(i)+x", "x"));
    EXPECT_THAT(r.value.cohorts[0].cookie_parts, testing::ElementsAre("own(a)", "x"));
}

TEST(cookies, of_several_parts_are_one_of_the_kernels_and_the_plan_says_so) {
    machine_view m = three_cpus();
    m.no_core_scheduling.clear();
    const std::string text = cohort_of("a", "0", "cookie = [\"x\", \"own\"]\n") + cohort_of("b", "1", "cookie = \"x\"\n") + program_in("a") + program_in("b");
    const plan p = planned(text, m);
    EXPECT_EQ(p.cohorts[0].cookie.by, form::kernel);
    EXPECT_THAT(p.cohorts[0].advisory, Contains(HasSubstr("cookie \"own(a)+x\": its 2 parts are emulated: a task has one cookie in the kernel, and one stands for all of them")));
    EXPECT_THAT(p.cohorts[1].advisory, testing::Not(Contains(HasSubstr("parts"))));
    EXPECT_EQ(nlohmann::json::parse(plan_json(p))["cohorts"][0]["cookie"]["parts"], (nlohmann::json{"own(a)", "x"}));
    // One part in common is not enough.
    EXPECT_EQ(planned(text).cohorts[0].cookie.by, form::nothing);
    EXPECT_EQ(planned(cohort_of("a", "0", "cookie = [\"x\", \"y\"]\n") + cohort_of("b", "1", "cookie = [\"y\", \"x\"]\n") + program_in("a") + program_in("b")).cohorts[0].cookie.by, form::cores);
}

TEST(cookies, of_nobody_of_itself_and_in_a_circle_are_faults) {
    const auto faults = [](const std::string& text) {
        std::vector<std::string> out;
        for (const fault& f : read(text).faults) out.push_back(f.line());
        return out;
    };
    using testing::ElementsAre;
    EXPECT_THAT(faults(cohort_of("web", "0", "cookie = \"x\"\n") + cohort_of("db", "1", "cookie = { same_as = \"wbe\" }\n")), ElementsAre("s.toml:8:22: cohort \"db\": cohort \"wbe\" does not exist; did you mean \"web\"?"));
    EXPECT_THAT(faults(cohort_of("web", "0") + cohort_of("db", "1", "cookie = [\"x\", { same_as = \"web\" }]\n")), ElementsAre("s.toml:7:28: cohort \"db\": cohort \"web\" has no cookie"));
    EXPECT_THAT(faults(cohort_of("web", "0", "cookie = { same_as = \"web\" }\n")), ElementsAre("s.toml:4:22: cohort \"web\": its cookie cannot be the same as its own; \"own\" is one of its own"));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = { same_as = \"b\" }\n") + cohort_of("b", "1", "cookie = [\"x\", { same_as = \"a\" }]\n")),
                ElementsAre("s.toml:8:10: cohort \"b\": a cycle in cookie: \"a\" has that of \"b\" has that of \"a\""));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = \"x\"\n") + cohort_of("b", "0", "inside = \"a\"\ncookie = \"none\"\n")), ElementsAre(HasSubstr("s.toml:9:10: cohort \"b\": it is inside of cohort \"a\" and has the cookie of that one: it cannot have none")));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = []\n")), ElementsAre(HasSubstr("s.toml:4:10: cohort \"a\": key \"cookie\" is an empty list")));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = [\"x\", \"none\"]\n")), ElementsAre("s.toml:4:16: cohort \"a\": \"none\" is no part of a cookie"));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = [3, \"a b\"]\n")), ElementsAre(HasSubstr("s.toml:4:11: cohort \"a\": key \"cookie\" must be a name, \"own\""), HasSubstr("s.toml:4:14: cohort \"a\": cookie \"a b\" is not a name")));
    EXPECT_THAT(faults(cohort_of("a", "0", "cookie = { same = \"b\" }\n")), ElementsAre(HasSubstr("key \"same_as\" is missing"), HasSubstr("did you mean \"same_as\"?")));
}

/// All CPUs of this machine as one core, a cohort with pipes on each of two.
plan on_one_core(const std::string& here) {
    const machine_view live = view_machine("live", sys::real()).value();
    const std::string a = std::to_string(live.usable.first()), b = std::to_string(live.usable.last());
    const std::string list = a == b ? a : a + "," + b;
    const auto r = read("[machine]\ncores = [\"" + list + "\"]\n" + cohort_of("left", list, cookie("x")) + cohort_of("right", list) + pipe_in("left") + pipe_in("right"));
    EXPECT_TRUE(r.faults.empty());
    return make_plan(r.value, live, here);
}

TEST(cookies, pipes_run_behind_the_gate_of_their_cohort_and_the_report_proves_it) {
    scratch_dir dir;
    const plan p = on_one_core(dir.path());
    if (p.cohorts[0].cookie.by != form::executor) GTEST_SKIP() << "needs two CPUs";
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += std::to_string(i * 7919) + "\n";
    auto out = sys::open_file(sys::real(), dir / "in", sys::open_write | sys::open_create, 0600).value();
    ASSERT_TRUE(sys::write_all(sys::real(), out.get(), text));
    run_options o;
    std::mutex lock;
    std::set<work::gate*> gates;
    o.pipe_engine = [&](const stream::pipe_options& given, sys::os& os) {
        {
            const std::lock_guard hold(lock);
            gates.insert(given.gate);
        }
        return stream::run_pipe(given, os);
    };
    const run_report r = run_jobs(p, sys::real(), o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(gates.size(), 2u);
    EXPECT_FALSE(gates.contains(nullptr));
    ASSERT_TRUE(r.executor);
    EXPECT_EQ(r.executor->overlap_ns, 0u);
    EXPECT_GT(r.executor->stretches, 0u) << "they were compared";
    EXPECT_EQ(r.executor->astray, 0u);
    EXPECT_GE(r.executor->turns, 1u) << "one may have ended before the other began";
    ASSERT_EQ(r.executor->tenants.size(), 2u);
    std::uint64_t lost = 0, charged = 0;
    for (const auto& t : r.executor->tenants) {
        EXPECT_GT(t.figures.runtime_ns, 0u) << t.name;
        charged += t.figures.forced_idle_ns;
    }
    for (const auto& c : r.executor->cpus) lost += c.figures.forced_idle_ns;
    EXPECT_EQ(lost, charged);
    EXPECT_NE(r.executor->tenants[0].tag, r.executor->tenants[1].tag);
    EXPECT_THAT(report_text(p, r), HasSubstr("cohort \"left\": cookie \"x\" kept by executor (not the kernel: "));
    EXPECT_THAT(report_text(p, r), HasSubstr("blocks of unequal cookies ran 0 ns on one core together"));
    const auto json = nlohmann::json::parse(report_json(p, r, 0));
    EXPECT_EQ(json["executor"]["overlap_ns"], 0);
    EXPECT_EQ(json["executor"]["cohorts"][1]["cohort"], "right");
    EXPECT_EQ(json["executor"]["cpus"].size(), static_cast<std::size_t>(p.machine.usable.weight() > 1 ? 2 : 0));
    EXPECT_EQ(json["cohorts"][0]["cookie"]["by"], "executor");
}

/// In the kernel's place.
struct recorded_verbs : coresched::verbs {
    std::string name() const override { return "recorded"; }
    result<coresched::cookie> get(int) override { return 0; }
    result<void> create(int id, coresched::scope) override {
        created += id == 0;
        holder = sys::thread_id();
        return refuse_create ? fail(ENOMEM, "this thread", "create a cookie", "no memory") : result<void>{};
    }
    result<void> share_to(int, coresched::scope) override { return {}; }
    result<void> share_from(int id) override {
        shared += id == holder && id != sys::thread_id();
        return refuse_share ? fail(EPERM, "this thread", "share from", "not ours") : result<void>{};
    }
    result<void> clear(int, coresched::scope) override { return {}; }
    std::atomic<int> created{0}, shared{0}, holder{0};
    bool refuse_create = false, refuse_share = false;
};

TEST(cookies, jobs_begin_with_the_kernels_cookie_or_not_at_all) {
    scratch_dir dir;
    auto live = view_machine("live", sys::real()).value();
    live.no_core_scheduling.clear();
    const auto r = read("[[cohort]]\nname = \"a\"\n" + cookie("x", "require") + "[[cohort]]\nname = \"b\"\n" + cookie("x", "prefer") + program_in("a") + program_in("b"));
    const plan p = make_plan(r.value, live, dir.path());
    recorded_verbs kernel;
    run_options o;
    o.core_scheduling = &kernel;
    const auto good = run_jobs(p, sys::real(), o);
    EXPECT_TRUE(good.ok());
    EXPECT_EQ(kernel.created, 1) << "one for both";
    EXPECT_EQ(kernel.shared, 2);
    EXPECT_FALSE(good.executor);
    EXPECT_THAT(report_text(p, good), HasSubstr("cohort \"a\": cookie \"x\" kept by kernel\n"));

    kernel.refuse_share = true;
    const auto unshared = run_jobs(p, sys::real(), o);
    EXPECT_EQ(unshared.jobs[0].state, job_state::failed);
    EXPECT_EQ(unshared.first_error()->code, EPERM);
    kernel.refuse_create = true;
    const auto none = run_jobs(p, sys::real(), o);
    EXPECT_EQ(none.jobs[0].state, job_state::failed);
    EXPECT_EQ(none.first_error()->code, ENOMEM);
}

}  // namespace
}  // namespace cohort::group
