// SPDX-License-Identifier: Apache-2.0
// `cohort coresched` on the running kernel, as users run it, whether that has core scheduling or not; and traces.
#include <string>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using testing::ran;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class core_cli : public testing::command_line {
protected:
    /// Tests that change something are for kernels on which they cannot: lab/coresched_guest.cpp is for the others.
    bool there() { return bash("$cohort coresched get").code == 0; }
};

TEST_F(core_cli, without_core_scheduling_each_command_ends_with_3_and_the_exact_reason) {
    if (there()) GTEST_SKIP() << "this kernel has core scheduling";
    for (const char* line : {"get", "get -s $$", "new -d $$", "new -- true", "new -d $$ --dry-run", "copy -s $$ -d $$", "copy -- true", "clear -d $$ -t pid", "ls", "keep nobody.$$", "exec -- true", "exec --policy require -- true"}) {
        const ran r = bash("$cohort coresched " + std::string(line));
        EXPECT_EQ(r.code, 3) << line << r.err;
        EXPECT_THAT(r.err, AnyOf(HasSubstr("EINVAL: CONFIG_SCHED_CORE is not set in kernel "), HasSubstr("ENODEV: no core has two CPUs online"), HasSubstr("seccomp"))) << line;
        EXPECT_THAT(r.err, Not(HasSubstr("\ncohort: nothing was changed"))) << line;
    }
    for (const char* line : {"get --json", "new -d $$ --json", "clear -d $$ --json", "ls --json", "exec --json -- true", "keep nobody.$$ --json"}) {
        const auto j = json("$cohort coresched " + std::string(line), 3);
        EXPECT_EQ(j["ok"], false) << line;
        EXPECT_THAT(j["failure"]["errno"].get<std::string>(), AnyOf("EINVAL", "ENODEV", "EPERM")) << line;
    }
}

TEST_F(core_cli, policies_say_what_is_done_instead) {
    if (there()) GTEST_SKIP() << "this kernel has core scheduling";
    ran r = bash("$cohort coresched exec --policy prefer -- sh -c 'echo ran; exit 7'");
    EXPECT_EQ(r.code, 7);
    EXPECT_EQ(r.out, "ran\n");
    EXPECT_THAT(r.err, HasSubstr("policy prefer: going on without it"));
    EXPECT_EQ(bash("$cohort coresched new --policy prefer -d $$").code, 0);
    const auto j = nlohmann::json::parse(bash("$cohort coresched exec --policy prefer --json -- true").out);
    EXPECT_EQ(j["used"], "none");
    EXPECT_EQ(j["why"]["object"], "core scheduling");
    expect(5, "$cohort coresched exec --policy prefer -- /nowhere/at/all", "/nowhere/at/all: exec: ENOENT");
    expect(3, "$cohort coresched exec --policy emulate -s $$ -- true", "not shared with those that run");
}

TEST_F(core_cli, emulation_gives_each_program_a_whole_core_until_it_ends) {
    if (there()) GTEST_SKIP() << "this kernel has core scheduling";
    const ran first = bash("$cohort coresched exec --policy emulate --json -- true");
    if (first.code == 3) GTEST_SKIP() << first.err;
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_EQ(nlohmann::json::parse(first.out)["used"], "whole core");
    // One holds its core; the next gets another, or is refused where there is none. Then the core is free again.
    const ran r = bash("$cohort coresched exec --policy emulate -- sh -c 'grep Cpus_allowed_list /proc/self/status >one; until test -e go; do sleep 0.02; done' & first=$!\n"
                       "until_so 'test -s one || ! kill -0 $first'\n"
                       "$cohort coresched exec --policy emulate -- grep Cpus_allowed_list /proc/self/status >two; echo $? >code; touch go; wait $first");
    // Somebody else on this machine may hold cores so, too.
    const bool refused = r.err.find("take a whole core: EBUSY") != r.err.npos;
    EXPECT_TRUE(r.code == 0 || refused) << r.err;
    EXPECT_TRUE(text("code") == "0\n" ? text("one") != text("two") : refused) << r.err;
    EXPECT_THAT(r.err, HasSubstr("a whole core"));
}

TEST_F(core_cli, wrong_words_are_usage_errors) {
    struct row {
        const char *line, *says;
    };
    for (const row& r : {row{"get -s x", "\"x\" is no process number"}, row{"new", "whom? give --dest or --cgroup"}, row{"new -d 1 -- true", "a program and targets exclude each other"}, row{"new --", "no program after --"},
                         row{"new -d 1 -t tidd", "\"tidd\" is none of pid, tgid, pgid"}, row{"copy -s 1 --name a -d 1", "--source and --name exclude each other"}, row{"copy --name 'a b' -d 1", "named cookie \"a b\""},
                         row{"clear -d 0", "\"0\" is no process number"}, row{"exec", "no program after --"}, row{"exec --policy best -- true", "\"best\" is none of require, prefer, emulate"}, row{"keep -- -x", "-x"},
                         row{"ls --cgroup nowhere/at/all", "no mounted hierarchy has it"}, row{"new --cgroup nowhere/at/all", "cgroup \"nowhere/at/all\": find it: ENOENT"}}) {
        expect(2, "$cohort coresched " + std::string(r.line), r.says);
    }
    expect(5, "$cohort coresched copy --name nobody.$$ -d $$", "ENOENT: nobody keeps it");
    expect(5, "$cohort coresched keep nobody.$$ --end", "ENOENT: nobody keeps it");
}

TEST_F(core_cli, traces_are_checked_against_cookies) {
    file("t", " x-0 [000] d... 1.000000: sched_switch: prev_comm=i prev_pid=0 prev_prio=1 prev_state=R ==> next_comm=a next_pid=11 next_prio=1\n"
              " x-0 [001] d... 1.001000: sched_switch: prev_comm=i prev_pid=0 prev_prio=1 prev_state=R ==> next_comm=b next_pid=12 next_prio=1\n"
              " x-0 [001] d... 1.005000: sched_switch: prev_comm=b prev_pid=12 prev_prio=1 prev_state=R ==> next_comm=i next_pid=0 next_prio=1\n"
              " x-0 [000] d... 1.009000: sched_switch: prev_comm=a prev_pid=11 prev_prio=1 prev_state=S ==> next_comm=i next_pid=0 next_prio=1\n");
    file("same", "11 7\n12 7\n");
    file("unequal", "11 7\n");
    file("ls.json", R"({"cookies": [{"cookie": "0x7", "processes": [{"pid": 11, "tids": [11]}]}]})");
    const std::string check = "$cohort coresched check t --machine 'synthetic:pack:1 core:1 pu:2' ";
    for (const char* cookies : {"unequal", "ls.json"}) {
        const auto j = json(check + "--json --cookies " + cookies, 1);
        EXPECT_EQ(j["ok"], false);
        EXPECT_EQ(j["violations"]["count"], 1);
        EXPECT_EQ(j["violations"]["ms"], 4.0);
        EXPECT_EQ(j["violations"]["list"][0]["other_pid"], 12);
        EXPECT_EQ(j["total"]["forced_idle_ms"], 4.0);
        EXPECT_EQ(j["who_forced_whom"][0]["ran"], "0x7");
    }
    EXPECT_THAT(bash(check + "--cookies unequal").out, HasSubstr("violation at 1.001000 s for 4.000 ms: CPU 0 ran pid 11 (cookie 0x7) beside CPU 1 with pid 12 (cookie 0)"));
    EXPECT_EQ(json(check + "--json --cookies same")["violations"]["count"], 0);
    EXPECT_EQ(json(check + "--json --cookies unequal --window-us 4000")["windows"]["count"], 1);
    expect(0, check, "no cookies: give --cookies");
    file("bad", "11\n");
    expect(2, check + "--cookies bad", "bad: line 1: read: EINVAL");
    file("bad", "{}");
    expect(2, check + "--cookies bad", "neither lines of PID COOKIE nor");
    expect(2, "$cohort coresched check t --machine 'synthetic:pack:1 core:1 pu:1' --cookies same", "CPU 1, which the machine does not have; --machine");
    expect(2, "$cohort coresched check bad --cookies same", "it has no sched_switch");
    expect(5, "$cohort coresched check nowhere", "nowhere: open: ENOENT");
    expect(2, check + "--window-us -1", "window");
}

}  // namespace
}  // namespace cohort::cli
