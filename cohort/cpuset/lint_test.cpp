// SPDX-License-Identifier: Apache-2.0
// Each rule from a small script, and that a sound tree has no finding.
#include <cohort/cpuset/lint.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

#include <cohort/cpuset/detail/safety.hpp>
#include <cohort/cpuset/testing/random_ops.hpp>
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;
using testing::eight_cpus;
using testing::script;

std::vector<finding> of(const std::string& lines, model_options o = {}) {
    script m(o);
    m.run(lines);
    return lint(m.subject(), eight_cpus());
}

TEST(lint, finds_each_sort_of_fault) {
    // A core is two CPUs (0-1, 2-3, ...), a node four.
    const struct {
        const char *lines, *rule, *severity, *path, *reason;
        model_options options = {};
    } tales[] = {
        {"mkdir a; write a cpuset.cpus 3; write a cpuset.cpus.partition root; attach a t", "cpu-offline-invalidates", "error", "a", "when CPU 3 goes offline, it becomes \"root invalid"},
        {"mkdir a; write a cpuset.cpus 3; attach a t", "cpu-offline-fallback", "warning", "a", "when CPU 3 goes offline, its tasks run on its parent's CPUs 0-2,4-7"},
        {"mkdir a; write a cpuset.cpus 3; write a cpuset.mems 0; attach a t", "cpu-offline-shrinks", "error", "a", "its list becomes empty", {.v1 = true}},
        {"mkdir a; write a cpuset.cpus 2-3; write a cpuset.mems 0; attach a t", "cpu-offline-shrinks", "info", "a", "when any one of CPUs 2-3 goes offline, its list loses it for good", {.v1 = true}},
        {"mkdir a; write a cpuset.mems 1; write a cpuset.cpus 4-7; attach a t", "node-offline-fallback", "warning", "a", "when node 1 goes offline, its tasks use its parent's nodes 0"},
        {"mkdir a; write a cpuset.cpus 3; write a cpuset.mems 0; attach a t", "node-offline-shrinks", "error", "a", "moved to the nearest set above that has nodes", {.v1 = true}},
        {"mkdir a; write a cpuset.cpus 2-4; write a cpuset.cpus.partition root", "split-core", "warning", "a", "CPU 5 on the same cores belongs to others"},
        {"mkdir a; write a cpuset.cpus 2,4; write a cpuset.mems 0-1; write a cpuset.cpu_exclusive 1", "split-core", "warning", "a", "CPUs 3,5 on the same cores belong to others", {.v1 = true}},
        {"mkdir a; write a cpuset.cpus 0-5; write a cpuset.mems 0", "remote-memory", "warning", "a", "it has CPUs of node 1 and not the memory there, only that of node 0"},
        {"mkdir a; write a cpuset.cpus 0-3; write a cpuset.mems 0-1", "remote-memory", "info", "a", "it may use the memory of node 1, where it has no CPU"},
        {"mkdir a; write a cpuset.cpus 0-3; write a cpuset.cpus.partition isolated", "isolated-several", "warning", "a", "it is isolated with 4 CPUs"},
        {"mkdir a; write a cpuset.cpus.partition root", "invalid-partition", "error", "a", "are empty"},
        {"mkdir a; write a cpuset.cpus 3; attach a t; cpu 3 offline", "unmet-request", "error", "a", "it has none of the CPUs 3 that it asks for"},
        {"mkdir a; write a cpuset.cpus 3; cpu 3 offline", "unmet-request", "warning", "a", "it has none of the CPUs 3 that it asks for"},
        {"mkdir a; write a cpuset.mems 1; attach a t; node 1 offline", "unmet-request", "error", "a", "it has none of the nodes 1"},
        {"mkdir a; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus.exclusive 2-3", "unmet-exclusive", "error", "a/b", "its exclusive claim to CPUs 2-3 does not hold"},
        {"mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus.exclusive 2; write a/b cpuset.cpus.exclusive 2-3", "unmet-exclusive", "warning", "a/b", "claim to CPU 3"},
        {"mkdir a; write a cpuset.mems 0", "empty-request", "warning", "a", "its list of CPUs is empty", {.v1 = true}},
        {"mkdir a; mkdir b; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write b cpuset.cpus 3-4", "overlap", "warning", "b", "it asks for CPU 3, which \"a\" has as a partition", {.profile = kernel::v7_0}},
        {"mkdir a; write a cpuset.cpus 0-1,4-7; write a cpuset.cpus.partition root", "empty-domain", "error", ".", "the CPUs left to it, 2-3, are all isolated since boot", {.boot_isolated = {2, 3}}},
        {"mkdir a; mkdir b; write a cpuset.cpus.exclusive 3; write b cpuset.cpus 3-4", "overlap", "warning", "b", "which \"a\" claims for itself"},
    };
    std::set<std::string_view> met;
    for (const auto& t : tales) {
        SCOPED_TRACE(t.lines);
        const auto all = of(t.lines, t.options);
        const auto it = std::ranges::find_if(all, [&](const finding& f) { return f.rule == t.rule && f.path == t.path; });
        ASSERT_NE(it, all.end());
        met.insert(it->rule);
        EXPECT_EQ(severity_name(it->level), t.severity);
        EXPECT_THAT(it->reason, HasSubstr(t.reason));
        EXPECT_FALSE(it->remedy.empty());
    }
    for (const lint_rule& r : lint_rules()) EXPECT_TRUE(met.contains(r.name)) << r.name << " has no test";
}

TEST(lint, is_silent_about_a_sound_tree) {
    const std::string sound = "mkdir a; mkdir b; write a cpuset.cpus 0-3; write a cpuset.mems 0-1; write a cpuset.cpus.partition root; attach a t; write b cpuset.cpus 4-7; write b cpuset.mems 0-1; attach b u";
    std::vector<finding> all = of(sound);
    std::erase_if(all, [](const finding& f) { return f.level == severity::info; });
    for (const finding& f : all) ADD_FAILURE() << f.line();
    EXPECT_TRUE(of("").empty());
}

TEST(lint, puts_errors_first) {
    const auto all = of("mkdir a; mkdir b; write a cpuset.cpus 3; attach a t; write b cpuset.cpus.partition root");
    EXPECT_EQ(all.at(0).level, severity::error);
    EXPECT_THAT(all.at(0).line(), HasSubstr("error: invalid-partition: \"b\": it reads"));
    EXPECT_TRUE(std::ranges::is_sorted(all, std::greater<>(), &finding::level));
}

/// Sets that a hotplug of any one CPU hurts, each found on a whole copy of the tree.
std::set<std::string> hurt(const model& m, std::string_view rule) {
    std::set<std::string> out;
    for (int cpu : m.state().active) {
        model trial = m.clone();
        if (!trial.perform({.what = verb::cpu, .number = cpu, .on = false}).ok()) continue;
        detail::each_set(m.state(), [&](const detail::group& was) {
            const std::string path = detail::path_of(was);
            const detail::group& is = *detail::find(trial.state(), path);
            const bool invalidates = was.valid() && is.invalid();
            const bool falls = !invalidates && detail::governs_tasks(m.state(), was) && !detail::asks_cpus_in_vain(was) && detail::asks_cpus_in_vain(is);
            if (rule == "cpu-offline-invalidates" ? invalidates : falls) out.insert(path);
        });
    }
    return out;
}

TEST(lint, finds_on_parts_of_a_tree_what_hurts_the_whole) {
    const char* text = std::getenv("COHORT_SEED");
    const std::uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 5;
    for (const kernel k : {kernel::v6_1, kernel::v6_12, kernel::v7_0}) {
        std::mt19937_64 rng(seed);
        for (int tree = 0; tree < 12; ++tree) {
            model m(eight_cpus(), {.profile = k});
            testing::random_ops next([&](unsigned n) { return static_cast<unsigned>(rng() % n); }, {.delegates = false, .suspends = false});
            for (int i = 0; i < 150; ++i) m.perform(next(m));
            for (const char* rule : {"cpu-offline-invalidates", "cpu-offline-fallback"}) {
                std::set<std::string> found;
                for (const finding& f : lint(m, eight_cpus())) {
                    if (f.rule == rule) found.insert(f.path);
                }
                EXPECT_EQ(found, hurt(m, rule)) << "COHORT_SEED=" << seed << " " << kernel_name(k) << ", tree " << tree << ", " << rule;
            }
        }
    }
}

}  // namespace
}  // namespace cohort::cpuset
