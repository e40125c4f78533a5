// SPDX-License-Identifier: Apache-2.0
// The watch on a machine whose sets the model of the kernel serves.
#include <cohort/group/up_watch.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/group/process_figures.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* run = "/run/cohort";

class watched : public ::testing::Test {
protected:
    watched() {
        host.disk.add_dir("/run");
        host.disk.add_dir(run);
        lives(7);
        for (const char* line : {"controller . +cpuset", "mkdir cohort-rt", "write cohort-rt cpuset.cpus 2-3", "write cohort-rt cpuset.cpus.partition isolated"}) perform(line);
    }
    void perform(const std::string& line) { ASSERT_TRUE(host.perform(cpuset::parse_operation(line).value()).ok()) << line; }
    void lives(int pid) { host.disk.add_file("/proc/" + std::to_string(pid) + "/stat", std::to_string(pid) + " (a) b) S 1 1 1 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 5 0\n"); }
    void write(const up_state& s) { host.disk.add_file(std::string(run) + "/" + s.name + ".state", state_json(s)); }
    static up_state web() {
        up_state s;
        s.name = "web", s.who = {7, "5", ""}, s.phase = up_phase::up;
        s.cohorts = {{"rt", "2-3", "a set", "cohort-rt", "", "", "", {}}, {"free", "4-5", "affinity", "", "", "own", "kernel", up_pool{3, "/p", 1u << 20}}};
        s.jobs = {{"j", "rt", "exec", "running", "2-3", {7, 99}, "", 10, 20, ""}};
        return s;
    }
    void online(const std::string& list) { host.disk.add_file("/sys/devices/system/cpu/online", list + "\n"); }

    cpuset::testing::cgroup_host host;
    up_watch watch{host, {run}};
};

TEST_F(watched, nothing_up_is_nothing_seen) {
    up_watch nowhere(host, {"/no/such/folder"});
    const ups_seen now = nowhere.look();
    EXPECT_THAT(now.ups, IsEmpty());
    EXPECT_THAT(now.news, IsEmpty());
    EXPECT_EQ(now.unread, 0u);
}

TEST_F(watched, sees_what_each_cohort_and_job_has) {
    write(web());
    host.disk.add_file("/proc/7/sched", "x (7, #threads: 1)\nse.core_forceidle_sum    :    250.5\n");
    const ups_seen now = watch.look();
    ASSERT_EQ(now.ups.size(), 1u);
    EXPECT_TRUE(now.ups[0].alive);
    EXPECT_EQ(now.ups[0].phase, "up");
    ASSERT_EQ(now.cohorts.size(), 2u);
    EXPECT_EQ(now.cohorts[0].now.list(), "2-3");
    EXPECT_EQ(now.cohorts[0].partition, "isolated");
    EXPECT_FALSE(now.cohorts[0].broken);
    EXPECT_EQ(now.cohorts[1].now.list(), "4-5");
    EXPECT_EQ(now.cohorts[1].partition, "");
    EXPECT_EQ(now.cohorts[1].pool_bytes, 1u << 20);
    ASSERT_EQ(now.jobs.size(), 1u);
    EXPECT_EQ(now.jobs[0].state, "running");
    EXPECT_EQ(now.jobs[0].bytes_in, 10u);
    EXPECT_EQ(now.jobs[0].processes, 2u);
    EXPECT_EQ(now.jobs[0].cpu_seconds, 200.0 / static_cast<double>(::sysconf(_SC_CLK_TCK))) << "of the one that is there";
    EXPECT_EQ(now.jobs[0].forced_idle_seconds, 0.2505);
    EXPECT_THAT(now.news, IsEmpty());
}

TEST_F(watched, cpus_that_leave_and_come_are_counted_and_told_once) {
    write(web());
    (void)watch.look();
    perform("cpu 3 offline");
    online("0-2,4,6-7");
    ups_seen now = watch.look();
    EXPECT_THAT(now.news, ElementsAre("up \"web\", cohort \"rt\": CPU 3 has left, it has CPU 2", "up \"web\", cohort \"free\": CPU 5 has left, it has CPU 4"));
    EXPECT_EQ(now.cohorts[0].left, 1u);
    EXPECT_EQ(now.totals.cpus_left, 2u);
    EXPECT_THAT(watch.look().news, IsEmpty());
    perform("cpu 3 online");
    online("0-7");
    now = watch.look();
    EXPECT_THAT(now.news, ElementsAre(HasSubstr("cohort \"rt\": CPU 3 has come, it has CPUs 2-3"), HasSubstr("CPU 5 has come")));
    EXPECT_EQ(now.cohorts[0].came, 1u);
    EXPECT_EQ(now.totals.cpus_came, 2u);
    EXPECT_EQ(now.totals.partitions_broken, 0u);
}

TEST_F(watched, a_cpu_that_was_offline_before_the_first_look_has_left) {
    write(web());
    online("0-4,6-7");
    EXPECT_THAT(watch.look().news, ElementsAre("up \"web\", cohort \"free\": CPU 5 has left, it has CPU 4"));
}

TEST_F(watched, a_partition_that_is_none_any_more_is_counted_each_time) {
    write(web());
    (void)watch.look();
    perform("cpu 2 offline"), perform("cpu 3 offline");
    ups_seen now = watch.look();
    EXPECT_THAT(now.news.at(0), HasSubstr("CPUs 2-3 have left"));
    perform("write cohort-rt cpuset.cpus.partition member");
    now = watch.look();
    EXPECT_THAT(now.news, ::testing::Contains("up \"web\", cohort \"rt\": its partition reads \"member\""));
    EXPECT_TRUE(now.cohorts[0].broken);
    EXPECT_EQ(now.cohorts[0].breaks, 1u);
    EXPECT_THAT(watch.look().news, IsEmpty());
    perform("cpu 2 online"), perform("cpu 3 online"), perform("write cohort-rt cpuset.cpus.partition isolated");
    now = watch.look();
    EXPECT_THAT(now.news, ::testing::Contains("up \"web\", cohort \"rt\": its partition is isolated again"));
    EXPECT_FALSE(now.cohorts[0].broken);
    perform("write cohort-rt cpuset.cpus.partition member"), perform("rmdir cohort-rt");
    now = watch.look();
    EXPECT_THAT(now.news, ElementsAre(HasSubstr("CPUs 2-3 have left, it has no CPU"), "up \"web\", cohort \"rt\": its partition is gone"));
    EXPECT_EQ(now.totals.partitions_broken, 2u);
}

TEST_F(watched, an_invalid_one_is_broken_even_when_it_is_seen_first) {
    perform("write cohort-rt cpuset.cpus.partition member"), perform("mkdir other"), perform("write other cpuset.cpus 2"), perform("write other cpuset.cpus.partition root");
    perform("write cohort-rt cpuset.cpus.partition root");
    write(web());
    const ups_seen now = watch.look();
    EXPECT_TRUE(now.cohorts[0].broken) << now.cohorts[0].partition;
    EXPECT_THAT(now.news, ::testing::Contains(HasSubstr("its partition reads \"root invalid (")));
}

TEST_F(watched, what_an_up_changes_itself_has_not_left_nor_broken) {
    up_state s = web();
    write(s);
    (void)watch.look();
    s.cohorts[0].cpus = "2", s.cohorts[0].kept = "another set", s.cohorts[1].cpus = "5";
    write(s);
    EXPECT_THAT(watch.look().news, IsEmpty()) << "it is written down before it is done";
    perform("write cohort-rt cpuset.cpus.partition member"), perform("write cohort-rt cpuset.cpus 2");
    EXPECT_THAT(watch.look().news, IsEmpty());
    host.sleep_until(host.now() + 11'000'000'000);
    ups_seen now = watch.look();
    EXPECT_THAT(now.news, IsEmpty());
    EXPECT_EQ(now.cohorts[0].now.list(), "2");
    EXPECT_FALSE(now.cohorts[0].broken);
    online("0-4");
    EXPECT_THAT(watch.look().news, ElementsAre("up \"web\", cohort \"free\": CPU 5 has left, it has no CPU")) << "then changes count again";
}

TEST_F(watched, while_it_starts_or_ends_its_sets_come_and_go) {
    up_state s = web();
    write(s);
    (void)watch.look();
    s.phase = up_phase::ending;
    write(s);
    perform("write cohort-rt cpuset.cpus.partition member"), perform("rmdir cohort-rt");
    const ups_seen now = watch.look();
    EXPECT_THAT(now.cohorts, IsEmpty());
    EXPECT_THAT(now.news, IsEmpty());
    EXPECT_EQ(now.jobs.size(), 1u);
}

TEST_F(watched, a_killed_owner_is_told_once_and_only_who_saw_it_live_counts_it) {
    up_state dead = web();
    dead.name = "old", dead.who.pid = 8;
    write(dead);
    EXPECT_THAT(watch.look().news, IsEmpty());
    write(web());
    (void)watch.look();
    ASSERT_TRUE(host.unlink("/proc/7/stat"));
    const ups_seen now = watch.look();
    EXPECT_THAT(now.news, ElementsAre("up \"web\": its process 7 was killed; `cohort down web`, or the next `cohort up`, removes what it left"));
    EXPECT_EQ(now.totals.owners_killed, 1u);
    EXPECT_EQ(now.ups.size(), 2u);
    EXPECT_THAT(now.jobs, IsEmpty());
    EXPECT_THAT(watch.look().news, IsEmpty());
}

TEST_F(watched, what_is_no_state_is_told_once_and_counted) {
    host.disk.add_file(std::string(run) + "/bad.state", "rubbish");
    ups_seen now = watch.look();
    EXPECT_EQ(now.unread, 1u);
    EXPECT_THAT(now.news, ElementsAre(HasSubstr("bad.state: read: EPROTO")));
    now = watch.look();
    EXPECT_EQ(now.unread, 1u);
    EXPECT_THAT(now.news, IsEmpty());
    host.disk.add_file("/file", "");
    up_watch none(host, {"/file"});
    EXPECT_EQ(none.look().unread, 1u);
}

TEST_F(watched, a_pipes_time_is_that_of_the_owners_threads_that_work_for_it) {
    lives(9);
    for (const char* tid : {"11", "12"}) host.disk.add_file("/proc/7/task/" + std::string(tid) + "/stat", "1 (w) R 1 1 1 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 5 0\n");
    up_state s = web();
    s.jobs[0].pids = {9}, s.jobs[0].threads = {11, 12, 13};
    EXPECT_DOUBLE_EQ(cpu_seconds(host, s, s.jobs[0]).value(), 2.0 + 2 * 1.5) << "of a thread what its process waited for does not count";
    s.jobs[0].pids = {}, s.jobs[0].threads = {13};
    EXPECT_EQ(cpu_seconds(host, s, s.jobs[0]), std::nullopt);
}

TEST_F(watched, figures_of_a_process_that_is_odd_or_gone_are_not_known) {
    EXPECT_EQ(cpu_seconds(host, 4711), std::nullopt);
    EXPECT_EQ(forced_idle_seconds(host, 4711), std::nullopt);
    host.disk.add_file("/proc/9/stat", "9 (x S 1 2 3\n");
    EXPECT_EQ(cpu_seconds(host, 9), std::nullopt);
    host.disk.add_file("/proc/9/stat", "9 (x) S 1 2 3\n");
    EXPECT_EQ(cpu_seconds(host, 9), std::nullopt);
    host.disk.add_file("/proc/9/sched", "nothing of that sort\n");
    EXPECT_EQ(forced_idle_seconds(host, 9), std::nullopt);
}

}  // namespace
}  // namespace cohort::group
