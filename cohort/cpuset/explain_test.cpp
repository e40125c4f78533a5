// SPDX-License-Identifier: Apache-2.0
// Each cause, from a small script; and remedies that help.
#include <cohort/cpuset/explain.hpp>

#include <gmock/gmock.h>

#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;
using testing::script;

/// "0-1: parent_list a, offline | remedy: write a cpuset.cpus 0-3", one line for each lack of a file.
std::string summary(const explanation& e, const std::string& file) {
    std::string out;
    for (const wish& w : e.wishes) {
        if (w.file != file) continue;
        for (const lack& l : w.lacks) {
            out += (out.empty() ? "" : "\n") + l.list + ":";
            for (const cause& c : l.chain) out += " " + std::string(cause_name(c.kind)) + (c.path.empty() ? "" : " " + c.path) + ",";
            for (const remedy& r : l.remedies) {
                for (const operation& op : r.operations) out += " | " + to_line(op);
                for (const std::string& who : r.losers) out += " (" + who + ")";
            }
        }
    }
    return out;
}

explanation of(const std::string& lines, const std::string& path, model_options o = {}) {
    script m(o);
    m.run(lines);
    auto e = explain(m.subject(), path);
    EXPECT_TRUE(e) << e.error().line();
    return *e;
}

struct tale {
    const char *lines, *path, *file, *says;
    model_options options = {};
};

TEST(explain, names_each_cause_and_a_write_that_helps) {
    const tale tales[] = {
        {"mkdir a; write a cpuset.cpus 0-3; cpu 2 offline", "a", "cpuset.cpus", "2: offline, | cpu 2 online"},
        {"mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 0-1; write a/b cpuset.cpus 1-3", "a/b", "cpuset.cpus", "2-3: parent_list a, | write a cpuset.cpus 0-3"},
        {"mkdir a; mkdir b; write a cpuset.cpus 0-3; write b cpuset.cpus 2-4; write b cpuset.cpus.partition root", "a", "cpuset.cpus", ""},
        {"mkdir a; mkdir b; write b cpuset.cpus 2-4; write b cpuset.cpus.partition root; write a cpuset.cpus.exclusive 0; write a cpuset.cpus 0-3", "a", "cpuset.cpus",
         "2-3: sibling_partition b, | write b cpuset.cpus 4 (b: CPUs 2-3)", {.profile = kernel::v7_0}},
        {"mkdir a; controller a +cpuset; mkdir a/b; mkdir c; write a/b cpuset.cpus 2-3; write c cpuset.cpus 2-3; write c cpuset.cpus.partition root", "a/b", "cpuset.cpus",
         "2-3: sibling_partition c, | write c cpuset.cpus.partition member"},
        {"mkdir a; controller a +cpuset; mkdir a/b; mkdir c; write a cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.exclusive 2; write a/b cpuset.cpus.partition root; write c cpuset.cpus 0,2",
         "c", "cpuset.cpus", "2: remote_partition a/b, | write a/b cpuset.cpus.partition member"},
        {"mkdir a; write a cpuset.cpus 0-3; write a cpuset.cpus.partition root; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus 1; write a/b cpuset.cpus.partition root", "a", "cpuset.cpus",
         "1: child_partition a/b, | write a/b cpuset.cpus.partition member"},
        {"mkdir a; write a cpuset.cpus 0-3; write a cpuset.cpus.exclusive 0-1; write a cpuset.cpus.partition root", "a", "cpuset.cpus", "2-3: other_list a, | write a cpuset.cpus.exclusive 0-3 (.: CPUs 2-3)"},
        {"mkdir a; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus.exclusive 2-3", "a/b", "cpuset.cpus.exclusive", "2-3: not_passed a, | write a cpuset.cpus.exclusive 2-3"},
        {"mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.mems 0; write a/b cpuset.mems 0-1", "a/b", "cpuset.mems", "1: parent_list a, | write a cpuset.mems 0-1"},
        {"mkdir a; write a cpuset.mems 1; node 1 offline", "a", "cpuset.mems", "1: offline, | node 1 online"},
    };
    for (const tale& t : tales) {
        SCOPED_TRACE(t.lines);
        EXPECT_EQ(summary(of(t.lines, t.path, t.options), t.file), t.says);
    }
}

TEST(explain, tells_why_a_partition_is_invalid_and_what_makes_it_valid) {
    const struct {
        const char *lines, *fault, *remedy;
        model_options options = {};
    } tales[] = {
        {"mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 0-3; write a/b cpuset.cpus 0-1; write a cpuset.cpus.partition root; write a/b cpuset.cpus.partition root; write a cpuset.cpus.partition member",
         "Parent is not a partition root", "write a cpuset.cpus.partition root"},
        {"mkdir a; mkdir b; write a cpuset.cpus 0-3; write b cpuset.cpus 3-4; write b cpuset.cpus.partition isolated", "Cpu list in cpuset.cpus not exclusive", "write b cpuset.cpus 4"},
        {"mkdir b; write b cpuset.cpus.partition root", "are empty", ""},
        {"mkdir b; write b cpuset.cpus 7; write b cpuset.cpus.partition root; attach b t; cpu 7 offline", "root invalid", "cpu 7 online"},
        {"mkdir a; mkdir b; write b cpuset.cpus 3-4; write a cpuset.cpus 4; write b cpuset.cpus.partition root; write a cpuset.cpus 1", "not exclusive", "write b cpuset.cpus.partition member",
         {.profile = kernel::v6_1}},
    };
    for (const auto& t : tales) {
        SCOPED_TRACE(t.lines);
        const explanation e = of(t.lines, std::string(t.lines).find("a/b") == std::string::npos ? "b" : "a/b", t.options);
        EXPECT_FALSE(e.complete());
        ASSERT_EQ(e.fault.size(), 1u);
        EXPECT_EQ(e.fault[0].kind, cause_kind::invalid_partition);
        EXPECT_THAT(e.fault[0].text, HasSubstr(t.fault));
        EXPECT_EQ(e.remedies.empty() ? "" : to_line(e.remedies[0].operations[0]), t.remedy);
    }
}

TEST(explain, tells_inheritance_and_falling_back) {
    const explanation inherits = of("mkdir a", ".");
    EXPECT_TRUE(inherits.complete());
    EXPECT_TRUE(inherits.wishes.empty()) << "the root asks for nothing";
    const explanation child = of("mkdir a; write . cpuset.cpus -> ENOENT", "a");
    ASSERT_EQ(child.wishes.size(), 2u);
    EXPECT_TRUE(child.wishes[0].inherits);
    EXPECT_EQ(child.wishes[0].has, "0-7");
    EXPECT_EQ(child.wishes[1].has, "0-1");
    EXPECT_TRUE(child.complete());
    const explanation falls = of("mkdir a; write a cpuset.cpus 6; write a cpuset.mems 1; cpu 6 offline; node 1 offline", "a");
    EXPECT_TRUE(falls.wishes[0].falls_back);
    EXPECT_TRUE(falls.wishes[1].falls_back);
    EXPECT_EQ(falls.effective_cpus, "0-5,7");
    EXPECT_FALSE(of("mkdir a; write a cpuset.cpus 1", "a").wishes[0].falls_back);
}

TEST(explain, tells_who_governs_a_group_without_a_controller) {
    const explanation e = of("mkdir a; mkdir a/b; write a cpuset.cpus 3", "a/b");
    ASSERT_EQ(e.fault.size(), 1u);
    EXPECT_EQ(cause_name(e.fault[0].kind), "no_controller");
    EXPECT_EQ(e.effective_cpus, "3");
    ASSERT_EQ(e.remedies.size(), 1u);
    EXPECT_EQ(to_line(e.remedies[0].operations.at(0)), "controller a +cpuset");
}

TEST(explain, names_a_set_that_is_not_there) {
    script m;
    const auto e = explain(m.subject(), "a/b");
    ASSERT_FALSE(e);
    EXPECT_EQ(e.error().line(), "cpuset \"a/b\": explain: ENOENT: there is no cgroup of that name");
}

}  // namespace
}  // namespace cohort::cpuset
