// SPDX-License-Identifier: Apache-2.0
// `cohort padata`, and control directories of real `cohort pipe` processes, as users meet them.
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::ran;

bool two_cpus() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(0, &set) && CPU_ISSET(1, &set);
}

/// Scripts find a pipe that runs while its input is held open: p, with the directory ctl and an output `out`. Its blocks note the CPUs of their processes in `cpus`.
class padata_cli : public testing::command_line {
protected:
    std::string before_scripts() const override {
        return R"sh(
            start_pipe() { mkfifo in; exec 9<>in; $cohort pipe "$@" --records --block 1K -- sh -c 'sed -n "s/Cpus_allowed_list:.//p" /proc/self/status >>cpus; cat' <in >out 9>&- & p=$!; }
            feed() { seq $1 $2 | tee -a all >&9; }
            # Its end: nobody has the other side open any more.
            finish_pipe() { exec 9>&-; wait $p; })sh";
    }
    nlohmann::json json_of(const char* name) const { return nlohmann::json::parse(text(name), nullptr, false); }
};

TEST_F(padata_cli, a_mask_that_is_written_while_a_pipe_runs_moves_the_work_and_not_the_output) {
    if (!two_cpus()) GTEST_SKIP() << "needs CPUs 0 and 1";
    expect(0, R"sh(set -e
        start_pipe --control ctl
        # Until both CPUs have had a block: on a busy machine one may take many before the other comes.
        until_so 'feed 1 1000; [ -e ctl/parallel_cpumask ] && [ $(sort -u cpus 2>/dev/null | wc -l) = 2 ]'
        echo 1 >ctl/parallel_cpumask
        until_so '[ "$(cat ctl/usable_parallel_cpulist)" = 0 ]'
        until_so '[ $(($(stat -c %s all) - $(stat -c %s out))) -lt 2048 ]'
        rm cpus; feed 1 4000; until_so '[ -s cpus ]'
        [ "$(sort -u cpus)" = 0 ] || { sort cpus | uniq -c >&2; exit 1; }
        echo zz >ctl/parallel_cpumask
        until_so '[ -s ctl/last_error ]'
        grep -q 'set parallel mask "zz": EINVAL' ctl/last_error
        [ "$(cat ctl/parallel_cpumask)" = 1 ]
        rm cpus; echo 1 >ctl/parallel_cpulist
        until_so '[ "$(cat ctl/parallel_cpumask)" = 2 ] && [ ! -s ctl/last_error ]'
        feed 1 4000; until_so '[ -s cpus ] && [ "$(tail -n 3 cpus | sort -u)" = 1 ]'
        finish_pipe
        cmp out all
        [ ! -e ctl ])sh");
}

TEST_F(padata_cli, instances_are_listed_shown_and_told_their_masks) {
    if (!two_cpus()) GTEST_SKIP() << "needs CPUs 0 and 1";
    const ran r = bash(R"sh(set -e
        start_pipe
        feed 1 1000; until_so '$cohort padata show $p --json >one 2>/dev/null'
        $cohort padata ls | grep "^$p.pipe " >line
        $cohort padata ls --json >all.json
        $cohort padata mask $p.pipe --parallel 0 --serial 1
        $cohort padata mask "$COHORT_RUN_DIR/padata/$p.pipe" --hex --serial 3 --json >two
        $cohort padata mask $p >three
        until_so '[ "$(cat $COHORT_RUN_DIR/padata/$p.pipe/parallel_cpumask)" = 1 ]'
        c=0; $cohort padata mask $p --parallel 1 --serial 4095 2>refused || c=$?; [ $c = 1 ]
        $cohort padata mask $p --json >four
        c=0; $cohort padata mask $p --parallel 3-1 2>>refused || c=$?; [ $c = 2 ]
        c=0; $cohort padata mask $p --parallel 1 --hex --serial zz 2>>refused || c=$?; [ $c = 2 ]
        finish_pipe; cmp out all
        c=0; $cohort padata show $p 2>>refused || c=$?; [ $c = 5 ]
        $cohort padata ls --json >after
        [ -z "$(ls $COHORT_RUN_DIR/padata)" ])sh");
    ASSERT_EQ(r.code, 0) << r.out << r.err << text("refused");
    EXPECT_EQ(json_of("one")["schema_version"], 1);
    EXPECT_EQ(json_of("one")["name"], "pipe");
    EXPECT_EQ(json_of("one")["state"], "running");
    EXPECT_EQ(json_of("one")["shells"], 1);
    EXPECT_EQ(json_of("all.json")["schema_version"], 1);
    EXPECT_GE(json_of("all.json")["instances"].size(), 1u);
    EXPECT_THAT(text("line"), HasSubstr("running"));
    EXPECT_THAT(r.out, HasSubstr("parallel 0, serial 1"));
    EXPECT_EQ(json_of("two")["serial"]["user"]["list"], "0-1");
    EXPECT_EQ(json_of("two")["parallel"]["user"]["mask"], "1");
    EXPECT_THAT(text("three"), HasSubstr("parallel 0, serial 0-1"));
    EXPECT_EQ(json_of("four")["parallel"]["user"]["list"], "0") << "a refused change leaves both masks";
    EXPECT_THAT(text("refused"), HasSubstr("ERANGE"));
    EXPECT_THAT(text("refused"), HasSubstr("no process has one"));
    EXPECT_THAT(text("after"), Not(HasSubstr("\"name\": \"pipe\", \"pid\": 0")));
}

TEST_F(padata_cli, names_that_are_not_one_instance_are_said_so) {
    expect(5, "$cohort padata mask no-such-one --parallel 0", "no process has one");
    expect(5, "$cohort padata show no/such", "no process has one");
    expect(2, "$cohort padata mask", "NAME");
    expect(2, R"sh(start_pipe; mkfifo in2; exec 8<>in2; $cohort pipe -- cat <in2 >/dev/null 8>&- 9>&- &
        until_so '[ $(ls $COHORT_RUN_DIR/padata 2>/dev/null | wc -l) = 2 ]'
        $cohort padata show pipe 8>&- 9>&-; c=$?; exec 8>&- 9>&-; wait; exit $c)sh", "there are ");
}

TEST_F(padata_cli, a_control_directory_that_cannot_be_had_is_an_error_where_it_was_asked_for) {
    expect(5, "mkdir d; echo x >d/notes; seq 9 | $cohort pipe --control d -- cat", "holds other files");
    expect(5, "seq 9 | $cohort pipe --control no/such -- cat", "ENOENT");
    expect(5, "start_pipe --control ctl; until_so '[ -e ctl/last_error ]'; seq 9 | $cohort pipe --control ctl -- cat; c=$?; finish_pipe; exit $c", "another process controls it");
    expect(2, "seq 9 | $cohort pipe --control d --no-control -- cat", "only one");
    // In the default place it is not asked for; -v says why there is none.
    expect(0, "export COHORT_RUN_DIR=/dev/null; seq 9 | $cohort pipe -v -- cat | cmp - <(seq 9)", "masks cannot be changed from outside");
    EXPECT_EQ(bash("export COHORT_RUN_DIR=/dev/null; seq 9 | $cohort pipe -q -- cat").err, "");
    expect(0, "seq 9 | $cohort pipe -v -- cat >/dev/null", "control directory " + run_dir() + "/padata/");
    expect(0, "seq 9 | $cohort pipe --no-control -v -- cat >/dev/null && [ ! -e \"$COHORT_RUN_DIR/padata\" -o -z \"$(ls $COHORT_RUN_DIR/padata)\" ]");
}

TEST_F(padata_cli, what_a_killed_pipe_left_is_gone_with_the_next) {
    expect(0, R"sh(start_pipe; feed 1 100; until_so '[ -e $COHORT_RUN_DIR/padata/$p.pipe/last_error ]'
        kill -9 $p; wait $p 2>/dev/null; [ -e $COHORT_RUN_DIR/padata/$p.pipe ] || exit 1
        exec 9>&-; seq 9 | $cohort pipe -- cat | cmp - <(seq 9) && [ -z "$(ls $COHORT_RUN_DIR/padata)" ])sh");
}

TEST_F(padata_cli, demo_tells_the_steps_of_a_job_in_their_order) {
    const ran r = bash("$cohort padata demo --trace");
    EXPECT_EQ(r.code, 0) << r.out << r.err;
    std::size_t at = 0;
    for (const char* step : {"1. a job whose serial()", "cb_cpu check: ", "is in the usable serial mask", "enter: job 0 has its place", "claim: a worker takes job 0", "job 0: parallel() on cpu",
                             "finish: job 0 is done", "turn: it is at job 0", "job 0: serial() on cpu", "2. the serial mask is", "cb_cpu check: ", "enter: job 1",
                             "job 1: serial() on cpu", "3. a job asks for cpu 8192", "EINVAL: the machine has cpus 0-", "4. four jobs", "enter: job 3", "window check: 4 jobs are in flight, it is full",
                             "EAGAIN", "the device is done with job 3", "finish: job 3", "the device is done with job 0", "finish: job 0", "job 0: serial()", "job 3: serial()", "5. masks",
                             "EINVAL: the mask is empty", "EINVAL: cpu 8191 is beyond the machine", "the parallel mask is", "6. a job that costs next to nothing", "inline: job ",
                             "all as it should be"}) {
        const std::size_t found = r.out.find(step, at);
        ASSERT_NE(found, std::string::npos) << "\"" << step << "\" does not come after:\n" << r.out.substr(0, at) << "\nall:\n" << r.out;
        at = found;
    }
    EXPECT_THAT(r.out, HasSubstr("home: everything before job "));  // by a worker, perhaps when the next part has begun
    const ran quiet = bash("$cohort padata demo");
    EXPECT_EQ(quiet.code, 0);
    EXPECT_THAT(quiet.out, Not(HasSubstr("padata:")));
    EXPECT_THAT(quiet.out, HasSubstr("job 0: serial() on cpu"));
}

TEST_F(padata_cli, demo_tells_the_same_as_json) {
    const auto j = json("$cohort padata demo --trace --json");
    EXPECT_EQ(j["schema_version"], 1);
    EXPECT_EQ(j["good"], true);
    std::map<std::string, int> times;
    for (const auto& e : j["events"]) ++times[e["event"].get<std::string>()];
    EXPECT_EQ(times["part"], 6);
    EXPECT_EQ(times["serial"], 9);  // two, four and three jobs that were taken
    EXPECT_EQ(times["parallel"], 9);
    EXPECT_GE(times["padata:enter"], 9);
    EXPECT_EQ(std::ranges::count_if(j["events"], [](const auto& e) { return e["event"] == "answer" && e.value("errno", 0) == EAGAIN; }), 1);
    EXPECT_EQ(std::ranges::count_if(json("$cohort padata demo --json")["events"], [](const auto& e) { return e["event"].template get<std::string>().starts_with("padata:"); }), 0);
}

TEST_F(padata_cli, masks_of_a_running_job_of_a_cohort_are_set_and_its_window_is_in_the_report) {
    if (!two_cpus()) GTEST_SKIP() << "needs CPUs 0 and 1";
    const ran r = bash(R"sh(set -e
        mkfifo hold; exec 9<>hold
        printf '[[cohort]]\nname = "c"\ncpus = "0-1"\n\n[[job]]\nname = "packer"\ncohort = "c"\nkind = "pipe"\ninput = { command = "cat hold" }\ncommand = "cat"\noutput = "packed"\n' >spec.toml
        $cohort plan spec.toml >plan.txt 2>&1 || { cat plan.txt >&2; exit 9; }
        $cohort up -q --json spec.toml 9>&- >report.json & p=$!
        seq 1 1000 >&9
        until_so '$cohort padata mask packer --parallel 1 --json >masks.json 2>/dev/null'
        exec 9>&-; wait $p
        cmp packed <(seq 1 1000))sh");
    ASSERT_EQ(r.code, 0) << r.out << r.err;
    EXPECT_EQ(json_of("masks.json")["parallel"]["usable"]["list"], "1");
    const auto report = json_of("report.json");
    EXPECT_GT(report["jobs"][0]["window"]["blocks"], 0) << report;
    EXPECT_GT(report["jobs"][0]["window"]["bytes"], 0);
    EXPECT_GT(report["jobs"][0]["latency"]["p50_seconds"], 0);
    EXPECT_LE(report["jobs"][0]["latency"]["p99_seconds"], report["jobs"][0]["latency"]["max_seconds"]);
    EXPECT_TRUE(report["jobs"][0]["stuck"].is_null());
}

}  // namespace
}  // namespace cohort::cli
