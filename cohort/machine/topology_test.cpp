// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/topology.hpp>

#include <hwloc.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/machine/testing/host.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::machine {
namespace {

using ::testing::HasSubstr;

topology must_load(const std::string& spec, sys::os& os = sys::real()) {
    auto m = load(spec, os);
    EXPECT_TRUE(m) << m.error().line();
    return m.value_or(topology{});
}

/// hwloc's own export of a synthetic machine.
std::string xml_of(const char* description) {
    hwloc_topology_t t;
    hwloc_topology_init(&t);
    if (*description) hwloc_topology_set_synthetic(t, description);
    hwloc_topology_load(t);
    char* text = nullptr;
    int size = 0;
    hwloc_topology_export_xmlbuffer(t, &text, &size, 0);
    const std::string out(text, static_cast<std::size_t>(size - 1));
    hwloc_free_xmlbuffer(t, text);
    hwloc_topology_destroy(t);
    return out;
}

TEST(synthetic, has_what_its_description_says) {
    const topology m = must_load("synthetic:pack:2 numa:1 l3:1(size=16777216) core:4 pu:2");
    EXPECT_EQ(m.possible.list(), "0-15");
    EXPECT_EQ(m.online.list(), "0-15");
    EXPECT_EQ(m.cores.size(), 8u);
    EXPECT_EQ(m.packages.size(), 2u);
    EXPECT_EQ(m.nodes.size(), 2u);
    EXPECT_EQ(m.siblings(5).list(), "4-5");
    EXPECT_EQ(m.packages[1].cpus.list(), "8-15");
    EXPECT_EQ(m.nodes[static_cast<std::size_t>(m.cpus[12].node)].cpus.list(), "8-15");
    EXPECT_EQ(m.find_node(1)->number, 1);
    EXPECT_EQ(m.find_node(2), nullptr);
    EXPECT_EQ(m.node_numbers().list(), "0-1");
    EXPECT_GT(m.nodes[0].memory_bytes, 0u);
    ASSERT_EQ(m.cpus[12].caches.size(), 1u);
    const auto& l3 = m.caches[static_cast<std::size_t>(m.cpus[12].caches[0])];
    EXPECT_EQ(l3.level, 3);
    EXPECT_EQ(l3.bytes, 16u << 20);
    EXPECT_EQ(l3.cpus.size(), 8u);
}

TEST(synthetic, may_be_as_large_as_8192_cpus_and_1024_nodes) {
    const topology m = must_load("synthetic:pack:64 numa:16 core:4 pu:2");
    EXPECT_EQ(m.online.weight(), 8192);
    EXPECT_EQ(m.nodes.size(), 1024u);
    EXPECT_EQ(m.siblings(8191).list(), "8190-8191");
    EXPECT_EQ(m.nodes[1023].cpus.list(), "8184-8191");
}

TEST(synthetic, a_cpu_near_two_memories_belongs_to_the_first) {
    const topology m = must_load("synthetic:pack:2 [numa] [numa] core:2 pu:1");
    ASSERT_EQ(m.nodes.size(), 4u);
    for (int c : m.online) {
        const int at = m.cpus[static_cast<std::size_t>(c)].node;
        for (int i = 0; i <= at; ++i) EXPECT_EQ(m.nodes[static_cast<std::size_t>(i)].cpus.test(c), i == at) << "cpu " << c << " node " << i;
    }
    EXPECT_EQ(m.nodes[0].cpus, m.nodes[1].cpus) << "both are near it";
}

TEST(synthetic, without_cores_each_cpu_is_one) {
    const topology m = must_load("synthetic:pu:4");
    EXPECT_EQ(m.cores.size(), 4u);
    EXPECT_EQ(m.packages.size(), 1u);
    EXPECT_EQ(m.nodes.size(), 1u);
    EXPECT_EQ(m.siblings(2).list(), "2");
}

TEST(load, refuses_with_one_clear_line) {
    const auto line = [](const std::string& spec) { return load(spec, sys::real()).error().line(); };
    EXPECT_EQ(line("nonsense"), "machine \"nonsense\": load: EINVAL: say live, synthetic:DESCRIPTION (as \"synthetic:pack:2 numa:1 core:4 pu:2\") or FILE.xml");
    EXPECT_THAT(line("synthetic:bogus:2 pu:2"), HasSubstr("machine \"synthetic:bogus:2 pu:2\": load: EINVAL: hwloc does not understand"));
    EXPECT_EQ(load("synthetic:", sys::real()).error().code, EINVAL);
    EXPECT_THAT(line("synthetic:pack:8193"), HasSubstr("ERANGE: it has 8193 CPUs; 8192 are supported"));
    EXPECT_THAT(line("synthetic:pack:100000 core:100000 pu:100000"), HasSubstr("ERANGE: it has over 2^31 CPUs"));
    EXPECT_THAT(line("synthetic:99999999999999999999"), HasSubstr("ERANGE"));
    EXPECT_THAT(line("synthetic:numa:2048 core:1 pu:1"), HasSubstr("ERANGE: node 1024 is beyond the last, 1023"));
    EXPECT_EQ(load("synthetic:pu:2(indexes=0,9000)", sys::real()).error().code, ERANGE);
    EXPECT_THAT(line("/no/such.xml"), HasSubstr("/no/such.xml: open: ENOENT"));
}

TEST(xml, describes_the_same_machine_as_the_description_it_came_from) {
    sys::recorded files;
    files.add_file("/m.xml", xml_of("pack:2 numa:2 l2:2 core:2 pu:2"));
    topology m = must_load("/m.xml", files);
    topology expected = must_load("synthetic:pack:2 numa:2 l2:2 core:2 pu:2");
    EXPECT_EQ(m.source, "/m.xml");
    m.source = expected.source;
    EXPECT_EQ(m, expected);
}

TEST(xml, corrupt_or_foreign_files_are_refused) {
    sys::recorded files;
    const std::string good = xml_of("numa:2 core:2 pu:2");
    files.add_file("/empty.xml", "");
    files.add_file("/foreign.xml", "<html><body/></html>");
    files.add_file("/cut.xml", good.substr(0, good.size() / 2));
    for (const char* f : {"/empty.xml", "/foreign.xml", "/cut.xml"}) EXPECT_EQ(load(f, files).error().code, EINVAL) << f;
    files.add_file("/good.xml", good);
    sys::failing broken(files, {.call = "read", .nth = 1, .code = EIO});
    EXPECT_EQ(load("/good.xml", broken).error().code, EIO);
}

TEST(live, agrees_with_hwloc_on_this_machine) {
    sys::recorded files;
    files.add_file("/this.xml", xml_of(""));
    const topology by_hwloc = must_load("/this.xml", files), by_us = must_load("live");
    EXPECT_EQ(by_us.online, by_hwloc.online);
    EXPECT_EQ(by_us.cores, by_hwloc.cores);
    EXPECT_EQ(by_us.packages, by_hwloc.packages);
    ASSERT_EQ(by_us.nodes.size(), by_hwloc.nodes.size());
    for (std::size_t i = 0; i < by_us.nodes.size(); ++i) {
        EXPECT_EQ(by_us.nodes[i].number, by_hwloc.nodes[i].number);
        EXPECT_EQ(by_us.nodes[i].cpus, by_hwloc.nodes[i].cpus);
    }
    EXPECT_FALSE(by_us.caches.empty() && !by_hwloc.caches.empty());
}

TEST(live, reads_back_a_machine_shown_in_sysfs) {
    for (const char* spec : {"synthetic:pack:2 numa:2 l3:1(size=4194304) l2:2(size=1048576) core:2 pu:2", "synthetic:pu:1", "synthetic:numa:3 core:5 pu:4", "synthetic:pack:4 numa:4 core:32 pu:2"}) {
        topology m = must_load(spec);
        sys::recorded host;
        testing::show(m, host);
        m.source = "live";
        EXPECT_EQ(must_load("live", host), m) << spec;
        EXPECT_EQ(must_load("", host), m) << spec;
    }
}

TEST(live, knows_cpus_that_are_offline) {
    topology m = must_load("synthetic:core:4 pu:2");
    sys::recorded host;
    testing::show(m, host);
    host.add_file(sys::paths::cpu + "/online", "0-2,4-7\n");
    const topology now = must_load("live", host);
    EXPECT_EQ(now.possible.list(), "0-7");
    EXPECT_EQ(now.online.list(), "0-2,4-7");
    EXPECT_EQ(now.siblings(2).list(), "2") << "its sibling is offline";
    EXPECT_EQ(now.siblings(3).list(), "3");
    EXPECT_EQ(now.cpus[3].core, -1);
    EXPECT_EQ(now.nodes[0].cpus, now.online);
}

TEST(live, without_sysfs_takes_the_affinity_mask_and_the_plainest_shape) {
    sys::recorded host;
    host.set_affinity(cpumask::range(2, 5));
    host.add_file("/proc/meminfo", "MemTotal:        1024 kB\nMemFree: 1 kB\n");
    const topology m = must_load("live", host);
    EXPECT_EQ(m.online.list(), "2-5");
    EXPECT_EQ(m.cores.size(), 4u);
    EXPECT_EQ(m.packages.size(), 1u);
    EXPECT_EQ(m.nodes[0].memory_bytes, 1u << 20);
}

TEST(live, broken_files_are_errors_with_their_path) {
    sys::recorded host;
    host.add_file(sys::paths::cpu + "/online", "banana\n");
    EXPECT_EQ(load("live", host).error().line(), sys::paths::cpu + "/online: parse \"banana\": EINVAL: at character 1: a number was expected, found 'b'");
    host.add_file(sys::paths::cpu + "/online", "0-1\n");
    host.add_file(sys::paths::cpu + "/possible", "0-9000\n");
    EXPECT_EQ(load("live", host).error().code, ERANGE);
    host.add_file(sys::paths::cpu + "/online", "\n");
    EXPECT_EQ(load("live", host).error().reason, "no CPU is online");
    sys::failing broken(host, {.nth = 1, .code = EIO});
    EXPECT_EQ(load("live", broken).error().code, EIO);
}

TEST(live, memory_without_cpus_is_a_node) {
    sys::recorded host;
    testing::show(must_load("synthetic:numa:1 core:2 pu:1"), host);
    host.add_file(sys::paths::node + "/online", "0,4\n");
    host.add_file(sys::paths::node + "/node4/cpulist", "\n");
    host.add_file(sys::paths::node + "/node4/meminfo", "Node 4 MemTotal:  2048 kB\n");
    const topology m = must_load("live", host);
    ASSERT_EQ(m.nodes.size(), 2u);
    EXPECT_EQ(m.nodes[1].number, 4);
    EXPECT_TRUE(m.nodes[1].cpus.empty());
    EXPECT_EQ(m.nodes[1].memory_bytes, 2u << 20);
}

TEST(topology_death, a_cpu_beyond_the_machine_is_the_callers_bug) {
    const topology m = must_load("synthetic:pu:2");
    EXPECT_DEATH((void)m.siblings(2), "beyond the machine");
    EXPECT_DEATH((void)m.siblings(-1), "beyond the machine");
}

}  // namespace
}  // namespace cohort::machine
