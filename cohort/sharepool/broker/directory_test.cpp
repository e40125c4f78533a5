// SPDX-License-Identifier: Apache-2.0
/// Claims about single calls; directory_join_test.cpp has those about joins, directory_model_test.cpp random ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <cohort/sharepool/broker/testing/fake_processes.hpp>

namespace cohort::sharepool {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class directory_groups : public ::testing::Test {
protected:
    /// Attached, and in these groups.
    void start(int pid, std::vector<int> groups = {}, unsigned uid = 1000) {
        all.start(pid, uid);
        ASSERT_EQ(line(d.attach(all.who(pid))), "");
        for (const int id : groups) ASSERT_EQ(line(join(d, root, {.pid = pid, .id = id})), "");
    }
    void TearDown() override { EXPECT_EQ(d.fault(), ""); }

    fake_processes all;
    directory d{{.window = test_window}, all.look()};
};

TEST_F(directory_groups, a_group_is_made_with_what_was_asked_for) {
    const auto g = d.create({10, 1000, 100}, {.id = 7, .bytes = 3 * mib, .name = "orders", .mode = 0640, .limit = mib, .flags = 5});
    ASSERT_EQ(line(g), "");
    const spg expected{.id = 7, .name = "orders", .range = {window_base, 4 * mib}, .owner_uid = 1000, .owner_gid = 100, .mode = 0640, .limit = mib, .flags = 5, .kept = true};
    EXPECT_EQ(*g, expected);
    EXPECT_EQ(d.look_at(7), expected);
    EXPECT_EQ(d.create(root, {.id = 8})->range, (address_range{window_base + 4 * mib, 64 * mib}));
}

TEST_F(directory_groups, ids_are_given_out_from_their_ranges_lowest_first) {
    EXPECT_EQ(d.create(root, {.id = spg_id_auto})->id, 100'000);
    EXPECT_EQ(d.create(root, {.id = spg_id_auto})->id, 100'001);
    EXPECT_EQ(d.create(root, {.id = spg_id_dvpp})->id, 800'000);
    ASSERT_EQ(line(d.destroy(root, 100'000, false)), "");
    EXPECT_EQ(d.create(root, {.id = spg_id_auto})->id, 100'000);
    EXPECT_THAT(d.groups(), ElementsAre(100'000, 100'001, 800'000));
    EXPECT_THAT(d.groups(100'001, 1), ElementsAre(100'001));
}

TEST_F(directory_groups, a_request_that_is_wrong_is_einval_and_says_what) {
    for (const int id : {0, -1, -2, 100'000, 199'999, 200'001, 250'000, 300'000, 800'000, 899'999, 900'001, 1 << 30}) EXPECT_EQ(code(d.create(root, {.id = id})), EINVAL) << id;
    for (const int id : {1, 99'999}) EXPECT_EQ(code(d.create(root, {.id = id})), 0) << id;
    const auto said = [&](group_request r) {
        const auto g = d.create(root, r);
        EXPECT_EQ(code(g), EINVAL);
        return line(g);
    };
    EXPECT_EQ(said({.id = 0}), "group 0: create: EINVAL: a new group has an id of 1-99999, or 200000 or 900000 for one that is given out");
    EXPECT_THAT(said({.id = 7, .bytes = (std::uint64_t{128} << 30) + 1}), HasSubstr("more than the 128 GiB"));
    EXPECT_EQ(said({.id = 7, .bytes = 4 * mib, .limit = 4 * mib + 1}), "group 7: create: EINVAL: a limit of 4194305 bytes is more than the group's 4194304");
    for (const std::string& name : {std::string(32, 'x'), std::string("a/b"), std::string("a\nb"), std::string("a\0b", 3), std::string("a\x7f")}) EXPECT_THAT(said({.id = 7, .name = name}), HasSubstr("at most 31 bytes")) << name;
    EXPECT_EQ(said({.id = 7, .mode = 01000}), "group 7: create: EINVAL: 01000 is no mode of a file");
    EXPECT_EQ(code(d.create(root, {.id = 7, .bytes = std::uint64_t{128} << 30, .name = std::string(31, 'x'), .mode = 0777, .limit = std::uint64_t{128} << 30})), 0);
}

TEST_F(directory_groups, an_id_that_is_used_is_eexist_and_a_dead_ones_enodev) {
    ASSERT_TRUE(d.create(root, {.id = 7}));
    EXPECT_EQ(line(d.create(root, {.id = 7})), "group 7: create: EEXIST: there is a group of this id");
    ASSERT_TRUE(d.find(7));
    ASSERT_TRUE(d.destroy(root, 7, false));
    EXPECT_EQ(line(d.create(root, {.id = 7})), "group 7: create: ENODEV: a dead group has this id until nobody refers to it");
    EXPECT_EQ(d.count(), (directory::totals{.dead = 1, .addresses = 64 * mib}));
    d.drop(7);
    EXPECT_EQ(line(d.create(root, {.id = 7})), "");
}

TEST_F(directory_groups, the_window_that_is_full_is_eoverflow_and_frees_the_new_id) {
    directory small({.window = {window_base, 8 * mib}}, all.look());
    EXPECT_EQ(code(small.create(root, {.id = 1, .bytes = 10 * mib})), EINVAL);
    ASSERT_TRUE(small.create(root, {.id = 1, .bytes = 6 * mib}));
    EXPECT_EQ(line(small.create(root, {.id = spg_id_auto, .bytes = 4 * mib})),
              "new group: create: EOVERFLOW: 4194304 bytes of addresses are not free in one piece; the largest has 2097152");
    EXPECT_EQ(small.create(root, {.id = spg_id_auto, .bytes = 2 * mib})->id, 100'000);
    ASSERT_TRUE(small.destroy(root, 1, false));
    EXPECT_EQ(small.create(root, {.id = 2, .bytes = 6 * mib})->range.base, window_base);
    EXPECT_EQ(small.fault(), "");
}

TEST_F(directory_groups, fifty_thousand_groups_are_fifty_thousand) {  // openEuler: 49,999
    for (int i = 1; i <= 50'000; ++i) ASSERT_EQ(line(d.create(root, {.id = i, .bytes = 2 * mib})), "") << i;
    EXPECT_EQ(line(d.create(root, {.id = 50'001, .bytes = 2 * mib})), "group 50001: create: ENOSPC: 50000 of 50000 are there");
    start(10);
    EXPECT_EQ(code(join(d, root, {.pid = 10})), ENOSPC);
    EXPECT_EQ(code(d.begin_local(root, 10)), 0);  // local groups do not count
    ASSERT_TRUE(d.destroy(root, 3, false));
    EXPECT_EQ(join(d, root, {.pid = 10}).value_or(0), 100'000);  // the id that failed was free again
}

TEST_F(directory_groups, all_auto_ids_taken_is_enospc) {
    directory many({.window = test_window, .most_groups = 200'000}, all.look());
    for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(many.create(root, {.bytes = 2 * mib})) << i;
    EXPECT_EQ(line(many.create(root, {.bytes = 2 * mib})), "new group: create: ENOSPC: all ids of 100000-199999 are taken");
    ASSERT_TRUE(many.destroy(root, 155'555, false));
    EXPECT_EQ(many.create(root, {.bytes = 2 * mib})->id, 155'555);
}

TEST_F(directory_groups, destroy_asks_for_the_owner_and_for_force_where_there_are_members) {
    ASSERT_TRUE(d.create({10, 1000, 1000}, {.id = 7}));
    start(10, {7});
    start(11, {7}, 1001);
    EXPECT_EQ(line(d.destroy(root, 8, false)), "group 8: destroy: ENODEV: there is no such group");
    EXPECT_EQ(line(d.destroy(all.as(11), 7, true)), "group 7: destroy: EPERM: uid 1001 is neither its owner, uid 1000, nor root");
    EXPECT_EQ(line(d.destroy(all.as(10), 7, false)), "group 7: destroy: EBUSY: 2 processes are in it");
    ASSERT_TRUE(d.find(7));
    const auto members = d.destroy(all.as(10), 7, true);
    ASSERT_EQ(line(members), "");
    EXPECT_THAT(*members, ElementsAre(member_facts{all.who(10)}, member_facts{all.who(11)}));
    EXPECT_EQ(line(d.destroy(root, 7, true)), "group 7: destroy: ENODEV: it is dead");
    EXPECT_TRUE(d.look_at(7)->dead);
    EXPECT_EQ(code(d.ids_of(10)), ENODEV);
    EXPECT_THAT(d.exit(all.who(10)), IsEmpty());
    d.drop(7);
    EXPECT_EQ(d.look_at(7), std::nullopt);
}

TEST_F(directory_groups, finding_is_taking) {
    start(10, {7});
    EXPECT_EQ(line(d.find(8)), "group 8: find: ENODEV: there is no such group");
    EXPECT_EQ(d.find(7)->references, 1);
    EXPECT_EQ(d.find(7)->references, 2);
    EXPECT_THAT(d.exit(all.who(10)), ElementsAre(7));
    EXPECT_EQ(line(d.find(7)), "group 7: find: ENODEV: it is dead");
    d.drop(7);
    EXPECT_TRUE(d.look_at(7)->dead);
    d.drop(7);
    EXPECT_EQ(d.look_at(7), std::nullopt);
    EXPECT_DEATH(d.drop(7), "that was not found");
}

TEST_F(directory_groups, a_limit_is_the_owners_to_set) {
    ASSERT_TRUE(d.create({10, 1000, 1000}, {.id = 7, .bytes = 4 * mib}));
    EXPECT_EQ(line(d.set_limit(root, 8, 0)), "group 8: set its limit: ENODEV: there is no such group");
    EXPECT_EQ(code(d.set_limit({11, 1001, 1001}, 7, 0)), EPERM);
    EXPECT_EQ(line(d.set_limit(root, 7, 4 * mib + 1)), "group 7: set its limit to 4194305 bytes: EINVAL: it has 4194304 bytes of addresses");
    EXPECT_EQ(code(d.set_limit({10, 1000, 1000}, 7, 4 * mib)), 0);
    EXPECT_EQ(d.look_at(7)->limit, 4 * mib);
    EXPECT_EQ(code(d.set_files(8, {})), ENODEV);
    EXPECT_EQ(code(d.set_files(7, {1, 2, 3})), 0);
    EXPECT_EQ(d.look_at(7)->files, (group_inodes{1, 2, 3}));
}

TEST_F(directory_groups, what_create_made_outlives_its_members_and_what_a_join_made_does_not) {
    ASSERT_TRUE(d.create(root, {.id = 7}));
    start(10, {7, 8});
    EXPECT_THAT(d.exit(all.who(10)), ElementsAre(8));
    EXPECT_THAT(d.groups(), ElementsAre(7));
    EXPECT_EQ(code(d.find(8)), ENODEV);
}

TEST_F(directory_groups, exit_names_each_dead_group_once_and_no_living_one) {  // openEuler names each group after the first dead one
    start(10, {1, 2, 3, 4, 5});
    start(11, {2, 4, 6});
    ASSERT_EQ(d.commit_add(d.begin_local(root, 10).value()).value_or(0), 200'001);
    EXPECT_THAT(d.exit(all.who(10)), ElementsAre(1, 3, 5, 200'001));
    EXPECT_THAT(d.groups(), ElementsAre(2, 4, 6));
    EXPECT_THAT(d.exit(all.who(10)), IsEmpty());
    EXPECT_THAT(d.exit(all.who(11)), ElementsAre(2, 4, 6));
    EXPECT_EQ(d.count(), directory::totals{});
}

TEST_F(directory_groups, a_number_that_is_used_again_is_another_process) {
    start(10, {7});
    const sys::process_identity old = all.who(10);
    all.start(10);
    EXPECT_EQ(line(d.attach(all.who(10))), "process 10: attach: EEXIST: an earlier process of this number has not left yet");
    EXPECT_EQ(code(d.attach(old)), 0);  // again
    EXPECT_EQ(code(d.attach({0, 1})), EINVAL);
    EXPECT_EQ(code(d.ids_of(10)), ENODEV);
    EXPECT_EQ(code(join(d, root, {.pid = 10, .id = 8})), EOPNOTSUPP);
    EXPECT_THAT(d.exit(all.who(10)), IsEmpty());
    EXPECT_THAT(d.exit(old), ElementsAre(7));
    EXPECT_EQ(code(d.attach(all.who(10))), 0);
    EXPECT_THAT(d.processes(), ElementsAre(all.who(10)));
}

TEST_F(directory_groups, ids_come_oldest_first_and_local_ones_are_hidden) {
    start(10);
    EXPECT_EQ(line(d.ids_of(11)), "process 11: list its groups: ESRCH: there is no such process");
    EXPECT_EQ(line(d.ids_of(10)), "process 10: list its groups: ENODEV: it is in no group");
    const auto local = d.begin_local(all.as(10), 10);
    ASSERT_EQ(line(local), "");
    EXPECT_EQ(d.local_of(10), std::nullopt);
    EXPECT_EQ(d.commit_add(*local).value_or(0), 200'001);
    EXPECT_EQ(d.local_of(10), 200'001);
    EXPECT_EQ(code(d.ids_of(10)), ENODEV);
    for (const int id : {9, 3, 5}) ASSERT_TRUE(join(d, root, {.pid = 10, .id = id}));
    EXPECT_THAT(d.ids_of(10).value(), ElementsAre(9, 3, 5));
    all.known[11] = all.known[10];  // a thread of it
    EXPECT_THAT(d.ids_of(11).value(), ElementsAre(9, 3, 5));
    all.known[10].exiting = true;
    EXPECT_EQ(line(d.ids_of(10)), "process 10: list its groups: ESRCH: it is ending");
}

TEST_F(directory_groups, imports_stay_inside_and_apart) {
    start(10, {7});
    start(11, {7});
    start(12);
    const std::uint64_t base = d.look_at(7)->range.base, end = d.look_at(7)->range.end();
    EXPECT_EQ(line(d.import(all.as(10), 8, {.at = base, .bytes = 4096})), "group 8: import 4096 bytes for process 10: ENODEV: there is no such group");
    EXPECT_EQ(line(d.import(all.as(12), 7, {.at = base, .bytes = 4096})), "group 7: import 4096 bytes for process 12: EPERM: the process is not in it");
    ASSERT_EQ(code(d.import(all.as(10), 7, {.at = base + 8192, .bytes = 8192})), 0);
    ASSERT_EQ(code(d.import(all.as(10), 7, {.at = end - 4096, .bytes = 4096})), 0);
    for (const import_facts wrong : {import_facts{.at = base, .bytes = 0}, {.at = base + 1, .bytes = 4096}, {.at = base, .bytes = 4095}, {.at = base, .bytes = 4096, .offset = 1}, {.at = base - 4096, .bytes = 4096},
                                     {.at = end, .bytes = 4096}, {.at = end - 8192, .bytes = 8192}, {.at = base, .bytes = 12288}, {.at = base + 12288, .bytes = 4096}, {.at = base + 4096, .bytes = 1 << 20},
                                     {.at = base + 16384, .bytes = ~std::uint64_t{4095}}}) {
        EXPECT_EQ(code(d.import(all.as(10), 7, wrong)), EINVAL) << wrong.at - base << " + " << wrong.bytes;
    }
    EXPECT_EQ(code(d.import(all.as(11), 7, {.at = base, .bytes = 8192, .pid = 99, .to_process = true})), 0);
    EXPECT_EQ(code(d.import(all.as(10), 7, {.at = base + 16384, .bytes = 4096})), 0);
    EXPECT_EQ(d.count().imports, 4);
    EXPECT_EQ(d.look_at(7)->imports[0].pid, 11);
    EXPECT_THAT(d.exit(all.who(11)), IsEmpty());  // takes its own with it
    EXPECT_EQ(d.count().imports, 3);
    EXPECT_EQ(d.fault(), "");
    EXPECT_THAT(d.exit(all.who(10)), ElementsAre(7));
    EXPECT_EQ(d.count().imports, 0);
}

TEST_F(directory_groups, unshare_finds_an_import_by_an_address_near_its_start) {
    start(10, {7});
    start(11, {7});
    start(12);
    const std::uint64_t base = d.look_at(7)->range.base;
    const auto put = [&](int pid, std::uint64_t at, std::uint64_t bytes, bool to_process) { ASSERT_EQ(line(d.import(all.as(pid), 7, {.at = base + at, .bytes = bytes, .to_process = to_process})), ""); };
    put(10, 4096, 4096, false);
    put(10, 2 * mib, 8 * mib, true);
    const auto said = [&](int pid, int id, std::uint64_t at, std::uint64_t bytes) { return line(d.unshare(all.as(pid), id, base + at, bytes)); };
    const std::string act = "take back an import for process ";
    EXPECT_EQ(said(10, 8, 4096, 4096), "group 8: " + act + "10: ENODEV: there is no such group");
    EXPECT_EQ(said(12, 7, 4096, 4096), "group 7: " + act + "12: EPERM: the process is not in it");
    EXPECT_EQ(said(10, 7, 0, 1), "group 7: " + act + "10: EINVAL: nothing is imported at this address");
    EXPECT_EQ(said(10, 7, 8192, 1), "group 7: " + act + "10: EINVAL: no import begins at this address, nor within 2 MiB before it");
    EXPECT_THAT(said(10, 7, 4 * mib, 1), HasSubstr("EINVAL"));
    EXPECT_EQ(said(11, 7, 2 * mib, 1), "group 7: " + act + "11: EPERM: process 10 has it for itself");
    EXPECT_EQ(said(10, 7, 4096, 4097), "group 7: " + act + "10: EINVAL: 4097 bytes are asked for, the import has 4096");
    EXPECT_EQ(said(11, 7, 8191, 4096), "");
    EXPECT_EQ(said(10, 7, 4 * mib - 1, 8 * mib), "");
    EXPECT_EQ(d.count().imports, 0);
}

}  // namespace
}  // namespace cohort::sharepool
