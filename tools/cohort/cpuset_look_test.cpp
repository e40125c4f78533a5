// SPDX-License-Identifier: Apache-2.0
// `cohort cpuset explain`, what-if, lint and plan as users run them: on scripts and on snapshots, without privilege.
#include <functional>
#include <string>

#include <cohort/group/cpuset_snapshot.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;

class cpuset_look : public testing::command_line {
protected:
    /// The rest of a command line, with the tree that the lines make.
    std::string on(const std::string& lines) {
        file("lines", lines);
        return " --kernel 6.12 --machine 'synthetic:pack:2 numa:1 core:2 pu:2' <lines";
    }
    void snapshot_of(const std::string& name, const std::vector<std::string>& lines, const std::function<void(cpuset::snapshot&)>& spoil = {}) {
        const auto machine = machine::load("synthetic:pack:2 numa:1 core:2 pu:2", sys::real()).value();
        cpuset::model m(machine);
        for (const std::string& l : lines) EXPECT_TRUE(m.perform(*cpuset::parse_operation(l)).ok()) << l;
        cpuset::snapshot s = take(m, machine);
        if (spoil) spoil(s);
        file(name, group::cpuset_snapshot_json(s));
    }
};

const std::string partitioned = "mkdir a\nmkdir b\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition isolated\nattach a t\n";

TEST_F(cpuset_look, explain_tells_the_cause_and_the_remedy) {
    const auto j = json("$cohort cpuset explain /a --json" + on("mkdir a\nwrite a cpuset.cpus 0-3\ncpu 2 offline\n"));
    EXPECT_EQ(j["requests"][0]["missing"][0]["causes"][0]["cause"], "offline");
    EXPECT_EQ(j["requests"][0]["missing"][0]["remedy"]["operations"], nlohmann::json({"cpu 2 online"}));
    EXPECT_EQ(j["complete"], false);
    EXPECT_THAT(bash("$cohort cpuset explain a" + on("mkdir a\nwrite a cpuset.cpus 0-3\ncpu 2 offline\n")).out, HasSubstr("CPUs 2 are offline\n    remedy:\n      cpu 2 online"));
    expect(0, "$cohort cpuset explain /" + on(""));
    expect(2, "$cohort cpuset explain nowhere" + on(""), "cpuset \"nowhere\": explain: ENOENT");
    expect(0, "$cohort cpuset explain a" + on("mkdir a\nrmdir x\n"), "standard input:2: rmdir x: ENOENT");
    expect(2, "$cohort cpuset explain a" + on("mkdir\n"), "standard input:1:");
}

TEST_F(cpuset_look, what_if_shows_changes_and_refusals) {
    snapshot_of("s", {"mkdir a", "mkdir b", "write a cpuset.cpus 2-3", "write a cpuset.cpus.partition isolated", "attach b t"});
    const auto j = json("$cohort cpuset what-if --snapshot s --json -- write b cpuset.cpus 0-1 , write b cpuset.mems 1");
    EXPECT_EQ(j["ok"], true);
    EXPECT_EQ(j["performed"], 2);
    expect(0, "$cohort cpuset what-if --snapshot s -- write b cpuset.cpus 0-1 | grep -F 'b: task t cpus: \"0-1,4-7\" -> \"0-1\"'");
    expect(0, "test \"$($cohort cpuset what-if --snapshot s -- read b cpuset.cpus)\" = 'nothing changes'");
    expect(1, "$cohort cpuset what-if --snapshot s -- rmdir b", "rmdir b: EBUSY");
    EXPECT_EQ(json("$cohort cpuset what-if --snapshot s --json -- rmdir b", 1)["refused"]["errno"], "EBUSY");
    expect(1, "$cohort cpuset what-if --snapshot s -- write b cpuset.cpus 3-4", "partition \"a\" would become isolated invalid");
    expect(2, "$cohort cpuset what-if --snapshot s -- frobnicate", "\"frobnicate\": column 1");
    expect(2, "$cohort cpuset what-if --snapshot s", "no operation");
}

TEST_F(cpuset_look, lint_ends_with_no_at_an_error) {
    const auto j = json("$cohort cpuset lint --json" + on(partitioned));
    EXPECT_EQ(j["findings"][0]["rule"], "isolated-several");
    expect(0, "$cohort cpuset lint" + on(partitioned), "1 findings, 0 of them errors");
    expect(1, "$cohort cpuset lint" + on("mkdir a\nwrite a cpuset.cpus 3\nwrite a cpuset.cpus.partition root\nattach a t\n"), "of them errors");
    expect(0, "$cohort cpuset lint --help | grep -F 'cpu-offline-invalidates'");
}

TEST_F(cpuset_look, plan_prints_the_writes_and_the_way_back) {
    file("t.toml", "[[set]]\npath = \"b/c\"\ncpus = \"4-5\"\npartition = \"member\"\n[[set]]\npath = \"a\"\ncpus = \"2\"\n");
    const auto j = json("$cohort cpuset plan t.toml --json" + on(partitioned));
    EXPECT_EQ(j["holds"], true);
    EXPECT_EQ(j["steps"][0]["operation"], "mkdir b/c");
    EXPECT_EQ(j["steps"][0]["undo"], nlohmann::json({"rmdir b/c"}));
    EXPECT_TRUE(j["not_restored"].empty());
    expect(0, "$cohort cpuset plan t.toml" + on(partitioned) + " | grep -xF '#   write a cpuset.cpus 2-3'");
    file("bad.toml", "[[set]]\npath = \"a\"\ncpus = \"9\"\n");
    expect(1, "$cohort cpuset plan bad.toml" + on(partitioned), "set \"a\": cpus: the machine has no CPUs 9");
    file("worse.toml", "[[set]]\npath = \"a\"\ncpus = 9\n");
    expect(2, "$cohort cpuset plan worse.toml" + on(partitioned), "worse.toml:3:8: set \"a\"");
    expect(5, "$cohort cpuset plan nowhere.toml" + on(""), "nowhere.toml");
    expect(2, "$cohort cpuset plan t.toml --json --script" + on(""), "exclude each other");
}

TEST_F(cpuset_look, the_script_of_a_plan_checks_each_step_and_goes_back) {
    file("t.toml", "[[set]]\npath = \"b\"\ncpus = \"4-5\"\n[[set]]\npath = \"a\"\ncpus = \"2\"\n");
    const std::string script = "$cohort cpuset plan t.toml --script" + on(partitioned) + " >plan.sh && mkdir -p tree/a tree/b && echo 2-3 >tree/a/cpuset.cpus && export CGROUP=$PWD/tree && ";
    expect(0, script + "sh plan.sh && test \"$(cat tree/a/cpuset.cpus tree/b/cpuset.cpus)\" = \"$(printf '2\\n4-5')\"");
    expect(0, "export CGROUP=$PWD/tree; sh plan.sh --roll-back && test \"$(cat tree/a/cpuset.cpus)\" = 2-3");
    // Step by step: the second write fails, and the first is taken back.
    expect(1, script + "rm -r tree/b && sh plan.sh", "failed; going back");
    EXPECT_EQ(text("tree/a/cpuset.cpus"), "2-3\n");
}

TEST_F(cpuset_look, a_snapshot_that_the_model_does_not_come_to_is_told) {
    snapshot_of("s", {"mkdir a", "write a cpuset.cpus 2-3"}, [](cpuset::snapshot& s) { s.sets[1].files["cpuset.cpus.effective"] = "2"; });
    expect(0, "$cohort cpuset explain a --snapshot s", "observed differs: a: cpuset.cpus.effective: the kernel shows \"2\", the model says \"2-3\"");
    expect(0, "$cohort cpuset lint --snapshot - <s", "observed differs");
    expect(5, "$cohort cpuset lint --snapshot nowhere", "nowhere");
    expect(5, "echo '{' >bad; $cohort cpuset lint --snapshot bad", "bad:2:1: read: EINVAL: it is no JSON here");
    expect(2, "$cohort cpuset lint --snapshot s --kernel 6.12", "--snapshot excludes");
    expect(2, "$cohort cpuset lint --kernel 5.4", "there are 6.1, 6.12 and 7.0");
    expect(2, "$cohort cpuset lint --machine synthetic:nonsense </dev/null", "nonsense");
}

}  // namespace
}  // namespace cohort::cli
