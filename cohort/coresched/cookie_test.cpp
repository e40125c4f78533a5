// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/cookie.hpp>

#include <gtest/gtest.h>

namespace cohort::coresched {
namespace {

TEST(cookie, lives_from_its_first_holder_to_its_last) {
    cookie_table t;
    EXPECT_FALSE(t.enabled());
    const cookie a = t.create();
    t.get(a);
    EXPECT_EQ(t.references(a), 2u);
    t.put(a);
    EXPECT_TRUE(t.enabled());
    t.put(a);
    EXPECT_FALSE(t.enabled());
    EXPECT_EQ(t.references(a), 0u);
    EXPECT_NE(t.create(), a) << "a number is not used again";
    EXPECT_EQ(t.times_enabled(), 2u);
}

TEST(cookie, none_is_no_object) {
    cookie_table t;
    t.get(no_cookie);
    t.put(no_cookie);
    EXPECT_EQ(t.live(), 0u);
}

TEST(cookie, of_several_parts_is_one_object_while_it_lives) {
    cookie_table t;
    const cookie a = t.create(), b = t.create();
    const cookie ab = t.compose({a, b}), ba = t.compose({b, no_cookie, a, b});
    EXPECT_EQ(ab, ba);
    EXPECT_EQ(t.references(ab), 2u);
    EXPECT_EQ(t.compose({no_cookie, a, a}), a);
    EXPECT_EQ(t.compose({}), no_cookie);
    EXPECT_EQ(t.references(a), 3u) << "its creator, the composite one, and the one of one part";
    t.put(a);
    t.put(a);
    t.put(b);
    EXPECT_EQ(t.live(), 3u) << "the composite one holds its parts";
    t.put(ab);
    t.put(ab);
    EXPECT_EQ(t.live(), 0u);
}

TEST(cookie_death, one_that_does_not_live_is_a_callers_bug) {
    cookie_table t;
    EXPECT_DEATH(t.get(7), "does not live");
    EXPECT_DEATH(t.put(7), "does not live");
}

}  // namespace
}  // namespace cohort::coresched
