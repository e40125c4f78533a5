// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/probe.hpp>

#include <cerrno>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cohort/sys/os.hpp>

namespace cohort::sys {
namespace {

TEST(probe, tells_what_the_running_kernel_says_elsewhere) {
    const kernel_probe k = probe_kernel();
    EXPECT_FALSE(k.release.empty());
    EXPECT_EQ(k.page_bytes, static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
    EXPECT_EQ(k.limits.size(), 5u);
    EXPECT_GE(k.address_bits, 38u);
    // Each answer is either good or a reason.
    for (const answer* a : {&k.membarrier, &k.core_sched, &k.memfd, &k.memfd_seal, &k.memfd_huge, &k.get_mempolicy, &k.pidfd, &k.reserve}) EXPECT_GE(a->code, 0);
    EXPECT_EQ(k.rseq.registered, k.rseq.size > 0 && k.rseq.cpu_id >= 0);
    const int fd = ::memfd_create("again", MFD_CLOEXEC);
    EXPECT_EQ(k.memfd.ok(), fd >= 0);
    if (fd >= 0) ::close(fd);
}

TEST(probe, leaves_no_descriptor_open) {
    const auto count = [] { return real().list_dir("/proc/self/fd").value().size(); };
    (void)probe_kernel();
    const auto before = count();
    for (int i = 0; i < 5; ++i) (void)probe_kernel();
    EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace cohort::sys
