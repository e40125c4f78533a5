// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_target.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace cohort::group {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(cpuset_target, reads_what_a_set_is_to_be) {
    const auto r = read_cpuset_target("t", R"(
prune = true
[[set]]
path = "a/b"
cpus = "0-3,8"
mems = ""
exclusive = "8"
partition = "isolated"
tasks = ["1", "2"]
flags = { "cpuset.cpu_exclusive" = "1" }
[[set]]
path = "c"
)");
    ASSERT_TRUE(r.faults.empty()) << r.faults[0].line();
    EXPECT_TRUE(r.value.prune);
    ASSERT_EQ(r.value.sets.size(), 2u);
    const cpuset::target_set& s = r.value.sets[0];
    EXPECT_EQ(s.path, "a/b");
    EXPECT_EQ(s.cpus->list(), "0-3,8");
    EXPECT_TRUE(s.mems->empty());
    EXPECT_EQ(s.exclusive->list(), "8");
    EXPECT_EQ(s.partition, "isolated");
    EXPECT_THAT(s.tasks, ElementsAre("1", "2"));
    EXPECT_EQ(s.flags.at("cpuset.cpu_exclusive"), "1");
    EXPECT_FALSE(r.value.sets[1].cpus || r.value.sets[1].mems || r.value.sets[1].exclusive || r.value.sets[1].partition);
}

TEST(cpuset_target, tells_every_fault_with_its_place) {
    const std::pair<const char*, const char*> cases[] = {
        {"x = ", "t:1:"},
        {"", "no [[set]]"},
        {"set = 3", "must be written [[set]]"},
        {"set = [1, 2]", "must be written [[set]]"},
        {"prune = 1\n[[set]]\npath = \"a\"", "t:1:9: key \"prune\" must be true or false"},
        {"[[set]]\ncpus = \"0\"", "\"path\""},
        {"[[set]]\npath = \"a\"\ncpus = \"3-1\"", "t:3:8: set \"a\": key \"cpus\": \"3-1\" is no list"},
        {"[[set]]\npath = \"a\"\nmems = \"9999\"", "set \"a\": key \"mems\""},
        {"[[set]]\npath = \"a\"\ncpus = 3", "must be a string, not a number"},
        {"[[set]]\npath = \"a\"\npartition = \"rot\"", "partition \"rot\" is none of member, root, isolated; did you mean \"root\"?"},
        {"[[set]]\npath = \"a\"\ntasks = \"1\"", "tasks"},
        {"[[set]]\npath = \"a\"\nflags = 1", "key \"flags\" must be a table"},
        {"[[set]]\npath = \"a\"\nflags = { x = 1 }", "flag \"x\" must be a string"},
        {"[[set]]\npath = \"a\"\ncpu = \"1\"", "\"cpu\""},
    };
    for (const auto& [text, says] : cases) {
        const auto r = read_cpuset_target("t", text);
        ASSERT_FALSE(r.faults.empty()) << text;
        EXPECT_THAT(r.faults[0].line(), HasSubstr(says)) << text;
    }
    EXPECT_EQ(read_cpuset_target("t", "prune = 1\n[[set]]\npath = 1\ncpus = \"x\"\n").faults.size(), 3u);
}

}  // namespace
}  // namespace cohort::group
