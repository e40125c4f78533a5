// SPDX-License-Identifier: Apache-2.0
// What `cohort up` brings up, seen and ended by others: status, down, --detach, and what kill -9 leaves.
#include <cstdlib>
#include <filesystem>

#include <cohort/sys/os.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::ran;

class life : public testing::command_line {
protected:
    void TearDown() override {
        // Whatever a test that failed has left.
        (void)bash("$cohort down --all --kill");
    }
    void spec(const std::string& name, const std::string& command, const std::string& more_cohort = "", const std::string& more_job = "") {
        file(name, "[[cohort]]\nname = \"c-" + name.substr(0, name.find('.')) + "\"\n" + more_cohort + "[[job]]\nname = \"j\"\ncohort = \"c-" + name.substr(0, name.find('.')) + "\"\nkind = \"exec\"\ncommand = '''" + command + "'''\n" + more_job);
    }
    std::vector<std::string> left() const { return std::filesystem::exists(run_dir()) ? sys::real().list_dir(run_dir()).value() : std::vector<std::string>{}; }
};

TEST_F(life, nothing_up_is_empty_lists_and_0) {
    EXPECT_TRUE(json("$cohort status --json")["ups"].empty());
    EXPECT_EQ(bash("$cohort status").out, "nothing is up\n");
    EXPECT_EQ(bash("$cohort down").out, "nothing is up\n");
    EXPECT_EQ(json("$cohort down --json")["ok"], true);
    expect(1, "$cohort down x", "\"x\" is not up");
    EXPECT_TRUE(json("$cohort status x --json", 1)["ups"].empty());
    EXPECT_FALSE(std::filesystem::exists(run_dir()));
}

TEST_F(life, detached_it_returns_when_all_is_up_is_shown_and_goes_down) {
    spec("s.toml", "echo $$ >pid; exec sleep 1000", "", "stdout = \"out\"\n");
    const ran up = bash("$cohort up --detach s.toml");
    ASSERT_EQ(up.code, 0) << up.err;
    EXPECT_THAT(up.out, StartsWith("s is up: cohorts c-s; 1 jobs; process "));
    EXPECT_THAT(up.err, HasSubstr("cohort c-s"));
    expect(0, "until_so '[ -s pid ]'");
    const auto shown = json("until_so \"$cohort status --json | grep -q '\\\"pids\\\": \\[$'\"; $cohort status --json")["ups"][0];
    EXPECT_EQ(shown["name"], "s");
    EXPECT_EQ(shown["spec"], dir_ / "s.toml");
    EXPECT_EQ(shown["alive"], true);
    EXPECT_EQ(shown["phase"], "up");
    EXPECT_EQ(shown["detached"], true);
    EXPECT_EQ(shown["jobs"][0]["state"], "running");
    EXPECT_EQ(std::to_string(shown["jobs"][0]["pids"][0].get<int>()) + "\n", text("pid"));
    EXPECT_THAT(bash("$cohort status").out, HasSubstr("running"));
    expect(5, "$cohort up s.toml", "EBUSY: it is up already, in process ");
    const ran down = bash("$cohort down");
    EXPECT_EQ(down.code, 0) << down.err;
    EXPECT_EQ(down.out, "s is down\n");
    EXPECT_TRUE(left().empty());
    expect(1, "kill -0 $(cat pid)");
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

TEST_F(life, what_keeps_it_from_coming_up_is_told_as_without_detach) {
    file("faults.toml", "[[cohort]]\nname = \"c\"\ncpus = \"x\"\n");
    expect(2, "$cohort up --detach faults.toml", "faults.toml:3:8: ");
    EXPECT_EQ(json("$cohort up --detach faults.toml --json", 2)["kind"], "faults");
    spec("missing.toml", "true", "", "stdout = \"no/where\"\n");
    expect(5, "$cohort up --detach missing.toml", "no/where");
    expect(5, "$cohort up --detach nothing.toml", "nothing.toml: open: ENOENT");
    spec("s.toml", "true");
    expect(5, "$cohort up --detach --log no/where s.toml", "no/where");
    expect(2, "$cohort up --log x s.toml", "--log goes with --detach");
    expect(2, "$cohort up --name a/b s.toml", "--name \"a/b\"");
    EXPECT_TRUE(left().empty());
}

TEST_F(life, cohorts_stay_when_their_jobs_have_ended_and_the_log_has_what_they_said) {
    spec("s.toml", "echo hello; exit 3", "pool = \"2M\"\n");
    expect(0, "$cohort up --detach --name other --log log s.toml && until_so '$cohort status --json | grep -q failed'");
    const auto up = json("$cohort status other --json")["ups"][0];
    EXPECT_THAT(up["jobs"][0]["why"].get<std::string>(), HasSubstr("exit 3"));
    EXPECT_TRUE(up["cohorts"][0]["pool"]["id"].is_number());
    expect(0, "COHORT_SOCKET=$($cohort status --json | sed -n 's/.*\"socket\": \"\\(.*\\)\",/\\1/p') $cohort pool ls", "");
    expect(0, "$cohort down c-s");  // by its cohort's name
    EXPECT_THAT(text("log"), StartsWith("hello\n"));
    EXPECT_THAT(text("log"), HasSubstr("exit 3"));
    EXPECT_TRUE(left().empty());
}

TEST_F(life, a_spec_comes_from_standard_input_too) {
    spec("s.toml", "sleep 1000");
    const auto up = json("$cohort up --detach --json - <s.toml")["ups"][0];
    EXPECT_EQ(up["spec"], "-");
    EXPECT_THAT(up["name"].get<std::string>(), StartsWith("stdin-"));
    // One of its own each time, whatever else is up.
    file("other.toml", "[[cohort]]\nname = \"other\"\n");
    expect(0, "$cohort up --detach --name up other.toml");
    file("third.toml", "[[cohort]]\nname = \"third\"\n");
    expect(0, "$cohort up --detach - <third.toml && $cohort down up && $cohort down third");
    expect(0, "$cohort down");
}

TEST_F(life, of_several_one_is_named) {
    spec("a.toml", "sleep 1000"), spec("b.toml", "sleep 1000");
    expect(0, "$cohort up --detach a.toml && $cohort up --detach b.toml");
    expect(2, "$cohort down", "which one? a, b are up");
    expect(1, "$cohort down c", "\"c\" is not up; a, b are");
    expect(2, "$cohort down --all a", "exclude each other");
    expect(0, "$cohort down b");
    EXPECT_EQ(json("$cohort status --json")["ups"].size(), 1u);
    expect(0, "$cohort down --all");
    EXPECT_TRUE(left().empty());
}

TEST_F(life, down_ends_one_that_is_not_detached_and_jobs_that_do_not_listen) {
    spec("s.toml", "trap '' TERM; touch ready; while :; do sleep 0.05; done");
    const ran r = bash("$cohort up -q --patience 0 s.toml & pid=$!; until_so '[ -e ready ]'; $cohort down s; wait $pid; echo $?");
    EXPECT_THAT(r.out, HasSubstr("s is down\n")) << r.err;
    EXPECT_THAT(r.out, ::testing::EndsWith("\n5\n"));
    EXPECT_TRUE(left().empty());
}

TEST_F(life, a_dead_owner_is_told_and_down_removes_what_it_left) {
    // One job in a session of its own, whose parent has gone: neither its process group nor its parent's death reaches it.
    spec("s.toml", "setsid sh -c 'echo $$ >pid; exec sleep 1000' & wait", "pool = \"2M\"\n", "stdout = \"out\"\n");
    expect(0, "$cohort up --detach s.toml && until_so '[ -s pid ]' && kill -9 $($cohort status --json | sed -n 's/.*\"pid\": \\([0-9]*\\),/\\1/p')");
    expect(0, "until_so '! $cohort status --json | grep -q \"alive.: true\"'");
    EXPECT_THAT(bash("$cohort status").out, HasSubstr("was killed; `cohort down s`"));
    expect(0, "kill -0 $(cat pid)");
    const ran down = bash("$cohort down");
    EXPECT_THAT(down.out, HasSubstr("its process had been killed, and what it left is removed")) << down.err;
    EXPECT_TRUE(left().empty()) << left().front();
    expect(0, "until_so '! kill -0 $(cat pid) 2>/dev/null'");
    expect(0, "ls");
    EXPECT_EQ(bash("ls").out, "pid\ns.toml\n");
}

TEST_F(life, up_kill_up_leaves_nothing) {
    const char* scale = std::getenv("COHORT_TEST_SCALE");
    const int rounds = std::max(1, static_cast<int>(20 * (scale ? std::atof(scale) : 1)));
    file("s.toml", "[[cohort]]\nname = \"a\"\npool = \"2M\"\n[[cohort]]\nname = \"b\"\n"
                   "[[job]]\nname = \"stays\"\ncohort = \"a\"\nkind = \"exec\"\ninstances = 2\ncommand = \"sleep 1000 & wait\"\nstdout = \"made/out{instance}\"\n"
                   "[[job]]\nname = \"pipe\"\ncohort = \"b\"\nkind = \"pipe\"\ninput = { command = \"yes\" }\noutput = \"piped\"\ncommand = [\"cat\"]\nblock = \"64K\"\n");
    // Killed at another moment each time: while it starts, and when it is up.
    const ran r = bash("mkdir made; for i in $(seq " + std::to_string(rounds) + "); do\n"
                       "  $cohort up -q s.toml 2>err & pid=$!\n"
                       "  sleep 0.0$((RANDOM % 8))$((RANDOM % 10)); [ $((i % 4)) = 0 ] && until_so '[ -d $COHORT_RUN_DIR/pool.$pid ]'\n"
                       "  kill -9 $pid; wait $pid 2>/dev/null; [ $? = 137 ] || { cat err; exit 1; }\n"
                       "  rm -f piped\n"
                       "done; $cohort down --all >/dev/null\n"
                       "find . $COHORT_RUN_DIR -mindepth 1 | grep -v -e '/padata$' -e '^./made$' -e '^./s.toml$' -e '^./err$'\n"
                       "for p in /proc/[0-9]*; do e=$(tr '\\0' '\\n' <$p/environ | grep -x -e \"COHORT_RUN_DIR=$COHORT_RUN_DIR\" -e 'COHORT_NAME=.*' | wc -l); [ $e = 2 ] && cat $p/cmdline; done 2>/dev/null; true");
    EXPECT_EQ(r.out, "") << "files and processes that are left";
    EXPECT_EQ(r.code, 0) << r.err;
}

TEST_F(life, a_folder_in_which_anybody_may_write_is_not_believed) {
    spec("s.toml", "sleep 1000");
    expect(0, "$cohort up --detach s.toml && chmod 777 $COHORT_RUN_DIR");
    expect(4, "$cohort down", "anybody may write there; COHORT_RUN_DIR names another");
    expect(4, "$cohort up --name other s.toml", "anybody may write there");
    expect(4, "$cohort run -- true", "anybody may write there");
    expect(0, "chmod 700 $COHORT_RUN_DIR && $cohort down");
    EXPECT_TRUE(left().empty());
}

class edited : public life {
protected:
    std::string first_;
    void three() {
        first_ = "[[cohort]]\nname = \"a\"\npool = \"2M\"\n[[cohort]]\nname = \"b\"\n[[job]]\nname = \"ja\"\ncohort = \"a\"\nkind = \"exec\"\ncommand = \"echo begun >>a.said; exec sleep 1000\"\n"
                 "[[job]]\nname = \"jb\"\ncohort = \"b\"\nkind = \"exec\"\ncommand = \"echo $WORD >>b.said; exec sleep 1000\"\n";
        file("s.toml", first_);
        expect(0, "WORD=one $cohort up --detach s.toml && until_so '[ -s a.said -a -s b.said ]'");
    }
};

TEST_F(edited, does_only_the_difference) {
    three();
    expect(0, "$cohort up --detach s.toml");
    EXPECT_EQ(bash("$cohort up --detach s.toml").out, "nothing differs from what is up\n");
    file("s.toml", first_ + "env = { WORD = \"two\" }\n[[cohort]]\nname = \"c\"\npool = \"2M\"\n[[job]]\nname = \"jc\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"echo begun >>c.said; exec sleep 1000\"\n");
    const auto seen = json("$cohort plan --against-running s.toml --json");
    EXPECT_EQ(seen["only_look"], true);
    EXPECT_EQ(seen["difference"]["cohorts"][0]["fate"], "kept");
    EXPECT_EQ(text("b.said"), "one\n") << "nothing is changed";
    const auto told = json("$cohort up --detach s.toml --json");
    EXPECT_EQ(told["kind"], "change");
    EXPECT_EQ(told["difference"]["cohorts"], seen["difference"]["cohorts"]);
    expect(0, "until_so '[ -s c.said ] && grep -q two b.said'");
    EXPECT_EQ(text("a.said"), "begun\n");
    EXPECT_EQ(text("b.said"), "one\ntwo\n");
    const auto up = json("$cohort status s --json")["ups"][0];
    EXPECT_EQ(up["cohorts"].size(), 3u);
    EXPECT_NE(up["cohorts"][0]["pool"]["id"], up["cohorts"][2]["pool"]["id"]);
    file("s.toml", "[[cohort]]\nname = \"c\"\npool = \"2M\"\n[[job]]\nname = \"jc\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"echo begun >>c.said; exec sleep 1000\"\n");
    EXPECT_THAT(bash("$cohort up --detach s.toml").out, HasSubstr("cohort \"a\" ends\n  job \"ja\" ends\n"));
    EXPECT_EQ(json("$cohort status s --json")["ups"][0]["cohorts"].size(), 1u);
    EXPECT_EQ(text("c.said"), "begun\n");
    EXPECT_THAT(testing::text_of(run_dir() + "/s.log"), HasSubstr("cohort \"b\" ends"));
    expect(0, "$cohort down s");
    EXPECT_TRUE(left().empty()) << left().front();
}

TEST_F(edited, that_cannot_be_changes_nothing) {
    three();
    file("s.toml", first_ + "nonsense = 1\n");
    expect(2, "$cohort up --detach s.toml", "s.toml:16:1: ");
    file("s.toml", first_ + "[[job]]\nname = \"x\"\ncohort = \"b\"\nkind = \"exec\"\ncommand = [\"no-such-program\"]\nstdout = \"no/where\"\n");
    const ran r = bash("$cohort up --detach s.toml");
    EXPECT_EQ(r.code, 5);
    EXPECT_THAT(r.err, HasSubstr("no-such-program"));
    EXPECT_THAT(r.err, HasSubstr("no/where"));
    EXPECT_EQ(json("$cohort up --detach s.toml --json", 5)["errors"].size(), 2u);
    // A cohort's name that another has: what ended for it begins anew.
    file("other.toml", "[[cohort]]\nname = \"taken\"\n[[job]]\nname = \"j\"\ncohort = \"taken\"\nkind = \"exec\"\ncommand = \"sleep 1000\"\n");
    expect(0, "$cohort up --detach other.toml");
    file("s.toml", first_ + "[[cohort]]\nname = \"taken\"\n");
    expect(5, "$cohort up --detach s.toml", "EBUSY: it is up already");
    file("s.toml", first_ + "env = { WORD = \"two\" }\n[[cohort]]\nname = \"taken\"\n");
    expect(5, "$cohort up --detach s.toml", "EBUSY: it is up already");
    expect(0, "until_so '[ $(wc -l <b.said) = 2 ]'");
    EXPECT_EQ(text("b.said"), "one\none\n");
    EXPECT_EQ(text("a.said"), "begun\n");
    const auto up = json("$cohort status s --json")["ups"][0];
    EXPECT_EQ(up["cohorts"].size(), 2u);
    expect(0, "$cohort down --all");
    EXPECT_TRUE(left().empty()) << left().front();
}

TEST_F(edited, belongs_to_who_brought_it_up) {
    three();
    expect(1, "$cohort plan --against-running --name other s.toml", "\"other\" is not up");
    expect(2, "$cohort plan --name s s.toml", "--name goes with --against-running");
    expect(2, "$cohort plan --against-running --svg x s.toml", "draws nothing");
    expect(5, "$cohort plan --against-running --name s nothing.toml", "nothing.toml");
    expect(0, "$cohort down s");
    // In a terminal's foreground: others may look.
    const ran r = bash("$cohort up -q s.toml & pid=$!; until_so '$cohort status --json | grep -q running'\n"
                       "$cohort plan --against-running s.toml; $cohort up --detach s.toml 2>err; echo $?; $cohort down >/dev/null; wait $pid");
    EXPECT_THAT(r.out, StartsWith("nothing differs from what is up\n"));
    EXPECT_THAT(r.out, HasSubstr("\n5\n"));
    EXPECT_THAT(text("err"), HasSubstr("EBUSY: it was not brought up with --detach"));
}

TEST_F(edited, killed_at_any_moment_of_a_change_leaves_nothing) {
    const char* scale = std::getenv("COHORT_TEST_SCALE");
    const int rounds = std::max(1, static_cast<int>(10 * (scale ? std::atof(scale) : 1)));
    const std::string other = "[[cohort]]\nname = \"c\"\npool = \"2M\"\n[[job]]\nname = \"jc\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"sleep 1000 & wait\"\nstdout = \"made/out\"\n";
    three();
    expect(0, "$cohort down --all");
    file("one.toml", first_), file("two.toml", "workdir = \"deep/er\"\n" + other);
    const ran r = bash("mkdir -p made deep; for i in $(seq " + std::to_string(rounds) + "); do\n"
                       "  $cohort up --detach -q --name s one.toml >/dev/null || exit 1\n"
                       "  pid=$($cohort status --json | sed -n 's/.*\"pid\": \\([0-9]*\\),/\\1/p')\n"
                       "  $cohort up --detach --name s two.toml >/dev/null 2>&1 &\n"
                       "  sleep 0.0$((RANDOM % 4))$((RANDOM % 10)); kill -9 $pid; wait\n"
                       "done; $cohort down --all >/dev/null; rm -f *.said\n"
                       "find . $COHORT_RUN_DIR -mindepth 1 | grep -v -e '/padata$' -e '^./made$' -e '^./deep$' -e '^./[a-z]*.toml$'\n"
                       "for p in /proc/[0-9]*; do e=$(tr '\\0' '\\n' <$p/environ | grep -x -e \"COHORT_RUN_DIR=$COHORT_RUN_DIR\" -e 'COHORT_NAME=.*' | wc -l); [ $e = 2 ] && cat $p/cmdline; done 2>/dev/null; true");
    EXPECT_EQ(r.out, "") << "files and processes that are left";
    EXPECT_EQ(r.code, 0) << r.err;
}

}  // namespace
}  // namespace cohort::cli
