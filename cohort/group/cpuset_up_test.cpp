// SPDX-License-Identifier: Apache-2.0
// Cohorts in cpusets: planned with the model, made on machines whose kernel is the model, undone; and kept without any.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/group/apply.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/run.hpp>
#include <cohort/group/testing/on_host.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::group {
namespace {

using cpuset::testing::cgroup_host;
using testing::cohort_text;
using testing::plan_on;
using testing::refusals_of;
using testing::spec_of;
using sys::testing::scratch_dir;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> changes_of(const plan& p) {
    std::vector<std::string> out;
    for (const step& s : p.steps) {
        if (s.kind == step::form::change_cpuset) out.push_back(cpuset::to_line(s.change) + (s.undo_text().empty() ? "" : " <- " + s.undo_text()));
    }
    return out;
}

const std::string own_set = "cpuset = \"require\"";

TEST(cohort_cpuset, a_cohort_gets_a_set_that_the_model_has_tried) {
    cgroup_host host;
    const plan p = plan_on(host, cohort_text("rt", "2-3", "partition = \"isolated\"\nmems = \"1\"\n" + own_set));
    EXPECT_THAT(refusals_of(p), IsEmpty());
    EXPECT_THAT(changes_of(p), ElementsAre("mkdir cohort-rt <- rmdir cohort-rt", "write cohort-rt cpuset.cpus 2-3", "write cohort-rt cpuset.mems 1",
                                           "write cohort-rt cpuset.cpus.partition isolated <- write cohort-rt cpuset.cpus.partition member"));
    const cohort_plan& c = p.cohorts[0];
    EXPECT_EQ(c.keep.by, keeping::form::kernel);
    EXPECT_EQ(c.keep.text(), "set cohort-rt, cgroup v2 at /sys/fs/cgroup, partition isolated, nodes 1");
    EXPECT_EQ(c.keep.procs, "/sys/fs/cgroup/cohort-rt/cgroup.procs");
    EXPECT_THAT(c.enforced, Contains("nobody else runs there: partition isolated"));
    EXPECT_THAT(c.advisory, Contains(HasSubstr("does not spread threads")));
    EXPECT_TRUE(host.writes.empty()) << "a plan changes nothing";
    EXPECT_THAT(plan_text(p), HasSubstr("kept by   set cohort-rt"));
    EXPECT_EQ(nlohmann::json::parse(plan_json(p))["cohorts"][0]["kept_by"]["by"], "kernel");
}

TEST(cohort_cpuset, sets_are_made_whole_and_undone_at_the_end) {
    scratch_dir dir;
    cgroup_host host;
    const plan p = plan_on(host, cohort_text("rt", "2-3", "partition = \"root\"\n" + own_set) + cohort_text("web", "4-5", own_set));
    ASSERT_TRUE(p.holds()) << refusals_of(p).front();
    {
        auto up = applied::apply(p, host, "/run");
        ASSERT_TRUE(up) << up.error().front().line();
        EXPECT_EQ(host.reads("cohort-rt", "cpuset.cpus.partition"), "root");
        EXPECT_EQ(host.reads("cohort-web", "cpuset.cpus.effective"), "4-5");
        EXPECT_EQ(host.reads("", "cpuset.cpus.effective"), "0-1,4-7");
        EXPECT_THAT(up->broken_partitions(p), IsEmpty());
        host.start(300, "cohort-rt");
        for (int cpu : {2, 3}) ASSERT_TRUE(host.perform({.what = cpuset::verb::cpu, .number = cpu, .on = false}).ok());
        const auto broken = up->broken_partitions(p);
        ASSERT_EQ(broken.size(), 1u);
        EXPECT_THAT(broken[0].line(), HasSubstr("cohort \"rt\": keep its partition: EINVAL: it reads \"root invalid"));
        host.perform({.what = cpuset::verb::exit, .task = "300"});
        EXPECT_THAT(up->undo(), IsEmpty());
    }
    EXPECT_THAT(host.kernel.paths(), ElementsAre("."));
}

TEST(cohort_cpuset, every_write_that_fails_leaves_nothing_behind) {
    for (const bool v1 : {false, true}) {
        const std::string text = cohort_text("a", "2-3", "partition = \"root\"") + cohort_text("b", "4-5", "mems = \"0\"");
        std::size_t writes = 0;
        {
            cgroup_host whole({.v1 = v1});
            auto up = applied::apply(plan_on(whole, text), whole, "/run");
            ASSERT_TRUE(up) << up.error().front().line();
            writes = whole.writes.size();
        }
        EXPECT_GE(writes, 4u);
        for (std::size_t nth = 1; nth <= writes; ++nth) {
            cgroup_host host({.v1 = v1});
            const plan p = plan_on(host, text);
            ASSERT_TRUE(p.holds());
            std::size_t seen = 0;
            host.on_write = [&](const std::string&) { return ++seen == nth ? EIO : 0; };
            auto up = applied::apply(p, host, "/run");
            ASSERT_FALSE(up) << nth;
            EXPECT_THAT(up.error().front().line(), HasSubstr("EIO"));
            EXPECT_THAT(host.kernel.paths(), ElementsAre(".")) << nth;
            EXPECT_FALSE(host.disk.stat("/run/a.up")) << "names are given back, too";
        }
    }
}

TEST(cohort_cpuset, on_version_1_a_partition_is_named_a_substitute) {
    cgroup_host host({.v1 = true});
    const plan p = plan_on(host, cohort_text("a", "2-3", "partition = \"isolated\""));
    ASSERT_TRUE(p.holds());
    EXPECT_THAT(changes_of(p), ElementsAre("mkdir cohort-a <- rmdir cohort-a", "write cohort-a cpuset.cpus 2-3", "write cohort-a cpuset.mems 0-1", "write cohort-a cpuset.cpu_exclusive 1"));
    EXPECT_THAT(p.cohorts[0].advisory, Contains(HasSubstr("version 1 has no partitions: cpuset.cpu_exclusive stands in for one")));
    EXPECT_THAT(p.cohorts[0].enforced, Not(Contains(HasSubstr("nobody else"))));
    EXPECT_THAT(refusals_of(plan_on(host, cohort_text("a", "2-3", "partition = \"isolated\"\n" + own_set))),
                ElementsAre("s.toml:2:8: cohort \"a\": cpuset = \"require\": cgroup v1 at /sys/fs/cgroup has no partitions"));
}

TEST(cohort_cpuset, what_must_be_and_cannot_be_is_refused_with_the_reason) {
    cgroup_host host;
    host.start(host.getpid(), "");
    const auto refused = [&](const std::string& text) {
        const auto all = refusals_of(plan_on(host, text));
        return all.empty() ? std::string("holds") : all.front();
    };
    EXPECT_THAT(refused(cohort_text("a", "0-7", "partition = \"root\"\n" + own_set)), HasSubstr("cohort \"a\": cpuset = \"require\": write cohort-a cpuset.cpus.partition root: it would read \"root invalid"));
    EXPECT_THAT(refused(cohort_text("a", "2-3", "partition = \"root\"\n" + own_set) + cohort_text("b", "3-4", own_set)), HasSubstr("cohort \"b\": cpuset = \"require\": "));
    EXPECT_EQ(refused(cohort_text("a", "2-3", "partition = \"root\"\n" + own_set) + cohort_text("b", "3-4", "")), "s.toml:8:8: cohort \"b\": CPU 3 is taken by the partition of cohort \"a\"");
    EXPECT_THAT(refused("[cpuset]\nunder = \"x\"\n" + cohort_text("a", "2-3", own_set)), HasSubstr("sets cannot be made there: "));
    EXPECT_THAT(refused("[cpuset]\nunder = \"a/../b\"\n" + cohort_text("a", "2-3", own_set)), HasSubstr("it is no path from the top"));
    EXPECT_THAT(refused(cohort_text("a", "2-3", own_set) + "[[job]]\nname = \"j\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"i\"\noutput = \"o\"\ncodec = \"zstd\"\n"),
                HasSubstr("the workers of pipe \"j\" are threads of this program"));
    host.read_only.insert("/sys/fs/cgroup/cgroup.procs");
    EXPECT_THAT(refused(cohort_text("a", "2-3", own_set)), HasSubstr("sets cannot be made there: /sys/fs/cgroup/cgroup.procs: open: EACCES"));
}

TEST(cohort_cpuset, what_may_be_otherwise_is_emulated_and_says_why) {
    cgroup_host host;
    host.start(host.getpid(), "");
    const plan p = plan_on(host, cohort_text("a", "0-3", "partition = \"root\"") + cohort_text("b", "4-7", "partition = \"isolated\"") + cohort_text("c", "1", "cpuset = \"emulate\"\nmems = \"1\""));
    // Both halves cannot be partitions: the root has tasks and keeps a CPU. The one that comes first in the spec is; but then c has lost its CPU.
    EXPECT_THAT(refusals_of(p), ElementsAre(HasSubstr("cohort \"c\": CPU 1 is taken by the partition of cohort \"a\"")));
    EXPECT_EQ(p.cohorts[0].keep.by, keeping::form::kernel);
    EXPECT_EQ(p.cohorts[1].keep.by, keeping::form::emulated);
    EXPECT_THAT(p.cohorts[1].keep.text(), HasSubstr("affinities and memory policies (no set of the kernel's: write cohort-b cpuset.cpus.partition isolated: it would read"));
    EXPECT_THAT(p.cohorts[1].advisory, Contains(HasSubstr("other processes are not kept off them")));
    EXPECT_THAT(p.cohorts[2].keep.text(), "affinities and memory policies, nodes 1");
    EXPECT_THAT(p.cohorts[2].enforced, Contains(HasSubstr("memory of its commands comes from nodes 1")));
}

TEST(cohort_cpuset, a_set_of_a_killed_run_is_taken_over_one_in_use_is_not) {
    cgroup_host host;
    host.perform({.what = cpuset::verb::mkdir, .path = "cohort-a"});
    host.perform({.what = cpuset::verb::write, .path = "cohort-a", .file = "cpuset.cpus", .text = "7"});
    const plan p = plan_on(host, cohort_text("a", "2-3", own_set));
    ASSERT_TRUE(p.holds());
    EXPECT_THAT(changes_of(p), ElementsAre("rmdir cohort-a", "mkdir cohort-a <- rmdir cohort-a", "write cohort-a cpuset.cpus 2-3"));
    {
        auto up = applied::apply(p, host, "/run");
        ASSERT_TRUE(up) << up.error().front().line();
        EXPECT_EQ(host.reads("cohort-a", "cpuset.cpus"), "2-3");
        host.start(300, "cohort-a");
        EXPECT_THAT(refusals_of(plan_on(host, cohort_text("a", "2-3", own_set))), ElementsAre(HasSubstr("set \"cohort-a\" is there and in use: ")));
        host.perform({.what = cpuset::verb::exit, .task = "300"});
    }
    EXPECT_THAT(host.kernel.paths(), ElementsAre("."));
}

TEST(cohort_cpuset, below_a_set_that_was_named_the_controller_is_handed_on_and_given_back) {
    cgroup_host host;
    host.perform({.what = cpuset::verb::mkdir, .path = "tenants"});
    const plan p = plan_on(host, "[cpuset]\nunder = \"/tenants\"\n" + cohort_text("a", "2-3", own_set));
    ASSERT_TRUE(p.holds()) << refusals_of(p).front();
    EXPECT_THAT(changes_of(p), Contains("controller tenants +cpuset <- controller tenants -cpuset"));
    auto up = applied::apply(p, host, "/run");
    ASSERT_TRUE(up) << up.error().front().line();
    EXPECT_EQ(host.reads("tenants/cohort-a", "cpuset.cpus.effective"), "2-3");
    EXPECT_THAT(up->undo(), IsEmpty());
    EXPECT_THAT(host.kernel.paths(), ElementsAre(".", "tenants"));
}

TEST(cohort_cpuset, a_machine_that_is_not_there_has_a_kernel_without_sets) {
    const auto view = view_cpusets("synthetic:pack:2 numa:1 core:2 pu:2", "", sys::real());
    ASSERT_TRUE(view) << view.error().line();
    EXPECT_EQ((*view)->barred, "");
    EXPECT_EQ((*view)->machine.possible.weight(), 8);
    EXPECT_EQ(view_cpusets("synthetic:nonsense", "", sys::real()).has_value(), false);
    EXPECT_THAT((*view_cpusets("synthetic:core:2 pu:1", "x", sys::real()))->barred, HasSubstr("is not known"));
}

TEST(cohort_cpuset, nodes_that_do_not_exist_are_a_fault_of_the_spec) {
    cgroup_host host;
    machine_view m = plan_on(host, cohort_text("a", "0", own_set)).machine;
    const auto faults = check_cpus(spec_of(cohort_text("a", "0", "mems = \"1-2\"")), m);
    ASSERT_EQ(faults.size(), 1u);
    EXPECT_EQ(faults[0].line(), "s.toml:4:8: cohort \"a\": mems \"1-2\": machine live has nodes 0-1, not 2");
    const auto read = read_spec("s.toml", cohort_text("a", "0", "mems = \"x\"\npartition = \"best\"\ncpuset = \"maybe\""), [](std::string_view) { return std::nullopt; });
    ASSERT_EQ(read.faults.size(), 3u);
    EXPECT_THAT(read.faults[0].line(), HasSubstr("mems \"x\""));
}

/// A plan of this machine's, with one exec job in a cohort that is emulated on its first CPU.
plan emulated(const std::string& command, const std::string& here) {
    const machine_view live = view_machine("live", sys::real()).value();
    const spec s = spec_of(cohort_text("c", std::to_string(live.usable.first()), "cpuset = \"emulate\"\n[[job]]\nname = \"j\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = '''" + command + "'''\nstdout = \"out\"\n"));
    machine_view m = live;
    m.cpusets = view_cpusets("live", "", sys::real()).value();
    return make_plan(s, m, here);
}

TEST(cohort_cpuset, without_privilege_a_command_that_widens_its_affinity_is_brought_back) {
    const cpumask usable = view_machine("live", sys::real())->usable;
    if (usable.weight() < 2) GTEST_SKIP() << "needs two CPUs";
    scratch_dir dir;
    const std::string first = std::to_string(usable.first());
    // Waits, for as long as need be, until somebody has taken the second CPU away again.
    const plan p = emulated("taskset -pc " + usable.list() + " $$ >/dev/null; until grep -qx 'Cpus_allowed_list:.'" + first + " /proc/$$/status; do sleep 0.02; done; echo held", dir.path());
    EXPECT_EQ(p.cohorts[0].keep.by, keeping::form::emulated);
    const run_report r = run_jobs(p, sys::real(), {});
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(sys::read_file(sys::real(), dir / "out").value(), "held\n");
    EXPECT_THAT(report_text(p, r), HasSubstr("cohort \"c\" was kept by affinities and memory policies"));
    EXPECT_EQ(nlohmann::json::parse(report_json(p, r, 0))["cohorts"][0]["kept_by"]["by"], "emulated");
}

}  // namespace
}  // namespace cohort::group
