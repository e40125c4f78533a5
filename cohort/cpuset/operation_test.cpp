// SPDX-License-Identifier: Apache-2.0
// The grammar of the simulator, and the scripts of the tests.
#include <gtest/gtest-spi.h>

#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

std::size_t column_of_fault(const std::string& line) {
    const auto op = parse_operation(line);
    return op ? 0 : op.error().column;
}

TEST(grammar, every_command_reads_back_as_it_was_written) {
    for (const char* line :
         {"mkdir a/b", "rmdir a", "write a cpuset.cpus 0-3,7", "write a cpuset.cpus", "write . cpuset.mems 0 1", "read . cpuset.cpus.effective", "attach a/b t1",
          "fork t1 t2", "exit t1", "affinity t 0-3", "affinity t ,", "mempolicy t bind+static 0-1", "mempolicy t default", "mempolicy t local", "mempolicy t preferred+relative 2",
          "mbind t weighted-interleave 0", "mbind t preferred-many 1", "mbind t interleave 0", "controller . +cpuset", "controller a -cpuset", "cpu 3 online", "cpu 12 offline",
          "node 1 online", "node 0 offline", "suspend", "resume", "bind v1", "bind v2", "pressure t 10", "advance 5", "as root", "as delegate a/b", "domains",
          "tasks a", "task t"}) {
        const auto op = parse_operation(line);
        ASSERT_TRUE(op.has_value()) << line << ": " << op.error().why;
        EXPECT_EQ(to_line(*op), line);
        EXPECT_EQ(*parse_operation(to_line(*op)), *op);
    }
}

TEST(grammar, white_space_around_words_does_not_matter) {
    const auto op = parse_operation("  write\ta   cpuset.cpus   0-1  3\r");
    ASSERT_TRUE(op.has_value());
    EXPECT_EQ(op->text, "0-1  3") << "a value is taken as it stands";
    EXPECT_EQ(op->path, "a");
}

TEST(grammar, a_fault_names_its_column) {
    EXPECT_EQ(column_of_fault("mkdirs a"), 1u);
    EXPECT_EQ(column_of_fault("  frob"), 3u);
    EXPECT_EQ(column_of_fault("mkdir"), 6u);
    EXPECT_EQ(column_of_fault("mkdir /a"), 7u);
    EXPECT_EQ(column_of_fault("mkdir a//b"), 7u);
    EXPECT_EQ(column_of_fault("mkdir a/.."), 7u);
    EXPECT_EQ(column_of_fault("mkdir a/"), 7u);
    EXPECT_EQ(column_of_fault("mkdir a b"), 9u);
    EXPECT_EQ(column_of_fault("cpu x online"), 5u);
    EXPECT_EQ(column_of_fault("cpu -1 online"), 5u);
    EXPECT_EQ(column_of_fault("cpu 99999999999999999999 online"), 5u);
    EXPECT_EQ(column_of_fault("cpu 1 up"), 7u);
    EXPECT_EQ(column_of_fault("affinity t 3-1"), 12u);
    EXPECT_EQ(column_of_fault("mempolicy t bound 0"), 13u);
    EXPECT_EQ(column_of_fault("mempolicy t bind+ 0"), 13u);
    EXPECT_EQ(column_of_fault("mempolicy t bind+fixed 0"), 13u);
    EXPECT_EQ(column_of_fault("mempolicy t bind 0-"), 18u);
    EXPECT_EQ(column_of_fault("controller a +memory"), 14u);
    EXPECT_EQ(column_of_fault("as somebody"), 4u);
    EXPECT_EQ(column_of_fault("as delegate"), 12u);
    EXPECT_EQ(column_of_fault("bind v3"), 6u);
    EXPECT_EQ(column_of_fault("suspend now"), 9u);
    EXPECT_EQ(column_of_fault("read a"), 7u);
    EXPECT_EQ(column_of_fault(""), 1u);
}

TEST(script, an_answer_that_is_not_the_expected_one_fails_and_names_its_operation) {
    testing::script m;
    m.run("mkdir a; domains -> 0-7  # and not 0-3\nread a cpuset.cpus -> \"\"; domains -> 0...");
    EXPECT_NONFATAL_FAILURE(m.run("mkdir b; domains -> 0-3"), "domains -> 0-3");
    EXPECT_NONFATAL_FAILURE(m.run("domains -> 0"), "0-7");
    EXPECT_NONFATAL_FAILURE(m.run("domains -> \"\""), "0-7");
    EXPECT_NONFATAL_FAILURE(m.run("domains -> 1..."), "domains -> 1...");
    EXPECT_NONFATAL_FAILURE(m.run("\n  rmdir x  # gone\n"), "rmdir x: ENOENT");
    EXPECT_NONFATAL_FAILURE(m.run("rmdir x -> EBUSY"), "ENOENT");
    EXPECT_NONFATAL_FAILURE(m.run("mems nobody -> 0"), "ESRCH");
}

}  // namespace
}  // namespace cohort::cpuset
