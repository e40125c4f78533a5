// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/doctor.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/detail/examine.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::group {
namespace {

using enum finding::form;
using testing::HasSubstr;

/// A kernel that has everything.
sys::kernel_probe full() {
    sys::kernel_probe k;
    k.release = "6.12.0";
    k.c_library = "glibc 2.41";
    k.architecture = "x86_64";
    k.rseq = {true, 32, 0, 28};
    k.membarrier = {0, 0x3ff};
    k.address_bits = 47;
    k.page_bytes = 4096;
    k.limits = {{"RLIMIT_NOFILE", 4096, 4096}, {"RLIMIT_AS", ~0ull, ~0ull}};
    return k;
}

void add_cpus(sys::recorded& os, const std::string& smt) {
    const std::string dir = "/sys/devices/system/cpu";
    for (const char* f : {"/possible", "/present", "/online"}) os.add_file(dir + f, "0-1\n");
    for (int cpu = 0; cpu < 2; ++cpu) {
        const std::string at = dir + "/cpu" + std::to_string(cpu) + "/topology/";
        os.add_file(at + "physical_package_id", "0\n");
        os.add_file(at + "core_id", smt == "1" ? "0\n" : std::to_string(cpu) + "\n");
        os.add_file(at + "thread_siblings_list", smt == "1" ? "0-1\n" : std::to_string(cpu) + "\n");
        os.add_file(at + "core_cpus_list", smt == "1" ? "0-1\n" : std::to_string(cpu) + "\n");
    }
    os.add_file(dir + "/smt/active", smt + "\n");
    os.add_file(dir + "/smt/control", smt == "1" ? "on\n" : "notsupported\n");
    os.set_affinity({0, 1});
}

/// A machine with cgroup v2 whose own group is /user/me.
void add_cgroup2(sys::recorded& os, const std::string& controllers) {
    os.add_file("/proc/self/mountinfo", "25 1 0:22 / /sys rw - sysfs sysfs rw\n30 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
    os.add_file("/proc/self/cgroup", "0::/user/me\n");
    os.add_file("/sys/fs/cgroup/user/me/cgroup.controllers", controllers + "\n");
    os.add_file("/sys/fs/cgroup/user/me/cgroup.procs", "");
    os.add_file("/sys/fs/cgroup/user/me/cgroup.subtree_control", "");
}

const finding& the(const diagnosis& d, const std::string& room, const std::string& name) {
    for (const finding& f : d.findings) {
        if (f.room == room && f.name == name) return f;
    }
    static const finding none;
    ADD_FAILURE() << "no finding " << room << "/" << name;
    return none;
}

TEST(doctor, a_machine_with_everything_is_ready_in_every_room) {
    sys::recorded os;
    add_cpus(os, "1");
    add_cgroup2(os, "cpuset cpu memory");
    const diagnosis d = examine(full(), os);
    for (const std::string& room : d.rooms()) EXPECT_TRUE(d.offers(room)) << room << "\n" << doctor_text(d);
    EXPECT_EQ(the(d, "coresched", "SMT").value, "2 CPUs a core");
    EXPECT_EQ(the(d, "cpuset", "partitions").value, "root, isolated, remote");
    EXPECT_EQ(the(d, "cpuset", "controller").value, "cpuset, in /sys/fs/cgroup/user/me");
}

TEST(doctor, core_scheduling_errnos_are_told_apart) {
    sys::recorded os;
    add_cpus(os, "0");
    sys::kernel_probe k = full();
    k.core_sched = {EINVAL, 0};
    diagnosis d = examine(k, os);
    EXPECT_EQ(the(d, "coresched", "core scheduling").reason, "EINVAL: CONFIG_SCHED_CORE is not set in kernel 6.12.0");
    EXPECT_FALSE(d.offers("coresched"));
    EXPECT_EQ(the(d, "coresched", "SMT").reason, "smt/control says \"notsupported\"");
    k.core_sched = {ENODEV, 0};
    EXPECT_THAT(the(examine(k, os), "coresched", "core scheduling").reason, HasSubstr("no core has two CPUs online"));
    k.core_sched = {EPERM, 0};
    EXPECT_THAT(the(examine(k, os), "coresched", "core scheduling").reason, HasSubstr("seccomp"));
    k.core_sched = {0, 42};
    EXPECT_EQ(the(examine(k, os), "coresched", "core scheduling").value, "this thread has a cookie");
}

TEST(doctor, the_kernels_own_configuration_is_quoted_when_it_is_there) {
    sys::recorded os;
    add_cpus(os, "1");
    os.add_file("/boot/config-6.12.0", "CONFIG_SMP=y\n# CONFIG_SCHED_CORE is not set\nCONFIG_NUMA=y\n");
    sys::kernel_probe k = full();
    k.core_sched = {EINVAL, 0};
    EXPECT_THAT(the(examine(k, os), "coresched", "core scheduling").reason, HasSubstr("CONFIG_SCHED_CORE=n"));
    EXPECT_EQ(detail::kernel_config(os, "6.12.0", "NUMA"), "y");
    EXPECT_EQ(detail::kernel_config(os, "6.12.0", "SM"), "n");
    EXPECT_EQ(detail::kernel_config(os, "9.9", "NUMA"), "");
}

TEST(doctor, without_rseq_only_the_fallback_of_percpu_is_left) {
    sys::recorded os;
    add_cpus(os, "1");
    sys::kernel_probe k = full();
    k.rseq = {};
    diagnosis d = examine(k, os);
    EXPECT_FALSE(d.offers("percpu"));
    EXPECT_THAT(the(d, "percpu", "rseq").reason, HasSubstr("GLIBC_TUNABLES"));
    EXPECT_EQ(the(d, "percpu", "mm_cid").reason, "rseq is not registered");
    k.rseq = {true, 20, 1, 0};
    EXPECT_THAT(the(examine(k, os), "percpu", "mm_cid").reason, HasSubstr("older than 6.3"));
    k.rseq.feature_size = 28;
    EXPECT_EQ(the(examine(k, os), "percpu", "mm_cid").state, there);
    k.membarrier = {0, 1 | 8};
    EXPECT_EQ(the(examine(k, os), "percpu", "membarrier").state, limited);
    k.membarrier = {ENOSYS, 0};
    EXPECT_THAT(the(examine(k, os), "percpu", "membarrier").reason, HasSubstr("CONFIG_MEMBARRIER"));
}

TEST(doctor, a_cpuset_controller_that_is_not_handed_down_names_the_file_that_says_so) {
    sys::recorded os;
    add_cpus(os, "1");
    add_cgroup2(os, "cpu memory");
    const diagnosis d = examine(full(), os);
    EXPECT_FALSE(d.offers("cpuset"));
    EXPECT_EQ(the(d, "cpuset", "controller").reason, "cgroup.controllers of /sys/fs/cgroup/user/me is \"cpu memory\": the parent does not hand cpuset down");
}

TEST(doctor, a_group_that_cannot_be_written_is_not_delegated) {
    sys::recorded os;
    add_cpus(os, "1");
    add_cgroup2(os, "cpuset");
    os.set_read_only("/sys/fs/cgroup/user/me/cgroup.subtree_control");
    const diagnosis d = examine(full(), os);
    EXPECT_EQ(the(d, "cpuset", "delegation").state, missing);
    EXPECT_THAT(the(d, "cpuset", "delegation").reason, testing::AllOf(HasSubstr("cgroup.subtree_control"), HasSubstr("EACCES")));
    EXPECT_THAT(the(d, "cpuset", "delegation").instead, HasSubstr("Delegate=yes"));
    EXPECT_TRUE(os.writes().empty());  // asking writes nothing
}

TEST(doctor, cpuset_lives_in_version_1_when_it_is_mounted_there) {
    sys::recorded os;
    add_cpus(os, "1");
    add_cgroup2(os, "memory");
    os.add_file("/proc/self/mountinfo", "30 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n31 25 0:28 / /sys/fs/cgroup/my\\040cpus rw - cgroup cgroup rw,cpuset\n");
    os.add_file("/proc/self/cgroup", "5:cpuset:/box\n0::/user/me\n");
    os.add_file("/sys/fs/cgroup/my cpus/box/cpuset.cpus", "0-1\n");
    const diagnosis d = examine(full(), os);
    EXPECT_THAT(the(d, "cpuset", "cgroups").value, HasSubstr("hybrid"));
    EXPECT_EQ(the(d, "cpuset", "controller").value, "cpuset (v1), in /sys/fs/cgroup/my cpus/box");
    EXPECT_EQ(the(d, "cpuset", "delegation").state, there);
}

TEST(doctor, without_any_cgroup_mount_it_says_whether_the_kernel_could) {
    sys::recorded os;
    add_cpus(os, "1");
    os.add_file("/proc/self/mountinfo", "");
    EXPECT_EQ(the(examine(full(), os), "cpuset", "cgroups").reason, "the kernel has no cgroup file system");
    os.add_file("/proc/filesystems", "nodev\tcgroup2\n");
    EXPECT_THAT(the(examine(full(), os), "cpuset", "cgroups").reason, HasSubstr("(the kernel has them)"));
}

TEST(doctor, memory_limits_are_named) {
    sys::recorded os;
    add_cpus(os, "1");
    os.add_file("/proc/sys/vm/overcommit_memory", "2\n");
    os.add_file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    os.add_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n");
    os.add_file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    sys::kernel_probe k = full();
    k.reserve = {ENOMEM, 0};
    k.memfd_huge = {ENOMEM, 0};
    k.limits = {{"RLIMIT_AS", 1 << 30, ~0ull}};
    const diagnosis d = examine(k, os);
    EXPECT_FALSE(d.offers("sharepool"));
    EXPECT_EQ(the(d, "sharepool", "overcommit").state, limited);
    EXPECT_EQ(the(d, "sharepool", "THP").state, limited);
    EXPECT_EQ(the(d, "sharepool", "huge pages").value, "2.00 MiB: 0 of 8 free");
    EXPECT_EQ(the(d, "sharepool", "RLIMIT_AS").value, "1.00 GiB (hard unlimited)");
    EXPECT_EQ(the(d, "sharepool", "RLIMIT_AS").state, limited);
}

TEST(doctor, an_empty_machine_still_gets_an_answer) {
    sys::recorded os;
    const diagnosis d = examine({}, os);
    EXPECT_FALSE(doctor_text(d).empty());
    EXPECT_TRUE(nlohmann::json::accept(doctor_json(d)));
}

TEST(doctor, every_missing_thing_has_a_reason_here_too) {
    const diagnosis d = examine(sys::probe_kernel(), sys::real());
    for (const finding& f : d.findings) {
        EXPECT_FALSE((f.state == there ? f.value : f.reason).empty()) << f.room << "/" << f.name;
    }
    const auto j = nlohmann::json::parse(doctor_json(d));
    EXPECT_EQ(j["schema_version"], 1);
    EXPECT_EQ(j["findings"].size(), d.findings.size());
}

TEST(doctor, kernel_versions_are_compared_as_numbers) {
    EXPECT_TRUE(detail::at_least("6.12.3-amd64", 6, 7));
    EXPECT_FALSE(detail::at_least("6.1.0-13-amd64", 6, 7));
    EXPECT_TRUE(detail::at_least("10.0", 6, 7));
    EXPECT_FALSE(detail::at_least("five", 1, 0));
    EXPECT_FALSE(detail::at_least("", 1, 0));
}

}  // namespace
}  // namespace cohort::group
