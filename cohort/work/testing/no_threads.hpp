// SPDX-License-Identifier: Apache-2.0
/// For tests of what happens when no thread can be started.
///
///     {
///         work::testing::no_threads none;
///         EXPECT_EQ(make_worker().error().code, EAGAIN);
///     }
///
/// The default stack is made larger than the address space meanwhile, so that pthread_create(3) answers EAGAIN, as it does at RLIMIT_NPROC.
#pragma once

#include <pthread.h>

#include <cstdint>

#include <cohort/base/check.hpp>

namespace cohort::work::testing {

class no_threads {
public:
    no_threads() {
        COHORT_CHECK(pthread_getattr_default_np(&before_) == 0, "the default of threads cannot be read");
        pthread_attr_t huge = before_;
        COHORT_CHECK(pthread_attr_setstacksize(&huge, std::size_t{1} << 47) == 0 && pthread_setattr_default_np(&huge) == 0, "the default of threads cannot be set");
    }
    ~no_threads() {
        pthread_setattr_default_np(&before_);
        pthread_attr_destroy(&before_);
    }
    no_threads(const no_threads&) = delete;
    no_threads& operator=(const no_threads&) = delete;

private:
    pthread_attr_t before_;
};

}  // namespace cohort::work::testing
