// SPDX-License-Identifier: Apache-2.0
/// No operation walks over all there is: with as many groups, memberships and members as may be, each stays under a millisecond (the median of many; some microseconds on an idle machine, printed).
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include <cohort/sharepool/broker/testing/fake_processes.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {
namespace {

using namespace testing;

/// The median of the CPU time of `act`, printed: others may have the CPU meanwhile.
template <class Act>
double median_us(const char* name, int times, Act act) {
    std::vector<double> all;
    for (int i = 0; i < times; ++i) {
        const std::uint64_t start = sys::thread_cpu_ns();
        act(i);
        all.push_back(static_cast<double>(sys::thread_cpu_ns() - start) / 1e3);
    }
    std::nth_element(all.begin(), all.begin() + times / 2, all.end());
    const double median = all[static_cast<std::size_t>(times / 2)];
    std::cout << name << ": " << median << " us\n";
    return median;
}

TEST(directory_scale, every_operation_stays_under_a_millisecond_at_the_caps) {
    fake_processes all;
    directory d({.window = test_window}, all.look());
    const auto start = [&](int pid) {
        all.start(pid);
        ASSERT_EQ(line(d.attach(all.who(pid))), "");
    };
    for (int i = 1; i < 50'000; ++i) ASSERT_TRUE(d.create(root, {.id = i, .bytes = 6 * mib})) << i;
    for (int i = 1; i < 50'000; i += 2) {  // holes, as many as can be
        if (i > 6'000) {
            ASSERT_TRUE(d.destroy(root, i, false));
        }
    }
    for (int i = 6'001; i < 50'000; i += 2) ASSERT_TRUE(d.create(root, {.id = i, .bytes = 2 * mib})) << i;
    start(10);
    for (int i = 1; i < 3'000; ++i) ASSERT_TRUE(join(d, root, {.pid = 10, .id = i}));
    for (int pid = 1'000; pid < 2'022; ++pid) {
        start(pid);
        ASSERT_TRUE(join(d, root, {.pid = pid, .id = 7}));
    }
    start(11);
    const std::uint64_t base = d.look_at(7)->range.base;
    for (std::uint64_t i = 0; i < 1'000; ++i) ASSERT_TRUE(d.import(all.as(10), 7, {.at = base + i * 4096, .bytes = 4096}));
    constexpr double most = 1'000;
    EXPECT_LT(median_us("join and leave a group of 1,023 members and 1,000 imports", 500,
                        [&](int) {
                            ASSERT_TRUE(d.unshare(all.as(10), 7, base, 4096));
                            ASSERT_TRUE(d.import(all.as(10), 7, {.at = base, .bytes = 4096}));
                            const auto t = d.begin_add(root, {.pid = 11, .id = 7}, nullptr);
                            ASSERT_TRUE(t && d.commit_add(*t));
                            d.exit(all.who(11));
                            ASSERT_TRUE(d.attach(all.who(11)));
                        }),
              most);
    EXPECT_LT(median_us("the 3,000th group of a process, joined and left", 500,
                        [&](int) {
                            ASSERT_TRUE(join(d, root, {.pid = 10, .id = 40'000}));
                            ASSERT_TRUE(d.remove(root, 10, 40'000, false));
                        }),
              most);
    EXPECT_LT(median_us("the 50,000th group, made and destroyed", 500,
                        [&](int) {
                            const auto g = d.create(root, {.bytes = 4 * mib});
                            ASSERT_TRUE(g && d.destroy(root, g->id, false));
                        }),
              most);
    EXPECT_LT(median_us("ids of a process in 2,999 groups", 500, [&](int) { ASSERT_EQ(d.ids_of(10)->size(), 2'999u); }), most);
    EXPECT_LT(median_us("find and drop", 500, [&](int i) { ASSERT_TRUE(d.find(i + 1)), d.drop(i + 1); }), most);
    const double end = median_us("the end of a process in 2,999 groups, of one member each", 1, [&](int) { d.exit(all.who(10)); });
    EXPECT_LT(end, 100 * most);  // one sample
    EXPECT_EQ(d.fault(), "");
}

}  // namespace
}  // namespace cohort::sharepool
