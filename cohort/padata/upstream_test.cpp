// SPDX-License-Identifier: Apache-2.0
/// Classes of bugs that were fixed in kernel/padata.c and that no other test here is named for; README.md has the whole table.
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <type_traits>

#include <cohort/machine/usable_events.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/testing/sources.hpp>

namespace cohort::padata {
namespace {

using work::testing::wait_until;

// A sequence number that wraps sorts wrongly at the wrap. At a job a nanosecond this one lasts 584 years.
static_assert(std::is_same_v<decltype(std::declval<const job&>().seq()), std::uint64_t>);

struct small_machine {
    machine::synthetic_events cpus{cpumask::range(0, 7), nodemask{0}};
    machine::synthetic_usable may{cpus, cpumask::range(0, 7)};
    std::unique_ptr<instance> start() { return instance::create({.machine = &may}).value(); }
};

TEST(upstream, masks_of_three_five_and_seven_cpus_keep_order) {
    struct counted final : job {
        void parallel() override { do_serial(*this); }
        void serial() override { ok = seq() == number && (*next)++ == number; }
        std::uint64_t number = 0, *next = nullptr;
        std::atomic<bool> ok{false};
    };
    for (int cpus : {3, 5, 7}) {
        small_machine m;
        auto inst = m.start();
        for (mask_kind kind : {mask_kind::parallel, mask_kind::serial}) ASSERT_TRUE(inst->set_cpumask(kind, cpumask::range(0, cpus - 1)));
        auto s = shell::create(*inst, {.window = 8}).value();
        std::uint64_t next = 0;
        std::vector<counted> jobs(600);
        for (std::size_t i = 0; i < jobs.size(); ++i) {
            jobs[i].number = i;
            jobs[i].next = &next;
            int cpu = static_cast<int>(i) % 8;  // those beyond the mask are replaced by its (cpu mod weight)-th
            ASSERT_TRUE(s.do_parallel(jobs[i], cpu));
            EXPECT_EQ(cpu, static_cast<int>(i) % 8 < cpus ? static_cast<int>(i) % 8 : static_cast<int>(i) % 8 % cpus);
        }
        ASSERT_TRUE(s.drain());
        EXPECT_EQ(next, jobs.size());
        for (const counted& j : jobs) EXPECT_TRUE(j.ok.load()) << "job " << j.number << " of " << cpus << " cpus";
    }
}

TEST(upstream, instances_that_go_away_hear_of_no_cpu) {
    small_machine m;
    auto stays = m.start();
    std::atomic<bool> stop{false};
    std::thread hotplug([&] {
        for (int i = 0; !stop; ++i) {
            const int cpu = i / 2 % 7 + 1;
            EXPECT_TRUE(i % 2 ? m.cpus.cpu_online(cpu) : m.cpus.cpu_offline(cpu));
        }
        EXPECT_TRUE(m.cpus.set(cpumask{0, 6}, nodemask{0}));
    });
    for (int i = 0; i < 100; ++i) {
        auto goes = m.start();
        auto s = shell::create(*goes).value();
        EXPECT_TRUE(s.submit([] {}, [] {}));
    }
    stop = true;
    hotplug.join();
    EXPECT_EQ(stays->usable_mask(mask_kind::parallel).list(), "0,6");
}

TEST(upstream, a_listener_that_refuses_does_not_keep_a_cpu) {
    small_machine m;
    notifier::block refuses([](unsigned long, void*) { return notifier::bad; }, 1'000);
    notifier::block refuses_too([](unsigned long, void*) { return notifier::bad; }, 1'000);
    notifier::block and_too([](unsigned long, void*) { return notifier::bad; }, 1'000);
    auto inst = m.start();
    ASSERT_TRUE(m.cpus.chain().add(refuses));
    ASSERT_TRUE(m.may.chain().add(refuses_too));
    ASSERT_TRUE(inst->changes().add(and_too));
    EXPECT_TRUE(m.cpus.cpu_offline(5).value());
    EXPECT_EQ(inst->usable_mask(mask_kind::serial).list(), "0-4,6-7");
    EXPECT_EQ(inst->workers().general_cpus().list(), "0-4,6-7");
    ASSERT_TRUE(inst->changes().remove(and_too));
    ASSERT_TRUE(m.may.chain().remove(refuses_too));
    ASSERT_TRUE(m.cpus.chain().remove(refuses));
}

TEST(upstream, a_refused_job_is_not_completed_and_may_be_submitted_again) {
    struct counting final : job {
        void parallel() override {
            ++parallels;
            if (finish_itself) do_serial(*this);
        }
        void serial() override { ++serials; }
        std::atomic<int> parallels{0}, serials{0};
        bool finish_itself = true;
    };
    small_machine m;
    auto inst = instance::create({.machine = &m.may, .busy_while_changing = true}).value();
    auto s = shell::create(*inst, {.window = 1, .when_full = full_policy::eagain, .inline_jobs = false}).value();
    counting head, refused;
    head.finish_itself = false;
    ASSERT_TRUE(s.do_parallel(head));
    wait_until([&] { return head.parallels.load() == 1; });
    EXPECT_EQ(s.do_parallel(refused).error().code, EAGAIN);
    int cpu = 99;
    EXPECT_EQ(s.do_parallel(refused, cpu).error().code, EINVAL);
    int busy = 0;
    notifier::block b([&](unsigned long event, void*) {
        if (event == masks_changing) busy = s.do_parallel(refused).error().code;
        return notifier::ok;
    });
    ASSERT_TRUE(inst->changes().add(b));
    ASSERT_TRUE(inst->set_cpumask(mask_kind::serial, cpumask{1, 2}));
    EXPECT_EQ(busy, EBUSY);
    ASSERT_TRUE(inst->changes().remove(b));
    do_serial(head);
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(refused.parallels.load() + refused.serials.load(), 0);
    ASSERT_TRUE(s.do_parallel(refused));
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(refused.parallels.load(), 1);
    EXPECT_EQ(refused.serials.load(), 1);
    EXPECT_EQ(refused.seq(), 1u) << "a refusal takes no place in the order";
}

}  // namespace
}  // namespace cohort::padata
