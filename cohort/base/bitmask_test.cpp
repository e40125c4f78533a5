// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/cpumask.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace cohort {
namespace {

using testing::HasSubstr;

/// Random masks of every density, with the seed in the failure message.
cpumask random_mask(std::mt19937_64& random, int bits) {
    cpumask out;
    const int regions = static_cast<int>(random() % 20);
    for (int i = 0; i < regions; ++i) {
        const int first = static_cast<int>(random() % bits);
        out |= cpumask::range(first, std::min(bits - 1, first + static_cast<int>(random() % 70)));
    }
    for (int i = static_cast<int>(random() % 50); i > 0; --i) out.clear(static_cast<int>(random() % bits));
    return out;
}

TEST(bitmask, list_and_hex_read_back_what_they_wrote) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    for (int round = 0; round < 2000; ++round) {
        const int bits = 1 + static_cast<int>(random() % max_cpus);
        const cpumask mask = random_mask(random, bits);
        const auto by_list = cpumask::parse_list(mask.list(), bits);
        ASSERT_TRUE(by_list) << by_list.error().line();
        ASSERT_EQ(*by_list, mask) << mask.list();
        const auto by_hex = cpumask::parse_hex(mask.hex(), bits);
        ASSERT_TRUE(by_hex) << by_hex.error().line();
        ASSERT_EQ(*by_hex, mask) << mask.hex();
    }
}

TEST(bitmask, members_agree_with_a_plain_set) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    for (int round = 0; round < 50; ++round) {
        const cpumask mask = random_mask(random, max_cpus);
        std::vector<int> plain;
        for (int m = 0; m < max_cpus; ++m) {
            if (mask.test(m)) plain.push_back(m);
        }
        EXPECT_EQ(std::vector<int>(mask.begin(), mask.end()), plain);
        EXPECT_EQ(mask.weight(), static_cast<int>(plain.size()));
        EXPECT_EQ(mask.first(), plain.empty() ? -1 : plain.front());
        EXPECT_EQ(mask.last(), plain.empty() ? -1 : plain.back());
        for (std::size_t i = 0; i < plain.size(); i += 7) EXPECT_EQ(mask.nth(static_cast<int>(i)), plain[i]);
        EXPECT_EQ(mask.nth(static_cast<int>(plain.size())), -1);
    }
}

TEST(bitmask, numbers_outside_the_capacity_are_ignored) {
    nodemask mask;
    mask.set(-1);
    mask.set(max_nodes);
    mask.clear(max_nodes + 64);
    EXPECT_TRUE(mask.empty());
    EXPECT_FALSE(mask.test(-1));
    EXPECT_FALSE(mask.test(max_nodes));
}

TEST(bitmask, set_algebra) {
    const cpumask a = cpumask::range(0, 99), b = cpumask::range(50, 149);
    EXPECT_EQ((a & b).list(), "50-99");
    EXPECT_EQ((a | b).list(), "0-149");
    EXPECT_EQ((a ^ b).list(), "0-49,100-149");
    EXPECT_EQ((a - b).list(), "0-49");
    EXPECT_TRUE((a & b).subset_of(a));
    EXPECT_FALSE(a.subset_of(b));
    EXPECT_TRUE(a.intersects(b));
    EXPECT_FALSE((a - b).intersects(b));
    EXPECT_TRUE(cpumask::range(3, 2).empty());
}

struct list_case {
    const char* text;
    int bits;
    const char* want;
};
class good_list : public testing::TestWithParam<list_case> {};
TEST_P(good_list, means) {
    const auto [text, bits, want] = GetParam();
    const auto got = cpumask::parse_list(text, bits);
    ASSERT_TRUE(got) << got.error().line();
    EXPECT_EQ(got->list(), want);
}
INSTANTIATE_TEST_SUITE_P(bitmask, good_list, testing::Values(
    list_case{"", 8, ""}, list_case{" ", 8, ""}, list_case{",,", 8, ""}, list_case{"\n", 8, ""},
    list_case{"0", 1, "0"}, list_case{"0-3,8", 16, "0-3,8"}, list_case{"0,1-2,", 8, "0-2"}, list_case{"3 5\t7\n", 8, "3,5,7"},
    list_case{"1,1,1-2", 8, "1-2"}, list_case{"3,1,2", 8, "1-3"}, list_case{"5-5", 8, "5"}, list_case{"007", 8, "7"},
    list_case{"N", 8, "7"}, list_case{"n", 8, "7"}, list_case{"2-N", 8, "2-7"}, list_case{"N-N", 8, "7"}, list_case{"all", 8, "0-7"}, list_case{"ALL", 8, "0-7"},
    list_case{"all:1/2", 8, "0,2,4,6"}, list_case{"0-15:2/4", 16, "0-1,4-5,8-9,12-13"}, list_case{"0-5:2/4", 16, "0-1,4-5"},
    list_case{"0-4:2/4", 16, "0-1,4"}, list_case{"0-7:4/4", 8, "0-7"}, list_case{"0-7:0/4", 8, ""}, list_case{"1-7:1/4294967295", 8, "1"},
    list_case{"0-N:1/N", 8, "0,7"}, list_case{"8191", 8192, "8191"}));

struct bad_case {
    const char* text;
    int bits;
    int code;
    const char* reason;
};
class bad_list : public testing::TestWithParam<bad_case> {};
TEST_P(bad_list, is_refused_with_place_and_reason) {
    const auto [text, bits, code, reason] = GetParam();
    const auto got = cpumask::parse_list(text, bits);
    ASSERT_FALSE(got) << got->list();
    EXPECT_EQ(got.error().code, code) << got.error().line();
    EXPECT_THAT(got.error().line(), HasSubstr(reason));
}
INSTANTIATE_TEST_SUITE_P(bitmask, bad_list, testing::Values(
    bad_case{"-1", 8, EINVAL, "at character 1: a number was expected, found '-'"}, bad_case{"0-", 8, EINVAL, "at character 3: a number was expected, found end of text"},
    bad_case{"0--3", 8, EINVAL, "at character 3"}, bad_case{"0AAA", 8, EINVAL, "at character 2: ',' or '-' was expected, found 'A'"},
    bad_case{"0-1-2", 8, EINVAL, "at character 4"}, bad_case{"3-1", 8, EINVAL, "3 is greater than 1"}, bad_case{"0 -1", 8, EINVAL, "at character 3"},
    bad_case{"5:1/2", 8, EINVAL, "at character 2"}, bad_case{"0-7:1", 8, EINVAL, "'/' was expected, found end of text"}, bad_case{"0-7:/2", 8, EINVAL, "at character 5"},
    bad_case{"0-7:1/", 8, EINVAL, "at character 7"}, bad_case{"0-7:1/0", 8, EINVAL, "size 0"}, bad_case{"0-7:3/2", 8, EINVAL, "3 of a group of 2"},
    bad_case{"0-7:1/2x", 8, EINVAL, "at character 8"}, bad_case{"al", 8, EINVAL, "\"all\" was expected"}, bad_case{"allx", 8, EINVAL, "at character 4"}, bad_case{"alliance", 8, EINVAL, "at character 4"},
    bad_case{"8", 8, ERANGE, "8 is beyond the last, 7"}, bad_case{"0-8", 8, ERANGE, "8 is beyond the last, 7"}, bad_case{"1,8192", 8192, ERANGE, "at character 3: 8192"},
    bad_case{"9-8", 4, EINVAL, "9 is greater than 8"}, bad_case{"4294967295", 8, ERANGE, "beyond"}, bad_case{"4294967296", 8, EOVERFLOW, "does not fit"},
    bad_case{"0-99999999999999999999", 8, EOVERFLOW, "at character 3"}, bad_case{"\x01", 8, EINVAL, "byte 1"}));

TEST(bitmask, errors_name_what_was_parsed) {
    EXPECT_EQ(cpumask::parse_list("0-x").error().line(), "cpu list \"0-x\": parse: EINVAL: at character 3: a number was expected, found 'x'");
    EXPECT_EQ(nodemask::parse_hex("x").error().line(), "node mask \"x\": parse: EINVAL: at character 1: a hex digit was expected, found 'x'");
    const std::string longer(1000, 'x');
    EXPECT_LT(cpumask::parse_list(longer).error().line().size(), 200u);
    EXPECT_FALSE(cpumask::parse_list(std::string_view("1\0002", 3)));
}

TEST(bitmask, hex_form_is_the_kernels) {
    EXPECT_EQ(cpumask{}.hex(), "0");
    EXPECT_EQ(cpumask::range(0, 7).hex(), "ff");
    EXPECT_EQ(cpumask{32}.hex(), "1,00000000");
    EXPECT_EQ((cpumask{0, 35, 95}).hex(), "80000000,00000008,00000001");
}

class good_hex : public testing::TestWithParam<list_case> {};
TEST_P(good_hex, means) {
    const auto [text, bits, want] = GetParam();
    const auto got = cpumask::parse_hex(text, bits);
    ASSERT_TRUE(got) << got.error().line();
    EXPECT_EQ(got->list(), want);
}
INSTANTIATE_TEST_SUITE_P(bitmask, good_hex, testing::Values(
    list_case{"", 8, ""}, list_case{"0", 8, ""}, list_case{"ff\n", 8, "0-7"}, list_case{"0xF", 8, "0-3"}, list_case{"0X1,0", 64, "32"}, list_case{"1,00000000", 64, "32"},
    list_case{"deadbeef", 32, "0-3,5-7,9-13,15-16,18-19,21,23,25-28,30-31"}, list_case{"0,0,0,1", 8, "0"}, list_case{"1,\n,2", 64, "1,32"}, list_case{"3", 2, "0-1"}));

class bad_hex : public testing::TestWithParam<bad_case> {};
TEST_P(bad_hex, is_refused_with_place_and_reason) {
    const auto [text, bits, code, reason] = GetParam();
    const auto got = cpumask::parse_hex(text, bits);
    ASSERT_FALSE(got) << got->list();
    EXPECT_EQ(got.error().code, code) << got.error().line();
    EXPECT_THAT(got.error().line(), HasSubstr(reason));
}
INSTANTIATE_TEST_SUITE_P(bitmask, bad_hex, testing::Values(
    bad_case{"g", 8, EINVAL, "at character 1"}, bad_case{"zz", 8, EINVAL, "at character 1: a hex digit was expected, found 'z'"},
    bad_case{"1,zf,g", 8, EINVAL, "at character 3"}, bad_case{"0x", 8, EINVAL, "after 0x"}, bad_case{"0x,1", 8, EINVAL, "after 0x"}, bad_case{"1,0x1", 64, EINVAL, "at character 4"},
    bad_case{"-1", 8, EINVAL, "found '-'"}, bad_case{"123456789", 64, EOVERFLOW, "more than 8 digits"}, bad_case{"100", 8, EOVERFLOW, "8 is beyond the last, 7"},
    bad_case{"4", 2, EOVERFLOW, "2 is beyond the last, 1"}, bad_case{"1,00000000", 32, EOVERFLOW, "32 is beyond"}));

TEST(bitmask, hex_longer_than_the_capacity_may_only_be_zero) {
    std::string text = "1";
    for (int i = 0; i < max_cpus / 32 + 10; ++i) text += ",00000000";
    EXPECT_EQ(cpumask::parse_hex(text).error().code, EOVERFLOW);
    text[0] = '0';
    EXPECT_TRUE(cpumask::parse_hex(text)->empty());
}

TEST(bitmask_death, nr_bits_beyond_the_capacity_is_the_callers_bug) {
    EXPECT_DEATH((void)nodemask::parse_list("0", max_nodes + 1), "nr_bits outside");
    EXPECT_DEATH((void)cpumask::parse_hex("0", 0), "nr_bits outside");
}

TEST(error, prints_one_line_without_its_empty_parts) {
    EXPECT_EQ((error{ENOSPC, "pool", "alloc", "full"}).line(), "pool: alloc: ENOSPC: full");
    EXPECT_EQ((error{ENOSPC, "", "", ""}).line(), "ENOSPC");
    EXPECT_EQ((error{4242, "x", "", ""}).line(), "x: E4242");
    EXPECT_EQ(errno_text(ENOENT), "No such file or directory");
}

}  // namespace
}  // namespace cohort
