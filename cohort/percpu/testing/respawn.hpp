// SPDX-License-Identifier: Apache-2.0
/// Runs the rest of a test in a program of its own, with another environment: what is decided once per process can be tested both ways.
///
///     TEST(room, holds_on_a_large_machine) {
///         if (!testing::in_program_with("COHORT_POSSIBLE_CPUS", "4096")) return;
///         ...                                              // here possible_cpus() is 4096
///     }
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include <cohort/sys/testing/child_process.hpp>

namespace cohort::percpu::testing {

/// Iterations of a test that takes long: n, times COHORT_TEST_SCALE.
inline int scaled(int n) {
    const char* scale = std::getenv("COHORT_TEST_SCALE");
    return std::max(1, static_cast<int>(n * (scale ? std::atof(scale) : 1.0)));
}

/// True: the program runs with this environment. False: a child has run this very test so; the test has failed if it did there.
inline bool in_program_with(const std::string& name, const std::string& value) {
    if (const char* now = std::getenv(name.c_str()); now && now == value) return true;
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    const std::string filter = std::string("--gtest_filter=") + info->test_suite_name() + "." + info->name();
    const int status = sys::testing::start_program({sys::testing::this_program(), filter, "--gtest_output="}, {name + '=' + value, "GTEST_OUTPUT"}).wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << name << "=" << value << ": status " << status;
    return false;
}

/// Runs f in a forked child; its answer is the child's exit status, -1 that it died otherwise.
template <class F>
int in_forked_child(F f) {
    sys::testing::child_process child(::fork());
    if (child.pid() == 0) ::_exit(f());
    const int status = child.wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace cohort::percpu::testing
