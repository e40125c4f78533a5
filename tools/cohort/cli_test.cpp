// SPDX-License-Identifier: Apache-2.0
// The program itself: exit codes, words, JSON. Each test runs build/cohort as a user would.
#include <csignal>
#include <filesystem>
#include <string>

#include <cohort/sys/fd.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::ran;

class cli : public testing::command_line {
protected:
    /// `line` is what follows the program's name.
    ran run(const std::string& line) { return bash("$cohort " + line); }
    nlohmann::json json(const std::string& line, int code = 0) { return command_line::json("$cohort " + line, code); }
    std::vector<std::string> files() { return sys::real().list_dir(dir_.path()).value(); }

    static constexpr const char* good = "[[cohort]]\nname = \"c\"\n[[job]]\nname = \"j\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"echo hi\"\nstdout = \"out\"\n";
};

TEST_F(cli, without_a_command_it_helps_and_says_usage) {
    const ran r = run("");
    EXPECT_EQ(r.code, 2);
    EXPECT_THAT(r.err, HasSubstr("Usage: cohort COMMAND"));
    EXPECT_EQ(r.out, "");
}

TEST_F(cli, help_and_version_are_data) {
    EXPECT_THAT(run("--version").out, StartsWith("cohort "));
    for (const char* verb : {"", "up", "plan", "pipe", "doctor", "topology", "coresched", "coresched simulate", "coresched get", "coresched new", "coresched copy", "coresched clear", "coresched ls", "coresched keep", "coresched exec", "coresched check", "down", "run", "status", "top", "cpuset", "cpuset simulate", "padata", "padata ls", "padata show", "padata mask", "padata demo", "percpu",
                             "percpu bench", "percpu demo", "percpu stat"}) {
        const ran r = run(std::string(verb) + " --help");
        EXPECT_EQ(r.code, 0) << verb;
        EXPECT_THAT(r.out, HasSubstr("Usage: cohort" + std::string(*verb ? " " : "") + verb)) << verb;
        EXPECT_EQ(r.err, "") << verb;
    }
}

TEST_F(cli, help_shows_each_system_in_a_line_and_below_it_its_commands) {
    EXPECT_THAT(run("--help").out, HasSubstr("  percpu                          Memory per CPU"));
    EXPECT_THAT(run("percpu --help").out, HasSubstr("Usage: cohort percpu COMMAND"));
}

TEST_F(cli, unknown_words_end_with_2_and_the_nearest_right_one) {
    struct row { const char *line, *says; };
    for (const row& r : {row{"plann x", "did you mean \"plan\"?"}, row{"dcotor", "did you mean \"doctor\"?"}, row{"topolgy", "did you mean \"topology\"?"},
                         row{"qqqqq", "command \"qqqqq\" is unknown"}, row{"plan s.toml --jsno", "option \"--jsno\" is unknown; did you mean \"--json\"?"},
                         row{"plan", "SPEC"}, row{"plan a b", "argument \"b\" was not expected"}, row{"topology --machine", "--machine"},
                         row{"doctor --require cpusett", "did you mean \"cpuset\"?"}}) {
        const ran got = run(r.line);
        EXPECT_EQ(got.code, 2) << r.line;
        EXPECT_THAT(got.err, StartsWith("cohort: ")) << r.line;
        EXPECT_THAT(got.err, HasSubstr(r.says)) << r.line;
        EXPECT_EQ(got.out, "") << r.line;
    }
}

TEST_F(cli, faults_of_a_spec_come_all_at_once_with_2) {
    file("bad.toml", "[[cohort]]\nname = \"ingest\"\ncpus = \"0-9000\"\n[[job]]\nname = \"logs\"\ncohort = \"ingset\"\nkind = \"exce\"\n");
    for (const char* verb : {"plan", "up"}) {
        const ran r = run(std::string(verb) + " bad.toml");
        EXPECT_EQ(r.code, 2);
        EXPECT_THAT(r.err, HasSubstr("cohort: bad.toml:3:8: cohort \"ingest\": cpus \"0-9000\": "));
        EXPECT_THAT(r.err, HasSubstr("cohort: bad.toml:6:10: job \"logs\": cohort \"ingset\" does not exist; did you mean \"ingest\"?"));
        EXPECT_THAT(r.err, HasSubstr("cohort: bad.toml:7:8: job \"logs\": kind \"exce\" is none of pipe, exec, flow; did you mean \"exec\"?"));
        EXPECT_EQ(json(std::string(verb) + " bad.toml --json", 2)["faults"].size(), 3u);
    }
    EXPECT_FALSE(std::filesystem::exists(run_dir()));
}

TEST_F(cli, a_missing_spec_is_5_and_one_that_is_a_directory_too) {
    EXPECT_EQ(run("plan nothing.toml").code, 5);
    EXPECT_THAT(run("up nothing.toml").err, HasSubstr("nothing.toml: open: ENOENT"));
    EXPECT_EQ(run("up .").code, 5);
}

TEST_F(cli, plan_works_for_machines_that_are_not_there) {
    file("s.toml", "[[cohort]]\nname = \"a\"\ncpus = { part = \"1/2\" }\n[[cohort]]\nname = \"b\"\ncpus = \"4-N\"\n");
    const auto j = json("plan s.toml --json --machine 'synthetic:pack:2 numa:1 core:4 pu:2'");
    EXPECT_EQ(j["cohorts"][0]["cpus"]["list"], "0-7");
    EXPECT_EQ(j["cohorts"][1]["cpus"]["list"], "4-15");
    EXPECT_EQ(j["cohorts"][1]["shared"][0]["cpus"], "4-7");
    EXPECT_EQ(run("plan s.toml --machine 'synthetic:core:2 pu:1'").code, 2);  // CPU 4 is beyond that machine
    EXPECT_EQ(run("plan s.toml --machine bogus").code, 2);
    EXPECT_EQ(run("plan s.toml --machine nothing.xml").code, 5);
}

TEST_F(cli, plan_prints_the_schema_of_specs_for_editors) {
    const ran got = run("plan --schema");
    EXPECT_EQ(got.code, 0);
    EXPECT_TRUE(nlohmann::json::parse(got.out)["properties"].contains("cohort"));
}

TEST_F(cli, a_plan_that_cannot_hold_here_is_1_with_the_reason) {
    const auto usable = sys::real().sched_getaffinity(0).value();
    if (usable.weight() < 2) GTEST_SKIP() << "needs two usable CPUs to forbid one";
    const std::string first = std::to_string(usable.first()), last = std::to_string(usable.last());
    file("s.toml", "[[cohort]]\nname = \"a\"\ncpus = \"" + last + "\"\n");
    ASSERT_EQ(std::system(("taskset -c " + first + " " COHORT_PROGRAM " plan " + (dir_ / "s.toml") + " >" + (dir_ / "o") + " 2>" + (dir_ / "e")).c_str()), 1 << 8);
    EXPECT_THAT(text("e"), HasSubstr("none of them can be used (CPU " + last + ": not in this process's"));
    EXPECT_THAT(text("o"), HasSubstr("this plan cannot hold"));
}

TEST_F(cli, up_runs_reports_and_leaves_only_results) {
    file("s.toml", good);
    const ran r = run("up s.toml --report r.json");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("1 of 1 jobs ok"));
    EXPECT_EQ(text("out"), "hi\n");
    EXPECT_EQ(nlohmann::json::parse(text("r.json"))["jobs"][0]["state"], "ok");
    EXPECT_TRUE(sys::real().list_dir(run_dir()).value().empty());
    const auto j = json("up s.toml --json");
    EXPECT_EQ(j["ok"], true);
    EXPECT_EQ(j["exit_code"], 0);
}

TEST_F(cli, a_cohort_that_asks_for_a_cpuset_hears_by_what_it_is_kept) {
    const std::string spec = good, asks = "name = \"c\"\n";
    const auto with = [&](const std::string& more) { return std::string(spec).insert(spec.find(asks) + asks.size(), more); };
    file("e.toml", with("cpuset = \"emulate\"\n"));
    const auto up = json("up e.toml --json");
    EXPECT_EQ(up["cohorts"][0]["kept_by"]["by"], "emulated");
    EXPECT_EQ(up["cohorts"][0]["kept_by"]["policy"], "emulate");
    file("r.toml", "[cpuset]\nunder = \"no/such/set\"\n" + with("cpuset = \"require\"\n"));
    const ran refused = run("up r.toml");
    EXPECT_EQ(refused.code, 1) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("cohort \"c\": cpuset = \"require\": "));
    file("p.toml", with("cpus = \"2-3\"\npartition = \"root\"\n"));
    EXPECT_THAT(run("plan p.toml --machine 'synthetic:core:8 pu:1'").out, HasSubstr("cpuset: write cohort-c cpuset.cpus.partition root"));
    EXPECT_EQ(run("plan r.toml --machine 'synthetic:core:8 pu:1'").code, 1);
}

TEST_F(cli, up_with_a_job_that_fails_is_5_and_with_a_check_that_says_no_is_1) {
    std::string spec = good;
    file("f.toml", spec.replace(spec.find("echo hi"), 7, "echo x; exit 3"));
    EXPECT_EQ(json("up f.toml --json", 5)["jobs"][0]["exits"][0], "exit 3");
    EXPECT_THAT(run("up f.toml").err, HasSubstr("cohort: job \"j\": command \"echo x; exit 3\": run: ECHILD: exit 3"));
    file("v.toml", std::string(good) + "verify = \"false\"\n");
    const auto j = json("up v.toml --json", 1);
    EXPECT_EQ(j["jobs"][0]["verified"], false);
    EXPECT_EQ(j["exit_code"], 1);
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

TEST_F(cli, up_tells_missing_commands_and_outputs_before_anything_runs) {
    file("s.toml", std::string(good) + "[[job]]\nname = \"k\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = [\"no-such-program\"]\nstdout = \"nowhere/x\"\n");
    const ran r = run("up s.toml");
    EXPECT_EQ(r.code, 5);
    EXPECT_THAT(r.err, ::testing::AllOf(HasSubstr("job \"k\": command \"no-such-program\": find: ENOENT"), HasSubstr("nowhere")));
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
    EXPECT_EQ(json("up s.toml --json", 5)["errors"].size(), 2u);
    EXPECT_EQ(run("up s.toml --report nowhere/r.json").code, 5);
}

TEST_F(cli, up_refuses_a_machine_that_is_not_here_with_3) {
    file("s.toml", "[machine]\ntopology = \"synthetic:core:2 pu:1\"\n" + std::string(good));
    const ran r = run("up s.toml");
    EXPECT_EQ(r.code, 3);
    EXPECT_THAT(r.err, HasSubstr("it is not this machine"));
    EXPECT_EQ(run("plan s.toml").code, 0);
}

TEST_F(cli, a_signal_ends_the_children_and_leaves_nothing_unfinished) {
    std::string spec = good;
    file("s.toml", spec.replace(spec.find("echo hi"), 7, "echo half; echo $$ >pid; touch ready; sleep 1000"));
    for (const int signal : {SIGINT, SIGTERM}) {
        sys::os& os = sys::real();
        std::filesystem::remove(dir_ / "ready");
        const int pid = os.spawn({.argv = {COHORT_PROGRAM, "up", "-q", "s.toml"}, .directory = dir_.path(), .environment = {"COHORT_RUN_DIR=" + (run_dir())}}).value();
        while (!std::filesystem::exists(dir_ / "ready")) os.sleep_until(os.now() + 2'000'000);
        ASSERT_TRUE(os.kill(pid, signal));
        const auto end = os.wait(pid).value();
        EXPECT_EQ(end.text(), "exit 5") << signal;
        EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
        EXPECT_TRUE(os.list_dir(run_dir()).value().empty());
        for (const std::string& name : files()) EXPECT_FALSE(name.starts_with("out")) << name;
        std::string child = text("pid");
        child.pop_back();
        EXPECT_FALSE(std::filesystem::exists("/proc/" + child)) << child;
    }
}

TEST_F(cli, a_name_that_is_up_is_busy_until_it_is_down) {
    std::string spec = good;
    file("s.toml", spec.replace(spec.find("echo hi"), 7, "touch ready; while [ ! -e go ]; do sleep 0.02; done"));
    const ran r = run("up s.toml -q & pid=$!; until [ -e ready ]; do sleep 0.02; done; $cohort up s.toml -q 2>second.err; echo $? >second.code; touch go; wait $pid");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(text("second.code"), "5\n");
    EXPECT_THAT(text("second.err"), HasSubstr("EBUSY: it is up already"));
}

TEST_F(cli, topology_draws_shows_and_tells) {
    const std::string machine = " --machine 'synthetic:pack:2 core:2 pu:2'";
    EXPECT_THAT(run("topology" + machine).out, HasSubstr("package 1: CPUs 4-7"));
    EXPECT_EQ(json("topology --json" + machine)["cores"].size(), 4u);
    EXPECT_EQ(run("topology --svg m.svg" + machine).code, 0);
    EXPECT_THAT(text("m.svg"), StartsWith("<svg "));
    EXPECT_THAT(run("topology --svg -" + machine).out, StartsWith("<svg "));
    EXPECT_EQ(run("topology --svg nowhere/m.svg").code, 5);
    EXPECT_EQ(run("topology --machine 'synthetic:core:9999'").code, 2);
}

TEST_F(cli, doctor_is_json_and_requires) {
    const auto j = json("doctor --json");
    EXPECT_TRUE(j["rooms"].contains("coresched"));
    const bool ready = j["rooms"]["coresched"]["ready"];
    EXPECT_EQ(run("doctor --require coresched").code, ready ? 0 : 3);
    EXPECT_EQ(run("doctor --require work").code, 0);
}

TEST_F(cli, an_output_that_cannot_be_written_is_5) {
    for (const char* line : {"doctor --json", "topology", "--help"}) {
        const ran r = run(std::string(line) + " >/dev/full");
        EXPECT_EQ(r.code, 5) << line;
        EXPECT_THAT(r.err, HasSubstr("standard output: write: E")) << line;
    }
    EXPECT_EQ(run("topology --svg /dev/full").code, 5);
    // More than a buffer, and nobody who reads: some write before the last has failed.
    const ran gone = bash("exec 3> >(:); wait $!; $cohort plan --schema >&3");
    EXPECT_EQ(gone.code, 5);
    EXPECT_THAT(gone.err, HasSubstr("standard output: write: EPIPE"));
}

}  // namespace
}  // namespace cohort::cli
