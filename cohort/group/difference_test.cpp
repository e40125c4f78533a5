// SPDX-License-Identifier: Apache-2.0
// What of a running plan an edited spec leaves as it is, and how sets become others.
#include <cohort/group/difference.hpp>

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/group/apply.hpp>
#include <cohort/group/testing/on_host.hpp>

namespace cohort::group {
namespace {

using cpuset::testing::cgroup_host;
using testing::cohort_text;
using testing::plan_on;
using testing::refusals_of;
using testing::seen_on;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string job_text(const std::string& name, const std::string& cohort, const std::string& more = "") {
    return "[[job]]\nname = \"" + name + "\"\ncohort = \"" + cohort + "\"\nkind = \"exec\"\ncommand = [\"true\"]\n" + more + "\n";
}

/// "a goes on, b begins anew".
std::string fates(const difference& d) {
    std::string out;
    for (const difference::cohort& c : d.cohorts) out += (out.empty() ? "" : ", ") + c.name + " " + fate_word(c.what);
    return out;
}

std::string differs(const std::string& was, const std::string& is) {
    cgroup_host host;
    return fates(difference_of(plan_on(host, was), plan_on(host, is)));
}

TEST(components, are_what_hangs_together) {
    cgroup_host host;
    const auto of = [&](const std::string& text) { return components(plan_on(host, text)); };
    const std::string a = cohort_text("a", "0-1"), b = cohort_text("b", "2-3"), c = cohort_text("c", "4-5");
    EXPECT_THAT(of(a + b + c), ElementsAre(ElementsAre("a"), ElementsAre("b"), ElementsAre("c")));
    EXPECT_THAT(of(a + b + cohort_text("c", "0", "inside = \"a\"")), ElementsAre(ElementsAre("a", "c"), ElementsAre("b")));
    EXPECT_THAT(of(cohort_text("a", "0-1", "pool = \"2M\"") + b + cohort_text("c", "4-5", "pool = { of = \"a\" }")), ElementsAre(ElementsAre("a", "c"), ElementsAre("b")));
    EXPECT_THAT(of(cohort_text("a", "0-1", "cookie = \"x\"") + b + cohort_text("c", "4-5", "cookie = \"x\"")), ElementsAre(ElementsAre("a", "c"), ElementsAre("b")));
    EXPECT_THAT(of(a + b + c + job_text("j", "a") + job_text("k", "c", "after = [\"j\"]")), ElementsAre(ElementsAre("a", "c"), ElementsAre("b")));
    EXPECT_THAT(of("on_failure = \"stop\"\n" + a + b + c + job_text("j", "a") + job_text("k", "c")), ElementsAre(ElementsAre("a", "c"), ElementsAre("b")));
}

TEST(components, are_plans_of_their_own) {
    cgroup_host host;
    const plan p = plan_on(host, "on_failure = \"stop\"\n" + cohort_text("a", "0-1") + cohort_text("b", "2") + job_text("j", "a") + job_text("k", "b"));
    const plan one = part_of(p, {"b"});
    ASSERT_EQ(one.cohorts.size(), 1u);
    EXPECT_EQ(one.cohorts[0].name, "b");
    ASSERT_EQ(one.jobs.size(), 1u);
    EXPECT_EQ(one.jobs[0].spec.name, "k");
    EXPECT_TRUE(one.stop_on_failure);
    EXPECT_EQ(one.machine.cpusets, p.machine.cpusets);
}

TEST(difference, of_the_same_is_nothing_however_it_is_written) {
    cgroup_host host;
    const std::string a = cohort_text("a", "0-1", "cpuset = \"require\"") + job_text("j", "a"), b = cohort_text("b", "2-3", "inside = \"c\""), c = cohort_text("c", "2-5");
    const difference d = difference_of(plan_on(host, a + b + c), plan_on(host, "about = \"the same\"\n\n\n" + c + b + a));
    EXPECT_TRUE(d.nothing());
    EXPECT_EQ(difference_text(d), "nothing differs from what is up\n");
    EXPECT_THAT(d.kept(), ElementsAre("c", "b", "a"));
    EXPECT_EQ(difference_json(d)["nothing"], true);
}

TEST(difference, replaces_what_hangs_together_and_nothing_else) {
    const std::string rest = cohort_text("z", "7", "cpuset = \"require\"") + job_text("jz", "z");
    const std::string two = cohort_text("a", "0-1", "cookie = \"x\"") + cohort_text("b", "2-3", "cookie = \"x\"");
    EXPECT_EQ(differs(rest + two, rest + cohort_text("a", "0", "cookie = \"x\"") + cohort_text("b", "2-3", "cookie = \"x\"")), "z goes on, a begins anew, b begins anew");
    EXPECT_EQ(differs(rest + two, rest + cohort_text("a", "0-1", "cookie = \"x\"")), "z goes on, a begins anew, b ends");
    EXPECT_EQ(differs(rest, rest + two), "z goes on, a begins, b begins");
    EXPECT_EQ(differs(rest + two, two), "a goes on, b goes on, z ends");
    EXPECT_EQ(differs("on_failure = \"stop\"\n" + rest, rest), "z begins anew");
}

TEST(difference, says_why) {
    cgroup_host host;
    const plan now = plan_on(host, cohort_text("a", "0-1", "cookie = \"x\"\nmemory = \"1M\"") + cohort_text("b", "2", "cookie = \"x\"") + job_text("j", "a") + job_text("old", "a"));
    const plan next = plan_on(host, cohort_text("a", "0-3", "cookie = \"x\"") + cohort_text("b", "2", "cookie = \"x\"") + job_text("j", "a", "instances = 2") + job_text("new", "a"));
    const difference d = difference_of(now, next);
    EXPECT_THAT(d.cohorts[0].why, ::testing::IsSupersetOf({"cpus 0-3, not 0-1", "no memory 1048576", "job \"j\": threads 2, not 1", "job \"new\" is new", "job \"old\" is no more"}));
    EXPECT_THAT(d.cohorts[1].why, ElementsAre("it hangs together with cohorts that differ"));
    EXPECT_THAT(difference_text(d), HasSubstr("cohort \"a\" begins anew: cpus 0-3, not 0-1; "));
    EXPECT_THAT(difference_text(d), HasSubstr("  job \"new\" begins anew\n"));
    EXPECT_EQ(difference_json(d)["cohorts"][0]["fate"], "replaced");
}

/// Each thing that a spec can say of a cohort or a job, once left out and once said.
TEST(difference, sees_everything_that_a_spec_can_say) {
    const std::string flow = "[[job]]\nname = \"f\"\ncohort = \"a\"\nkind = \"flow\"\ninput = \"in\"\noutput = \"out\"\n", codec = "codec = \"zstd\"\n";
    const std::string pipe = "[[job]]\nname = \"p\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"out\"\n";
    const std::string with_pool = "pool = \"2M\"\n";
    struct edit {
        std::string cohort, was, is;
    };
    const std::string exec = "[[job]]\nname = \"e\"\ncohort = \"a\"\nkind = \"exec\"\n", run = "command = [\"true\"]\n";
    std::vector<edit> all;
    for (const char* more : {"cpuset = \"require\"", "cpuset = \"emulate\"", "mems = \"0\"", "partition = \"root\"", "memory = \"1M\"", "pool = \"2M\"", "cookie = \"own\"", "cookie = \"x\""}) all.push_back({more, exec + run, exec + run});
    for (const char* more : {"instances = 2", "env = { A = \"1\" }", "stdin = \"f\"", "stdout = \"f\"", "stderr = \"f\"", "cwd = \"d\"", "restart = \"always\"", "restart = { when = \"always\", max = 2 }",
                             "restart = { when = \"always\", backoff = \"1s\" }", "verify = [\"true\"]"}) {
        all.push_back({"", exec + run, exec + run + more + "\n"});
    }
    all.push_back({"", exec + run, exec + "command = [\"true\", \"\"]\n"});
    all.push_back({"", exec + "command = [\"a b\"]\n", exec + "command = [\"a\", \"b\"]\n"});
    all.push_back({"", exec + run, "workdir = \"w\"\n"});
    for (const char* more : {"level = 3", "decompress = true", "block = \"64K\"", "threads = 1", "verify = [\"true\"]"}) all.push_back({"", pipe + codec, pipe + codec + more + "\n"});
    all.push_back({"", pipe + codec, pipe + "codec = \"gzip\"\n"});
    all.push_back({"", pipe + codec, pipe + "command = [\"cat\"]\n"});
    all.push_back({"", pipe + "command = [\"cat\"]\n", pipe + "command = [\"cat\"]\nrecords = true\n"});
    all.push_back({"", pipe + codec, "[[job]]\nname = \"p\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"other\"\noutput = \"out\"\n" + codec});
    all.push_back({"", pipe + codec, "[[job]]\nname = \"p\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = { command = \"yes\" }\noutput = \"out\"\n" + codec});
    all.push_back({"", pipe + codec, "[[job]]\nname = \"p\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"other\"\n" + codec});
    all.push_back({with_pool, flow + codec, flow + "command = [\"cat\"]\n"});
    all.push_back({with_pool, flow + codec, flow + "plugin = \"lib.so\"\n"});
    all.push_back({with_pool, flow + codec, "[[job]]\nname = \"f\"\ncohort = \"a\"\nkind = \"flow\"\ninput = \"in\"\noutput = { command = \"cat\" }\n" + codec});
    for (const edit& e : all) {
        const bool whole = e.is.starts_with("workdir");
        const std::string before = cohort_text("a", "0-1", e.was == e.is ? "" : e.cohort) + e.was, after = whole ? e.is + before : cohort_text("a", "0-1", e.cohort) + e.is;
        EXPECT_EQ(differs(before, after), "a begins anew") << after;
        EXPECT_EQ(differs(after, after), "a goes on") << after;
    }
}

TEST(difference, leaves_sets_of_others_alone_and_turns_around) {
    cgroup_host host;
    const std::string a = cohort_text("a", "0-1", "partition = \"root\"");
    const plan now = plan_on(host, a + cohort_text("b", "2-3", "cpuset = \"require\"")), next = plan_on(host, a + cohort_text("b", "4-5", "cpuset = \"require\"") + cohort_text("c", "2", "cpuset = \"require\""));
    const difference d = difference_of(now, next);
    std::vector<std::string> undo, steps;
    for (const step& s : d.undo) undo.push_back(s.undo_text());
    for (const step& s : d.steps) steps.push_back(s.text());
    EXPECT_THAT(undo, ElementsAre("", "rmdir cohort-b"));
    EXPECT_THAT(steps, ElementsAre("cohort \"c\": take the name", "cpuset: mkdir cohort-b", "cpuset: mkdir cohort-c", "cpuset: write cohort-b cpuset.cpus 4-5", "cpuset: write cohort-c cpuset.cpus 2"));
    const difference way = reversed(d);
    EXPECT_EQ(fates(way), "a goes on, b begins anew, c ends");
    EXPECT_EQ(way.steps.front(), d.undo.back());
    EXPECT_EQ(way.undo.front(), d.steps.back());
}

/// What sets a kernel has, in its words.
std::vector<std::string> sets_of(cgroup_host& host) {
    std::vector<std::string> out;
    for (const std::string& path : host.kernel.paths()) {
        const std::string at = path == "." ? "" : path;
        out.push_back(path + ": " + host.reads(at, "cpuset.cpus") + " " + host.reads(at, "cpuset.cpus.effective") + " " + host.reads(at, "cpuset.cpus.partition"));
    }
    std::ranges::sort(out);
    return out;
}

/// A machine on which `now` is up, as its owner is asked to make of it something else.
struct living {
    cgroup_host host;
    std::shared_ptr<const plan> now;
    std::optional<applied> up;

    explicit living(const std::string& text) {
        now = std::make_shared<const plan>(plan_on(host, text));
        EXPECT_THAT(refusals_of(*now), IsEmpty());
        auto made = applied::apply(*now, host, "/run");
        EXPECT_TRUE(made) << made.error().front().line();
        up.emplace(std::move(*made));
    }
    std::shared_ptr<const plan> wanted(const std::string& text) {
        const spec s = testing::spec_of(text);
        return std::make_shared<const plan>(make_plan(s, without_own(seen_on(host), *now), "/w"));
    }
    result<void> become(const std::string& text) {
        const auto next = wanted(text);
        EXPECT_THAT(refusals_of(*next), IsEmpty()) << text;
        auto done = up->change(change_of(*now, *next, seen_on(host)), *next, "/run");
        if (done) now = next;
        return done;
    }
};

TEST(change, brings_sets_to_where_the_next_plan_has_them) {
    living l(cohort_text("a", "0-1", "partition = \"root\"") + cohort_text("b", "2-3", "cpuset = \"require\""));
    l.host.start(300, "cohort-a");
    const std::string next = cohort_text("a", "0-1", "partition = \"root\"") + cohort_text("c", "4-7", "partition = \"isolated\"");
    ASSERT_TRUE(l.become(next));
    EXPECT_THAT(sets_of(l.host), ElementsAre(".:  2-3 ", "cohort-a: 0-1 0-1 root", "cohort-c: 4-7 4-7 isolated"));
    EXPECT_TRUE(l.host.disk.stat("/run/c.up"));
    EXPECT_FALSE(l.host.disk.stat("/run/b.up"));
    EXPECT_EQ(l.host.perform({.what = cpuset::verb::tasks, .path = "cohort-a"}).list, std::vector<std::string>{"300"}) << "who goes on was not touched";
    l.host.perform({.what = cpuset::verb::exit, .task = "300"});
    EXPECT_THAT(l.up->undo(), IsEmpty());
    EXPECT_THAT(l.host.kernel.paths(), ElementsAre("."));
    EXPECT_FALSE(l.host.disk.stat("/run/a.up"));
}

TEST(change, sees_cpus_of_its_own_partitions_as_its_to_give) {
    living l(cohort_text("a", "0-3", "partition = \"root\""));
    machine_view seen = seen_on(l.host);
    // From where the owner stands they are not there.
    seen.usable = cpumask::range(4, 6);
    seen.not_usable = {{cpumask::range(0, 3), "not in this process's cpuset"}, {{7}, "offline"}};
    const machine_view without = without_own(seen, *l.now);
    EXPECT_EQ(without.usable, cpumask::range(0, 6));
    ASSERT_EQ(without.not_usable.size(), 1u);
    EXPECT_EQ(without.not_usable[0].reason, "offline");
    EXPECT_THAT(without.cpusets->tree->paths(), ElementsAre("."));
    EXPECT_THAT(seen.cpusets->tree->paths(), ElementsAre(".", "cohort-a"));
    seen.not_usable[1].cpus = {3, 7};
    EXPECT_EQ(without_own(seen, *l.now).usable, cpumask::range(0, 6) - cpumask{3});
}

TEST(change, makes_sets_anew_where_somebody_has_changed_one) {
    const std::string text = cohort_text("a", "0-1", "partition = \"root\"") + cohort_text("b", "2-3", "cpuset = \"require\"");
    living l(text);
    ASSERT_TRUE(l.host.perform({.what = cpuset::verb::write, .path = "cohort-a", .file = "cpuset.cpus.partition", .text = "member"}).ok());
    const auto next = l.wanted(text);
    EXPECT_EQ(fates(difference_of(*l.now, *next)), "a goes on, b goes on");
    const difference d = change_of(*l.now, *next, seen_on(l.host));
    EXPECT_EQ(fates(d), "a begins anew, b begins anew");
    EXPECT_THAT(d.cohorts[0].why, ElementsAre("sets are made anew together"));
    ASSERT_TRUE(l.become(text));
    EXPECT_EQ(l.host.reads("cohort-a", "cpuset.cpus.partition"), "root");
}

TEST(change, whose_set_cannot_go_leaves_it) {
    living l(cohort_text("a", "0-1", "cpuset = \"require\"") + cohort_text("b", "2-3", "cpuset = \"require\""));
    ASSERT_TRUE(l.host.perform({.what = cpuset::verb::mkdir, .path = "cohort-b/of-another"}).ok());
    const auto before = sets_of(l.host);
    const auto done = l.become(cohort_text("a", "0-1", "cpuset = \"require\"") + cohort_text("c", "4", "cpuset = \"require\""));
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().line(), HasSubstr("EBUSY"));
    EXPECT_EQ(sets_of(l.host), before);
    EXPECT_TRUE(l.host.disk.stat("/run/b.up"));
    EXPECT_FALSE(l.host.disk.stat("/run/c.up"));
}

TEST(change, that_fails_at_any_write_leaves_all_as_it_was) {
    const std::string first = cohort_text("a", "0-1", "partition = \"root\"") + cohort_text("b", "2-3", "cpuset = \"require\"") + cohort_text("d", "6", "cpuset = \"require\"");
    const std::string next = cohort_text("a", "0-1", "partition = \"root\"") + cohort_text("b", "2-4", "partition = \"isolated\"") + cohort_text("c", "5", "cpuset = \"require\"");
    std::size_t writes = 0;
    {
        living whole(first);
        const std::size_t before = whole.host.writes.size();
        ASSERT_TRUE(whole.become(next));
        writes = whole.host.writes.size() - before;
    }
    EXPECT_GE(writes, 3u);
    for (std::size_t nth = 1; nth <= writes; ++nth) {
        living l(first);
        const auto before = sets_of(l.host);
        std::size_t seen = 0;
        l.host.on_write = [&](const std::string&) { return ++seen == nth ? EIO : 0; };
        const auto done = l.become(next);
        ASSERT_FALSE(done) << nth;
        EXPECT_THAT(done.error().line(), HasSubstr("EIO"));
        l.host.on_write = nullptr;
        EXPECT_EQ(sets_of(l.host), before) << nth;
        EXPECT_TRUE(l.host.disk.stat("/run/b.up") && l.host.disk.stat("/run/d.up")) << nth;
        EXPECT_FALSE(l.host.disk.stat("/run/c.up")) << nth;
        ASSERT_TRUE(l.become(next)) << "and it can be tried again";
        EXPECT_THAT(l.up->undo(), IsEmpty());
        EXPECT_THAT(l.host.kernel.paths(), ElementsAre("."));
    }
}

/// Any spec can become any other: the sets are then those that it would have had from the start.
TEST(change, of_random_specs_comes_to_what_the_last_alone_comes_to) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 any(seed);
    const auto one_of = [&](auto... words) {
        const std::vector<std::string> all{words...};
        return all[any() % all.size()];
    };
    // Each cohort has CPUs of its own to choose from, so that every spec can be.
    const auto random_spec = [&] {
        std::string out;
        for (const auto& [name, from] : {std::pair("a", 0), {"b", 2}, {"c", 4}}) {
            if (any() % 4 == 0) continue;
            const std::string cpus = one_of(std::to_string(from), std::to_string(from) + "-" + std::to_string(from + 1));
            out += cohort_text(name, cpus, one_of("cpuset = \"require\"", "partition = \"root\"\ncpuset = \"require\"", "partition = \"isolated\"\ncpuset = \"require\"", "cpuset = \"require\"\nmems = \"0\"", ""));
            if (any() % 2) out += "[[cohort]]\nname = \"" + std::string(name) + "-in\"\ninside = \"" + name + "\"\ncpuset = \"require\"\n";
        }
        return out + cohort_text("z", "7");
    };
    for (int round = 0; round < 40; ++round) {
        living l(random_spec());
        for (int i = 0; i < 4; ++i) {
            const std::string next = random_spec();
            ASSERT_TRUE(l.become(next)) << next;
            living alone(next);
            ASSERT_EQ(sets_of(l.host), sets_of(alone.host)) << next;
        }
        ASSERT_THAT(l.up->undo(), IsEmpty());
        ASSERT_THAT(l.host.kernel.paths(), ElementsAre("."));
    }
}

}  // namespace
}  // namespace cohort::group
