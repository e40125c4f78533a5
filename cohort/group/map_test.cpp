// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/map.hpp>

#include <ctime>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/view.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::HasSubstr;

machine::topology load(const std::string& spec) { return machine::load(spec, sys::real()).value(); }
machine_map map_named(const std::string& spec) {
    const auto t = load(spec);
    return map_of(t, view_of(t, machine::usable_of(t), false));
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
    return n;
}

/// Every box's CPUs are those of what is inside it, and no two boxes inside one overlap.
void check_nesting(const map_box& b) {
    if (b.inside.empty()) return;
    cpumask all;
    for (const map_box& c : b.inside) {
        EXPECT_FALSE(all.intersects(c.cpus)) << b.label << "/" << c.label;
        all |= c.cpus;
        check_nesting(c);
    }
    EXPECT_EQ(all, b.cpus) << b.label;
}

TEST(map, boxes_nest_and_every_cpu_is_in_one_place) {
    for (const char* spec : {"synthetic:pu:1", "synthetic:core:4 pu:2", "synthetic:pack:2 numa:2 l3:2 core:4 pu:2", "synthetic:numa:4 pack:1 l2:2 core:2 pu:4"}) {
        const machine_map m = map_named(spec);
        check_nesting(m.top);
        EXPECT_EQ(count(map_svg(m, {}), "<g><title>CPU "), static_cast<std::size_t>(m.top.cpus.weight())) << spec;
    }
    check_nesting(map_of(load("live"), view_machine("live", sys::real()).value()).top);
}

TEST(map, text_is_a_tree_that_names_each_level) {
    EXPECT_EQ(map_text(map_named("synthetic:pack:1 numa:1(memory=1073741824) l3:1(size=8388608) core:2 pu:2")),
              "machine synthetic:pack:1 numa:1(memory=1073741824) l3:1(size=8388608) core:2 pu:2: CPUs 0-3, 4 usable\n"
              "└─ package 0: CPUs 0-3\n"
              "   └─ node 0  1.00 GiB: CPUs 0-3\n"
              "      └─ L3 8.00 MiB: CPUs 0-3\n"
              "         ├─ core 0: CPUs 0-1\n"
              "         └─ core 1: CPUs 2-3\n");
}

TEST(map, cores_that_are_alike_share_a_line_on_large_machines) {
    const std::string text = map_text(map_named("synthetic:pack:2 core:64 pu:2"));
    EXPECT_THAT(text, HasSubstr("64 cores, 2 CPUs each: CPUs 0-127"));
    EXPECT_LT(count(text, "\n"), 12u);
}

TEST(map, cpus_that_cannot_be_used_are_marked_with_the_reason) {
    machine::topology t = load("synthetic:core:2 pu:1");
    machine::usable_cpus u = machine::usable_of(t);
    u.affinity = u.cpus = {0};
    u.parts = {{"affinity", true, "0", "sched_getaffinity"}};
    const machine_map m = map_of(t, view_of(t, u, false));
    EXPECT_THAT(map_text(m), testing::AllOf(HasSubstr("core 1: CPU 1  (not usable)"),
                                            HasSubstr("not usable: CPU 1: not in this process's affinity (sched_getaffinity has 0)")));
    EXPECT_THAT(map_svg(m, {{"usable", {0}}}), HasSubstr("<title>CPU 1, not in this process's affinity"));
    const auto j = nlohmann::json::parse(map_json(m));
    EXPECT_EQ(j["schema_version"], 1);
    EXPECT_EQ(j["usable"], "0");
    EXPECT_EQ(j["not_usable"][0]["cpus"], "1");
    EXPECT_EQ(j["cores"].size(), 2u);
}

TEST(map, offline_cpus_are_drawn_beside_the_packages) {
    machine::topology t = load("synthetic:core:2 pu:1");
    t.possible.set(2);
    t.cpus.resize(3);
    const machine_map m = map_of(t, view_of(t, machine::usable_of(t), false));
    EXPECT_THAT(map_text(m), HasSubstr("CPU 2  (not usable)"));
    EXPECT_THAT(map_text(m), HasSubstr("CPU 2: offline"));
}

TEST(map, the_picture_is_plain_xml_whatever_names_are_like) {
    const machine_map m = map_named("synthetic:core:2 pu:1");
    const std::string svg = map_svg(m, {{"<a & \"b\">\x01", {0}}, {"c", {0}}});
    EXPECT_THAT(svg, HasSubstr("&lt;a &amp; &quot;b&quot;&gt; "));
    EXPECT_EQ(svg.find('\x01'), std::string::npos);
    EXPECT_EQ(count(svg, "<svg"), 1u);
    EXPECT_EQ(count(svg, "<g>"), count(svg, "</g>"));
    EXPECT_EQ(svg.find("http", svg.find("xmlns") + 40), std::string::npos);  // nothing is fetched
}

TEST(map, the_largest_machine_is_drawn_in_under_a_second) {
    const auto start = std::clock();  // of this process: others may have the CPU
    const machine_map m = map_named("synthetic:pack:8 numa:4 l3:4 core:32 pu:2");
    EXPECT_EQ(count(map_svg(m, {{"all", m.view.usable}}), "<g><title>CPU "), 8192u);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(seconds, 1.0);
#endif
    RecordProperty("milliseconds", static_cast<int>(seconds * 1e3));
}

TEST(view, neighbours_in_the_order_share_cores_then_caches_then_nodes) {
    const auto t = load("synthetic:pack:2 numa:2 core:2 pu:2");
    const machine_view v = view_of(t, machine::usable_of(t), false);
    for (std::size_t i = 0; i + 1 < v.order.size(); i += 2) EXPECT_EQ(v.core[static_cast<std::size_t>(v.order[i])], v.core[static_cast<std::size_t>(v.order[i + 1])]);
    EXPECT_EQ(v.order.size(), 16u);
    EXPECT_FALSE(v.live);
}

TEST(view, what_a_cpuset_forbids_is_not_blamed_on_the_affinity) {
    const auto t = load("synthetic:core:4 pu:1");
    machine::usable_cpus u = machine::usable_of(t);
    u.cpuset = {0, 1, 2};
    u.affinity = {0, 1};
    u.cpus = {0, 1};
    u.cpu_quota = 1.5;
    u.parts = {{"cpuset", true, "0-2", "/sys/fs/cgroup/x/cpuset.cpus.effective"}, {"quota", true, "1.5 CPUs", "/sys/fs/cgroup/x/cpu.max"}};
    const machine_view v = view_of(t, u, true);
    ASSERT_EQ(v.not_usable.size(), 2u);
    EXPECT_EQ(v.not_usable[0].cpus.list(), "3");
    EXPECT_EQ(v.not_usable[0].reason, "not in this process's cpuset (/sys/fs/cgroup/x/cpuset.cpus.effective has 0-2)");
    EXPECT_EQ(v.not_usable[1].cpus.list(), "2");
    EXPECT_EQ(v.cpu_limit, 1.5);
    EXPECT_EQ(v.cpu_limit_reason, "/sys/fs/cgroup/x/cpu.max");
}

TEST(view, a_machine_that_cannot_be_read_is_an_error) {
    EXPECT_EQ(view_machine("synthetic:nonsense:x", sys::real()).error().code, EINVAL);
    EXPECT_EQ(view_machine("bogus", sys::real()).error().code, EINVAL);
    EXPECT_EQ(view_machine("/nowhere/at/all.xml", sys::real()).error().code, ENOENT);
}

}  // namespace
}  // namespace cohort::group
