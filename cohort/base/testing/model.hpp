// SPDX-License-Identifier: Apache-2.0
/// Model tests over interleave.hpp: no interleaving of a scenario fails, and each fault that is planted in the model is found by one, else it proves nothing.
///
///     enum class fault { none, looks_too_early };
///     const interleave::scenario<fault> meeting = [](interleave::run& x, fault f) { ... };
///     TEST(room_model, meets) { interleave::expect_clean(meeting, 3); }
///     TEST(room_model, finds_what_is_planted) { interleave::expect_found<fault>({{COHORT_FAULT(looks_too_early), meeting}}, 3); }
///
/// COHORT_MODEL_PREEMPTIONS=n walks more, however long it takes. Sanitizers skip these tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <cohort/base/testing/interleave.hpp>

#define COHORT_FAULT(name) fault::name, #name

namespace cohort::interleave {

template <class Fault>
using scenario = std::function<void(run&, Fault)>;

inline void expect_clean(const std::function<void(run&)>& s, options o) {
    if (!possible_here) GTEST_SKIP() << "fibers and sanitizers do not go together";
    if (const char* more = std::getenv("COHORT_MODEL_PREEMPTIONS")) {
        o.preemptions = std::max(o.preemptions, std::atoi(more));
        o.most_runs = std::numeric_limits<std::uint64_t>::max();
    }
    const outcome r = explore(s, o);
    std::string schedule;
    for (const int t : r.schedule) schedule += std::to_string(t) + ' ';
    EXPECT_EQ(r.failure, "") << "schedule: " << schedule;
    EXPECT_TRUE(r.complete || !r.failure.empty()) << "only " << r.runs << " runs were walked";
    ::testing::Test::RecordProperty("runs", std::to_string(r.runs));
    std::cout << r.runs << " interleavings\n";
}

template <class Fault>
void expect_clean(const scenario<Fault>& s, int preemptions) {
    expect_clean([&](run& x) { s(x, Fault::none); }, {.preemptions = preemptions});
}

template <class Fault>
struct planted {
    Fault f;
    const char* name;
    scenario<Fault> s;
};

/// Each of them, with at most so many preemptions.
template <class Fault>
void expect_found(const std::vector<planted<Fault>>& faults, int most) {
    if (!possible_here) GTEST_SKIP() << "fibers and sanitizers do not go together";
    for (const planted<Fault>& p : faults) {
        outcome r;
        int bound = 0;
        const auto with_it = [&p](run& x) { p.s(x, p.f); };
        while ((r = explore(with_it, {.preemptions = bound})).failure.empty() && bound < most) ++bound;
        EXPECT_NE(r.failure, "") << p.name << " was not found in " << r.runs << " interleavings";
        std::cout << p.name << ": \"" << r.failure << "\" with " << bound << " preemptions, run " << r.runs << '\n';
    }
}

}  // namespace cohort::interleave
