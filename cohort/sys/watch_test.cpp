// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/watch.hpp>

#include <gtest/gtest.h>

#include <algorithm>

#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::sys {
namespace {

bool has(const std::vector<dir_event>& all, dir_event::kind what, const std::string& name) {
    return std::any_of(all.begin(), all.end(), [&](const dir_event& e) { return e.what == what && e.name == name; });
}

TEST(dir_watch, tells_a_write_when_it_is_closed_and_that_one_is_under_way) {
    testing::scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "file", "old"));
    auto watch = dir_watch::create(dir.path());
    ASSERT_TRUE(watch) << watch.error().line();
    EXPECT_TRUE(watch->news()->empty());
    auto fd = open_file(real(), dir / "file", open_write | open_truncate);
    ASSERT_TRUE(write_all(real(), fd->get(), "new"));
    auto first = watch->news().value();
    EXPECT_TRUE(has(first, dir_event::writing, "file"));
    EXPECT_FALSE(has(first, dir_event::changed, "file"));
    ASSERT_TRUE(fd->close());
    EXPECT_TRUE(has(watch->news().value(), dir_event::changed, "file"));
}

TEST(dir_watch, tells_files_that_come_by_rename_and_go) {
    testing::scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "a", "x"));
    auto watch = dir_watch::create(dir.path()).value();
    ASSERT_TRUE(real().rename(dir / "a", dir / "b"));
    auto moved = watch.news().value();
    EXPECT_TRUE(has(moved, dir_event::gone, "a"));
    EXPECT_TRUE(has(moved, dir_event::changed, "b"));
    ASSERT_TRUE(real().unlink(dir / "b"));
    EXPECT_TRUE(has(watch.news().value(), dir_event::gone, "b"));
    ASSERT_TRUE(real().rmdir(dir.path()));
    EXPECT_TRUE(has(watch.news().value(), dir_event::over, ""));
}

TEST(dir_watch, tells_directories_that_are_made) {
    testing::scratch_dir dir;
    auto watch = dir_watch::create(dir.path()).value();
    ASSERT_TRUE(real().mkdir(dir / "sub", 0777));
    EXPECT_TRUE(has(watch.news().value(), dir_event::made, "sub"));
    ASSERT_TRUE(real().rmdir(dir / "sub"));
    EXPECT_TRUE(has(watch.news().value(), dir_event::gone, "sub"));
}

TEST(dir_watch, refuses_what_is_no_directory) {
    testing::scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "file", "x"));
    EXPECT_EQ(dir_watch::create(dir / "file").error().code, ENOTDIR);
    EXPECT_EQ(dir_watch::create(dir / "none").error().code, ENOENT);
}

TEST(try_hold, one_descriptor_at_a_time_until_it_is_closed) {
    testing::scratch_dir dir;
    auto first = open_file(real(), dir.path(), open_read | open_directory), second = open_file(real(), dir.path(), open_read | open_directory);
    EXPECT_TRUE(try_hold(first->get()));
    auto refused = try_hold(second->get());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EAGAIN);
    ASSERT_TRUE(first->close());
    EXPECT_TRUE(try_hold(second->get()));
    EXPECT_EQ(try_hold(-1).error().code, EBADF);
}

}  // namespace
}  // namespace cohort::sys
