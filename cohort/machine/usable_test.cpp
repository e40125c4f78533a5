// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/usable.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include <cohort/machine/cgroup.hpp>
#include <cohort/machine/detail/cgroup.hpp>
#include <cohort/machine/testing/host.hpp>
#include <cohort/sys/failing.hpp>

namespace cohort::machine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* v2_mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* v1_mounts =
    "31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n";

/// Eight CPUs of a recorded machine.
struct host_of_8 : sys::recorded {
    host_of_8(const std::string& cgroup, const std::string& mounts) {
        testing::show(machine::load("synthetic:core:4 pu:2", *this).value(), *this);
        add_file(sys::paths::self_cgroup, cgroup);
        add_file(sys::paths::self_mountinfo, "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts);
    }
    usable_cpus ask() { return usable(*this).value(); }
};

const usable_cpus::part& part_of(const usable_cpus& u, const std::string& name) {
    return *std::find_if(u.parts.begin(), u.parts.end(), [&](const auto& p) { return p.name == name; });
}

TEST(usable, is_what_every_part_allows) {
    host_of_8 host("0::/web\n", v2_mount);
    host.add_file(sys::paths::cpu + "/online", "0-6\n");
    host.set_affinity(cpumask::range(2, 7));
    host.add_file("/sys/fs/cgroup/web/cpuset.cpus.effective", "0-4\n");
    const auto u = host.ask();
    EXPECT_EQ(u.cpus.list(), "2-4");
    EXPECT_EQ(u.max_workers, 3);
    EXPECT_TRUE(std::isinf(u.cpu_quota));
    EXPECT_EQ(part_of(u, "possible").value, "0-7");
    EXPECT_EQ(part_of(u, "online").value, "0-6");
    EXPECT_EQ(part_of(u, "affinity").value, "2-7");
    EXPECT_EQ(part_of(u, "cpuset"), (usable_cpus::part{"cpuset", true, "0-4", "/sys/fs/cgroup/web/cpuset.cpus.effective"}));
    EXPECT_EQ(part_of(u, "quota"), (usable_cpus::part{"quota", false, "no limit", "no cpu.max from /sys/fs/cgroup/web up"}));
}

TEST(usable, v2_group_without_the_controller_has_what_is_above) {
    host_of_8 host("0::/a/b/c\n", v2_mount);
    host.add_dir("/sys/fs/cgroup/a/b/c");
    host.add_file("/sys/fs/cgroup/a/cpuset.cpus.effective", "1,3\n");
    host.add_file("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n");
    EXPECT_EQ(host.ask().cpus.list(), "1,3");
}

TEST(usable, smallest_quota_on_the_way_up_wins) {
    host_of_8 host("0::/a/b/c\n", v2_mount);
    host.add_file("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    host.add_file("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    host.add_file("/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    auto u = host.ask();
    EXPECT_DOUBLE_EQ(u.cpu_quota, 1.5);
    EXPECT_EQ(u.max_workers, 2);
    EXPECT_EQ(part_of(u, "quota"), (usable_cpus::part{"quota", true, "1.5 CPUs", "/sys/fs/cgroup/a/b/cpu.max"}));
    host.add_file("/sys/fs/cgroup/a/b/cpu.max", "5000 100000\n");
    EXPECT_EQ(host.ask().max_workers, 1);
    host.add_file("/sys/fs/cgroup/a/b/cpu.max", "100000000 100000\n");
    EXPECT_EQ(host.ask().max_workers, 4);
    host.add_file("/sys/fs/cgroup/a/cpu.max", "max\n");
    EXPECT_EQ(host.ask().max_workers, 8) << "a quota of 1000 CPUs does not make workers";
    host.add_file("/sys/fs/cgroup/a/b/cpu.max", "banana\n");
    host.add_file("/sys/fs/cgroup/a/b/c/cpu.max", "0 0\n");
    u = host.ask();
    EXPECT_TRUE(std::isinf(u.cpu_quota)) << "what cannot be read does not limit";
}

TEST(usable, v1_cpuset_and_quota) {
    host_of_8 host("5:cpuset:/box\n4:cpu,cpuacct:/box/inner\n1:name=systemd:/\n", v1_mounts);
    host.add_file("/sys/fs/cgroup/cpuset/box/cpuset.effective_cpus", "4-7\n");
    host.add_file("/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us", "-1\n");
    host.add_file("/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us", "100000\n");
    host.add_file("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "250000\n");
    host.add_file("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    const auto u = host.ask();
    EXPECT_EQ(u.cpus.list(), "4-7");
    EXPECT_DOUBLE_EQ(u.cpu_quota, 2.5);
    EXPECT_EQ(u.max_workers, 3);
    EXPECT_EQ(part_of(u, "quota").from, "/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us");
}

TEST(usable, hybrid_reads_each_controller_where_it_lives) {
    // cpuset in v1; the unified hierarchy beside it has cpu.
    host_of_8 host("3:cpuset:/\n0::/user\n", std::string(v1_mounts) + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    host.add_file("/sys/fs/cgroup/cpuset/cpuset.cpus", "0-3\n");
    host.add_file("/sys/fs/cgroup/unified/user/cpu.max", "200000 100000\n");
    const auto u = host.ask();
    EXPECT_EQ(u.cpus.list(), "0-3");
    EXPECT_DOUBLE_EQ(u.cpu_quota, 2);
    EXPECT_EQ(part_of(u, "cpuset").from, "/sys/fs/cgroup/cpuset/cpuset.cpus");
}

TEST(usable, container_that_sees_only_its_part_of_the_tree) {
    host_of_8 host("0::/docker/abc/job\n", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    host.add_file("/sys/fs/cgroup/job/cpu.max", "100000 100000\n");
    EXPECT_EQ(host.ask().max_workers, 1);
}

TEST(usable, without_control_groups_tells_so) {
    sys::recorded host;
    host.set_affinity(cpumask{3, 5});
    const auto u = usable(host).value();
    EXPECT_EQ(u.cpus.list(), "3,5");
    EXPECT_EQ(u.max_workers, 2);
    EXPECT_EQ(part_of(u, "cpuset"), (usable_cpus::part{"cpuset", false, "3,5", "no control groups"}));
    EXPECT_EQ(part_of(u, "quota").from, "no control groups");
    EXPECT_EQ(part_of(u, "online").from, sys::paths::cpu + "/online is not there");
    host_of_8 unmounted("0::/x\n", "");
    EXPECT_EQ(part_of(unmounted.ask(), "cpuset").from, "cgroup2 is not mounted");
    EXPECT_EQ(part_of(unmounted.ask(), "quota").from, "cgroup2 is not mounted");
    host_of_8 v1("3:cpuset:/x\n2:cpu:/x\n", "");
    EXPECT_EQ(part_of(v1.ask(), "cpuset").from, "the v1 cpuset hierarchy is not mounted");
    EXPECT_EQ(part_of(v1.ask(), "quota").from, "the v1 cpu hierarchy is not mounted");
    host_of_8 bare("3:cpuset:/x\n2:cpu:/x\n", v1_mounts);
    EXPECT_EQ(part_of(bare.ask(), "quota").from, "no cpu.cfs_quota_us from /sys/fs/cgroup/cpu,cpuacct/x up");
    EXPECT_EQ(part_of(bare.ask(), "cpuset").from, "/sys/fs/cgroup/cpuset/x has no cpuset.effective_cpus");
}

TEST(usable, stale_cpuset_never_leaves_nothing) {
    host_of_8 host("0::/\n", v2_mount);
    host.set_affinity(cpumask{1});
    host.add_file("/sys/fs/cgroup/cpuset.cpus.effective", "4-7\n");
    const auto u = host.ask();
    EXPECT_EQ(u.cpus.list(), "1");
    EXPECT_THAT(part_of(u, "cpuset").from, HasSubstr("passed over"));
}

TEST(usable, errors) {
    host_of_8 host("0::/\n", v2_mount);
    sys::failing no_affinity(host, {.call = "sched_getaffinity", .nth = 1, .code = EPERM});
    EXPECT_EQ(usable(no_affinity).error().code, EPERM);
    host.add_file("/sys/fs/cgroup/cpuset.cpus.effective", "x\n");
    EXPECT_THAT(part_of(host.ask(), "cpuset").from, HasSubstr("EINVAL"));
    sys::failing unreadable(host, {.call = "open", .nth = 1, .code = EACCES, .times = -1});
    EXPECT_EQ(usable(unreadable)->cpus.list(), "0-7");
}

TEST(usable, of_this_process_is_its_affinity) {
    const auto u = usable(sys::real());
    ASSERT_TRUE(u) << u.error().line();
    EXPECT_EQ(u->cpus, sys::real().sched_getaffinity(0).value()) << "the kernel keeps affinity inside of the cpuset";
    EXPECT_GE(u->max_workers, 1);
    EXPECT_EQ(u->parts.size(), 5u);
}

TEST(usable, of_a_machine_that_is_not_there_is_all_that_is_online) {
    const auto u = usable_of(load("synthetic:core:64 pu:2", sys::real()).value());
    EXPECT_EQ(u.cpus.list(), "0-127");
    EXPECT_EQ(u.max_workers, 128);
}

TEST(cgroup, parses_paths_and_mounts_as_the_kernel_writes_them) {
    using detail::parse_hierarchies;
    const auto all = parse_hierarchies("12:cpu:/a:b/c d\nrubbish\n3::\n0::/../outside\n",
                                       "1 2 0:1 / /mnt/my\\040cgroups rw opt:1 opt:2 - cgroup x rw,cpu\nshort line\n5 6 0:2 / /u rw - cgroup2 x rw\n");
    ASSERT_EQ(all.size(), 2u);
    EXPECT_THAT(all[0].dirs, ElementsAre("/mnt/my cgroups/a:b/c d", "/mnt/my cgroups/a:b", "/mnt/my cgroups"));
    EXPECT_THAT(all[0].controllers, ElementsAre("cpu"));
    EXPECT_THAT(all[1].dirs, ElementsAre("/u"));
    EXPECT_EQ(detail::find_v1(all, "cpuset"), nullptr);
    EXPECT_EQ(detail::find_v2(all), &all[1]);
    EXPECT_THAT(parse_hierarchies("", ""), IsEmpty());
    const auto mounts = cgroup_mounts("1 2 0:1 / /a ro,nosuid - cgroup x rw,cpu\n1 2 0:1 / /b rw - cgroup2 x ro\n1 2 0:1 / /c rw - cgroup2 x rw,root\n");
    ASSERT_EQ(mounts.size(), 3u);
    EXPECT_TRUE(mounts[0].read_only && mounts[1].read_only && !mounts[2].read_only) << "of the mount or of the superblock";
    const auto lines = cgroup_lines("7:cpuset,cpu:/a\n1:name=x:/b:c\n0::/\n");
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_THAT(lines[0].controllers, ElementsAre("cpuset", "cpu"));
    EXPECT_EQ(lines[1].path, "/b:c");
    EXPECT_TRUE(!lines[1].v2 && lines[2].v2);
    EXPECT_THAT(parse_hierarchies("0::/elsewhere\n", "1 2 0:1 /docker/x /cg rw - cgroup2 x rw\n")[0].dirs, ElementsAre("/cg"));
}

}  // namespace
}  // namespace cohort::machine
