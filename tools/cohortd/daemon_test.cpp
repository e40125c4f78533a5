// SPDX-License-Identifier: Apache-2.0
// cohortd beside `cohort up`: what it tells of what is up, in figures and in lines. Sets and cookies of a kernel that has them: lab/up_guest_daemon.cpp.
#include <string>

#include <cohort/coresched/control.hpp>
#include <cohort/sys/os.hpp>

#include "../cohort/testing/command_line.hpp"

namespace cohort::cli {
namespace {

using testing::ran;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class daemon : public testing::command_line {
protected:
    /// `start` runs a daemon of the script's own, which ends with the script; `figures` prints what it tells Prometheus.
    std::string before_scripts() const override {
        return "daemon='" COHORT_DAEMON "'\n" + std::string(R"sh(
            broker=
            trap '$cohort down --all --kill >/dev/null 2>&1; [ -z "$broker" ] || { kill $broker; wait $broker; } 2>/dev/null' EXIT
            start() { : >daemon.err; "$daemon" --socket $PWD/pool.sock --no-journal --metrics 127.0.0.1:0 "$@" 2>daemon.err & broker=$!; until_so 'grep -q listening daemon.err || ! kill -0 $broker 2>/dev/null'; at=$(grep -o '127.0.0.1:[0-9]*' daemon.err); }
            figures() { exec 3<>/dev/tcp/${at/:/\/}; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3; }
            shows() { until_so "figures | grep -q '^$1'"; }
            )sh");
    }
    void SetUp() override {
        file("web.toml", "[[cohort]]\nname = \"c\"\ncpus = \"0\"\npool = \"2M\"\n[[job]]\nname = \"stays\"\ncohort = \"c\"\nkind = \"exec\"\ninstances = 2\ncommand = \"sleep 1000\"\n"
                         "[[job]]\nname = \"ends\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"exit 3\"\n");
    }
};

TEST_F(daemon, tells_prometheus_what_is_up_and_what_its_jobs_do) {
    const ran r = bash(R"sh(start; $cohort up --detach -q web.toml >/dev/null
        shows 'cohort_job_state{up="web",cohort="c",job="ends",kind="exec",state="failed"} 1' && shows 'cohort_job_processes{up="web",cohort="c",job="stays"} 2'; figures
        $cohort down >/dev/null; until_so 'figures | grep -q "^cohort_ups 0"'; echo === ; figures | grep -c 'up="web"')sh");
    EXPECT_THAT(r.out, AllOf(HasSubstr("\ncohort_ups 1\n"), HasSubstr("\ncohort_up_alive{up=\"web\"} 1\n"), HasSubstr("\ncohort_up_phase{up=\"web\",phase=\"up\"} 1\n"))) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("\ncohort_planned_cpus{up=\"web\",cohort=\"c\"} 1\n"), HasSubstr("\ncohort_effective_cpus{up=\"web\",cohort=\"c\"} 1\n"), HasSubstr("\ncohort_cpus_left_total{up=\"web\",cohort=\"c\"} 0\n")));
    EXPECT_THAT(r.out, AllOf(HasSubstr("\ncohort_job_state{up=\"web\",cohort=\"c\",job=\"stays\",kind=\"exec\",state=\"running\"} 1\n"), HasSubstr("\ncohort_up_pool_bytes{up=\"web\",cohort=\"c\"} 2097152\n"),
                             HasSubstr("\ncohort_job_cpu_seconds{up=\"web\",cohort=\"c\",job=\"stays\"} "), HasSubstr("\n# TYPE cohort_watch_cpus_left_total counter\n")));
    EXPECT_THAT(r.out, Not(HasSubstr("cohort_job_cpu_seconds{up=\"web\",cohort=\"c\",job=\"ends\"}"))) << "it has no process";
    EXPECT_THAT(r.out, Not(HasSubstr("cohort_partition_valid"))) << "it has no partition";
    EXPECT_THAT(r.out, ::testing::EndsWith("===\n0\n"));
}

TEST_F(daemon, says_when_an_owner_was_killed_or_a_file_is_no_state) {
    const ran r = bash(R"sh($cohort up --detach -q web.toml >/dev/null; start; shows 'cohort_up_alive{up="web"} 1'
        kill -9 $($cohort status --json | sed -n 's/.*"pid": \([0-9]*\),/\1/p'); echo rubbish >$COHORT_RUN_DIR/x.state
        shows 'cohort_up_alive{up="web"} 0' && shows 'cohort_watch_owners_killed_total 1' && shows 'cohort_ups_unread 1'; rm $COHORT_RUN_DIR/x.state; cat daemon.err)sh");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("cohortd: up \"web\": its process "), HasSubstr(" was killed; `cohort down web`"), HasSubstr("x.state: read: EPROTO")));
}

TEST_F(daemon, watches_the_folders_that_are_named_and_no_other) {
    const ran r = bash(R"sh(mkdir one two; COHORT_RUN_DIR=$PWD/two $cohort up --detach -q --name other web.toml >/dev/null
        start --ups $PWD/one,$PWD/two; shows 'cohort_up_alive{up="other"} 1'; kill $broker; wait $broker
        start --ups none; shows 'cohort_ups 0'; kill $broker; wait $broker; start --quiet --ups $PWD/web.toml; shows 'cohort_ups_unread 1'; cat daemon.err
        COHORT_RUN_DIR=$PWD/two $cohort down >/dev/null)sh");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("cohortd: listening on "), Not(HasSubstr("ENOTDIR")))) << "quiet: " << r.out;
}

TEST_F(daemon, wrong_folders_and_names_are_usage_errors) {
    for (const char* line : {"--ups ''", "--ups a,", "--keep ''", "--keep a,,b", "--keep -x", "--keep a/b", "--keep web,web"}) expect(2, std::string("\"$daemon\" --socket $PWD/pool.sock ") + line, "cohortd: ");
}

TEST_F(daemon, where_the_kernel_has_no_cookies_it_keeps_none_and_serves_nothing) {
    if (coresched::facility(sys::real()).there()) GTEST_SKIP() << "it has";
    expect(3, "\"$daemon\" --socket $PWD/pool.sock --keep web", "cohortd: --keep: no cookie can be kept here: ");
    expect(0, "test ! -e pool.sock");
}

}  // namespace
}  // namespace cohort::cli
