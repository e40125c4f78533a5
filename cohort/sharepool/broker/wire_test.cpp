// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/wire.hpp>

#include <gtest/gtest.h>

namespace cohort::sharepool::wire {
namespace {

packet full() {
    return {.what = verb::import, .number = 1, .pid = 2, .id = -3, .code = 4, .flags = 5, .mode = 0600, .at = 6, .bytes = 7, .offset = ~std::uint64_t{0}, .mark = 9, .text = "text\nof lines", .rows = "rows"};
}

TEST(wire, what_is_sent_is_what_comes) {
    EXPECT_EQ(decode(encode(full())).value(), full());
    EXPECT_EQ(decode(encode({})).value(), packet{});
}
TEST(wire, every_length_but_the_right_one_is_refused) {
    const auto bytes = encode(full());
    for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_EQ(decode(std::span(bytes).first(n)).error().code, EPROTO) << n;
    auto longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_EQ(decode(longer).error().code, EPROTO);
}
TEST(wire, what_is_too_long_is_cut_and_still_a_message) {
    packet p = full();
    p.text.assign(2 * most_bytes, 't');
    p.rows.assign(2 * most_bytes, 'r');
    const auto bytes = encode(p);
    EXPECT_EQ(bytes.size(), most_bytes);
    const auto back = decode(bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->rows.size(), most_row_bytes);
    EXPECT_FALSE(add_row(p, group_row{}));
}
TEST(wire, errors_come_back_as_they_were) {
    const error e{ENOSPC, "group 7", "join it", "it is full"};
    EXPECT_EQ(error_of(answer(full(), e)), e);
    EXPECT_EQ(answer(full(), e).number, full().number);
    EXPECT_EQ(error_of({.code = 5, .text = "no lines"}).object, "no lines");
    EXPECT_EQ(error_of({.code = -5}).code, EPROTO);
}
TEST(wire, traces_and_groups_fit_their_rows) {
    packet p;
    const trace t{{"id in range", "7, manual", 0}, {std::string(500, 'w'), std::string(500, 'f'), EEXIST}};
    add_trace(p, t);
    const trace back = trace_of(p);
    ASSERT_EQ(back.size(), 2u);
    EXPECT_EQ(back[0].found, "7, manual");
    EXPECT_EQ(back[1].code, EEXIST);
    EXPECT_EQ(back[1].what.size(), 59u);
    EXPECT_EQ(text_of(row_of({.id = 1, .name = std::string(31, 'n')}).name), std::string(31, 'n'));
}

}  // namespace
}  // namespace cohort::sharepool::wire
