// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/recorded.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::sys {
namespace {

using ::testing::ElementsAre;
using testing::scratch_dir;

/// The same claims hold for the real system and for a recorded one.
class any_files : public ::testing::TestWithParam<bool> {
protected:
    any_files() {
        if (!GetParam()) recorded_.add_dir(dir_.path());
    }
    os& system() { return GetParam() ? real() : static_cast<os&>(recorded_); }
    scratch_dir dir_;
    recorded recorded_;
};
INSTANTIATE_TEST_SUITE_P(files, any_files, ::testing::Values(true, false), [](const auto& p) { return p.param ? "real" : "recorded"; });

TEST_P(any_files, read_back_what_was_written) {
    std::string text(300'000, 'x');
    text += "end";
    ASSERT_TRUE(write_file(system(), dir_ / "a", text));
    EXPECT_EQ(read_file(system(), dir_ / "a").value(), text);
    EXPECT_EQ(read_file(system(), dir_ / "a", 1000).error().code, EFBIG);
    auto file = open_file(system(), dir_ / "a", open_read);
    ASSERT_TRUE(file);
    char tail[10]{};
    EXPECT_EQ(system().pread(file->get(), std::as_writable_bytes(std::span(tail)), 300'000).value(), 3u);
    EXPECT_STREQ(tail, "end");
    EXPECT_EQ(system().pread(file->get(), std::as_writable_bytes(std::span(tail)), 400'000).value(), 0u);
    EXPECT_EQ(system().fstat(file->get())->size, text.size());
    EXPECT_EQ(system().fstat(file->get())->kind, file_kind::regular);
    EXPECT_EQ(system().stat(dir_.path())->kind, file_kind::directory);
}

TEST_P(any_files, write_modes) {
    ASSERT_TRUE(write_file(system(), dir_ / "a", "one two"));
    ASSERT_TRUE(write_file(system(), dir_ / "a", "three"));
    auto more = open_file(system(), dir_ / "a", open_write | open_append);
    ASSERT_TRUE(write_all(system(), more->get(), " four"));
    EXPECT_EQ(read_file(system(), dir_ / "a").value(), "three four");
    auto inside = open_file(system(), dir_ / "a", open_read | open_write);
    EXPECT_EQ(system().pwrite(inside->get(), std::as_bytes(std::span("THREE", 5)), 0).value(), 5u);
    EXPECT_TRUE(system().ftruncate(inside->get(), 6));
    EXPECT_TRUE(system().fsync(inside->get()));
    EXPECT_EQ(read_file(system(), dir_ / "a").value(), "THREE ");
    EXPECT_EQ(read_line(system(), dir_ / "a").value(), "THREE");
    EXPECT_EQ(open_file(system(), dir_ / "a", open_write | open_create | open_exclusive).error().code, EEXIST);
    auto memory = system().memfd("m");
    ASSERT_TRUE(memory);
    EXPECT_TRUE(write_all(system(), *memory, "abc"));
    EXPECT_EQ(system().fstat(*memory)->size, 3u);
    EXPECT_TRUE(system().close(*memory));
}

TEST_P(any_files, errors_name_the_object_and_the_act) {
    EXPECT_EQ(read_file(system(), dir_ / "none").error().line(), dir_ / "none" + ": open: ENOENT: No such file or directory");
    EXPECT_EQ(system().open(dir_.path(), open_write, 0666).error().code, EISDIR);
    EXPECT_EQ(system().open(dir_ / "no" + "/file", open_write | open_create, 0666).error().code, ENOENT);
    ASSERT_TRUE(write_file(system(), dir_ / "a", "x"));
    EXPECT_EQ(system().open(dir_ / "a", open_read | open_directory, 0).error().code, ENOTDIR);
    EXPECT_EQ(read_file(system(), dir_.path()).error().code, EISDIR);
    EXPECT_EQ(system().stat(dir_ / "none").error().code, ENOENT);
    EXPECT_EQ(system().unlink(dir_ / "none").error().code, ENOENT);
    EXPECT_EQ(system().unlink(dir_.path()).error().code, EISDIR);
    EXPECT_EQ(system().rename(dir_ / "none", dir_ / "b").error().code, ENOENT);
    EXPECT_EQ(system().readlink(dir_ / "a").error().code, EINVAL);
    EXPECT_EQ(system().list_dir(dir_ / "a").error().code, ENOTDIR);
    EXPECT_EQ(system().mkdir(dir_.path(), 0777).error().code, EEXIST);
    EXPECT_EQ(system().rmdir(dir_ / "a").error().code, ENOTDIR);
    const int bad = 99'999;
    std::byte byte{};
    EXPECT_EQ(system().read(bad, std::span(&byte, 1)).error().line(), "fd 99999: read: EBADF: Bad file descriptor");
    EXPECT_EQ(system().write(bad, std::span(&byte, 1)).error().code, EBADF);
    EXPECT_EQ(system().pread(bad, std::span(&byte, 1), 0).error().code, EBADF);
    EXPECT_EQ(system().pwrite(bad, std::span(&byte, 1), 0).error().code, EBADF);
    EXPECT_EQ(system().fstat(bad).error().code, EBADF);
    EXPECT_EQ(system().fsync(bad).error().code, EBADF);
    EXPECT_EQ(system().ftruncate(bad, 0).error().code, EBADF);
    EXPECT_EQ(system().set_nonblocking(bad, true).error().code, EBADF);
    EXPECT_EQ(system().close(bad).error().code, EBADF);
    EXPECT_FALSE(system().terminal_width(bad));
    EXPECT_FALSE(system().isatty(bad));
    auto reader = open_file(system(), dir_ / "a", open_read);
    EXPECT_EQ(system().write(reader->get(), std::span(&byte, 1)).error().code, EBADF);
}

TEST_P(any_files, directories) {
    ASSERT_TRUE(system().mkdir(dir_ / "d", 0777));
    ASSERT_TRUE(write_file(system(), dir_ / "d/z", ""));
    ASSERT_TRUE(write_file(system(), dir_ / "d/a", ""));
    ASSERT_TRUE(system().mkdir(dir_ / "d/m", 0777));
    ASSERT_TRUE(write_file(system(), dir_ / "d/m/inner", "i"));
    EXPECT_THAT(system().list_dir(dir_ / "d").value(), ElementsAre("a", "m", "z"));
    EXPECT_EQ(system().rmdir(dir_ / "d/m").error().code, ENOTEMPTY);
    ASSERT_TRUE(system().rename(dir_ / "d/a", dir_ / "d/m/inner"));
    EXPECT_EQ(read_file(system(), dir_ / "d/m/inner").value(), "");
    ASSERT_TRUE(system().unlink(dir_ / "d/m/inner"));
    ASSERT_TRUE(system().rmdir(dir_ / "d/m"));
    EXPECT_THAT(system().list_dir(dir_ / "d").value(), ElementsAre("z"));
    ASSERT_TRUE(system().mkdir(dir_ / "e", 0777));
    EXPECT_EQ(system().rename(dir_ / "d/z", dir_ / "e").error().code, EISDIR);
}

TEST_P(any_files, temp_file_appears_whole_or_not_at_all) {
    {
        auto temp = temp_file::create(system(), dir_ / "out");
        ASSERT_TRUE(temp);
        ASSERT_TRUE(write_all(system(), temp->fd(), "half"));
        EXPECT_EQ(system().stat(dir_ / "out").error().code, ENOENT);
    }
    EXPECT_TRUE(system().list_dir(dir_.path())->empty()) << "an uncommitted temporary file is removed";
    auto temp = temp_file::create(system(), dir_ / "out");
    ASSERT_TRUE(write_all(system(), temp->fd(), "whole"));
    temp_file moved = std::move(*temp);
    ASSERT_TRUE(moved.commit(true));
    EXPECT_EQ(read_file(system(), dir_ / "out").value(), "whole");
    EXPECT_EQ(system().list_dir(dir_.path())->size(), 1u);
    EXPECT_EQ(temp_file::create(system(), dir_.path()).error().code, EISDIR);
    EXPECT_EQ(temp_file::create(system(), dir_ / "no/out").error().line(), dir_ / "no/out" + ": create: ENOENT: No such file or directory");
}

TEST(temp_file, tells_its_name_before_it_is_there) {
    const scratch_dir dir;
    std::string heard;
    const auto temp = temp_file::create(real(), dir / "out", 0600, [&](const std::string& name) {
        heard = name;
        EXPECT_TRUE(real().list_dir(dir.path())->empty());
    });
    ASSERT_TRUE(temp);
    EXPECT_EQ(heard, temp->name());
}

TEST(redirect, what_is_written_goes_elsewhere_from_then_on) {
    const scratch_dir dir;
    auto first = open_file(real(), dir / "first", open_write | open_create), second = open_file(real(), dir / "second", open_write | open_create);
    ASSERT_TRUE(write_all(real(), first->get(), "a"));
    ASSERT_TRUE(redirect(first->get(), second->get()));
    ASSERT_TRUE(write_all(real(), first->get(), "b"));
    EXPECT_EQ(read_file(real(), dir / "first").value(), "a");
    EXPECT_EQ(read_file(real(), dir / "second").value(), "b");
    EXPECT_EQ(redirect(first->get(), 99'999).error().line(), fd_name(first->get()) + ": dup2: EBADF: Bad file descriptor");
}

TEST(temp_file, leaves_nothing_whichever_call_fails) {
    const scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "out", "old"));
    int failed = 0;
    for (int nth = 1;; ++nth) {
        failing system(real(), {.nth = nth, .code = EIO});
        const auto r = [&]() -> result<void> {
            auto temp = temp_file::create(system, dir / "out");
            if (!temp) return std::unexpected(temp.error());
            if (auto w = write_all(system, temp->fd(), "new"); !w) return w;
            return temp->commit(true);
        }();
        if (system.failures() == 0) {
            ASSERT_TRUE(r);
            break;
        }
        const bool only_asked = nth == 1;  // the stat that looks for a directory
        if (!only_asked) {
            ++failed;
            EXPECT_EQ(r.error().code, EIO);
            EXPECT_EQ(read_file(real(), dir / "out").value(), "old") << "call " << nth;
        }
        EXPECT_EQ(real().list_dir(dir.path())->size(), 1u) << "call " << nth;
        ASSERT_TRUE(write_file(real(), dir / "out", "old"));
    }
    EXPECT_EQ(failed, 5) << "open, write, fsync, close, rename";
    EXPECT_EQ(read_file(real(), dir / "out").value(), "new");
}

TEST(fd, short_reads_and_writes_are_continued) {
    const scratch_dir dir;
    failing system(real(), {.nth = 0});
    system.limit_io(3);
    const std::string text = "ten bytes!";
    ASSERT_TRUE(write_file(system, dir / "a", text));
    EXPECT_EQ(system.calls("write"), 4);
    EXPECT_EQ(read_file(system, dir / "a").value(), text);
    EXPECT_GE(system.calls("read"), 4);
    EXPECT_EQ(system.calls(), system.calls("open") + system.calls("write") + system.calls("read") + system.calls("close"));
}

TEST(fd, full_disk_is_an_error) {
    auto full = open_file(real(), "/dev/full", open_write);
    ASSERT_TRUE(full);
    EXPECT_EQ(write_all(real(), full->get(), "x").error().line(), fd_name(full->get()) + ": write: ENOSPC: No space left on device");
    EXPECT_EQ(write_file(real(), "/dev/full", "x").error().object, "/dev/full");
    EXPECT_EQ(real().fstat(full->get())->kind, file_kind::character);
}

TEST(fd, every_descriptor_is_close_on_exec) {
    const auto cloexec = [](int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; };
    const auto ends = real().pipe().value();
    const owned_fd a(real(), ends.read), b(real(), ends.write), c(real(), real().memfd("x").value()), d(real(), real().open("/", open_read, 0).value());
    for (int fd : {a.get(), b.get(), c.get(), d.get()}) EXPECT_TRUE(cloexec(fd));
}

TEST(fd, owned_fd_closes_once) {
    failing system(real(), {.nth = 0});
    {
        owned_fd a(system, real().memfd("x").value());
        owned_fd b = std::move(a);
        EXPECT_FALSE(a);
        owned_fd c(system, real().memfd("y").value());
        c = std::move(b);
        EXPECT_EQ(system.calls("close"), 1);
        owned_fd& itself = c;
        c = std::move(itself);
        EXPECT_TRUE(c);
    }
    EXPECT_EQ(system.calls("close"), 2);
}

TEST(pipe, non_blocking_ends_are_waited_for) {
    const auto ends = real().pipe().value();
    const owned_fd in(real(), ends.read), out(real(), ends.write);
    EXPECT_EQ(real().fstat(in.get())->kind, file_kind::pipe);
    EXPECT_GE(real().set_pipe_size(out.get(), 65536).value(), 65536u);
    ASSERT_TRUE(real().set_nonblocking(in.get(), true));
    ASSERT_TRUE(real().set_nonblocking(out.get(), true));
    std::byte one{};
    EXPECT_EQ(real().read(in.get(), std::span(&one, 1)).error().code, EAGAIN);
    const std::string text(1'000'000, 'p');
    std::string got(text.size(), ' ');
    std::thread writer([&] { EXPECT_TRUE(write_all(real(), out.get(), text)); });
    EXPECT_EQ(read_full(real(), in.get(), std::as_writable_bytes(std::span(got))).value(), text.size());
    writer.join();
    EXPECT_EQ(got, text);
}

TEST(pipe, poll_tells_readiness_and_hang_up) {
    const auto ends = real().pipe().value();
    const owned_fd in(real(), ends.read);
    owned_fd out(real(), ends.write);
    poll_item items[2] = {{.fd = in.get(), .want_read = true}, {.fd = out.get(), .want_write = true}};
    EXPECT_EQ(real().poll(items, 0).value(), 1);
    EXPECT_FALSE(items[0].can_read);
    EXPECT_TRUE(items[1].can_write);
    const auto start = real().now();
    EXPECT_EQ(real().poll(std::span(items, 1), 2'000'000).value(), 0);
    EXPECT_GE(real().now() - start, 2'000'000u);
    ASSERT_TRUE(write_all(real(), out.get(), "x"));
    EXPECT_EQ(real().poll(std::span(items, 1), std::nullopt).value(), 1);
    EXPECT_TRUE(items[0].can_read);
    EXPECT_FALSE(items[0].hung_up);
    ASSERT_TRUE(out.close());
    EXPECT_EQ(read_rest(real(), in.get()).value(), "x");
    EXPECT_EQ(real().poll(std::span(items, 1), std::nullopt).value(), 1);
    EXPECT_TRUE(items[0].hung_up);
    EXPECT_TRUE(items[0].can_read);
}

TEST(recorded, follows_links_and_knows_loops) {
    recorded host;
    host.add_file("/sys/devices/node0/cpulist", "0-3\n");
    host.add_link("/sys/node", "devices/node0");
    host.add_link("/abs", "/sys/node");
    host.add_link("/loop", "loop");
    EXPECT_EQ(read_line(host, "/abs/cpulist").value(), "0-3");
    EXPECT_EQ(read_line(host, "/sys/./node/../node0//cpulist").value(), "0-3");
    EXPECT_EQ(host.readlink("/abs").value(), "/sys/node");
    EXPECT_EQ(read_line(host, "/loop").error().code, ELOOP);
    EXPECT_THAT(host.list_dir("/").value(), ElementsAre("abs", "loop", "sys"));
}

TEST(recorded, keeps_a_record_of_writes) {
    recorded host;
    host.add_file("/cg/cpuset.cpus", "");
    host.add_file("/cg/locked", "1");
    host.set_read_only("/cg/locked");
    ASSERT_TRUE(write_file(host, "/cg/cpuset.cpus", "0-1"));
    EXPECT_EQ(write_file(host, "/cg/locked", "2").error().code, EACCES);
    EXPECT_EQ(host.unlink("/cg/locked").error().code, EACCES);
    EXPECT_THAT(host.writes(), ElementsAre(recorded::written{"/cg/cpuset.cpus", "0-1"}));
    EXPECT_EQ(host.content("/cg/cpuset.cpus"), "0-1");
    EXPECT_EQ(host.content("/cg"), std::nullopt);
    host.set_read_only("/cg");
    EXPECT_EQ(host.mkdir("/cg/child", 0777).error().code, EACCES);
    EXPECT_EQ(write_file(host, "/cg/new", "").error().code, EACCES);
}

TEST(recorded, loads_a_directory_tree) {
    const scratch_dir dir;
    ASSERT_TRUE(real().mkdir(dir / "proc", 0777));
    ASSERT_TRUE(write_file(real(), dir / "proc/version", "Linux 6.12\n"));
    ASSERT_EQ(::symlink("version", (dir / "proc/v").c_str()), 0);
    recorded host;
    ASSERT_TRUE(host.load(real(), dir.path()));
    EXPECT_EQ(read_line(host, "/proc/v").value(), "Linux 6.12");
    EXPECT_EQ(host.readlink("/proc/v").value(), "version");
    EXPECT_EQ(host.load(real(), dir / "none").error().code, ENOENT);
}

TEST(recorded, answers_enosys_for_what_it_does_not_have) {
    recorded host;
    EXPECT_EQ(host.pipe().error().code, ENOSYS);
    EXPECT_EQ(host.set_pipe_size(1, 1).error().code, ENOSYS);
    EXPECT_EQ(host.spawn({.argv = {"true"}}).error().line(), "true: spawn: ENOSYS: a recorded machine has files only");
    EXPECT_EQ(host.wait(1).error().code, ENOSYS);
    EXPECT_EQ(host.try_wait(1).error().code, ENOSYS);
    EXPECT_EQ(host.pidfd(1).error().code, ENOSYS);
    EXPECT_EQ(host.kill(1, 0).error().code, ENOSYS);
    EXPECT_EQ(host.terminal_width(1).error().code, ENOTTY);
}

TEST(recorded, facts_are_what_was_set) {
    recorded host;
    host.set_affinity(cpumask::range(8000, 8191));
    host.set_place({.cpu = 8001, .node = 3});
    host.set_now(77);
    host.set_env("HOME", "/root");
    EXPECT_EQ(host.sched_getaffinity(0)->list(), "8000-8191");
    EXPECT_TRUE(host.sched_setaffinity(0, cpumask{1}));
    EXPECT_EQ(host.sched_getaffinity(0)->list(), "1");
    EXPECT_EQ(host.sched_setaffinity(0, {}).error().code, EINVAL);
    EXPECT_EQ(host.getcpu().cpu, 8001);
    EXPECT_EQ(host.now(), 77u);
    host.sleep_until(100);
    EXPECT_EQ(host.now(), 100u);
    EXPECT_EQ(host.getenv("HOME"), "/root");
    EXPECT_EQ(host.getenv("NONE"), std::nullopt);
}

TEST(recorded, owners_change_and_the_rest_of_a_file_stays) {
    recorded host;
    host.add_file("/a", "text");
    ASSERT_TRUE(host.chown("/a", 1000, 100));
    ASSERT_TRUE(host.chown("/a", 1001, -1));
    const auto info = host.stat("/a").value();
    EXPECT_EQ(info.uid, 1001u);
    EXPECT_EQ(info.gid, 100u);
    EXPECT_EQ(host.chown("/none", 1, 1).error().code, ENOENT);
    EXPECT_EQ(real().chown("/no/such/file", 1, 1).error().code, ENOENT);
    testing::scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "f", "x"));
    const auto before = real().stat(dir / "f").value();
    EXPECT_TRUE(real().chown(dir / "f", before.uid, -1));
    EXPECT_EQ(real().stat(dir / "f")->gid, before.gid);
}

TEST(real_facts, a_memory_policy_is_read_back_and_pages_move_to_where_they_are) {
    const auto before = real().get_mempolicy();
    if (!before && before.error().code == ENOSYS) GTEST_SKIP() << "this kernel has no NUMA";
    ASSERT_TRUE(before) << before.error().line();
    ASSERT_TRUE(real().set_mempolicy({.mode = mempolicy_bind, .nodes = {0}}));
    EXPECT_EQ(real().get_mempolicy().value(), (mempolicy{.mode = mempolicy_bind, .nodes = {0}}));
    EXPECT_EQ(real().set_mempolicy({.mode = mempolicy_bind, .nodes = {}}).error().code, EINVAL);
    ASSERT_TRUE(real().set_mempolicy(*before));
    EXPECT_EQ(real().get_mempolicy().value(), *before);
    alignas(4096) static std::byte pages[8192];
    EXPECT_TRUE(real().mbind(pages, sizeof pages, {.mode = mempolicy_bind, .nodes = {0}}, true));
    EXPECT_TRUE(real().mbind(pages, sizeof pages, {}, false));
    EXPECT_EQ(real().mbind(pages + 1, 4096, {.mode = mempolicy_bind, .nodes = {0}}, false).error().code, EINVAL);
    EXPECT_TRUE(real().migrate_pages(0, {0}, {0}));
    EXPECT_FALSE(real().migrate_pages(0x7fffffff, {0}, {0}));
}

TEST(failing, fails_the_call_that_was_chosen) {
    recorded host;
    host.add_file("/a", "text");
    failing third(host, {.call = "open", .nth = 3, .code = EMFILE});
    EXPECT_TRUE(read_file(third, "/a"));
    EXPECT_TRUE(read_file(third, "/a"));
    EXPECT_EQ(read_file(third, "/a").error().line(), "/a: open: EMFILE: Too many open files (injected)");
    EXPECT_TRUE(read_file(third, "/a"));
    EXPECT_EQ(third.failures(), 1);
    failing always(host, {.call = "read", .nth = 1, .code = EIO, .times = -1});
    EXPECT_FALSE(read_file(always, "/a"));
    EXPECT_FALSE(read_file(always, "/a"));
    EXPECT_EQ(always.failures(), 2);
    failing once(host, {});
    EXPECT_FALSE(once.stat("/a"));
    EXPECT_TRUE(once.stat("/a"));
}

}  // namespace
}  // namespace cohort::sys
