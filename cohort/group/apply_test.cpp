// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::group {
namespace {

using sys::testing::scratch_dir;

machine_view two_cpus() {
    machine_view m;
    m.name = "live";
    m.possible = m.usable = {0, 1};
    m.order = {0, 1};
    m.core = {0, 1};
    return m;
}

plan plan_of(const std::string& text, const std::string& here) {
    auto read = read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    return make_plan(read.value, two_cpus(), here);
}

std::string two_cohorts(const std::string& command = "true") {
    return "workdir = \"deep/work\"\n[[cohort]]\nname = \"a\"\n[[cohort]]\nname = \"b\"\n[[job]]\nname = \"j\"\ncohort = \"a\"\nkind = \"exec\"\ncommand = [\"" +
           command + "\"]\nstdout = \"out\"\n";
}

std::vector<std::string> names_in(const std::string& dir) { return sys::real().list_dir(dir).value_or(std::vector<std::string>{}); }

std::vector<std::string> lines_of(const std::vector<error>& errors) {
    std::vector<std::string> out;
    for (const error& e : errors) out.push_back(e.line());
    return out;
}

/// A machine on which a directory is somebody's.
struct owned_by : sys::forwarding {
    unsigned uid, mode;
    owned_by(unsigned u, unsigned m) : forwarding(sys::real()), uid(u), mode(m) {}
    result<sys::file_info> stat(const std::string& path) override {
        auto there = forwarding::stat(path);
        if (there && path.ends_with("/run")) there->uid = uid, there->mode = mode;
        return there;
    }
};

TEST(apply, uses_no_run_directory_that_others_can_write) {
    scratch_dir dir;
    ASSERT_TRUE(make_run_directory(sys::real(), dir / "run"));
    EXPECT_TRUE(make_run_directory(sys::real(), dir / "run"));
    EXPECT_EQ(sys::real().stat(dir / "run")->mode, 0700u);
    owned_by another(4242, 0700), anybody(0, 0777), root(0, 0755);
    const auto no = make_run_directory(another, dir / "run");
    ASSERT_FALSE(no);
    EXPECT_EQ(no.error().code, EACCES);
    EXPECT_THAT(no.error().line(), testing::HasSubstr("it is user 4242's"));
    EXPECT_THAT(make_run_directory(anybody, dir / "run").error().line(), testing::HasSubstr("anybody may write there"));
    EXPECT_TRUE(make_run_directory(root, dir / "run"));
    EXPECT_EQ(make_run_directory(another, dir / "no/where").error().code, ENOENT);
    EXPECT_FALSE(applied::apply(plan_of(two_cohorts(), dir.path()), another, dir / "run"));
}

TEST(apply, takes_names_makes_the_directory_and_gives_both_back) {
    scratch_dir dir;
    const plan p = plan_of(two_cohorts(), dir.path());
    auto up = applied::apply(p, sys::real(), dir / "run");
    ASSERT_TRUE(up) << up.error().front().line();
    EXPECT_THAT(names_in(dir / "run"), testing::ElementsAre("a.up", "b.up"));
    EXPECT_TRUE(std::filesystem::is_directory(dir / "deep/work"));
    EXPECT_TRUE(names_in(dir / "deep/work").empty());
    EXPECT_TRUE(up->undo().empty());
    EXPECT_TRUE(names_in(dir / "run").empty());
    EXPECT_FALSE(std::filesystem::exists(dir / "deep"));
    EXPECT_TRUE(up->undo().empty());  // nothing is left to undo
}

TEST(apply, leaves_a_directory_that_jobs_have_filled) {
    scratch_dir dir;
    {
        auto up = applied::apply(plan_of(two_cohorts(), dir.path()), sys::real(), dir / "run");
        ASSERT_TRUE(up);
        std::ofstream(dir / "deep/work/result") << "x";
        EXPECT_TRUE(up->undo().empty());
    }
    EXPECT_TRUE(std::filesystem::exists(dir / "deep/work/result"));
}

TEST(apply, a_name_that_is_up_is_busy_and_the_first_holder_keeps_it) {
    scratch_dir dir;
    const plan p = plan_of(two_cohorts(), dir.path());
    auto first = applied::apply(p, sys::real(), dir / "run");
    ASSERT_TRUE(first);
    auto second = applied::apply(p, sys::real(), dir / "run");
    ASSERT_FALSE(second);
    ASSERT_EQ(second.error().size(), 1u);
    EXPECT_EQ(second.error()[0].code, EBUSY);
    EXPECT_THAT(second.error()[0].line(), testing::HasSubstr("it is up already, in process " + std::to_string(sys::real().getpid())));
    EXPECT_THAT(names_in(dir / "run"), testing::ElementsAre("a.up", "b.up"));
    EXPECT_TRUE(std::filesystem::is_directory(dir / "deep/work"));
    first->undo();
    EXPECT_TRUE(applied::apply(p, sys::real(), dir / "run"));
}

TEST(apply, names_of_dead_processes_are_free) {
    scratch_dir dir;
    std::filesystem::create_directory(dir / "run");
    const std::string mine = std::to_string(sys::real().getpid());
    // A pid that no process has, this one's pid with another start (the pid was used again), rubbish, nothing.
    for (const std::string& claim : {std::string("999999999 5\n"), mine + " 1\n", std::string("rubbish"), std::string()}) {
        std::ofstream(dir / "run/a.up") << claim;
        auto up = applied::apply(plan_of(two_cohorts(), dir.path()), sys::real(), dir / "run");
        EXPECT_TRUE(up) << "claim: " << claim << (up ? "" : up.error().front().line());
    }
    EXPECT_TRUE(names_in(dir / "run").empty());
}

TEST(apply, every_missing_command_and_output_is_told_in_one_run_and_nothing_is_left) {
    scratch_dir dir;
    std::filesystem::create_directories(dir / "isdir");
    const std::string text = two_cohorts("no-such-program-1") +
                             "[[job]]\nname = \"k\"\ncohort = \"b\"\nkind = \"pipe\"\ninput = \"" + (dir / "missing") + "\"\noutput = \"" + (dir / "nowhere/x") +
                             "\"\ncommand = [\"no-such-program-2\"]\n"
                             "[[job]]\nname = \"l\"\ncohort = \"b\"\nkind = \"pipe\"\ninput = \"" + (dir / "isdir") + "\"\noutput = \"" + dir.path() + "\"\ncodec = \"zstd\"\n";
    auto up = applied::apply(plan_of(text, dir.path()), sys::real(), dir / "run");
    ASSERT_FALSE(up);
    EXPECT_THAT(lines_of(up.error()),
                testing::ElementsAre(testing::StartsWith("job \"j\": command \"no-such-program-1\": find: ENOENT: not in PATH"),
                                     testing::StartsWith("job \"k\": command \"no-such-program-2\": find: ENOENT: not in PATH"),
                                     testing::AllOf(testing::HasSubstr(dir / "missing"), testing::HasSubstr("ENOENT")),
                                     testing::AllOf(testing::HasSubstr(dir / "nowhere"), testing::HasSubstr("ENOENT")),
                                     testing::AllOf(testing::HasSubstr(dir / "isdir"), testing::HasSubstr("EISDIR")),
                                     testing::AllOf(testing::HasSubstr(dir.path()), testing::HasSubstr("EISDIR"))));
    EXPECT_TRUE(names_in(dir / "run").empty());
    EXPECT_FALSE(std::filesystem::exists(dir / "deep"));
}

/// Writes down what changes the file system, to see in which order it is undone.
class watching : public sys::forwarding {
public:
    using forwarding::forwarding;
    std::vector<std::string> log;
    result<void> unlink(const std::string& path) override { return note("unlink " + path, forwarding::unlink(path)); }
    result<void> rmdir(const std::string& path) override { return note("rmdir " + path, forwarding::rmdir(path)); }

private:
    result<void> note(std::string what, result<void> r) {
        if (r) log.push_back(std::move(what));
        return r;
    }
};

TEST(apply, undoes_in_the_reverse_order) {
    scratch_dir dir;
    watching os(sys::real());
    auto up = applied::apply(plan_of(two_cohorts(), dir.path()), os, dir / "run");
    ASSERT_TRUE(up);
    os.log.clear();
    up->undo();
    EXPECT_THAT(os.log, testing::ElementsAre("rmdir " + (dir / "deep/work"), "rmdir " + (dir / "deep"), "unlink " + (dir / "run/b.up"), "unlink " + (dir / "run/a.up")));
}

TEST(apply, whichever_call_fails_nothing_stays_behind) {
    int refused = 0;
    for (const std::string call : {"open", "read", "write", "stat", "mkdir", "close", "fsync", "rename"}) {
        for (int nth = 1; nth < 1000; ++nth) {
            scratch_dir dir;
            sys::failing os(sys::real(), {.call = call, .nth = nth, .code = EIO});
            {
                auto up = applied::apply(plan_of(two_cohorts(), dir.path()), os, dir / "run");
                refused += !up;
                if (!up) {
                    EXPECT_EQ(up.error().front().code, EIO) << call << " " << nth;
                }
            }
            EXPECT_TRUE(names_in(dir / "run").empty()) << call << " " << nth;
            EXPECT_FALSE(std::filesystem::exists(dir / "deep")) << call << " " << nth;
            if (os.failures() == 0) break;
        }
    }
    EXPECT_GE(refused, 8) << "each sort of call, save those that no step needs, once at least";
}

TEST(apply, an_undo_that_fails_is_told_and_the_others_are_still_made) {
    scratch_dir dir;
    sys::failing os(sys::real(), {.call = "rmdir", .nth = 1, .code = EIO});
    auto up = applied::apply(plan_of(two_cohorts(), dir.path()), os, dir / "run");
    ASSERT_TRUE(up);
    EXPECT_THAT(lines_of(up->undo()), testing::ElementsAre(testing::AllOf(testing::HasSubstr("deep/work"), testing::HasSubstr("EIO"))));
    EXPECT_TRUE(names_in(dir / "run").empty());
}

TEST(apply, the_third_steps_failure_undoes_the_first_two) {
    scratch_dir dir;
    sys::failing os(sys::real(), {.call = "mkdir", .nth = 3, .code = ENOSPC});  // run, deep, then deep/work
    auto up = applied::apply(plan_of(two_cohorts(), dir.path()), os, dir / "run");
    ASSERT_FALSE(up);
    EXPECT_EQ(up.error().front().code, ENOSPC);
    EXPECT_TRUE(names_in(dir / "run").empty());
    EXPECT_FALSE(std::filesystem::exists(dir / "deep"));
}

TEST(find_command, finds_what_execve_would_find_and_says_why_not) {
    scratch_dir dir;
    std::ofstream(dir / "data") << "x";
    sys::os& os = sys::real();
    EXPECT_TRUE(find_command(os, "sh"));
    EXPECT_TRUE(find_command(os, "/bin/sh"));
    EXPECT_EQ(find_command(os, "no-such-program").error().code, ENOENT);
    EXPECT_EQ(find_command(os, dir / "data").error().code, EACCES);
    EXPECT_EQ(find_command(os, dir.path()).error().code, EISDIR);
    EXPECT_EQ(find_command(os, dir / "nothing").error().code, ENOENT);
}

TEST(run_directory, is_the_users_own) {
    struct fixed : sys::forwarding {
        using forwarding::forwarding;
        std::map<std::string, std::string> env;
        std::optional<std::string> getenv(const std::string& n) override { return env.contains(n) ? std::optional(env[n]) : std::nullopt; }
    } os(sys::real());
    EXPECT_EQ(run_directory(os), "/tmp/cohort-user");
    os.env["USER"] = "ann";
    EXPECT_EQ(run_directory(os), "/tmp/cohort-ann");
    os.env["USER"] = "../x";
    EXPECT_EQ(run_directory(os), "/tmp/cohort-user");
    os.env["XDG_RUNTIME_DIR"] = "/run/user/7";
    EXPECT_EQ(run_directory(os), "/run/user/7/cohort");
    os.env["COHORT_RUN_DIR"] = "/x";
    EXPECT_EQ(run_directory(os), "/x");
}

}  // namespace
}  // namespace cohort::group
