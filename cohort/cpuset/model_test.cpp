// SPDX-License-Identifier: Apache-2.0
// Random operations: the invariants hold after each, and a refusal changes nothing. COHORT_SEED=n chooses other scripts.
#include <cstdlib>
#include <random>
#include <sstream>

#include <cohort/cpuset/testing/random_ops.hpp>
#include <cohort/cpuset/testing/script.hpp>
#include <cohort/cpuset/testing/shrink.hpp>

namespace cohort::cpuset {
namespace {

constexpr int scripts = 150, steps = 250;

std::uint64_t first_seed() {
    const char* given = std::getenv("COHORT_SEED");
    return given ? std::strtoull(given, nullptr, 0) : 1;
}

/// A refused attach may have started the task in the root; a task that asks itself is awake, and gets a mask with a CPU that is active.
bool may_change_when_refused(const operation& op) { return op.what == verb::attach || op.what == verb::fork || op.what == verb::mempolicy || op.what == verb::mbind; }

/// A refused list may leave a new reason why a partition is invalid, as in the kernel.
std::string without_reasons(const std::string& state) {
    std::string out;
    std::istringstream lines(state);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(" cpuset.cpus.partition ") != std::string::npos) line.resize(std::min(line.size(), line.find(" (")));
        out += line + "\n";
    }
    return out;
}

/// What is wrong after one more operation; "" is nothing. `before` is the state, and becomes the next one.
std::string step(model& m, const operation& op, std::string& before) {
    const answer a = m.perform(op);
    if (std::string broken = m.broken(); !broken.empty()) return broken;
    std::string after = testing::dump(m);
    const bool changed = !a.ok() && without_reasons(after) != without_reasons(before);
    before = std::move(after);
    return changed && !may_change_when_refused(op) ? "refused, and yet something has changed" : "";
}

std::string replay(const model_options& o, const std::vector<operation>& ops) {
    model m(testing::eight_cpus(), o);
    std::string before = testing::dump(m);
    for (const operation& op : ops) {
        if (std::string what = step(m, op, before); !what.empty()) return what;
    }
    return {};
}

void walk(const model_options& o, std::uint64_t seed) {
    std::mt19937_64 rng(seed);
    model m(testing::eight_cpus(), o);
    testing::random_ops next([&](unsigned n) { return static_cast<unsigned>(rng() % n); }, {.v1 = o.v1});
    std::string before = testing::dump(m);
    std::vector<operation> done;
    for (int i = 0; i < steps; ++i) {
        done.push_back(next(m));
        const std::string what = step(m, done.back(), before);
        if (what.empty()) continue;
        const auto small = testing::shrink(done, [&](const std::vector<operation>& s) { return !replay(o, s).empty(); });
        FAIL() << "COHORT_SEED=" << seed << ", kernel " << kernel_name(o.profile) << (o.v1 ? ", v1: " : ": ") << replay(o, small) << ", after:\n" << testing::script_of(small);
    }
}

class any_profile : public ::testing::TestWithParam<std::pair<kernel, bool>> {};

TEST_P(any_profile, random_operations_keep_the_invariants_and_refusals_change_nothing) {
    const auto [k, v1] = GetParam();
    const std::uint64_t seed = first_seed();
    RecordProperty("seed", std::to_string(seed));
    for (int s = 0; s < scripts && !HasFatalFailure(); ++s) walk({.profile = k, .v1 = v1}, seed + static_cast<std::uint64_t>(s));
}

std::string profile_name(const ::testing::TestParamInfo<std::pair<kernel, bool>>& p) {
    const kernel k = p.param.first;
    return std::string(k == kernel::v6_1 ? "v6_1" : k == kernel::v6_12 ? "v6_12" : "v7_0") + (p.param.second ? "_cgroup1" : "");
}

INSTANTIATE_TEST_SUITE_P(kernels, any_profile,
                         ::testing::Values(std::pair{kernel::v6_12, false}, std::pair{kernel::v6_1, false}, std::pair{kernel::v7_0, false}, std::pair{kernel::v6_12, true}),
                         profile_name);

TEST(model, is_a_function_of_machine_and_operations) {
    std::string states[2];
    for (std::string& state : states) {
        std::mt19937_64 rng(7);
        model m(testing::eight_cpus());
        testing::random_ops next([&](unsigned n) { return static_cast<unsigned>(rng() % n); }, {});
        for (int i = 0; i < 500; ++i) state += m.perform(next(m)).why;
        state += testing::dump(m);
    }
    EXPECT_EQ(states[0], states[1]);
}

}  // namespace
}  // namespace cohort::cpuset
