// SPDX-License-Identifier: Apache-2.0
// `cohort pool` and cohortd, as users run them: a daemon of each script's own, on a socket in the script's own folder. Members are this very test program, started by `pool exec`.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include <cohort/sharepool/share_pool.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using testing::ran;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// No test: a member that a script starts and ends. With COHORT_TEST_ALLOCATES it puts 1 MiB and a small object into group 7.
TEST(pool_member, DISABLED_run) {
    auto* pool = sharepool::share_pool::current();
    ASSERT_NE(pool, nullptr);
    if (std::getenv("COHORT_TEST_ALLOCATES")) {
        sharepool::member* in = pool->in(7);
        ASSERT_NE(in, nullptr);
        EXPECT_NE(in->alloc(1 << 20), nullptr);
        EXPECT_NE(in->alloc(100), nullptr);
    }
    std::cout << "ready" << std::endl;
    for (;;) ::pause();
}

class pool_cli : public testing::command_line {
protected:
    /// `start` runs a daemon of the script's own; it and what the script left running is ended, by its number, when the script ends. `member ID...` starts a process that is in these groups; $last is its number.
    std::string before_scripts() const override {
        return "daemon='" COHORT_DAEMON "'\nself='" + self() + "'\n" + R"sh(
            export COHORT_SOCKET=$PWD/pool.sock
            unset COHORT_POOL_JOIN
            children=
            ours() { children="$children $1"; last=$1; }
            trap 'for p in $children; do kill -9 $p; wait $p; done 2>/dev/null' EXIT
            start() { : >daemon.err; "$daemon" --patience 60000 "$@" 2>daemon.err & ours $!; broker=$last; until_so 'grep -q listening daemon.err || ! kill -0 $broker 2>/dev/null'; }
            member() {
                local ids=; for i in "$@"; do ids="$ids --id $i"; done
                $cohort pool exec $ids -- "$self" --gtest_also_run_disabled_tests --gtest_filter=pool_member.DISABLED_run --gtest_output= >"member.$1" & ours $!
                until_so "grep -q ready member.$1 || ! kill -0 $last 2>/dev/null"
            }
            )sh";
    }

private:
    static std::string self() {
        char path[4096] = {};
        const auto n = ::readlink("/proc/self/exe", path, sizeof path - 1);
        return n > 0 ? path : "";
    }
};

TEST_F(pool_cli, create_ls_and_drop) {
    const ran r = bash("start; $cohort pool create --id 7 --size 1G --name orders --mode 0640 --limit 1M; $cohort pool create; $cohort pool ls; $cohort pool drop --id 100000; $cohort pool ls --json");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, StartsWith("7\n100000\n"));
    EXPECT_THAT(r.out, HasSubstr("    id  name    owner  mode  members      size     limit  addresses       state\n"));
    EXPECT_THAT(r.out, HasSubstr("     7  orders  0:0    0640        0  1.00 GiB  1.00 MiB  0x550000000000  no members\n"));
    const auto j = nlohmann::json::parse(r.out.substr(r.out.find('{')));
    EXPECT_EQ(j["schema_version"], 1);
    ASSERT_EQ(j["groups"].size(), 1u);
    const auto& g = j["groups"][0];
    EXPECT_EQ(g["id"], 7);
    EXPECT_EQ(g["bytes"], 1 << 30);
    EXPECT_EQ(g["limit"], 1 << 20);
    EXPECT_EQ(g["state"], "live");
    EXPECT_EQ(g["kept"], true);
}

TEST_F(pool_cli, a_program_is_in_the_group_from_its_first_line_on_and_stat_shows_what_it_has) {
    const ran r = bash("start; $cohort pool create --id 7 --size 64M >/dev/null; COHORT_TEST_ALLOCATES=1 member 7; $cohort pool stat --id 7; $cohort pool stat; $cohort pool stat --id 7 --json; echo $last");
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("group 7: 64.0 MiB at 0x550000000000, mode 0660, owner 0:0, 1 member\n"));
    EXPECT_THAT(r.out, HasSubstr("Group ID  va_start"));
    EXPECT_THAT(r.out, HasSubstr("1024  ALLOC  N"));
    EXPECT_THAT(r.out, HasSubstr("PID  Group_ID  SP_ALLOC  SP_K2U  SP_RES  Non-SP_RES  Non-SP_Shm"));
    EXPECT_THAT(r.out, HasSubstr("  SP_ALLOC  SP_K2U  SP_RES  Non-SP_RES  Non-SP_Shm"));
    const auto j = nlohmann::json::parse(r.out.substr(r.out.find('{'), r.out.rfind('}') - r.out.find('{') + 1));
    const int pid = std::stoi(r.out.substr(r.out.rfind('}') + 1));
    EXPECT_EQ(j["schema_version"], 1);
    ASSERT_EQ(j["members"].size(), 1u);
    EXPECT_EQ(j["members"][0]["pid"], pid);
    EXPECT_EQ(j["members"][0]["sp_alloc_kib"], 1024);
    EXPECT_EQ(j["members"][0]["prot"], "RW");
    ASSERT_EQ(j["areas"].size(), 1u);
    EXPECT_EQ(j["areas"][0]["pid"], pid);
    EXPECT_EQ(j["areas"][0]["bytes"], 1 << 20);
    EXPECT_GT(j["memory"]["small"], 0);
    EXPECT_EQ(j["memory"]["allocated"].get<int>(), (1 << 20) + j["memory"]["small"].get<int>());
}

TEST_F(pool_cli, a_running_process_is_added_and_taken_out) {
    const ran r = bash(R"sh(start; for i in 7 8; do $cohort pool create --id $i --size 64M; done; member 7
        $cohort pool join --pid $last --id 8 --trace
        $cohort pool join --pid $last --id 9
        $cohort pool join --pid $last --new --read-only --json
        $cohort pool stat --id 100000 --json | grep '"prot"'
        $cohort pool drop --pid $last --id 9; $cohort pool ls)sh");
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char* check : {"\nprotection             reading and writing  ok", "\nid in range            8, manual            ok", "\nattached               yes                  ok", "\ncore dump              none                 ok", "\nmembers                0 of 1024            ok"}) {
        EXPECT_THAT(r.out, HasSubstr(check));
    }
    EXPECT_THAT(r.out, HasSubstr("\n9\n"));
    EXPECT_THAT(r.out, HasSubstr("\"id\": 100000"));
    EXPECT_THAT(r.out, HasSubstr("\"prot\": \"R\""));
    EXPECT_THAT(r.out.substr(r.out.rfind("state")), Not(HasSubstr("\n     9 ")));  // its last member has left
}

TEST_F(pool_cli, refusals_name_the_group_the_act_and_the_reason) {
    const ran r = bash(R"sh(start; $cohort pool create --id 7 --size 64M; member 7
        try() { "$@"; echo "$?: ${*:2}" >&2; }
        try $cohort pool create --id 7
        try $cohort pool create --id 8 --size 129G
        try $cohort pool create --id 8 --size 4M --limit 5M
        try $cohort pool create --id 8 --name a/b
        try $cohort pool join --pid $last --id 7
        try $cohort pool join --pid $last --id 8 --single
        try $cohort pool join --pid $last --id 200000000 2>/dev/null
        try $cohort pool join --pid $last --id 123456
        try $cohort pool join --pid $$ --id 7
        try $cohort pool join --pid 4194303 --id 7
        try $cohort pool drop --id 7
        try $cohort pool drop --id 55
        try $cohort pool drop --id 7 --pid $$
        try $cohort pool stat --id 55
        try $cohort pool exec --id 55 -- true
        try $cohort pool exec --id 7 -- /nowhere/at/all)sh");
    for (const char* said : {"cohort: group 7: create: EEXIST: there is a group of this id\n5: pool create --id 7\n", "more than the 128 GiB of the largest group, or than the window has\n5: ", "a limit of 5242880 bytes is more than the group's 4194304\n5: ",
                             "cohort: group 8: create: EINVAL: a name has at most 31 bytes", "EEXIST: it is in it already\n5: ", "EEXIST: it is in group 7, and asks for one group only\n5: ",
                             "EINVAL: ids of 100000-199999 are given out, and no group has this one\n5: ", "EOPNOTSUPP: it is not attached to the broker, and cannot be told to map: start it by `cohort pool exec`, or let it call share_pool::attach\n3: ",
                             "add process 4194303: ESRCH: there is no such process\n5: ", "group 7: destroy: EBUSY: 1 processes are in it\n5: ", "group 55: destroy: ENODEV: there is no such group\n5: ", "ESRCH: the process is not in it\n5: ",
                             "ENODEV: there is no such group\n5: pool stat --id 55", "ENODEV: there is no such group\n5: pool exec --id 55 -- true", "/nowhere/at/all: exec: ENOENT"}) {
        EXPECT_THAT(r.err, HasSubstr(said));
    }
    EXPECT_EQ(json("start; $cohort pool drop --id 55 --json", 5)["failure"]["errno"], "ENODEV");
    const auto j = json("start; $cohort pool join --pid $$ --id 7 --trace --json", 3);
    EXPECT_EQ(j["ok"], false);
    EXPECT_EQ(j["trace"].back()["check"], "attached");
    EXPECT_EQ(j["trace"].back()["code"], "EOPNOTSUPP");
}

TEST_F(pool_cli, drop_by_force_takes_the_members_out) {
    expect(0, "start; $cohort pool create --id 7; member 7; $cohort pool drop --id 7 --force; until_so \"$cohort pool ls | grep -vq ' 7 '\"; kill -0 $last");
}

TEST_F(pool_cli, without_a_broker_it_says_where_it_asked) {
    for (const char* verb : {"create", "ls", "stat", "join --pid 1 --id 1", "drop --id 1", "exec --id 1 -- true", "top"}) expect(5, std::string("$cohort pool ") + verb, "pool.sock");
    expect(5, "$cohort pool ls", "is cohortd running?");
    EXPECT_EQ(json("$cohort pool ls --json", 5)["ok"], false);
    expect(0, "start --socket other.sock; $cohort pool ls --socket other.sock");
}

TEST_F(pool_cli, wrong_command_lines_are_usage_errors) {
    for (const char* line : {"create --id 0", "create --id 100000", "create --mode 9", "create --mode 01777", "create --id 7 --pass-through", "create --huge maybe", "create --size none", "drop", "drop --id 7 --pid 1 --force", "join --id 7", "join --pid 1",
                             "join --pid 1 --id 7 --new", "exec --id 7", "exec -- true", "exec --id x -- true", "exec --id 0 -- true", "exec --id 7 --", "top --interval 1", "stat --id none", "ls extra", "nothing"}) {
        expect(2, std::string("$cohort pool ") + line);
    }
    for (const char* line : {"--window 5:1G", "--window 0x550000000000", "--window 0x1000:1G", "--window 0x550000000000:1M", "--window 0x7fffffe00000:1G", "--metrics 0.0.0.0:9464", "--metrics 9464", "--metrics 127.0.0.1:x", "--metrics 127.0.0.1:70000",
                             "--journal x --no-journal", "--socket-mode 9", "--socket-mode 01777", "--allow-create a", "--allow-create 1,,2", "--most-members 1025", "--default-group 100000", "--nothing", "extra", "--socket @"}) {
        expect(2, std::string("$daemon ") + line, "cohortd: ");
    }
}

TEST_F(pool_cli, top_shows_what_there_is_again_and_again) {
    const ran r = bash("start; $cohort pool create --id 7 --name orders; $cohort pool create --id 8; member 8; $cohort pool top --rounds 2 --interval 10; $cohort pool top --rounds 3 --interval 10 --json | wc -l");
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("2 groups, 1 processes, 1 memberships; 1 joins, "));
    EXPECT_THAT(r.out, HasSubstr("/s)"));
    EXPECT_THAT(r.out, HasSubstr("7  orders        0"));
    EXPECT_THAT(r.out, ::testing::EndsWith("\n3\n"));
    expect(0, "start; $cohort pool top --rounds 1000000 >out & top=$!; until_so 'grep -q groups out'; kill -TERM $top; wait $top");
}

TEST_F(pool_cli, the_daemon_says_in_one_line_where_it_listens_and_ends_when_told) {
    for (const char* signal : {"TERM", "HUP"}) {  // a shell has what runs behind it ignore SIGINT
        const ran r = bash(std::string("start --no-journal; kill -") + signal + " $broker; wait $broker; echo $?; cat daemon.err");
        EXPECT_EQ(r.out.substr(0, 2), "0\n");
        EXPECT_THAT(r.out, HasSubstr("cohortd: listening on "));
        EXPECT_THAT(r.out, HasSubstr("/pool.sock, window 0x550000000000:320 GiB, no journal\n"));
    }
    expect(5, "start; \"$daemon\"", "EADDRINUSE");
    expect(5, "\"$daemon\" --socket /proc/nowhere/pool.sock", "cohortd: ");
    expect(0, "\"$daemon\" --help");
    expect(0, "\"$daemon\" --version");
}

TEST_F(pool_cli, a_daemon_that_is_killed_is_started_again_with_its_groups_and_members) {
    const ran r = bash(R"sh(start; $cohort pool create --id 7 --name orders; COHORT_TEST_ALLOCATES=1 member 7; member=$last
        kill -9 $broker; wait $broker 2>/dev/null; $cohort pool ls; echo "without: $?"; start; cat daemon.err
        until_so "$cohort pool stat --id 7 | grep -q '^ *$member  *7  *1024 '"; kill -0 $member && echo alive)sh");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("without: 5\n"), HasSubstr(", 1 group from it\n"), HasSubstr("alive\n")));
}

TEST_F(pool_cli, options_of_the_daemon_are_kept_to) {
    expect(0, "start --group-size 4M; $cohort pool create --id 9; $cohort pool ls --json | grep -q '\"bytes\": 4194304'");
    expect(5, "start --most-groups 1; $cohort pool create; $cohort pool create", "ENOSPC: 1 of 1 are there");
    expect(5, "start --window 0x550000000000:4M; $cohort pool create --size 4M; $cohort pool create --size 2M", "EOVERFLOW");
    expect(0, "start --default-group 5; for i in 5 6; do $cohort pool create --id $i; done; member 6; $cohort pool stat --id 5 --json | grep -q '\"pid\"'");
    expect(0, "start --socket-mode 0600; test $(stat -c %a pool.sock) = 600");
    expect(0, "start --allow-create 4711; $cohort pool create --id 77");  // root always
}

TEST_F(pool_cli, figures_are_there_for_prometheus) {
    const ran r = bash(R"sh(start --metrics 127.0.0.1:0 --metrics-groups 1; $cohort pool create --id 7 --name orders; $cohort pool create --id 8; member 7
        at=$(grep -o '127.0.0.1:[0-9]*' daemon.err)
        get() { exec 3<>/dev/tcp/${at/:/\/}; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3; }
        until_so 'get | grep -q "^cohort_pool_members 1"'
        get
        "$daemon" --socket other.sock --metrics $at; echo "second: $?")sh");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("\n# TYPE cohort_pool_groups gauge\ncohort_pool_groups 2\n"));
    EXPECT_THAT(r.out, HasSubstr("\ncohort_pool_joins_total 1\n"));
    EXPECT_THAT(r.out, HasSubstr("\ncohort_pool_group_members{id=\"7\",name=\"orders\"} 1\n"));
    EXPECT_THAT(r.out, Not(HasSubstr("id=\"8\"")));
    EXPECT_THAT(r.out, HasSubstr("\ncohort_pool_groups_shown 1\n"));
    EXPECT_THAT(r.out, HasSubstr("second: 5"));
}

}  // namespace
}  // namespace cohort::cli
