// SPDX-License-Identifier: Apache-2.0
// The backend without privilege, on this process's own threads: masks are read back from the kernel.
#include <cohort/cpuset/live_affinity.hpp>

#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <latch>
#include <set>
#include <thread>

#include <unistd.h>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;

cpumask mask_of(int tid) { return sys::real().sched_getaffinity(tid).value(); }

/// Does nothing until it goes.
struct waiting_thread {
    waiting_thread() { ready.wait(); }
    ~waiting_thread() {
        if (thread.joinable()) end();
    }
    /// After it the kernel does not know the thread any more; join() alone may return a moment earlier.
    void end() {
        done.count_down();
        thread.join();
        while (sys::real().stat("/proc/self/task/" + std::to_string(tid))) std::this_thread::yield();
    }
    std::latch ready{1}, done{1};
    std::atomic<int> tid{0};
    std::jthread thread{[this] {
        tid = ::gettid();
        ready.count_down();
        done.wait();
    }};
};

class live_affinity : public ::testing::Test {
protected:
    void SetUp() override {
        before_ = mask_of(0);
        if (before_.weight() < 2) GTEST_SKIP() << "needs two CPUs";
        one_ = std::to_string(before_.first());
        two_ = one_ + "," + std::to_string(before_.nth(1));
    }
    void TearDown() override { ASSERT_TRUE(sys::real().sched_setaffinity(0, before_)); }
    std::unique_ptr<affinity_backend> tree(sys::os& os = sys::real()) { return affinity_backend::create(os, machine::load("live", sys::real()).value()).value(); }
    void make(backend& t, const std::string& cpus) {
        ASSERT_TRUE(t.create("a"));
        ASSERT_TRUE(t.write("a", "cpuset.cpus", cpus));
    }
    cpumask before_;
    std::string one_, two_;
};

TEST_F(live_affinity, holds_threads_to_their_set_and_gives_back_what_they_had) {
    waiting_thread other;
    const int tid = other.tid;
    {
        auto t = tree();
        make(*t, one_);
        EXPECT_EQ(mask_of(0), before_) << "nobody is in the set yet";
        ASSERT_TRUE(t->attach("a", ::getpid()));
        EXPECT_EQ(mask_of(0).list(), one_);
        EXPECT_EQ(mask_of(tid).list(), one_);
        EXPECT_EQ(t->home(tid).value(), "a");
        EXPECT_THAT(t->threads("a").value(), ::testing::Contains(tid));
        EXPECT_EQ(t->tasks("a").value(), std::vector{::getpid()});
        EXPECT_EQ(t->remove("a").error().code, EBUSY);
        ASSERT_TRUE(t->write("a", "cpuset.cpus", two_));
        EXPECT_EQ(mask_of(tid), mask_of(0)) << "widens";
        EXPECT_EQ(mask_of(0), cpumask::parse_list(two_).value());
        // What a thread asks for itself is kept in mind, and intersected.
        ASSERT_TRUE(sys::real().sched_setaffinity(tid, cpumask{before_.nth(1)}));
        ASSERT_TRUE(t->write("a", "cpuset.cpus", one_));
        EXPECT_EQ(mask_of(tid).list(), one_) << "nothing is left of what it asked for";
        ASSERT_TRUE(t->write("a", "cpuset.cpus", two_));
        EXPECT_EQ(mask_of(tid), cpumask{before_.nth(1)});
    }
    EXPECT_EQ(mask_of(0), before_);
    EXPECT_EQ(mask_of(tid), cpumask{before_.nth(1)});
}

/// A chain of threads, each started by the one before, while all of them are being held: none escapes.
TEST_F(live_affinity, a_thread_that_spawns_threads_meanwhile_does_not_escape) {
    for (int round = 0; round < 20; ++round) {
        constexpr int length = 60;
        std::latch all(length), done(1), begun(3);
        std::mutex lock;
        std::vector<int> tids;
        std::vector<std::thread> threads;
        const std::function<void(int)> link = [&](int n) {
            {
                const std::lock_guard hold(lock);
                tids.push_back(::gettid());
                if (n + 1 < length) threads.emplace_back(link, n + 1);
            }
            if (n < 3) begun.count_down();
            all.count_down();
            done.wait();
        };
        {
            const std::lock_guard hold(lock);
            threads.emplace_back(link, 0);
        }
        begun.wait();
        auto t = tree();
        make(*t, one_);
        ASSERT_TRUE(t->attach("a", ::getpid()));
        all.wait();
        // Those that came after the last look were started by threads that were held already, save one whose clone() was under way: the next look finds it and what it started.
        const auto held = [&] { return std::ranges::all_of(tids, [&](int tid) { return mask_of(tid).list() == one_; }); };
        const std::uint64_t limit = sys::real().now() + 60'000'000'000;
        while (!held() && sys::real().now() < limit) ASSERT_TRUE(t->enforce());
        EXPECT_TRUE(held());
        t.reset();
        for (int tid : tids) EXPECT_EQ(mask_of(tid), before_) << "thread " << tid << " has back what the first of them had";
        done.count_down();
        for (std::thread& x : threads) x.join();
    }
}

TEST_F(live_affinity, one_thread_alone_may_be_in_a_set) {
    waiting_thread other;
    const int tid = other.tid;
    auto t = tree();
    make(*t, one_);
    ASSERT_TRUE(t->attach("a", tid, whom::thread));
    EXPECT_EQ(mask_of(tid).list(), one_);
    EXPECT_EQ(mask_of(0), before_);
    EXPECT_EQ(t->attach("a", 1, whom::thread).error().code, EPERM);
    EXPECT_EQ(t->attach("a", 1).error().line(), "cpuset \"a\": attach process 1: EPERM: this tree holds the threads of process " + std::to_string(::getpid()) + " only");
    EXPECT_EQ(t->attach("x", ::getpid()).error().code, ENOENT);
    EXPECT_EQ(t->home(tid).value(), "a") << "a refused attach moves nobody";
    other.end();
    ASSERT_TRUE(t->enforce());
    EXPECT_TRUE(t->threads("a")->empty()) << "it has ended";
    EXPECT_TRUE(t->remove("a"));
}

TEST_F(live_affinity, is_a_backend_like_the_others_and_goes_by_the_kernels_rules) {
    auto t = tree();
    std::vector<operation> steps{*parse_operation("mkdir a"), *parse_operation("write a cpuset.cpus " + one_), *parse_operation("attach a " + std::to_string(::getpid())),
                                 *parse_operation("write a cpuset.nothing 1")};
    const apply_report r = apply_steps(*t, steps);
    ASSERT_FALSE(r.ok());
    EXPECT_TRUE(r.not_undone.empty());
    EXPECT_EQ(mask_of(0), before_);
    EXPECT_TRUE(t->children("")->empty());
    steps.pop_back();
    EXPECT_TRUE(apply_steps(*t, steps).ok());
    EXPECT_THAT(t->write("a", "cpuset.cpus", "1-").error().line(), HasSubstr("cpuset \"a\": write cpuset.cpus \"1-\": EINVAL"));
    EXPECT_EQ(t->read("a", "cpuset.nothing").error().code, ENOENT);
    EXPECT_EQ(t->hands_on("x").error().code, ENOENT);
    EXPECT_TRUE(t->hands_on("").value());
    EXPECT_FALSE(t->hands_on("a").value());
    EXPECT_THAT(t->advisory(), ::testing::Contains(::testing::Field(&limitation::what, HasSubstr("sched_relax_domain_level"))));
}

TEST_F(live_affinity, a_cpu_that_goes_offline_leaves_the_sets_and_comes_back) {
    auto t = tree();
    make(*t, two_);
    ASSERT_TRUE(t->attach("a", ::getpid()));
    ASSERT_TRUE(t->set_online(cpumask{before_.nth(1)}));
    EXPECT_EQ(mask_of(0), cpumask{before_.nth(1)});
    ASSERT_TRUE(t->set_online(machine::load("live", sys::real())->online));
    EXPECT_EQ(mask_of(0), cpumask::parse_list(two_).value());
}

TEST_F(live_affinity, what_the_system_refuses_is_told) {
    EXPECT_EQ(affinity_backend::create(sys::real(), machine::load("live", sys::real()).value(), {.pid = 0x7fffffff}).error().code, ESRCH);
    for (const auto& [call, nth] : {std::pair{"sched_setaffinity", 1}, {"sched_getaffinity", 1}, {"list_dir", 2}, {"list_dir", 3}}) {
        sys::failing os(sys::real(), {.call = call, .nth = nth, .code = EPERM});
        auto t = tree(os);
        make(*t, one_);
        const auto r = t->attach("a", ::getpid());
        EXPECT_EQ(os.failures(), 1) << call;
        EXPECT_EQ(r ? 0 : r.error().code, EPERM) << call;
        EXPECT_TRUE(t->attach("a", ::getpid())) << "the next time it works";
        EXPECT_EQ(mask_of(0).list(), one_);
    }
}

/// Two nodes, of a machine that is not there: what is asked of the kernel.
TEST(live_affinity_nodes, pages_move_and_the_policy_comes_back) {
    struct numa_host final : sys::forwarding {
        using forwarding::forwarding;
        result<std::size_t> migrate_pages(int pid, const nodemask& from, const nodemask& to) override {
            moves.push_back(std::to_string(pid) + ": " + from.list() + " to " + to.list());
            return std::size_t{0};
        }
        std::vector<std::string> moves;
    };
    sys::recorded disk;
    disk.add_dir("/proc/1/task/1");
    disk.set_affinity(cpumask::range(0, 7));
    ASSERT_TRUE(disk.set_mempolicy({.mode = 3, .nodes = {0, 1}}));
    numa_host os(disk);
    {
        auto t = affinity_backend::create(os, testing::eight_cpus()).value();
        ASSERT_TRUE(t->create("a"));
        ASSERT_TRUE(t->write("a", "cpuset.mems", "1"));
        ASSERT_TRUE(t->attach("a", 1));
        EXPECT_EQ(disk.get_mempolicy().value(), (sys::mempolicy{.mode = 3, .nodes = {1}}));
        EXPECT_THAT(os.moves, ::testing::ElementsAre("0: 0 to 1"));
        ASSERT_TRUE(t->enforce());
        EXPECT_EQ(os.moves.size(), 1u) << "nothing has changed";
        ASSERT_TRUE(t->write("a", "cpuset.mems", "0-1"));
        EXPECT_EQ(disk.get_mempolicy().value(), (sys::mempolicy{.mode = 3, .nodes = {0, 1}}));
        ASSERT_TRUE(t->write("a", "cpuset.mems", "0"));
        EXPECT_THAT(os.moves, ::testing::ElementsAre("0: 0 to 1", "0: 1 to 0"));
        EXPECT_EQ(t->bind_memory(nullptr, 4096).error().code, ENOSYS) << "a recorded machine";
    }
    EXPECT_EQ(disk.get_mempolicy().value(), (sys::mempolicy{.mode = 3, .nodes = {0, 1}}));
}

/// The real system, where threads' major faults are what a test says.
struct faulting final : sys::forwarding {
    faulting() : sys::forwarding(sys::real()) {}
    result<int> open(const std::string& path, sys::open_flags flags, unsigned mode) override {
        if (!path.ends_with("/stat") || path.find("/task/") == path.npos) return inner_.open(path, flags, mode);
        stat.add_file("/stat", "1 (a) b) S 1 1 1 0 -1 0 5 6 " + std::to_string(faults) + " 7 8\n");
        auto fd = stat.open("/stat", flags, mode);
        if (fd) mine.insert(*fd);
        return fd;
    }
    result<void> close(int fd) override { return mine.erase(fd) ? stat.close(fd) : inner_.close(fd); }
    result<std::size_t> read(int fd, std::span<std::byte> into) override { return mine.contains(fd) ? stat.read(fd, into) : inner_.read(fd, into); }
    std::uint64_t now() override { return seconds * 1'000'000'000; }
    void sleep_until(std::uint64_t) override {}
    sys::recorded stat;
    std::set<int> mine;
    std::int64_t faults = 1000;
    std::uint64_t seconds = 100;
};

TEST_F(live_affinity, major_faults_stand_in_for_a_meter_of_memory_pressure) {
    faulting os;
    auto t = affinity_backend::create(os, machine::load("live", sys::real()).value()).value();
    make(*t, two_);
    ASSERT_TRUE(t->attach("a", ::getpid(), whom::thread).has_value()) << "the test's own thread alone";
    EXPECT_EQ(t->memory_pressure("a")->value, 0) << "what a thread had before is no event";
    os.faults += 10;
    EXPECT_EQ(t->memory_pressure("a")->value, 0) << "a rate needs a second";
    ++os.seconds;
    const auto p = t->memory_pressure("a");
    EXPECT_EQ(p->value, 670);
    EXPECT_EQ(p->substitute, "major page faults of its threads; 1000 is one a second");
    EXPECT_GE(t->memory_pressure("")->value, 670) << "a set has what those below it have";
    EXPECT_EQ(t->memory_pressure("b").error().code, ENOENT);
}

}  // namespace
}  // namespace cohort::cpuset
