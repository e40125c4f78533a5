// SPDX-License-Identifier: Apache-2.0
/// Memory that runs out, for the test program of this room.
///
///     { const testing::allocation_failure none_left(3); r = act(); }   // the calling thread's fourth `new` and all after it throw bad_alloc
#pragma once

namespace cohort::padata::testing {

struct allocation_failure {
    explicit allocation_failure(int after);
    ~allocation_failure();
    allocation_failure(const allocation_failure&) = delete;
    allocation_failure& operator=(const allocation_failure&) = delete;
};

}  // namespace cohort::padata::testing
