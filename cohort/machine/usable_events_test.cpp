// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/usable_events.hpp>

#include <gtest/gtest.h>

#include <cohort/sys/failing.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/recorded.hpp>
#include <cohort/sys/uevents.hpp>

namespace cohort::machine {
namespace {

using strings = std::vector<std::string>;

/// Writes down what it hears.
struct listener {
    explicit listener(usable_events& source) : from(source) { EXPECT_TRUE(from.chain().add(block)); }
    ~listener() { EXPECT_TRUE(from.chain().remove(block)); }
    usable_events& from;
    strings heard;
    notifier::block block{[this](unsigned long event, void* data) {
        EXPECT_EQ(event, usable_changed);
        const auto& now = *static_cast<usable_cpus*>(data);
        EXPECT_EQ(from.now(), now) << "what is told is already so";
        heard.push_back(now.cpus.list() + " x" + std::to_string(now.max_workers));
        return notifier::ok;
    }};
};

TEST(synthetic_usable, is_what_is_online_and_allowed) {
    synthetic_events cpus(cpumask::range(0, 3), nodemask{0});
    synthetic_usable may(cpus, cpumask::range(0, 7));
    listener l(may);
    EXPECT_EQ(may.now().cpus.list(), "0-3");
    EXPECT_EQ(may.now().possible.list(), "0-7");
    EXPECT_TRUE(cpus.cpu_offline(3));
    EXPECT_TRUE(may.set_cpuset(cpumask{1, 2, 3}).value());
    EXPECT_FALSE(may.set_cpuset(cpumask{1, 2, 3}).value()) << "no change, no call";
    EXPECT_TRUE(cpus.cpu_online(3));
    EXPECT_TRUE(may.set_affinity(cpumask{2, 3, 4}).value());
    EXPECT_TRUE(may.set_quota(0.5).value());
    EXPECT_TRUE(cpus.node_online(1)) << "nodes are not our matter";
    EXPECT_EQ(l.heard, (strings{"0-2 x3", "1-2 x2", "1-3 x3", "2-3 x2", "2-3 x1"}));
    EXPECT_EQ(may.set_quota(0).error().line(), "machine: set a CPU quota of 0.000000: EINVAL: it must be above 0");
    EXPECT_EQ(may.set_quota(-1).error().code, EINVAL);
    EXPECT_EQ(may.now().cpu_quota, 0.5);
}

TEST(synthetic_usable, a_part_that_leaves_no_cpu_does_not_count) {
    synthetic_events cpus(cpumask{0, 1}, nodemask{0});
    synthetic_usable may(cpus, cpumask::range(0, 7));
    ASSERT_TRUE(may.set_cpuset(cpumask{6}));
    EXPECT_EQ(may.now().cpus.list(), "0-1");
    ASSERT_TRUE(may.set_cpuset(cpumask{1, 2}));
    ASSERT_TRUE(may.set_affinity(cpumask{0}));
    EXPECT_EQ(may.now().cpus.list(), "1");
    ASSERT_TRUE(cpus.cpu_online(0));
    ASSERT_TRUE(may.set_cpuset(cpumask{0, 1}));
    EXPECT_EQ(may.now().cpus.list(), "0") << "it comes back with its CPU";
}

TEST(synthetic_usable, change_from_a_callback_is_refused) {
    synthetic_events cpus(cpumask{0, 1}, nodemask{0});
    synthetic_usable may(cpus, cpumask{0, 1});
    int code = 0;
    notifier::block b([&](unsigned long, void*) {
        code = may.set_affinity(cpumask{1}).error().code;
        return notifier::ok;
    });
    ASSERT_TRUE(may.chain().add(b));
    ASSERT_TRUE(may.set_affinity(cpumask{0}));
    EXPECT_EQ(code, EDEADLK);
    EXPECT_EQ(may.now().cpus.list(), "0");
    ASSERT_TRUE(may.chain().remove(b));
}

void describe(sys::recorded& host) {
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    host.add_file(sys::paths::cpu + "/possible", "0-3\n");
    host.set_affinity(cpumask::range(0, 3));
    host.add_file(sys::paths::self_cgroup, "0::/job\n");
    host.add_file(sys::paths::self_mountinfo, "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    host.add_file("/sys/fs/cgroup/job/cpuset.cpus.effective", "0-3\n");
    host.add_file("/sys/fs/cgroup/job/cpu.max", "max 100000\n");
}

TEST(live_usable, check_tells_hotplug_affinity_cpuset_and_quota) {
    sys::recorded host;
    describe(host);
    auto live = live_usable::create(host).value();
    listener l(*live);
    EXPECT_FALSE(live->check().value());
    host.add_file(sys::paths::cpu + "/online", "0-2\n");
    EXPECT_TRUE(live->check().value());
    host.set_affinity(cpumask{1, 2});
    EXPECT_TRUE(live->check().value());
    host.add_file("/sys/fs/cgroup/job/cpuset.cpus.effective", "2-3\n");
    EXPECT_TRUE(live->check().value());
    host.set_affinity(cpumask{2, 3});
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    EXPECT_TRUE(live->check().value());
    host.add_file("/sys/fs/cgroup/job/cpu.max", "50000 100000\n");
    EXPECT_TRUE(live->check().value());
    EXPECT_FALSE(live->check().value());
    EXPECT_EQ(l.heard, (strings{"0-2 x3", "1-2 x2", "2 x1", "2-3 x2", "2-3 x1"}));
}

TEST(live_usable, what_cannot_be_asked_changes_nothing) {
    sys::recorded host;
    describe(host);
    sys::failing os(host, {.call = "sched_getaffinity", .nth = 2, .code = EPERM});
    auto live = live_usable::create(os).value();
    listener l(*live);
    host.set_affinity(cpumask{1});
    EXPECT_EQ(live->check().error().code, EPERM);
    EXPECT_EQ(live->now().cpus.list(), "0-3");
    EXPECT_TRUE(live->check().value()) << "the next time it is asked";
    EXPECT_EQ(l.heard, (strings{"1 x1"}));
    sys::failing never(host, {.call = "sched_getaffinity", .nth = 1, .code = EPERM, .times = -1});
    EXPECT_EQ(live_usable::create(never).error().code, EPERM);
}

TEST(live_usable, a_message_is_taken_and_an_ended_source_is_let_go) {
    auto ends = sys::real().pipe().value();
    ASSERT_TRUE(sys::real().set_nonblocking(ends.read, true));
    sys::owned_fd kernel(sys::real(), ends.write);
    auto live = live_usable::create(sys::real(), ends.read).value();
    ASSERT_EQ(live->uevents(), ends.read);
    ASSERT_TRUE(sys::write_all(sys::real(), kernel.get(), std::string_view("offline@/devices/system/cpu/cpu1\0ACTION=offline\0", 49)));
    sys::poll_item item{.fd = live->uevents(), .want_read = true};
    EXPECT_EQ(sys::real().poll(std::span(&item, 1), 0).value(), 1);
    ASSERT_TRUE(live->check());
    EXPECT_EQ(sys::real().poll(std::span(&item, 1), 0).value(), 0) << "all of it was read";
    EXPECT_EQ(live->uevents(), ends.read);
    ASSERT_TRUE(kernel.close());
    ASSERT_TRUE(live->check());
    EXPECT_EQ(live->uevents(), -1);
    ASSERT_TRUE(live->check()) << "by asking alone";
}

/// What the kernel's socket may answer to read().
struct lossy final : sys::forwarding {
    lossy() : forwarding(sys::real()) {}
    result<std::size_t> read(int fd, std::span<std::byte> into) override {
        if (fd != watched || left == 0) return fd == watched ? result<std::size_t>(fail(EAGAIN, "fd", "read")) : inner_.read(fd, into);
        return --left == 1 ? result<std::size_t>(fail(ENOBUFS, "fd", "read")) : result<std::size_t>(8);
    }
    int watched = -1, left = 3;
};

TEST(live_usable, lost_messages_do_not_end_the_watch) {
    lossy os;
    os.watched = sys::real().memfd("uevents").value();
    auto live = live_usable::create(os, os.watched).value();
    ASSERT_TRUE(live->check());
    EXPECT_EQ(os.left, 0) << "it reads on after ENOBUFS";
    EXPECT_EQ(live->uevents(), os.watched);
}

TEST(uevents, the_socket_opens_or_says_why_not_and_does_not_block) {
    auto fd = sys::open_uevents();
    if (!fd) {
        EXPECT_EQ(fd.error().object, "uevents");
        GTEST_SKIP() << fd.error().line();
    }
    const sys::owned_fd watch(sys::real(), *fd);
    std::byte one;
    auto got = sys::real().read(watch.get(), std::span(&one, 1));
    EXPECT_TRUE(got || got.error().code == EAGAIN) << got.error().line();
}

}  // namespace
}  // namespace cohort::machine
