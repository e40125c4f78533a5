// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/state.hpp>

#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/group/detail/state_lock.hpp>
#include <cohort/sys/boot.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::group {
namespace {

using sys::testing::scratch_dir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> names_in(const std::string& dir) { return sys::real().list_dir(dir).value_or(std::vector<std::string>{}); }

/// No process ever has that number.
owner a_dead_one() { return {999'999'999, "5", sys::boot_id(sys::real()).value()}; }

up_state full() {
    up_state s;
    s.name = "two", s.spec = "/w/two.toml", s.who = {7, "8", "b"}, s.detached = true, s.phase = up_phase::ending;
    s.since_ns = 5, s.patience_ns = 6, s.log = "/run/two.log";
    s.cohorts = {{"a", "0-1", "affinity", "cohort-a", "/sys/x/cgroup.procs", "own", "kernel", up_pool{3, "/run/p.sock", 1u << 20}}, {"b", "", "", "", "", "", "", {}}};
    s.jobs = {{"j", "a", "exec", "running", "0", {11, 12}, "/ctl", 1, 2, "why", {13}, {4, 5}}};
    s.undo = {{undo_note::form::claim, "c"}, {undo_note::form::file, "f"}, {undo_note::form::directory, "d"}, {undo_note::form::cpuset, "rmdir x"}, {undo_note::form::pool, "3 a s"}};
    return s;
}

up_state left_by_a_dead_one(std::vector<undo_note> undo) {
    up_state s;
    s.name = "dead", s.who = a_dead_one(), s.undo = std::move(undo);
    return s;
}

void write_state(const std::string& dir, const up_state& s) {
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/" + s.name + ".state") << state_json(s);
}

TEST(state, is_read_as_it_was_written) {
    const auto again = read_state(state_json(full()));
    ASSERT_TRUE(again) << again.error().line();
    EXPECT_EQ(*again, full());
}

TEST(state, what_is_none_is_told) {
    const std::string good = state_json(full());
    const auto with = [&](const std::string& from, const std::string& to) { return std::string(good).replace(good.find(from), from.size(), to); };
    for (const std::string& text : {std::string(), std::string("[]"), good.substr(0, good.size() / 2), with("\"schema_version\":1", "\"schema_version\":2"), with("\"ending\"", "\"odd\""),
                                    with("\"pid\":7", "\"pid\":\"x\""), with("\"claim\"", "\"rm -r\""), with("\"jobs\"", "\"jbos\"")}) {
        const auto read = read_state(text);
        ASSERT_FALSE(read) << text;
        EXPECT_EQ(read.error().code, EPROTO);
    }
}

TEST(state, names_are_file_names_that_need_no_quoting) {
    for (const char* good : {"a", "two-tenants", "A.b_9"}) EXPECT_TRUE(is_up_name(good)) << good;
    for (const std::string& bad : {std::string(), std::string("-a"), std::string(".x"), std::string("a/b"), std::string("a b"), std::string(65, 'a')}) EXPECT_FALSE(is_up_name(bad)) << bad;
    EXPECT_EQ(up_name_of("/w/two tenants.toml"), "two-tenants");
    EXPECT_EQ(up_name_of(".toml"), "up");
    EXPECT_EQ(up_name_of("../-x.y.toml"), "x.y");
    EXPECT_EQ(up_name_of(std::string(100, 'a') + ".toml").size(), 64u);
}

TEST(state, a_plan_s_undo_is_known_before_anything_is_done) {
    scratch_dir dir;
    auto read = read_spec("s.toml", "workdir = \"deep/er\"\n[[cohort]]\nname = \"a\"\npool = \"2M\"\n[[job]]\nname = \"j\"\ncohort = \"a\"\nkind = \"exec\"\ncommand = \"true\"\n", [](std::string_view) { return std::nullopt; });
    machine_view m;
    m.name = "live", m.possible = m.usable = {0}, m.order = {0}, m.core = {0};
    const up_state s = state_of(make_plan(read.value, m, dir.path()), sys::real(), "/run", "s", "/w/s.toml");
    ASSERT_GE(s.undo.size(), 3u);
    EXPECT_EQ(s.undo[0], (undo_note{undo_note::form::claim, "/run/a.up"}));
    EXPECT_EQ(s.undo[1], (undo_note{undo_note::form::directory, dir / "deep"}));
    EXPECT_EQ(s.undo[2], (undo_note{undo_note::form::directory, dir / "deep/er"}));
    EXPECT_EQ(s.jobs[0].kind, "exec");
    EXPECT_TRUE(alive(sys::real(), s));
}

TEST(state_file, is_there_while_it_is_up_and_its_name_is_taken) {
    scratch_dir dir;
    const std::string run = dir / "run";
    EXPECT_THAT(ups(sys::real(), run)->all, IsEmpty());
    up_state s;
    s.name = "x", s.spec = "/w/x.toml", s.who = this_owner(sys::real());
    auto mine = state_file::create(sys::real(), run, s);
    ASSERT_TRUE(mine) << mine.error().line();
    EXPECT_EQ(ups(sys::real(), run)->all.at(0), s);
    ASSERT_TRUE((*mine)->change([](up_state& now) { now.phase = up_phase::up; }));
    EXPECT_EQ(ups(sys::real(), run)->all.at(0).phase, up_phase::up);
    EXPECT_THAT(names_in(run), ElementsAre("x.state"));
    const auto second = state_file::create(sys::real(), run, s);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EBUSY);
    EXPECT_THAT(second.error().line(), HasSubstr("it is up already, in process " + std::to_string(s.who.pid)));
    EXPECT_THAT(sweep(sys::real(), run).swept, IsEmpty());
    ASSERT_TRUE((*mine)->remove());
    EXPECT_THAT(names_in(run), IsEmpty());
    s.name = "../x";
    EXPECT_EQ(state_file::create(sys::real(), run, s).error().code, EINVAL);
}

TEST(state_file, room_is_made_before_a_plan_and_only_where_nobody_lives) {
    scratch_dir dir;
    EXPECT_TRUE(make_room(sys::real(), dir / "nowhere", "dead")) << "nothing is up there";
    EXPECT_FALSE(std::filesystem::exists(dir / "nowhere"));
    std::ofstream(dir / "left") << "x";
    write_state(dir / "run", left_by_a_dead_one({{undo_note::form::file, dir / "left"}}));
    EXPECT_TRUE(make_room(sys::real(), dir / "run", "another")) << "of whatever name";
    EXPECT_THAT(names_in(dir / "run"), IsEmpty());
    EXPECT_FALSE(std::filesystem::exists(dir / "left"));

    write_state(dir / "run", left_by_a_dead_one({{undo_note::form::cpuset, "no operation"}}));
    up_state lives;
    lives.name = "x", lives.who = this_owner(sys::real());
    write_state(dir / "run", lives);
    EXPECT_EQ(make_room(sys::real(), dir / "run", "x").error().code, EBUSY);
    EXPECT_TRUE(make_room(sys::real(), dir / "run", "y"));
    sys::failing os(sys::real(), {.call = "open", .nth = 1, .code = EACCES});
    EXPECT_EQ(make_room(os, dir / "run", "y").error().code, EACCES) << "who cannot look does not know";
}

TEST(state_file, a_write_that_fails_leaves_what_was_there) {
    scratch_dir dir;
    up_state s;
    s.name = "x", s.who = this_owner(sys::real());
    for (const char* call : {"open", "write", "rename"}) {
        sys::failing os(sys::real(), {.call = call, .nth = 0});
        auto mine = state_file::create(sys::real(), dir / "run", s).value();
        sys::failing later(sys::real(), {.call = call, .nth = 1, .code = ENOSPC});
        // A file of the same name by an os that fails: what is on the disk is the first one's.
        const auto refused = state_file::create(later, dir / "other", s);
        EXPECT_FALSE(refused) << call;
        for (const std::string& name : names_in(dir / "other")) EXPECT_FALSE(name.starts_with("x")) << name;
        ASSERT_TRUE(mine->remove());
    }
}

TEST(state_file, files_that_are_no_states_are_told_and_left) {
    scratch_dir dir;
    std::ofstream(dir / "bad.state") << "rubbish";
    std::ofstream(dir / "other.state") << state_json(full());
    const auto there = ups(sys::real(), dir.path());
    ASSERT_TRUE(there);
    EXPECT_THAT(there->all, IsEmpty());
    ASSERT_EQ(there->unread.size(), 2u);
    EXPECT_THAT(there->unread[0].line(), HasSubstr("bad.state: read: EPROTO"));
    EXPECT_THAT(there->unread[1].line(), HasSubstr("it is of an up that is called \"two\""));
    EXPECT_EQ(sweep(sys::real(), dir.path()).not_swept.size(), 2u);
    EXPECT_EQ(names_in(dir.path()).size(), 2u);
    ASSERT_EQ(::mkfifo((dir / "pipe.state").c_str(), 0600), 0);
    std::filesystem::create_directory(dir / "folder.state");
    const auto more = ups(sys::real(), dir.path());
    ASSERT_EQ(more->unread.size(), 4u) << "and nobody waits for who would write the pipe";
    EXPECT_THAT(more->unread[1].line(), HasSubstr("folder.state: read: EPROTO: it is no file"));
    EXPECT_THAT(more->unread[3].line(), HasSubstr("pipe.state: read: EPROTO: it is no file"));
}

TEST(sweep, removes_what_a_dead_owner_left_and_nothing_else) {
    scratch_dir dir;
    const std::string run = dir / "run";
    std::filesystem::create_directories(dir / "made/full");
    std::filesystem::create_directories(dir / "made2");
    std::ofstream(dir / "made/full/result") << "x";
    std::ofstream(dir / "half") << "x";
    up_state s = left_by_a_dead_one({{undo_note::form::claim, run + "/a.up"}, {undo_note::form::claim, run + "/b.up"}, {undo_note::form::claim, run + "/never.up"}, {undo_note::form::directory, dir / "made"},
                                     {undo_note::form::directory, dir / "made2"}, {undo_note::form::file, dir / "half"}, {undo_note::form::file, dir / "nothing"}});
    write_state(run, s);
    std::ofstream(run + "/a.up") << s.who.claim();
    const std::string rival = this_owner(sys::real()).claim();
    std::ofstream(run + "/b.up") << rival;
    std::ofstream(run + "/dead.state.new") << "ha";
    std::ofstream(run + "/first.state.new") << "ha";
    std::ofstream(run + "/c.up.999999999") << s.who.claim();
    const sweep_report r = sweep(sys::real(), run);
    EXPECT_THAT(r.swept, ElementsAre("dead"));
    EXPECT_THAT(r.not_swept, IsEmpty());
    EXPECT_THAT(names_in(run), ElementsAre("b.up"));
    EXPECT_EQ(sys::read_file(sys::real(), run + "/b.up").value(), rival);
    EXPECT_TRUE(std::filesystem::exists(dir / "made/full/result"));
    EXPECT_FALSE(std::filesystem::exists(dir / "made2"));
    EXPECT_FALSE(std::filesystem::exists(dir / "half"));
    EXPECT_THAT(sweep(sys::real(), run).swept, IsEmpty());
    EXPECT_THAT(sweep(sys::real(), dir / "no such").not_swept, IsEmpty());
}

/// Waits until it has ended, a minute at most.
bool ends_soon(int pid) {
    const std::uint64_t until = sys::real().now() + 60'000'000'000;
    while (!sys::real().try_wait(pid).value()) {
        if (sys::real().now() >= until) return false;
        sys::real().sleep_until(sys::real().now() + 1'000'000);
    }
    return true;
}

TEST(sweep, ends_the_processes_that_have_the_dead_owner_s_mark) {
    scratch_dir dir;
    const up_state s = left_by_a_dead_one({});
    const auto sleeper = [&](const std::string& mark) { return sys::real().spawn({.argv = {"sleep", "1000"}, .new_session = true, .environment = {std::string(owner_variable) + "=" + mark}}).value(); };
    const int mine = sleeper(s.who.mark()), other = sleeper(s.who.mark() + "1"), third = sleeper("1" + s.who.mark());
    write_state(dir / "run", s);
    EXPECT_THAT(sweep(sys::real(), dir / "run").swept, ElementsAre("dead"));
    EXPECT_TRUE(ends_soon(mine));
    for (const int pid : {other, third}) {
        EXPECT_FALSE(sys::real().try_wait(pid).value());
        EXPECT_TRUE(sys::real().kill(pid, SIGKILL));
        EXPECT_TRUE(ends_soon(pid));
    }
}

TEST(sweep, after_another_boot_no_process_is_looked_for) {
    scratch_dir dir;
    up_state s = left_by_a_dead_one({{undo_note::form::cpuset, "rmdir no-such-set"}, {undo_note::form::file, dir / "half"}});
    s.who.boot = "another", s.who.pid = sys::real().getpid(), s.who.start = start_time(sys::real(), s.who.pid);
    std::ofstream(dir / "half") << "x";
    const int innocent = sys::real().spawn({.argv = {"sleep", "1000"}, .environment = {std::string(owner_variable) + "=" + s.who.mark()}}).value();
    write_state(dir / "run", s);
    EXPECT_FALSE(alive(sys::real(), s));
    EXPECT_THAT(sweep(sys::real(), dir / "run").swept, ElementsAre("dead"));
    EXPECT_FALSE(sys::real().try_wait(innocent).value());
    EXPECT_FALSE(std::filesystem::exists(dir / "half"));
    EXPECT_TRUE(sys::real().kill(innocent, SIGKILL));
    EXPECT_TRUE(ends_soon(innocent));
}

TEST(sweep, one_process_at_a_time_does_it) {
    scratch_dir dir;
    write_state(dir / "run", left_by_a_dead_one({}));
    auto folder = sys::open_file(sys::real(), dir / "run", sys::open_read | sys::open_directory);
    ASSERT_TRUE(sys::try_hold(folder->get()));
    std::atomic<bool> done{false};
    std::thread other([&] {
        EXPECT_THAT(sweep(sys::real(), dir / "run").swept, ElementsAre("dead"));
        done = true;
    });
    // It cannot be seen that it waits, only that it has not gone on.
    for (int i = 0; i < 20; ++i) sys::real().sleep_until(sys::real().now() + 1'000'000);
    EXPECT_FALSE(done);
    ASSERT_TRUE(folder->close());
    other.join();
}

/// The kernel's model has the processes; killing one is its exit.
class host_with_kill : public sys::forwarding {
public:
    explicit host_with_kill(cpuset::testing::cgroup_host& h) : forwarding(static_cast<sys::os&>(h)), host_(h) {}  // not a copy of its own forwarding
    std::vector<int> killed;
    result<void> kill(int pid, int) override {
        killed.push_back(pid);
        host_.perform({.what = cpuset::verb::exit, .task = std::to_string(pid)});
        return {};
    }

private:
    cpuset::testing::cgroup_host& host_;
};

TEST(sweep, removes_sets_with_what_runs_in_them_and_leaves_others) {
    cpuset::testing::cgroup_host host;
    host_with_kill os(host);
    for (const char* set : {"cohort-a", "cohort-b"}) host.perform({.what = cpuset::verb::mkdir, .path = set});
    host.perform({.what = cpuset::verb::write, .path = "cohort-a", .file = "cpuset.cpus", .text = "2-3"});
    host.perform({.what = cpuset::verb::write, .path = "cohort-a", .file = "cpuset.cpus.partition", .text = "root"});
    host.start(300, "cohort-a");
    host.start(400, "cohort-b");
    up_state s = left_by_a_dead_one({{undo_note::form::cpuset, "rmdir cohort-a"}, {undo_note::form::cpuset, "write cohort-a cpuset.cpus.partition member"}, {undo_note::form::cpuset, "rmdir cohort-never-made"}});
    s.who.boot = "";
    s.cohorts.push_back({"a", "2-3", "", "cohort-a", "", "", "", {}});
    host.disk.add_file("/run/dead.state", state_json(s));
    const sweep_report r = detail::sweep_locked(os, "/run");
    EXPECT_THAT(r.not_swept, IsEmpty()) << r.not_swept.front().line();
    EXPECT_THAT(r.swept, ElementsAre("dead"));
    EXPECT_THAT(os.killed, ElementsAre(300));
    EXPECT_THAT(host.kernel.paths(), ElementsAre(".", "cohort-b"));
}

TEST(sweep, what_cannot_be_undone_stays_written_down) {
    cpuset::testing::cgroup_host host;
    host_with_kill os(host);
    host.perform({.what = cpuset::verb::mkdir, .path = "cohort-a"});
    host.perform({.what = cpuset::verb::mkdir, .path = "cohort-a/deeper"});  // somebody else's
    up_state s = left_by_a_dead_one({{undo_note::form::cpuset, "rmdir cohort-a"}, {undo_note::form::cpuset, "what?"}, {undo_note::form::pool, "odd"}});
    s.who.boot = "";
    host.disk.add_file("/run/dead.state", state_json(s));
    const sweep_report r = detail::sweep_locked(os, "/run");
    EXPECT_THAT(r.swept, IsEmpty());
    std::vector<std::string> lines;
    for (const error& e : r.not_swept) lines.push_back(e.line());
    EXPECT_THAT(lines, ElementsAre(HasSubstr("what \"dead\" left: pool \"odd\": undo: EPROTO"), HasSubstr("operation \"what?\": undo: EPROTO"), HasSubstr("cohort-a")));
    EXPECT_TRUE(host.stat("/run/dead.state"));
}

}  // namespace
}  // namespace cohort::group
