// SPDX-License-Identifier: Apache-2.0
/// User and usable masks, stop and start, following: each rule on a machine that is driven by calls.
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>

#include <cohort/machine/usable_events.hpp>
#include <cohort/padata/testing/allocation_failure.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/recorded.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/testing/no_threads.hpp>
#include <cohort/work/testing/sources.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {
namespace {

using work::testing::wait_until;

/// Eight CPUs may be, four are online.
struct small_machine {
    machine::synthetic_events cpus{cpumask::range(0, 3), nodemask{0}};
    machine::synthetic_usable may{cpus, cpumask::range(0, 7)};

    std::unique_ptr<instance> start(instance_options options = {}) {
        options.machine = &may;
        auto made = instance::create(std::move(options));
        EXPECT_TRUE(made) << (made ? "" : made.error().line());
        return std::move(*made);
    }
};

shell stream_of(instance& inst, shell_options options = {}) { return shell::create(inst, std::move(options)).value(); }

/// A job that somebody else finishes.
struct held_job : job {
    void parallel() override { started = true; }
    void serial() override { delivered = true; }
    std::atomic<bool> started{false}, delivered{false};
};

constexpr mask_kind both[] = {mask_kind::parallel, mask_kind::serial};

TEST(masks, an_offline_cpu_is_legal_in_a_user_mask_and_is_used_once_it_is_online) {
    small_machine m;
    auto inst = m.start();
    for (mask_kind kind : both) {
        EXPECT_EQ(inst->user_mask(kind).list(), "0-7") << "every possible CPU";
        EXPECT_EQ(inst->usable_mask(kind).list(), "0-3");
        ASSERT_TRUE(inst->set_cpumask(kind, cpumask{2, 3, 5}));
        EXPECT_EQ(inst->user_mask(kind).list(), "2-3,5");
        EXPECT_EQ(inst->usable_mask(kind).list(), "2-3");
    }
    ASSERT_TRUE(m.cpus.cpu_online(5));
    for (mask_kind kind : both) EXPECT_EQ(inst->usable_mask(kind).list(), "2-3,5");
    EXPECT_EQ(inst->workers().general_cpus().list(), "2-3,5") << "and a worker claims there";
    ASSERT_TRUE(m.cpus.cpu_offline(2));
    for (mask_kind kind : both) {
        EXPECT_EQ(inst->user_mask(kind).list(), "2-3,5") << "what was asked for stays";
        EXPECT_EQ(inst->usable_mask(kind).list(), "3,5");
    }
    EXPECT_EQ(inst->workers().general_cpus().list(), "3,5");
}

TEST(masks, user_and_usable_follow_affinity_and_cpuset_too) {
    small_machine m;
    auto inst = m.start({.parallel = cpumask{0, 1, 2, 3}});
    ASSERT_TRUE(m.may.set_cpuset(cpumask{1, 2}));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "1-2");
    ASSERT_TRUE(m.may.set_affinity(cpumask{2, 3}));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "2");
    ASSERT_TRUE(m.may.set_cpuset(cpumask::range(0, 7)));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "2-3");
    EXPECT_EQ(inst->user_mask(mask_kind::parallel).list(), "0-3");
    EXPECT_EQ(inst->follow_error(), "");
}

TEST(masks, cpu_max_caps_the_workers_and_lets_them_go_again) {
    small_machine m;
    auto inst = m.start();
    EXPECT_EQ(inst->workers().general_workers(), 4);
    ASSERT_TRUE(m.may.set_quota(1.5));
    EXPECT_EQ(inst->workers().general_workers(), 2);
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0-3") << "the mask is not the quota's matter";
    const cpumask two = inst->workers().general_cpus();
    ASSERT_TRUE(m.cpus.cpu_online(7));
    EXPECT_EQ(inst->workers().general_cpus(), two) << "who works goes on working";
    ASSERT_TRUE(m.may.set_quota(0.2));
    EXPECT_EQ(inst->workers().general_workers(), 1) << "never none";
    ASSERT_TRUE(m.may.set_quota(std::numeric_limits<double>::infinity()));
    EXPECT_EQ(inst->workers().general_workers(), 5);

    small_machine fixed;
    auto asked = fixed.start({.max_workers = 3});
    ASSERT_TRUE(fixed.may.set_quota(1));
    EXPECT_EQ(asked->workers().general_workers(), 3) << "who names a number gets it";
}

TEST(masks, a_bad_mask_is_einval_and_changes_nothing) {
    small_machine m;
    auto inst = m.start({.name = "masks"});
    const struct {
        cpumask mask;
        const char* reason;
    } bad[] = {{{}, "the mask is empty"}, {{0, 900}, "cpu 900 is beyond the machine, which has 0-7"}, {{8}, "cpu 8 is beyond the machine, which has 0-7"}};
    for (const auto& b : bad) {
        for (mask_kind kind : both) {
            auto r = inst->set_cpumask(kind, b.mask);
            ASSERT_FALSE(r);
            EXPECT_EQ(r.error().code, EINVAL);
            EXPECT_EQ(r.error().reason, b.reason);
            EXPECT_EQ(inst->user_mask(kind).list(), "0-7");
            EXPECT_FALSE(inst->stopped());
        }
    }
    EXPECT_EQ(inst->set_cpumask(mask_kind::serial, {}).error().line(), "padata \"masks\": set serial mask \"\": EINVAL: the mask is empty");
    for (const auto& b : bad) EXPECT_EQ(instance::create({.parallel = b.mask, .machine = &m.may}).error().code, EINVAL);
    auto offline = instance::create({.name = "late", .serial = cpumask{6}, .machine = &m.may});
    EXPECT_EQ(offline.error().line(), "padata \"late\": start: EINVAL: no CPU of the serial mask 6 is usable; this process may use 0-3");
}

TEST(masks, a_mask_without_a_usable_cpu_stops_the_instance_and_it_starts_when_one_returns) {
    for (mask_kind kind : both) {
        small_machine m;
        auto inst = m.start({.name = "ups"});
        auto s = stream_of(*inst);
        EXPECT_EQ(inst->why_stopped(), "");
        // As in the kernel the mask is taken; the instance is what is stopped.
        ASSERT_TRUE(inst->set_cpumask(kind, cpumask{5, 6}));
        EXPECT_TRUE(inst->stopped());
        EXPECT_EQ(inst->user_mask(kind).list(), "5-6");
        EXPECT_TRUE(inst->usable_mask(kind).empty());
        auto r = s.submit([] {}, [] {});
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().line(), std::string("padata \"ups\": do_parallel: EINVAL: the instance is stopped: no CPU of the ") +
                                        (kind == mask_kind::parallel ? "parallel" : "serial") + " mask 5-6 is usable; this process may use 0-3");
        EXPECT_EQ(s.stats().submitted, 0u);
        ASSERT_TRUE(m.cpus.cpu_online(6));
        EXPECT_FALSE(inst->stopped());
        EXPECT_EQ(inst->usable_mask(kind).list(), "6");
        EXPECT_TRUE(s.submit([] {}, [] {}));
        ASSERT_TRUE(m.cpus.cpu_offline(6));
        EXPECT_TRUE(inst->stopped());
        ASSERT_TRUE(inst->set_cpumask(kind, cpumask{0})) << "a mask that is usable starts it as well";
        EXPECT_FALSE(inst->stopped());
        EXPECT_TRUE(s.submit([] {}, [] {}));
        ASSERT_TRUE(s.drain());
        EXPECT_EQ(s.stats().delivered, 2u);
    }
}

TEST(masks, jobs_in_flight_when_the_instance_stops_are_delivered_in_order) {
    for (mask_kind kind : both) {
        small_machine m;
        auto inst = m.start();
        auto s = stream_of(*inst, {.inline_jobs = false});
        held_job first;
        std::vector<int> out;
        ASSERT_TRUE(s.do_parallel(first));
        for (int i = 0; i < 500; ++i) ASSERT_TRUE(s.submit([] {}, [&out, i] { out.push_back(i); }));
        ASSERT_TRUE(inst->set_cpumask(kind, cpumask{7}));
        ASSERT_TRUE(inst->stopped());
        wait_until([&] { return first.started.load(); });
        do_serial(first);
        ASSERT_TRUE(s.drain()) << "it does not wait for a CPU to come back";
        ASSERT_EQ(out.size(), 500u);
        EXPECT_TRUE(std::is_sorted(out.begin(), out.end()));
        EXPECT_TRUE(inst->stopped());
    }
}

TEST(masks, stopping_while_both_masks_are_gone_needs_both_to_start_again) {
    small_machine m;
    auto inst = m.start({.parallel = cpumask{2}, .serial = cpumask{3}});
    ASSERT_TRUE(m.cpus.set(cpumask{0}, nodemask{0}));
    EXPECT_TRUE(inst->stopped());
    EXPECT_EQ(inst->why_stopped(), "no CPU of the parallel mask 2 is usable; this process may use 0");
    ASSERT_TRUE(m.cpus.cpu_online(2));
    EXPECT_TRUE(inst->stopped());
    EXPECT_EQ(inst->why_stopped(), "no CPU of the serial mask 3 is usable; this process may use 0,2");
    ASSERT_TRUE(m.cpus.cpu_online(3));
    EXPECT_FALSE(inst->stopped());
}

TEST(masks, a_submitter_that_waits_for_room_is_told_when_the_instance_stops) {
    small_machine m;
    auto inst = m.start();
    auto s = stream_of(*inst, {.window = 1, .when_full = full_policy::block, .inline_jobs = false});
    held_job head;
    ASSERT_TRUE(s.do_parallel(head));
    std::atomic<int> code{-1};
    std::thread waiter([&] {
        auto r = s.submit([] {}, [] {});
        code = r ? 0 : r.error().code;
    });
    wait_until([&] { return s.stats().waits > 0 && head.started.load(); });
    ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{7}));
    EXPECT_EQ(code.load(), -1) << "it waits for what flies";
    do_serial(head);
    waiter.join();
    EXPECT_EQ(code.load(), EINVAL);
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(s.stats().submitted, 1u);
}

TEST(masks, cb_cpu_of_a_cpu_that_went_away_is_replaced_and_written_back) {
    small_machine m;
    auto inst = m.start({.serial = cpumask{1, 3}});
    auto s = stream_of(*inst);
    held_job j;
    int cpu = 3;
    ASSERT_TRUE(s.do_parallel(j, cpu));
    EXPECT_EQ(cpu, 3);
    ASSERT_TRUE(m.cpus.cpu_offline(3));
    wait_until([&] { return j.started.load(); });
    do_serial(j);  // its CPU is gone: its worker delivers it all the same
    ASSERT_TRUE(s.drain());
    EXPECT_TRUE(j.delivered.load());
    held_job again;
    cpu = 3;
    ASSERT_TRUE(s.do_parallel(again, cpu));
    EXPECT_EQ(cpu, 1);
    wait_until([&] { return again.started.load(); });
    do_serial(again);
    ASSERT_TRUE(s.drain());
    cpu = 8;
    EXPECT_EQ(s.do_parallel(again, cpu).error().code, EINVAL);
}

TEST(masks, a_worker_whose_cpu_went_away_claims_no_more_and_finishes_its_batch) {
    small_machine m;
    auto inst = m.start({.parallel = cpumask{2}, .serial = cpumask{0}});
    auto s = stream_of(*inst, {.when_full = full_policy::block, .inline_jobs = false});
    std::latch inside(1), go(1);
    std::atomic<int> ran{0};
    ASSERT_TRUE(s.submit(
        [&] {
            inside.count_down();
            go.wait();
            ++ran;
        },
        [] {}));
    inside.wait();
    ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{2, 3}));
    ASSERT_TRUE(m.cpus.cpu_offline(2)) << "it does not wait for the batch";
    EXPECT_EQ(ran.load(), 0);
    std::atomic<std::thread::id> other{};
    ASSERT_TRUE(s.submit([&] { other = std::this_thread::get_id(); }, [] {}));
    wait_until([&] { return other.load() != std::thread::id{}; }, "for cpu 3's worker");
    go.count_down();
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(ran.load(), 1);
}

TEST(masks, listeners_hear_before_and_after_and_may_submit_but_not_change) {
    small_machine m;
    auto inst = m.start();
    auto s = stream_of(*inst);
    std::vector<std::string> heard;
    int code = 0;
    notifier::block b([&](unsigned long event, void* data) {
        const auto& c = *static_cast<mask_change*>(data);
        heard.push_back(std::string(event == masks_changing ? "changing " : "changed ") + c.user_parallel.list() + " " + c.usable_parallel.list() + (c.stopped ? " stopped" : ""));
        EXPECT_EQ(inst->usable_mask(mask_kind::parallel) == c.usable_parallel, event == masks_changed);
        const bool taken = s.submit([] {}, [] {}).has_value();
        EXPECT_EQ(taken, !c.stopped || event == masks_changing);
        code = inst->set_cpumask(mask_kind::parallel, cpumask{0}).error().code;
        return notifier::ok;
    });
    ASSERT_TRUE(inst->changes().add(b));
    ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{2, 4}));
    ASSERT_TRUE(m.cpus.cpu_offline(2));
    EXPECT_EQ(heard, (std::vector<std::string>{"changing 2,4 2", "changed 2,4 2", "changing 2,4  stopped", "changed 2,4  stopped"}));
    EXPECT_EQ(code, EDEADLK);
    ASSERT_TRUE(inst->changes().remove(b));
    ASSERT_TRUE(s.drain());
}

TEST(masks, a_change_of_the_machine_caused_by_a_listener_is_followed_too) {
    small_machine m;
    auto inst = m.start();
    bool once = true;
    notifier::block b([&](unsigned long event, void*) {
        if (event == masks_changed && std::exchange(once, false)) (void)m.cpus.cpu_offline(1);
        return notifier::ok;
    });
    ASSERT_TRUE(inst->changes().add(b));
    ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{1, 2}));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "2");
    ASSERT_TRUE(inst->changes().remove(b));
}

TEST(masks, ebusy_while_a_change_is_under_way_only_where_it_was_asked_for) {
    for (bool asked : {false, true}) {
        small_machine m;
        auto inst = m.start({.serial = cpumask{1}, .busy_while_changing = asked});
        auto s = stream_of(*inst);
        held_job refused;
        int code = -1, cpu = 0;
        std::string line;
        notifier::block b([&](unsigned long event, void*) {
            if (event == masks_changing) {
                cpu = 0;
                auto r = s.do_parallel(refused, cpu);
                code = r ? 0 : r.error().code;
                if (!r) line = r.error().line();
            } else if (asked) {
                EXPECT_TRUE(s.submit([] {}, [] {})) << "it is over";
            }
            return notifier::ok;
        });
        ASSERT_TRUE(inst->changes().add(b));
        ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{0, 1}));
        EXPECT_EQ(code, asked ? EBUSY : 0);
        EXPECT_EQ(line, asked ? "padata \"padata\": do_parallel: EBUSY: a mask change is under way" : "");
        EXPECT_EQ(cpu, 1) << "written back, also by a call that then answers EBUSY";
        ASSERT_TRUE(inst->changes().remove(b));
        if (code == 0) {
            wait_until([&] { return refused.started.load(); });
            do_serial(refused);
        }
        ASSERT_TRUE(s.drain());
        EXPECT_FALSE(asked && refused.started.load());
    }
}

TEST(masks, enomem_leaves_nothing_changed) {
    small_machine m;
    auto inst = m.start({.parallel = cpumask{0}, .serial = cpumask{0}});
    auto s = stream_of(*inst);
    int failures = 0;
    for (int nth = 0;; ++nth) {
        ASSERT_LT(nth, 1'000);
        int code = 0;
        {
            const testing::allocation_failure no_memory(nth);
            auto r = inst->set_cpumask(mask_kind::parallel, cpumask{0, 2, 3, 5});
            code = r ? 0 : r.error().code;
        }
        if (code == 0) break;
        ++failures;
        ASSERT_EQ(code, ENOMEM);
        EXPECT_EQ(inst->user_mask(mask_kind::parallel).list(), "0");
        EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0");
        EXPECT_EQ(inst->workers().general_cpus().list(), "0");
        EXPECT_FALSE(inst->stopped());
        ASSERT_TRUE(s.submit([] {}, [] {}));
    }
    EXPECT_GT(failures, 2);
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0,2-3");
    ASSERT_TRUE(s.drain());
}

TEST(masks, a_worker_that_cannot_be_started_leaves_the_masks_as_they_were_until_the_next_change) {
    small_machine m;
    auto inst = m.start({.parallel = cpumask{0, 5, 6}, .serial = cpumask{0}});
    {
        work::testing::no_threads none;
        EXPECT_EQ(instance::create({.machine = &m.may}).error().code, EAGAIN);
        const auto wider = inst->set_cpumask(mask_kind::parallel, cpumask{0, 1, 5, 6});
        ASSERT_FALSE(wider);
        EXPECT_EQ(wider.error().code, EAGAIN);
        EXPECT_EQ(inst->user_mask(mask_kind::parallel).list(), "0,5-6");
        ::testing::internal::CaptureStderr();
        ASSERT_TRUE(m.cpus.cpu_online(5));
        EXPECT_NE(::testing::internal::GetCapturedStderr().find("cannot follow to cpus 0-3,5"), std::string::npos);
        EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0");
        EXPECT_NE(inst->follow_error().find("EAGAIN"), std::string::npos) << inst->follow_error();
    }
    ASSERT_TRUE(m.cpus.cpu_online(6));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0,5-6");
    EXPECT_EQ(inst->workers().general_cpus().list(), "0,5-6");
    EXPECT_EQ(inst->follow_error(), "");
}

TEST(masks, what_is_not_followed_stays) {
    small_machine m;
    auto inst = m.start({.follow = false});
    ASSERT_TRUE(m.cpus.cpu_offline(3));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel).list(), "0-3");
}

TEST(masks, a_recorded_system_is_followed_through_its_files) {
    sys::recorded host;
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    host.add_file(sys::paths::cpu + "/possible", "0-7\n");
    host.set_affinity(cpumask::range(0, 7));
    auto live = machine::live_usable::create(host).value();
    auto inst = instance::create({.machine = live.get()}).value();
    EXPECT_EQ(inst->usable_mask(mask_kind::serial).list(), "0-3");
    host.add_file(sys::paths::cpu + "/online", "0-2,7\n");
    EXPECT_EQ(inst->usable_mask(mask_kind::serial).list(), "0-3") << "nobody has looked";
    EXPECT_TRUE(live->check().value());
    EXPECT_EQ(inst->usable_mask(mask_kind::serial).list(), "0-2,7");
    host.set_affinity(cpumask{2, 7});
    EXPECT_TRUE(live->check().value());
    EXPECT_EQ(inst->usable_mask(mask_kind::serial).list(), "2,7");
    EXPECT_FALSE(live->check().value());
}

}  // namespace
}  // namespace cohort::padata
