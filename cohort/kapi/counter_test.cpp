// SPDX-License-Identifier: Apache-2.0
// percpu_counter and percpu_ref by the kernel's names.
#include <cohort/kapi/percpu-refcount.h>
#include <cohort/kapi/percpu_counter.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <cohort/percpu/stats.hpp>

namespace {

void on_threads(int n, auto f) {
    std::vector<std::thread> threads;
    for (int i = 0; i < n; i++) threads.emplace_back([=] { f(i); });
    for (auto& t : threads) t.join();
}

std::int64_t live_objects() { return cohort::percpu::default_allocator().stats().nr_cur_alloc; }

TEST(kapi_percpu_counter, sums_are_exact_and_readings_near) {
    struct percpu_counter pages;
    ASSERT_EQ(percpu_counter_init(&pages, 1000, GFP_KERNEL), 0);
    on_threads(4, [&](int) {
        for (int i = 0; i < 10000; i++) {
            percpu_counter_add(&pages, 3);
            percpu_counter_sub(&pages, 1);
            percpu_counter_inc(&pages);
            percpu_counter_dec(&pages);
            percpu_counter_add_batch(&pages, 1, 4);
        }
    });
    const std::int64_t sum = 1000 + 4 * 10000 * 3;
    EXPECT_EQ(percpu_counter_sum(&pages), sum);
    EXPECT_EQ(percpu_counter_sum_positive(&pages), sum);
    EXPECT_LT(std::abs(percpu_counter_read(&pages) - sum), percpu_counter_batch * num_possible_cpus());
    EXPECT_LT(std::abs(percpu_counter_read_positive(&pages) - sum), percpu_counter_batch * num_possible_cpus());
    EXPECT_EQ(percpu_counter_compare(&pages, sum), 0);
    EXPECT_EQ(percpu_counter_compare(&pages, sum + 1), -1);
    EXPECT_EQ(__percpu_counter_compare(&pages, sum - 1, percpu_counter_batch), 1);
    EXPECT_EQ(percpu_counter_compare(&pages, 0), 1);
    percpu_counter_set(&pages, -5);
    EXPECT_EQ(percpu_counter_sum(&pages), -5);
    EXPECT_EQ(percpu_counter_sum_positive(&pages), 0);
    EXPECT_EQ(percpu_counter_read_positive(&pages), 0);
    percpu_counter_destroy(&pages);
}

TEST(kapi_percpu_counter, local_additions_are_seen_by_sums_and_after_sync) {
    struct percpu_counter c;
    ASSERT_EQ(percpu_counter_init(&c, 0, GFP_KERNEL), 0);
    percpu_counter_add_local(&c, 1 << 20);
    percpu_counter_sub_local(&c, 1 << 10);
    EXPECT_EQ(percpu_counter_read(&c), 0);
    EXPECT_EQ(percpu_counter_sum(&c), (1 << 20) - (1 << 10));
    // On the CPU where it was added, unless this thread was moved in between.
    for (int tries = 0; tries < 1000 && percpu_counter_read(&c) == 0; tries++) percpu_counter_sync(&c);
    EXPECT_NE(percpu_counter_read(&c), 0);
    percpu_counter_destroy(&c);
}

TEST(kapi_percpu_counter, limited_add_never_passes_its_limit) {
    struct percpu_counter c;
    ASSERT_EQ(percpu_counter_init(&c, 0, GFP_KERNEL), 0);
    EXPECT_FALSE(percpu_counter_limited_add(&c, 10, 11));
    EXPECT_TRUE(percpu_counter_limited_add(&c, 10, 10));
    EXPECT_FALSE(percpu_counter_limited_add(&c, 10, 1));
    EXPECT_TRUE(percpu_counter_limited_add(&c, 10, 0));
    EXPECT_FALSE(percpu_counter_limited_add(&c, 0, -11));
    EXPECT_TRUE(percpu_counter_limited_add(&c, 0, -10));
    EXPECT_EQ(percpu_counter_sum(&c), 0);
    percpu_counter_destroy(&c);
}

TEST(kapi_percpu_counter, many_are_one_allocation_and_count_apart) {
    struct percpu_counter c[3];
    const auto before = live_objects();
    ASSERT_EQ(percpu_counter_init_many(c, 7, GFP_KERNEL, 3), 0);
    EXPECT_EQ(live_objects(), before + 1);
    for (int i = 0; i < 3; i++) percpu_counter_add(&c[i], i);
    for (int i = 0; i < 3; i++) EXPECT_EQ(percpu_counter_sum(&c[i]), 7 + i);
    percpu_counter_destroy_many(c, 3);
    EXPECT_EQ(live_objects(), before);
    EXPECT_EQ(percpu_counter_init_many(c, 0, GFP_KERNEL | __GFP_NOWARN, 0), -ENOMEM);
}

TEST(kapi_percpu_counter, one_that_was_only_zeroed_may_be_destroyed) {
    struct percpu_counter c;
    std::memset(static_cast<void*>(&c), 0, sizeof c);
    EXPECT_FALSE(percpu_counter_initialized(&c));
    percpu_counter_destroy(&c);
    ASSERT_EQ(percpu_counter_init(&c, 0, GFP_ATOMIC), 0);
    EXPECT_TRUE(percpu_counter_initialized(&c));
    percpu_counter_destroy(&c);
    EXPECT_FALSE(percpu_counter_initialized(&c));
    percpu_counter_destroy(&c);
}

// --- percpu-refcount.h ---------------------------------------------------------------------------------------------------------------------------

struct request_queue {
    int number;
    struct percpu_ref users;
};
int released, confirmed;

void queue_release(struct percpu_ref* ref) {
    released++;
    EXPECT_TRUE(percpu_ref_is_zero(ref));
}
void queue_free(struct percpu_ref* ref) {
    released++;
    percpu_ref_exit(ref);
    std::free(reinterpret_cast<char*>(ref) - offsetof(struct request_queue, users));
}
void note(struct percpu_ref*) { confirmed++; }

TEST(kapi_percpu_ref, the_last_put_after_kill_releases_and_may_free_the_holder) {
    released = 0;
    const auto before = live_objects();
    auto* q = static_cast<struct request_queue*>(std::calloc(1, sizeof(struct request_queue)));
    ASSERT_EQ(percpu_ref_init(&q->users, queue_free, 0, GFP_KERNEL), 0);
    percpu_ref_get(&q->users);
    on_threads(4, [&](int) {
        for (int i = 0; i < 10000; i++) {
            ASSERT_TRUE(percpu_ref_tryget_live(&q->users));
            percpu_ref_get_many(&q->users, 3);
            percpu_ref_put(&q->users);
            percpu_ref_put_many(&q->users, 3);
        }
    });
    EXPECT_FALSE(percpu_ref_is_dying(&q->users));
    percpu_ref_kill(&q->users);
    EXPECT_TRUE(percpu_ref_is_dying(&q->users));
    EXPECT_FALSE(percpu_ref_is_zero(&q->users));
    EXPECT_FALSE(percpu_ref_tryget_live(&q->users));
    ASSERT_TRUE(percpu_ref_tryget(&q->users));
    percpu_ref_put(&q->users);
    EXPECT_EQ(released, 0);
    percpu_ref_put(&q->users);
    EXPECT_EQ(released, 1);
    EXPECT_EQ(live_objects(), before);
}

TEST(kapi_percpu_ref, lives_again_by_reinit_and_resurrect) {
    released = confirmed = 0;
    struct percpu_ref ref;
    ASSERT_EQ(percpu_ref_init(&ref, queue_release, PERCPU_REF_ALLOW_REINIT, GFP_KERNEL), 0);
    percpu_ref_kill_and_confirm(&ref, note);
    EXPECT_EQ(confirmed, 1);
    EXPECT_EQ(released, 1);
    EXPECT_FALSE(percpu_ref_tryget_many(&ref, 2));
    percpu_ref_reinit(&ref);
    EXPECT_FALSE(percpu_ref_is_dying(&ref));
    ASSERT_TRUE(percpu_ref_tryget_many(&ref, 2));
    percpu_ref_kill(&ref);
    percpu_ref_resurrect(&ref);
    EXPECT_TRUE(percpu_ref_tryget_live(&ref));
    percpu_ref_put_many(&ref, 3);
    EXPECT_EQ(released, 1) << "the owner's reference is left";
    percpu_ref_kill(&ref);
    EXPECT_EQ(released, 2);
    percpu_ref_exit(&ref);
}

TEST(kapi_percpu_ref, starts_atomic_or_dead_and_changes_its_mode) {
    released = confirmed = 0;
    struct percpu_ref ref;
    ASSERT_EQ(percpu_ref_init(&ref, queue_release, PERCPU_REF_INIT_ATOMIC, GFP_KERNEL), 0);
    EXPECT_FALSE(ref.ref.get().is_percpu());
    percpu_ref_switch_to_percpu(&ref);
    percpu_ref_get(&ref);
    percpu_ref_switch_to_atomic_sync(&ref);
    EXPECT_FALSE(ref.ref.get().is_percpu());
    percpu_ref_switch_to_percpu(&ref);
    percpu_ref_switch_to_atomic(&ref, note);
    EXPECT_EQ(confirmed, 1);
    percpu_ref_put(&ref);
    percpu_ref_kill(&ref);
    EXPECT_EQ(released, 1);
    percpu_ref_exit(&ref);
    percpu_ref_exit(&ref);
    ASSERT_EQ(percpu_ref_init(&ref, queue_release, PERCPU_REF_INIT_DEAD, GFP_KERNEL), 0);
    EXPECT_TRUE(percpu_ref_is_dying(&ref));
    EXPECT_TRUE(percpu_ref_is_zero(&ref));
    EXPECT_FALSE(percpu_ref_tryget(&ref));
    percpu_ref_exit(&ref);
    EXPECT_EQ(released, 1);
}

}  // namespace
