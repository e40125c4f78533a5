// SPDX-License-Identifier: Apache-2.0
// Runs the claims of c_abi_test.c, which is compiled as C11 with every warning an error.
#include <gtest/gtest.h>
#include <sched.h>

#include <string>

#include <cohort.h>

#define CLAIM(name)                                                                        \
    extern "C" int c_##name(void);                                                         \
    TEST(c_abi, name) {                                                                    \
        const int line = c_##name();                                                       \
        EXPECT_EQ(line, 0) << "c_abi_test.c:" << line << ": the claim does not hold there"; \
    }

CLAIM(delivers_in_submit_order)
CLAIM(jobs_may_be_finished_later_from_another_thread)
CLAIM(errors_are_negative_errnos_with_a_sentence)
CLAIM(masks_change_by_list_and_a_bad_one_leaves_the_old)
CLAIM(user_masks_keep_what_was_asked_for)
CLAIM(a_control_directory_goes_with_its_handle)
CLAIM(without_threads_poll_runs_the_jobs)
CLAIM(cancelled_jobs_are_delivered_with_ecanceled)
CLAIM(multithreaded_jobs_cover_the_range_or_undo_it)
CLAIM(percpu_objects_are_counted_exactly_whatever_their_alignment)
CLAIM(percpu_refuses_by_negative_errno)
CLAIM(counters_sum_exactly_and_keep_to_limits)
CLAIM(rwsem_keeps_writers_from_readers)
CLAIM(a_model_of_cpusets_answers_as_the_kernel)
CLAIM(tenants_of_an_executor_never_share_a_core)
CLAIM(the_kernels_core_scheduling_is_there_or_says_why_not)
CLAIM(the_library_is_of_the_header_s_version)

/// An instance may use the CPUs that its creator could: one of two. A mask of the other one stops it.
TEST(c_abi, a_stopped_instance_says_why) {
    cpu_set_t all, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "needs two CPUs";
    int first = 0, second;
    while (!CPU_ISSET(first, &all)) ++first;
    for (second = first + 1; !CPU_ISSET(second, &all);) ++second;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    cohort_padata* pool = nullptr;
    EXPECT_EQ(cohort_padata_alloc(nullptr, &pool), 0) << cohort_last_error();
    ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    ASSERT_TRUE(pool);
    char why[200];
    EXPECT_EQ(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, std::to_string(second).c_str()), 0) << cohort_last_error();
    EXPECT_EQ(cohort_padata_stopped(pool, why, sizeof why), 1);
    EXPECT_TRUE(std::string(why).starts_with("no CPU of the parallel mask " + std::to_string(second) + " is ")) << why;
    EXPECT_EQ(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, std::to_string(first).c_str()), 0) << cohort_last_error();
    EXPECT_EQ(cohort_padata_stopped(pool, why, sizeof why), 0);
    EXPECT_STREQ(why, "");
    cohort_padata_free(pool);
}
