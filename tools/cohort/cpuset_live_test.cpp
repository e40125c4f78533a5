// SPDX-License-Identifier: Apache-2.0
// The commands on the live tree, as far as they change nothing: whatever this machine has mounted.
#include "testing/command_line.hpp"

namespace {

class cpuset_live_cli : public cohort::cli::testing::command_line {};

TEST_F(cpuset_live_cli, show_tells_what_is_there) {
    const auto j = json("$cohort cpuset show --json");
    EXPECT_EQ(j["schema_version"], 1);
    const std::string kind = j["mount"]["kind"];
    EXPECT_FALSE(j["mount"]["about"].get<std::string>().empty());
    EXPECT_FALSE(j["online"].get<std::string>().empty());
    EXPECT_EQ(j["sets"].empty(), kind == "none");
    expect(0, "$cohort cpuset show | grep -F \"$($cohort cpuset show --json | sed -n 's/.*\"about\": \"\\(.*\\)\".*/\\1/p' | head -n 1)\"");
}

TEST_F(cpuset_live_cli, of_and_tasks_agree_and_get_reads_what_is_in_the_file) {
    if (json("$cohort cpuset show --json")["mount"]["kind"] == "none") GTEST_SKIP() << "no cpusets are mounted here";
    const auto own = json("$cohort cpuset of $$ --json");
    EXPECT_FALSE(own["effective_cpus"].get<std::string>().empty());
    const auto here = bash("p=$($cohort cpuset of $$) && $cohort cpuset tasks $p | grep \"^$$ bash\"");
    EXPECT_EQ(here.code, 0) << here.err;
    EXPECT_FALSE(json("$cohort cpuset get / --json")["files"].empty());
    expect(0, "[ \"$($cohort cpuset get / cpuset.cpus.effective || $cohort cpuset get / cpuset.effective_cpus)\" ]");
    expect(5, "$cohort cpuset tasks no/such/set", "cpuset \"no/such/set\": read cgroup.procs: ENOENT: there is no set");
    expect(5, "$cohort cpuset get / cpuset.nothing", "ENOENT");
    expect(5, "$cohort cpuset of 2000000000", "process 2000000000: find its cpuset: ESRCH");
    expect(5, "$cohort cpuset attach no/such/set $$", "no/such/set");
}

TEST_F(cpuset_live_cli, bad_words_are_usage_errors_and_change_nothing) {
    expect(2, "$cohort cpuset of first", "\"first\" is no process number");
    expect(2, "$cohort cpuset attach a 0", "\"0\" is no process number");
    expect(2, "$cohort cpuset delegate a nobody-of-this-name", "there is no user");
    expect(2, "$cohort cpuset create");
    expect(2, "echo 'mkdir a/../b' | $cohort cpuset apply -", "standard input:1:7: ");
    expect(2, "echo '{\"schema_version\": 1}' >p; $cohort cpuset apply p", "p: it is no plan");
    expect(2, "echo '{\"schema_version\": 1, \"steps\": [{\"operation\": \"mkdir\"}]}' | $cohort cpuset apply -", "standard input:steps[0]:6: a path was expected");
    expect(2, "echo '{\"schema_version\": 1, \"steps\": [], \"refusals\": [\"no way\"]}' | $cohort cpuset apply -", "the plan does not hold: \"no way\"");
    expect(5, "$cohort cpuset apply none.json", "none.json: open: ENOENT");
    if (json("$cohort cpuset show --json")["mount"]["kind"] == "none") {
        expect(3, "$cohort cpuset create a", "no cpuset");
        return;
    }
    expect(0, "printf '# nothing\\n\\n' | $cohort cpuset apply -");
    expect(1, "echo 'cpu 1 offline' | $cohort cpuset apply -", "a live tree has mkdir");
    expect(0, "timeout 60 $cohort cpuset watch --seconds 1 --interval 50", "watching ");
    expect(2, "$cohort cpuset rm ../a", "it is no path from the top");
    expect(2, "$cohort cpuset set /", "nothing to write");
    expect(2, "$cohort cpuset set / --write cpuset.cpus", "FILE=VALUE was expected");
}

}  // namespace
