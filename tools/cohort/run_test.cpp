// SPDX-License-Identifier: Apache-2.0
// `cohort run`: one command in a cohort of its own. `cohort top`: what is up, for people and programs.
#include <filesystem>

#include <cohort/base/cpumask.hpp>
#include <cohort/sys/os.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::ran;

class run_cli : public testing::command_line {
protected:
    void TearDown() override { (void)bash("$cohort down --all --kill"); }
    bool nothing_left() const { return !std::filesystem::exists(run_dir()) || sys::real().list_dir(run_dir()).value().empty(); }
};

TEST_F(run_cli, the_command_has_our_standard_descriptors_and_its_exit_code_is_ours) {
    ran r = bash("printf 'a\\nb\\n' >in; { read x; $cohort run -- sh -c 'cat; echo talk >&2; exit 7'; echo $?; } <in");
    EXPECT_EQ(r.out, "b\n7\n");
    EXPECT_EQ(r.err, "talk\n");
    EXPECT_EQ(bash("$cohort run -- sh -c 'kill -9 $$'").code, 137);
    EXPECT_EQ(bash("$cohort run -- true").code, 0);
    EXPECT_TRUE(nothing_left());
}

TEST_F(run_cli, it_runs_on_its_cpus_under_its_name) {
    const std::string last = std::to_string(sys::real().sched_getaffinity(0).value().last());
    EXPECT_EQ(bash("$cohort run --cpus " + last + " --name web -- sh -c 'grep Cpus_allowed_list /proc/self/status; echo $COHORT_NAME'").out, "Cpus_allowed_list:\t" + last + "\nweb\n");
    EXPECT_EQ(bash("$cohort run --cpus x1 -- nproc").out, "1\n");
    EXPECT_EQ(bash("$cohort run --pool 2M -- sh -c 'echo ${COHORT_POOL_JOIN:+a pool}'").out, "a pool\n");
    EXPECT_EQ(bash("$cohort run --report r.json -- sh -c 'exit 4'").code, 4);
    EXPECT_EQ(nlohmann::json::parse(text("r.json"))["jobs"][0]["exits"][0], "exit 4");
}

TEST_F(run_cli, what_is_wrong_with_it_is_told_before_it_starts) {
    expect(2, "$cohort run", "no command after --");
    expect(2, "$cohort run --cpus 0-90000 -- touch x", "cpus \"0-90000\"");
    expect(2, "$cohort run --cpus '0\"' -- touch x", "is not understood");
    expect(2, "$cohort run --name ../x -- touch x", "--name");
    expect(2, "$cohort run --pool 1K -- touch x", "a pool has");
    expect(5, "$cohort run -- no-such-program", "command \"no-such-program\": find: ENOENT");
    EXPECT_EQ(bash("$cohort run --cookie own --policy require -- touch x; echo $?; [ -e x ] && grep -q 0 x; true").err.empty(), std::filesystem::exists(dir_ / "x"));
    EXPECT_TRUE(nothing_left());
}

TEST_F(run_cli, keys_are_the_command_s_and_sigterm_ends_both) {
    // SIGINT to the whole group, as a terminal sends it: the command decides.
    const ran r = bash("set -m; $cohort run --name r -- sh -c 'trap \"echo heard; exit 3\" INT; touch ready; while :; do sleep 0.02; done' & until_so '[ -e ready ]'; kill -INT -- -$!; wait $!; echo $?");
    EXPECT_EQ(r.out, "heard\n3\n") << r.err;
    const ran t = bash("rm -f ready; $cohort run --name r -- sh -c 'touch ready; exec sleep 1000' & until_so '[ -e ready ]'; kill $!; wait $!; echo $?");
    EXPECT_EQ(t.out, "5\n") << t.err;
    const ran d = bash("rm -f ready; $cohort run --name r -- sh -c 'touch ready; exec sleep 1000' & until_so '[ -e ready ]'; $cohort down r; wait $!");
    EXPECT_EQ(d.out, "r is down\n");
    EXPECT_TRUE(nothing_left());
}

TEST_F(run_cli, top_with_nothing_up_has_empty_lists_and_says_so) {
    const auto j = json("$cohort top --once --json");
    for (const char* list : {"ups", "cohorts", "cpus", "jobs"}) EXPECT_TRUE(j[list].is_array() && j[list].empty()) << list;
    EXPECT_EQ(bash("$cohort top --once").out, "nothing is up\n");
}

TEST_F(run_cli, top_shows_cohorts_cpus_jobs_blocks_and_pools) {
    const std::string of_yes = "cohort = \"c\"\ninput = { command = \"yes\" }\ncodec = \"gzip\"\nblock = \"64K\"\n";
    file("s.toml", "[[cohort]]\nname = \"c\"\npool = \"64M\"\n[[job]]\nname = \"busy\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"while :; do :; done\"\n"
                   "[[job]]\nname = \"pipe\"\nkind = \"pipe\"\noutput = \"out\"\n" + of_yes + "[[job]]\nname = \"flow\"\nkind = \"flow\"\noutput = { command = \"cat >/dev/null\" }\n" + of_yes);
    file("all.py", "import json, sys\nbusy, pipe, flow = json.load(sys.stdin)['jobs']\nsys.exit(not (pipe['padata'] and pipe['queues'] and (pipe['cpu_seconds'] or 0) > 0.02 and len(pipe['threads']) > 1 and len(flow['queues']) == 3 and flow['cpu_seconds']))\n");
    expect(0, "$cohort up --detach s.toml && until_so '$cohort top --once --json | python3 all.py'");
    const auto j = json("$cohort top --once --json");
    EXPECT_EQ(j["ups"][0]["name"], "s");
    EXPECT_EQ(j["cohorts"][0]["name"], "c");
    EXPECT_TRUE(j["cohorts"][0]["use"].is_number());
    EXPECT_EQ(j["cohorts"][0]["pool"]["bytes"], 64u << 20);
    EXPECT_TRUE(j["cohorts"][0]["pool"]["members"].is_number());
    EXPECT_EQ(j["cpus"].size(), static_cast<std::size_t>(sys::real().sched_getaffinity(0).value().weight()));
    EXPECT_EQ(j["jobs"][0]["name"], "busy");
    EXPECT_TRUE(j["jobs"][0]["cpu_seconds"].is_number());
    EXPECT_TRUE(j["jobs"][1]["padata"]["in_flight"].is_number());
    EXPECT_EQ(j["jobs"][1]["queues"][0]["name"], "in flight");
    EXPECT_TRUE(j["jobs"][1]["cpu_seconds"].is_number()) << "of its reader and workers";
    EXPECT_EQ(j["jobs"][2]["queues"][2]["name"], "for the consumer");
    EXPECT_THAT(bash("$cohort top --once").out, ::testing::AllOf(HasSubstr(" in flight"), HasSubstr(" for the workers, ")));
    EXPECT_THAT(bash("$cohort top --once").out, HasSubstr("busy"));
    // Looks on and on until who reads has gone.
    EXPECT_EQ(bash("$cohort top --json --interval 10 2>/dev/null | head -n 3 | wc -l").out, "3\n");
    expect(0, "$cohort down --all");
}

}  // namespace
}  // namespace cohort::cli
