// SPDX-License-Identifier: Apache-2.0
// Finding and reading a live tree, on machines whose kernel is the model.
#include <cohort/cpuset/live.hpp>

#include <gmock/gmock.h>

#include <cohort/cpuset/testing/cgroup_host.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;
using testing::cgroup_host;

/// A tree with a partition, a set without cpuset of its own, and threads in two places.
void furnish(cgroup_host& host) {
    for (const char* line : {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.cpus.partition isolated", "mkdir b", "mkdir b/c"}) ASSERT_TRUE(host.perform(*parse_operation(line)).ok()) << line;
    host.start(100, "");
    host.start(200, "a");
    host.add_thread(200, 201);
}

TEST(live_mount, finds_version_2_and_1_and_tells_what_is_there_where_none_is) {
    cgroup_host v2, v1({.v1 = true});
    const live_mount two = find_mount(v2).value(), one = find_mount(v1).value();
    EXPECT_EQ(two.what, live_mount::form::v2);
    EXPECT_TRUE(two.whole);
    EXPECT_EQ(one.what, live_mount::form::v1);
    EXPECT_TRUE(one.whole);
    EXPECT_TRUE(one.hybrid);
    EXPECT_FALSE(two.hybrid);
    sys::recorded bare;
    EXPECT_FALSE(find_mount(bare)->mounted());
    bare.add_file("/proc/self/mountinfo", "30 1 0:26 / /cg2 rw - cgroup2 none rw\n31 1 0:27 / /cg1 rw - cgroup none rw,memory\n");
    bare.add_file("/cg2/cgroup.controllers", "cpu io\n");
    EXPECT_EQ(find_mount(bare)->about, "no cpuset controller is mounted; there is cgroup v2 at /cg2 without cpuset (controllers: cpu io); cgroup v1 at /cg1 (memory)");
    EXPECT_EQ(read_live(bare).error().code, EOPNOTSUPP);
    EXPECT_THAT(read_live(bare).error().line(), HasSubstr("/cg2 without cpuset"));
    EXPECT_EQ(home_of(bare, *find_mount(bare), 1).error().code, EOPNOTSUPP);
    bare.add_file("/proc/self/mountinfo", "");
    EXPECT_EQ(find_mount(bare)->about, "no control groups are mounted");
}

TEST(live_mount, takes_paths_from_the_top_and_directories_below_the_mount_point) {
    const live_mount m{.what = live_mount::form::v2, .point = "/sys/fs/cgroup"};
    for (const char* text : {"a/b", "/a/b", "/sys/fs/cgroup/a/b", "a/b/"}) EXPECT_EQ(set_path(m, text).value(), "a/b") << text;
    for (const char* text : {"", ".", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/"}) EXPECT_EQ(set_path(m, text).value(), "") << text;
    for (const char* text : {"..", "a/../b", "a//b", "./a"}) EXPECT_EQ(set_path(m, text).error().code, EINVAL) << text;
    EXPECT_EQ(m.file("a", "cpuset.cpus"), "/sys/fs/cgroup/a/cpuset.cpus");
    const live_mount old{.what = live_mount::form::v1, .point = "/dev/cpuset", .prefixed = false};
    EXPECT_EQ(old.file("", "cpuset.cpus"), "/dev/cpuset/cpus");
    EXPECT_EQ(old.file("a", "tasks"), "/dev/cpuset/a/tasks");
}

TEST(live_mount, finds_the_set_of_a_process) {
    for (bool v1 : {false, true}) {
        cgroup_host host({.v1 = v1});
        host.start(100, "");
        live_mount m = find_mount(host).value();
        EXPECT_EQ(home_of(host, m, 100).value(), "");
        EXPECT_EQ(home_of(host, m, 7).error().code, ESRCH);
        m.root = "/container";
        EXPECT_EQ(home_of(host, m, 100).error().code, ENOENT);
    }
    sys::recorded disk;
    disk.add_file("/proc/5/cgroup", "0::/container/a:b\n");
    disk.add_file("/proc/6/cgroup", "0::/../x\n");
    live_mount m{.what = live_mount::form::v2, .point = "/p", .root = "/container"};
    EXPECT_EQ(home_of(disk, m, 5).value(), "a:b");
    m.root = "/";
    EXPECT_EQ(home_of(disk, m, 6).error().code, ENOENT);
    m.what = live_mount::form::v1;
    EXPECT_EQ(home_of(disk, m, 5).error().code, ENOENT) << "its kernel names no version 1 cpuset";
}

TEST(live_profile, is_told_by_files_first_and_then_by_number) {
    const auto profile = [](kernel k) {
        cgroup_host host({.profile = k});
        return probe_profile(host, *find_mount(host)).profile;
    };
    EXPECT_EQ(profile(kernel::v6_1), kernel::v6_1);
    EXPECT_EQ(profile(kernel::v6_12), kernel::v6_12);
    EXPECT_EQ(profile(kernel::v7_0), kernel::v7_0);
    // A vendor's 5.14 with the newer files, and a kernel that calls itself 6.12 without them.
    cgroup_host vendor({.profile = kernel::v6_12}), bare({.profile = kernel::v6_1});
    vendor.disk.add_file("/proc/sys/kernel/osrelease", "5.14.0-503.el9\n");
    bare.disk.add_file("/proc/sys/kernel/osrelease", "6.12.0\n");
    ASSERT_TRUE(bare.perform(*parse_operation("mkdir a")).ok());
    EXPECT_EQ(probe_profile(vendor, *find_mount(vendor)).profile, kernel::v6_12);
    EXPECT_EQ(probe_profile(bare, *find_mount(bare)).profile, kernel::v6_1);
    EXPECT_THAT(probe_profile(bare, *find_mount(bare)).evidence, HasSubstr("cpuset.cpus.exclusive is not there"));
    cgroup_host old({.profile = kernel::v6_1, .v1 = true});
    EXPECT_EQ(probe_profile(old, *find_mount(old)).profile, kernel::v6_1);
}

TEST(read_live, sees_what_the_kernel_shows) {
    cgroup_host host;
    furnish(host);
    const live_reading r = read_live(host).value();
    ASSERT_EQ(r.what.sets.size(), 4u);
    EXPECT_EQ(r.what.sets[0].path, ".");
    EXPECT_EQ(r.what.sets[1].files.at("cpuset.cpus.partition"), "isolated");
    EXPECT_EQ(r.what.sets[0].files.at("cpuset.cpus.effective"), "0-1,4-7");
    EXPECT_TRUE(r.what.sets[0].hands_on);
    EXPECT_FALSE(r.what.sets[2].hands_on);
    EXPECT_EQ(r.what.sets[3].path, "b/c");
    EXPECT_FALSE(r.what.sets[3].has_cpuset());
    EXPECT_EQ(r.what.online.list(), "0-7");
    EXPECT_EQ(r.what.memory.list(), "0-1");
    EXPECT_EQ(r.what.release, "6.12.0-test");
    ASSERT_EQ(r.what.tasks.size(), 3u);
    EXPECT_EQ(r.what.tasks[1].id, "200");
    EXPECT_EQ(r.what.tasks[2].path, "a");
    EXPECT_EQ(r.what.tasks[2].cpus.list(), "2-3");
    EXPECT_EQ(r.what.tasks[2].name, "t201");
    EXPECT_EQ(r.vanished_sets + r.vanished_tasks + r.unseen_tasks, 0u);
    EXPECT_TRUE(read_live(host, {.tasks = false})->what.tasks.empty());
}

TEST(read_live, sees_version_1_with_its_flags_and_leaves_the_meter_out) {
    cgroup_host host({.v1 = true});
    for (const char* line : {"mkdir a", "write a cpuset.cpus 0-1", "write a cpuset.mems 0", "write a cpuset.cpu_exclusive 1"}) ASSERT_TRUE(host.perform(*parse_operation(line)).ok());
    const live_reading r = read_live(host).value();
    EXPECT_TRUE(r.what.v1);
    EXPECT_EQ(r.what.sets.at(1).files.at("cpuset.cpu_exclusive"), "1");
    EXPECT_EQ(r.what.sets.at(1).files.at("cgroup.clone_children"), "0");
    EXPECT_FALSE(r.what.sets.at(1).files.contains("cpuset.memory_pressure"));
}

TEST(read_live, leaves_out_and_counts_what_vanishes_meanwhile) {
    cgroup_host host;
    furnish(host);
    // b/c goes after its parent was listed; a thread ends between the list of threads and its status.
    host.on_list = [&, armed = true](const std::string& path) mutable {
        if (path.ends_with("/b") && std::exchange(armed, false)) host.perform(*parse_operation("rmdir b/c"));
    };
    const live_reading r = read_live(host).value();
    EXPECT_EQ(r.vanished_sets, 1u);
    EXPECT_EQ(r.what.sets.size(), 3u);
    host.disk.add_dir("/proc/300/task/300");
    EXPECT_EQ(read_live(host)->vanished_tasks, 1u);
    // The files of a set that is being removed answer ENODEV.
    host.on_open = [](const std::string& path) { return path.ends_with("/a/cpuset.cpus") ? ENODEV : 0; };
    const live_reading torn = read_live(host).value();
    EXPECT_TRUE(std::ranges::none_of(torn.what.sets, [](const set_snapshot& set) { return set.path == "a"; }));
    EXPECT_EQ(torn.vanished_sets, 1u);
    EXPECT_EQ(torn.unseen_tasks, 2u);
    host.on_open = [](const std::string& path) { return path.ends_with("/a/cpuset.mems") ? EACCES : 0; };
    EXPECT_THAT(read_live(host)->notes, ::testing::ElementsAre(HasSubstr("a/cpuset.mems: open: EACCES")));
    host.on_open = [](const std::string& path) { return path.ends_with("cgroup/cpuset.cpus.effective") ? ENODEV : 0; };
    EXPECT_EQ(read_live(host).error().code, ENODEV) << "without the top there is nothing to show";
}

TEST(read_live, kernel_threads_and_the_dead_are_not_tasks) {
    cgroup_host host;
    furnish(host);
    host.disk.add_file("/proc/100/stat", "100 (kworker) I 2 0 0 0 -1 69238880 0\n");
    host.disk.add_file("/proc/200/stat", "200 (x) Z 1 1 1 0 -1 4194304 0\n");
    EXPECT_TRUE(read_live(host)->what.tasks.empty());
}

TEST(read_live, a_top_that_is_somebodys_child_is_all_there_is) {
    cgroup_host host;
    for (const char* line : {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.mems 1", "controller a +cpuset", "mkdir a/b"}) ASSERT_TRUE(host.perform(*parse_operation(line)).ok());
    host.disk.add_file("/proc/self/mountinfo", "30 1 0:26 /a /sys/fs/cgroup/a rw - cgroup2 cgroup2 rw\n");
    const live_reading r = read_live(host).value();
    EXPECT_FALSE(r.place.whole);
    EXPECT_EQ(r.what.online.list(), "2-3");
    EXPECT_EQ(r.what.memory.list(), "1");
    EXPECT_FALSE(r.what.sets[0].files.contains("cpuset.cpus"));
    EXPECT_EQ(r.what.sets.at(1).path, "b");
    EXPECT_EQ(r.notes.size(), 1u);
}

TEST(read_live, takes_boot_isolation_from_the_command_line) {
    const auto isolated = [](const std::string& words) {
        cgroup_host host;
        host.disk.add_file("/proc/cmdline", words + "\n");
        return read_live(host, {.tasks = false})->what.boot_isolated.list();
    };
    EXPECT_EQ(isolated("quiet isolcpus=2-3 x=y"), "2-3");
    EXPECT_EQ(isolated("isolcpus=nohz,domain,4,99"), "4");
    EXPECT_EQ(isolated("isolcpus=managed_irq,nohz,1-3"), "");
    EXPECT_EQ(isolated("noisolcpus=1"), "");
}

}  // namespace
}  // namespace cohort::cpuset
