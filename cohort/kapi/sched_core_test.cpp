// SPDX-License-Identifier: Apache-2.0
#include <cohort/kapi/sched_core.h>

#include <gtest/gtest.h>

#include <cohort/coresched/process_table.hpp>
#include <cohort/sys/os.hpp>

namespace {

using namespace cohort;
using namespace cohort::coresched;

class kapi_sched_core : public ::testing::Test {
protected:
    ~kapi_sched_core() override { sched_core_use(nullptr); }
    unsigned long long value = ~0ull;
    const unsigned long address = reinterpret_cast<unsigned long>(&value);
    cookie_table cookies;
    process_table table{cookies};
    const int a = table.start({.uid = 7}), a2 = table.clone(a), b = table.start({.group = a, .uid = 7}), other = table.start({.uid = 8});
    table_verbs carrier{table, a, "table"};
};

// The sequence of the kernel's own self-test (tools/testing/selftests/sched/cs_prctl_test.c), in its terms.
TEST_F(kapi_sched_core, the_kernels_self_test_runs) {
    sched_core_use(&carrier);
    const auto get = [&](int pid) {
        EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_GET, pid, PR_SCHED_CORE_SCOPE_THREAD, address), 0);
        return value;
    };
    for (int pid : {a, a2, b}) EXPECT_EQ(get(pid), 0u);
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0), 0);
    EXPECT_NE(get(0), 0u);
    EXPECT_EQ(get(a2), get(0));
    EXPECT_EQ(get(b), get(0));
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_CREATE, b, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0), 0);
    EXPECT_NE(get(b), get(0));
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_SHARE_TO, b, PR_SCHED_CORE_SCOPE_THREAD, 0), 0);
    EXPECT_EQ(get(b), get(0));
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_CREATE, a2, PR_SCHED_CORE_SCOPE_THREAD, 0), 0);
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_SHARE_FROM, a2, PR_SCHED_CORE_SCOPE_THREAD, 0), 0);
    EXPECT_EQ(get(0), get(a2));
    EXPECT_NE(get(0), get(b));
}

TEST_F(kapi_sched_core, errors_come_in_the_kernels_order) {
    sched_core_use(&carrier);
    constexpr int thread = PR_SCHED_CORE_SCOPE_THREAD, process = PR_SCHED_CORE_SCOPE_THREAD_GROUP;
    struct row {
        unsigned cmd;
        int pid, type;
        unsigned long uaddr;
        int answer;
    };
    for (const row& r : {row{PR_SCHED_CORE_GET, 9'999, 3, address, -EINVAL}, row{PR_SCHED_CORE_GET, 9'999, -1, address, -EINVAL}, row{PR_SCHED_CORE_MAX, 9'999, thread, 0, -EINVAL},
                         row{PR_SCHED_CORE_CREATE, -1, thread, 0, -EINVAL}, row{PR_SCHED_CORE_SHARE_TO, a, thread, 1, -EINVAL}, row{PR_SCHED_CORE_GET, 9'999, process, address, -ESRCH},
                         row{PR_SCHED_CORE_GET, other, process, address, -EPERM}, row{PR_SCHED_CORE_GET, a, process, address, -EINVAL}, row{PR_SCHED_CORE_GET, a, thread, address + 4, -EINVAL},
                         row{PR_SCHED_CORE_GET, a, thread, 0, -EFAULT}, row{PR_SCHED_CORE_SHARE_FROM, 9'999, process, 0, -ESRCH}, row{PR_SCHED_CORE_SHARE_FROM, b, process, 0, -EINVAL},
                         row{PR_SCHED_CORE_CREATE, other, thread, 0, -EPERM}, row{PR_SCHED_CORE_SHARE_TO, 9'999, thread, 0, -ESRCH}}) {
        EXPECT_EQ(sched_core_share_pid(r.cmd, r.pid, r.type, r.uaddr), r.answer) << r.cmd << " " << r.pid << " " << r.type << " " << r.uaddr;
    }
    table.smt = false;
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_MAX, -1, 99, 1), -ENODEV);
    table.built_in = false;
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_GET, a, thread, address), -EINVAL);
    EXPECT_FALSE(cookies.enabled());
}

TEST_F(kapi_sched_core, without_a_carrier_the_running_kernel_answers) {
    sched_core_use(&carrier);
    sched_core_use(nullptr);
    const auto kernel = sys::real().sched_core(sys::core_command::get, 0, 0);
    EXPECT_EQ(sched_core_share_pid(PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, address), kernel ? 0 : -kernel.error().code);
}

}  // namespace
