// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

class recovery : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(recovery);

/// The victim keeps the first block of each superblock: each goes back in the middle of the sweep over it.
TEST_P(recovery, leaves_no_pages_of_superblocks_that_go_back_by_it) {
    const group g = make(256 << 20);
    member m = testing::join(g);
    const std::uint64_t idle = m.count().metadata_bytes;
    testing::shared<std::atomic<std::uint64_t>> kept;
    testing::child victim(g, [&](member& v) {
        std::vector<void*> all(200'000);
        for (void*& p : all) p = v.alloc(64);
        std::uint64_t n = 0;
        for (void* p : all) {
            const bool first = (reinterpret_cast<std::uintptr_t>(p) & 0xffff) == 0;
            first ? void(++n) : v.free(p);
        }
        *kept = n;
        for (;;) ::pause();
    });
    while (*kept == 0) std::this_thread::yield();
    victim.kill();
    victim.wait();
    EXPECT_GE(m.recover_dead().blocks_freed, *kept);
    m.trim();
    const census n = m.count();
    EXPECT_EQ(n.superblocks, 0u);
    EXPECT_EQ(n.bytes, 0u);
    EXPECT_LT(n.metadata_bytes, idle + (256u << 10));
}

}  // namespace
}  // namespace cohort::sharepool
