// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cohort/coresched/detail/books.hpp>

namespace cohort::coresched::detail {
namespace {

TEST(overlap, is_what_unequal_cookies_have_in_common) {
    overlap_detector d;
    const auto a = d.begin(1, 100), b = d.begin(2, 140), c = d.begin(1, 120);
    EXPECT_EQ(d.total(145).ns, 10u) << "b with a, and with c, so far";
    d.end(a, 150);
    d.end(c, 160);
    EXPECT_EQ(d.total(160).ns, 30u);
    d.end(b, 200);
    EXPECT_EQ(d.total(300).ns, 10u + 20u);
    EXPECT_EQ(d.total(300).stretches, 3u);
    EXPECT_EQ(d.kept(), 0u);
}

TEST(overlap, is_none_where_stretches_touch_or_cookies_are_equal) {
    overlap_detector d;
    const auto a = d.begin(1, 100);
    d.end(a, 150);
    const auto b = d.begin(2, 150), c = d.begin(2, 150);
    d.end(b, 170);
    EXPECT_EQ(d.kept(), 1u) << "c began before b ended";
    d.end(c, 180);
    EXPECT_EQ(d.total(200).ns, 0u);
}

TEST(books, forced_idle_time_is_charged_to_who_runs_and_sums_up) {
    books b(2);
    b.know_tenants(2);
    const auto a = b.begin(0, 7, 0, 1'000, false);
    b.waits(1, 9, 1'400);
    const auto& s = b.ledger(2'000);
    EXPECT_EQ(s.tasks[0].runtime, 1'000u);
    EXPECT_EQ(s.tasks[0].forced_idle, 600u);
    EXPECT_EQ(s.cpus[1].figures.forced_idle_ns, 600u);
    EXPECT_EQ(s.cpus[1].figures.idle_ns, 1'000u);
    EXPECT_EQ(s.forced_by.at({7, 9}), 600u);
    b.end(a, 2'100);
    b.comes(1, 9, 2'100);
    EXPECT_EQ(b.changing_ns(), 0u);
    const auto n = b.begin(1, 9, 1, 2'130, true);
    EXPECT_EQ(b.changing_ns(), 30u);
    EXPECT_EQ(b.longest_wait_ns(), 730u);
    EXPECT_EQ(b.turns(), 1u);
    EXPECT_EQ(b.changes().total(), 1u);
    EXPECT_EQ(b.changes().percentile(50), 30u);
    b.end(n, 2'230);
    EXPECT_EQ(b.ledger(9'000).tasks[0].forced_idle, 700u);
    EXPECT_EQ(b.ledger(9'000).cpus[1].figures.forced_idle_ns, 700u) << "nobody ran while they changed: nobody is charged, nothing was forced";
    EXPECT_EQ(b.ledger(9'000).tasks[1].runtime, 100u);
    EXPECT_EQ(b.overlap(9'000).ns, 0u);
    b.end(b.begin(0, 7, 0, 9'500, false), 9'600);
    EXPECT_EQ(b.turns(), 2u);
    EXPECT_EQ(b.changes().total(), 1u) << "nobody waited for that one";
}

TEST(books, two_tasks_of_a_cpu_count_it_once) {
    books b(2);
    b.know_tenants(2);
    const auto x = b.begin(0, 7, 0, 100, false), y = b.begin(0, 7, 1, 100, false), wide = b.begin(-1, 7, 1, 100, false);
    b.end(x, 200);
    EXPECT_EQ(b.ledger(300).cpus[0].figures.busy_ns, 200u);
    EXPECT_EQ(b.ledger(300).tasks[0].runtime, 100u);
    EXPECT_EQ(b.ledger(300).tasks[1].runtime, 100u);
    b.end(y, 300);
    b.end(wide, 400);
    EXPECT_EQ(b.ledger(400).cpus[0].figures.busy_ns, 200u);
}

}  // namespace
}  // namespace cohort::coresched::detail
