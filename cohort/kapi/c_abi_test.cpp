// SPDX-License-Identifier: Apache-2.0
// Runs the claims of c_abi_test.c, which is compiled as C11 with every warning an error.
#include <gtest/gtest.h>

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
CLAIM(without_threads_poll_runs_the_jobs)
CLAIM(cancelled_jobs_are_delivered_with_ecanceled)
CLAIM(multithreaded_jobs_cover_the_range_or_undo_it)
CLAIM(percpu_objects_are_counted_exactly_whatever_their_alignment)
CLAIM(percpu_refuses_by_negative_errno)
CLAIM(counters_sum_exactly_and_keep_to_limits)
CLAIM(rwsem_keeps_writers_from_readers)
CLAIM(the_library_is_of_the_header_s_version)
