// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_snapshot.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace cohort::group {
namespace {

using testing::HasSubstr;

cpuset::snapshot small() {
    const auto machine = machine::load("synthetic:pack:2 numa:1 core:2 pu:2", sys::real()).value();
    cpuset::model m(machine);
    for (const char* line : {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.cpus.partition isolated", "mkdir a/b", "attach a t", "attach . u", "affinity u 4-5", "cpu 7 offline"}) {
        EXPECT_TRUE(m.perform(*cpuset::parse_operation(line)).ok()) << line;
    }
    return take(m, machine);
}

TEST(cpuset_snapshot, is_the_same_after_text_and_back) {
    const cpuset::snapshot s = small();
    const auto again = read_cpuset_snapshot("x", cpuset_snapshot_json(s));
    ASSERT_TRUE(again) << again.error().line();
    EXPECT_EQ(again->sets, s.sets);
    EXPECT_EQ(again->tasks, s.tasks);
    EXPECT_EQ(again->online.list(), "0-6");
    EXPECT_EQ(again->memory, s.memory);
    EXPECT_EQ(again->machine.cores, s.machine.cores);
    EXPECT_EQ(again->machine.nodes, s.machine.nodes);
    EXPECT_EQ(again->machine.packages, s.machine.packages);
    const auto l = load(*again);
    ASSERT_TRUE(l);
    EXPECT_TRUE(l->differences.empty()) << l->differences.front().line();
}

TEST(cpuset_snapshot, tells_the_place_of_a_fault) {
    constexpr const char* head = R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.12", "mount": "v2", "machine": "synthetic:core:2 pu:1", "sets": [{"path": "."}])";
    EXPECT_TRUE(read_cpuset_snapshot("x", std::string(head) + "}"));
    const std::pair<std::string, std::string> cases[] = {
        {"", "x:1:1: read: EINVAL: it is no JSON here"},
        {"{\n  \"a\": }", "x:2:8: read"},
        {"[]", "the snapshot: EINVAL: it must be an object"},
        {"{}", "read schema_version: EINVAL: the key is missing"},
        {R"({"schema_version": 2})", "read schema_version: EOPNOTSUPP: 2 is not known, only 1"},
        {R"({"schema_version": "1"})", "whole number"},
        {R"({"schema_version": 1, "kind": "x"})", "read kind: EINVAL"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "5.4"})", "read kernel: EINVAL"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v3"})", "read mount: EINVAL"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": "live"})", "begins with synthetic:"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": {"possible": "0-9999"}})", "machine.possible: ERANGE"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": {"possible": "0", "packages": ["0"], "cores": ["0", "0"]}})",
         "machine.cores[1]: EINVAL: CPUs 0 stand in another one, too"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": {"possible": "0", "packages": ["0-1"], "cores": []}})", "CPUs 1 are not possible"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": {"possible": "0", "packages": [], "cores": [], "nodes": []}})", "has a node"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.1", "mount": "v1", "machine": {"possible": "0", "packages": [], "cores": [],
             "nodes": [{"number": 1, "cpus": "", "memory_bytes": 0}, {"number": 1, "cpus": "", "memory_bytes": 0}]}})", "machine.nodes[1].number: EINVAL: the numbers of nodes ascend"},
        {std::string(head) + R"(, "tasks": [{"id": "1", "path": "."}, {"id": 2}]})", "tasks[1].id: EINVAL: it must be a string"},
        {std::string(head) + R"(, "tasks": {}})", "read tasks: EINVAL: it must be a list"},
        {std::string(head) + R"(, "online": "0-"})", "read online: EINVAL"},
        {R"({"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.12", "mount": "v2", "machine": "synthetic:core:2 pu:1", "sets": [{"path": ".", "files": {"cpuset.cpus": 3}}]})",
         "sets[0].files.cpuset.cpus: EINVAL: it must be a string"},
    };
    for (const auto& [text, says] : cases) {
        const auto r = read_cpuset_snapshot("x", text);
        ASSERT_FALSE(r) << text;
        EXPECT_THAT(r.error().line(), HasSubstr(says)) << text;
    }
}

}  // namespace
}  // namespace cohort::group
