// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <latch>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <cohort/sys/thread.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {
namespace {

std::unique_ptr<instance> make_instance(instance_options options = {}) {
    auto r = instance::create(std::move(options));
    EXPECT_TRUE(r) << (r ? "" : r.error().line());
    return std::move(*r);
}

shell make_shell(instance& inst, shell_options options = {}) {
    auto r = shell::create(inst, options);
    EXPECT_TRUE(r) << (r ? "" : r.error().line());
    return std::move(*r);
}

/// A door that callbacks wait at.
class door {
public:
    void open() {
        std::lock_guard hold(lock_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock hold(lock_);
        changed_.wait(hold, [this] { return open_; });
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    bool open_ = false;
};

/// Checks order, exactly-once and that no two serial() overlap.
struct checker {
    std::atomic<int> inside{0};
    std::uint64_t next = 0;  // guarded by the order itself
    bool bad = false;
    void serial(std::uint64_t number) {
        if (inside.fetch_add(1) != 0 || number != next) bad = true;
        ++next;
        inside.fetch_sub(1);
    }
};

/// A job whose completion is up to the test.
struct async_job : job {
    explicit async_job(checker& c, std::uint64_t n) : out(c), number(n) {}
    void parallel() override { started.store(true); }
    void serial() override { out.serial(number); }
    checker& out;
    std::uint64_t number;
    std::atomic<bool> started{false};
};

TEST(shell, delivers_in_submit_order_when_the_last_finishes_first) {
    auto inst = make_instance();
    checker out;
    std::deque<async_job> jobs;
    auto s = make_shell(*inst, {.inline_jobs = false});
    for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(s.do_parallel(jobs.emplace_back(out, i)));
    for (auto& j : jobs) {
        while (!j.started.load()) sys::yield_thread();
    }
    for (auto j = jobs.rbegin(); j != jobs.rend(); ++j) {
        EXPECT_EQ(out.next, 0u);  // the first is the last to finish
        do_serial(*j);
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(out.next, 100u);
    EXPECT_FALSE(out.bad);
    EXPECT_EQ(s.stats().delivered, 100u);
}

TEST(shell, keeps_order_and_calls_serial_once_over_many_small_jobs) {
    auto inst = make_instance();
    auto s = make_shell(*inst, {.window = 64});
    checker out;
    for (std::uint64_t i = 0; i < 100'000; ++i) {
        ASSERT_TRUE(s.submit([] {}, [&out, i] { out.serial(i); }));
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(out.next, 100'000u);
    EXPECT_FALSE(out.bad);
}

TEST(shell, full_window_answers_eagain_and_changes_nothing) {
    auto inst = make_instance();
    checker out;
    std::deque<async_job> jobs;
    auto s = make_shell(*inst, {.window = 4, .when_full = full_policy::eagain, .inline_jobs = false});
    for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(s.do_parallel(jobs.emplace_back(out, i)));
    async_job fifth(out, 4);
    auto r = s.do_parallel(fifth);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EAGAIN);
    EXPECT_EQ(r.error().line(), "padata \"padata\": do_parallel: EAGAIN: the window of 4 jobs is full");
    EXPECT_EQ(s.stats().submitted, 4u);
    for (auto& j : jobs) {
        while (!j.started.load()) sys::yield_thread();
        do_serial(j);
    }
    ASSERT_TRUE(s.drain());
    ASSERT_TRUE(s.do_parallel(fifth));
    while (!fifth.started.load()) sys::yield_thread();
    do_serial(fifth);
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(out.next, 5u);
    EXPECT_FALSE(out.bad);
}

TEST(shell, byte_window_bounds_what_flies_and_admits_a_job_larger_than_itself) {
    struct sized : async_job {
        using async_job::async_job;
    };
    auto inst = make_instance();
    checker out;
    auto s = make_shell(*inst, {.window = 64, .window_bytes = 100, .when_full = full_policy::eagain, .inline_jobs = false});
    std::deque<sized> jobs;
    auto add = [&](std::uint32_t bytes) {
        sized& j = jobs.emplace_back(out, jobs.size());
        j.bytes = bytes;
        bool taken = s.do_parallel(j).has_value();
        if (!taken) jobs.pop_back();
        return taken;
    };
    auto finish = [&](std::size_t i) {
        while (!jobs[i].started.load()) sys::yield_thread();
        do_serial(jobs[i]);
    };
    EXPECT_TRUE(add(60));
    EXPECT_TRUE(add(40));
    EXPECT_FALSE(add(1));
    finish(0);
    EXPECT_TRUE(add(60));
    EXPECT_FALSE(add(1));
    finish(1);
    finish(2);
    ASSERT_TRUE(s.drain());
    EXPECT_TRUE(add(5'000));  // alone
    EXPECT_FALSE(add(1));
    finish(3);
    ASSERT_TRUE(s.drain());
    EXPECT_FALSE(out.bad);
}

/// Nobody else runs anything: what is done, the one who waits has done.
TEST(shell, who_waits_for_room_with_help_all_runs_other_streams_too) {
    auto inst = make_instance({.own_threads = false});
    auto other = make_shell(*inst, {.inline_jobs = false});
    auto s = make_shell(*inst, {.window = 1, .when_full = full_policy::help_all, .inline_jobs = false});
    std::deque<completion> held;
    auto waits = [&] { return s.submit([&](completion done) { held.push_back(std::move(done)); }, [] {}); };
    int ran = 0;
    auto ends_it = [&] {
        ++ran;
        if (!s.poll()) held.clear();  // its parallel() has run: now it ends
    };
    ASSERT_TRUE(waits());
    // The only job in the window ends when those of the other stream have run.
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(other.submit(ends_it, [] {}));
    ASSERT_TRUE(waits());
    EXPECT_GE(ran, 1);
    const int before = ran;
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(other.submit(ends_it, [] {}));
    ASSERT_TRUE(s.drain());
    EXPECT_GT(ran, before);
    ASSERT_TRUE(other.drain());
    EXPECT_EQ(ran, 4);
}

TEST(shell, who_waits_inside_a_callback_with_help_all_runs_its_own_stream_only) {
    auto inst = make_instance({.own_threads = false});
    auto other = make_shell(*inst, {.inline_jobs = false});
    auto outer = make_shell(*inst, {.inline_jobs = false});
    auto s = make_shell(*inst, {.window = 1, .when_full = full_policy::help_all, .inline_jobs = false});
    int others = 0, mine = 0, seen = -1;
    ASSERT_TRUE(outer.submit(
        [&] {
            for (int i = 0; i < 3; ++i) ASSERT_TRUE(s.submit([&] { ++mine; }, [] {}));
            seen = others;
        },
        [] {}));
    ASSERT_TRUE(other.submit([&] { ++others; }, [] {}));
    ASSERT_TRUE(outer.poll());
    EXPECT_EQ(seen, 0);
    EXPECT_GE(mine, 2);
    ASSERT_TRUE(s.drain());
    ASSERT_TRUE(other.drain());
    EXPECT_EQ(mine, 3);
    EXPECT_EQ(others, 1);
}

TEST(shell, submitting_from_callbacks_of_the_same_shell_never_blocks) {
    for (full_policy policy : {full_policy::block, full_policy::help, full_policy::help_all, full_policy::eagain}) {
        auto inst = make_instance();
        auto s = make_shell(*inst, {.window = 2, .when_full = policy});
        std::atomic<int> delivered{0};
        std::atomic<int> refused{0};
        // Each job adds ten more from parallel() or serial(), far beyond the window.
        auto leaf = [&] { ++delivered; };
        for (int i = 0; i < 4; ++i) {
            auto from_parallel = [&] {
                for (int k = 0; k < 10; ++k) refused += !s.submit([] {}, leaf).has_value();
            };
            auto from_serial = [&] {
                ++delivered;
                for (int k = 0; k < 10; ++k) refused += !s.submit([] {}, leaf).has_value();
            };
            while (!s.submit(from_parallel, from_serial)) sys::yield_thread();
        }
        while (s.stats().delivered < 84) ASSERT_TRUE(s.drain());
        EXPECT_EQ(delivered.load(), 84);
        EXPECT_EQ(refused.load(), 0);
    }
}

TEST(shell, an_exception_of_parallel_is_carried_in_order_and_the_rest_goes_on) {
    auto inst = make_instance();
    auto s = make_shell(*inst);
    std::vector<std::string> seen;
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(s.submit(
            [i] {
                if (i == 3) throw std::runtime_error("three");
            },
            [&seen, i](const job& j) {
                try {
                    if (j.error()) std::rethrow_exception(j.error());
                    seen.push_back(std::to_string(i));
                } catch (const std::runtime_error& e) {
                    seen.push_back(e.what() + std::to_string(j.info));
                }
            }));
    }
    ASSERT_TRUE(s.drain());
    std::vector<std::string> expected{"0", "1", "2", "three-5", "4", "5", "6", "7", "8", "9"};
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(s.stats().failed, 1u);
}

TEST(shell, an_exception_of_serial_is_answered_by_drain_and_stops_nothing) {
    auto inst = make_instance();
    auto s = make_shell(*inst);
    int ran = 0;
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(s.submit([] {}, [&ran, i] {
            ++ran;
            if (i == 2) throw std::runtime_error("two");
        }));
    }
    auto r = s.drain();
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EIO);
    EXPECT_EQ(ran, 5);
    ASSERT_TRUE(s.exception());
    EXPECT_THROW(std::rethrow_exception(s.exception()), std::runtime_error);
    EXPECT_TRUE(s.drain()) << "an exception is answered once";
}

TEST(shell, cancel_delivers_what_has_not_started_without_parallel_and_in_order) {
    auto inst = make_instance({.max_workers = 1});
    auto s = make_shell(*inst, {.when_full = full_policy::block, .inline_jobs = false});
    door started, go;
    std::vector<int> infos;
    std::atomic<int> ran{0};
    std::atomic<bool> told{false};
    struct first_job : job {
        void parallel() override {
            on_start();
            do_serial(*this);
        }
        void serial() override { on_end(); }
        std::function<void()> on_start, on_end;
    } first;
    first.on_start = [&] {
        started.open();
        go.pass();
        told = first.stop_requested();
    };
    first.on_end = [&] { infos.push_back(first.info); };
    ASSERT_TRUE(s.do_parallel(first));
    started.pass();
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(s.submit([&] { ++ran; }, [&](const job& j) { infos.push_back(j.info); }));
    }
    s.cancel();
    ASSERT_TRUE(s.submit([&] { ++ran; }, [&](const job& j) { infos.push_back(j.info); }));
    go.open();
    ASSERT_TRUE(s.drain());
    EXPECT_TRUE(told);
    EXPECT_EQ(ran, 1) << "only the job submitted after cancel() runs";
    EXPECT_EQ(infos, (std::vector<int>{0, -ECANCELED, -ECANCELED, -ECANCELED, 0}));
    EXPECT_EQ(s.stats().failed, 3u);
}

TEST(shell, serial_runs_on_the_cpu_that_was_asked_for) {
    auto here = sys::thread_affinity();
    ASSERT_TRUE(here);
    auto inst = make_instance();
    auto s = make_shell(*inst);
    std::vector<int> asked, ran;
    for (int i = 0; i < 200; ++i) {
        int cpu = here->nth(i % here->weight());
        struct on_cpu : job {
            void parallel() override { do_serial(*this); }
            void serial() override {
                ran->push_back(sys::current_cpu());
                delete this;
            }
            std::vector<int>* ran;
        };
        auto* j = new on_cpu;
        j->ran = &ran;
        asked.push_back(cpu);
        ASSERT_TRUE(s.do_parallel(*j, cpu));
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(ran, asked);
    if (here->weight() > 1) {
        EXPECT_GT(s.stats().handovers, 0u);
    }
}

TEST(shell, a_cb_cpu_outside_the_serial_mask_is_replaced_by_the_kernels_rule_and_written_back) {
    auto here = sys::thread_affinity();
    ASSERT_TRUE(here);
    int only = here->last();
    auto inst = make_instance({.serial = cpumask{only}});
    auto s = make_shell(*inst);
    std::atomic<int> ran_on{-1};
    struct on_cpu : job {
        void parallel() override { do_serial(*this); }
        void serial() override { *ran_on = sys::current_cpu(); }
        std::atomic<int>* ran_on;
    } j;
    j.ran_on = &ran_on;
    int cpu = here->first();
    ASSERT_TRUE(s.do_parallel(j, cpu));
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(cpu, only);
    EXPECT_EQ(ran_on.load(), only);

    int beyond = max_cpus + 5;
    auto r = s.do_parallel(j, beyond);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EINVAL);
    EXPECT_EQ(beyond, max_cpus + 5);
}

TEST(shell, any_cpu_keeps_serial_inside_the_serial_mask) {
    auto here = sys::thread_affinity();
    ASSERT_TRUE(here);
    if (here->weight() < 2) GTEST_SKIP() << "needs two CPUs, has " << here->list();
    auto inst = make_instance({.serial = cpumask{here->last()}});
    auto s = make_shell(*inst);
    std::atomic<int> outside{0};
    for (int i = 0; i < 2'000; ++i) {
        ASSERT_TRUE(s.submit([] {}, [&] { outside += sys::current_cpu() != here->last(); }));
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(outside.load(), 0);
}

TEST(shell, cheap_jobs_come_to_run_inline_and_dear_ones_do_not) {
    auto inst = make_instance();
    checker out;
    auto s = make_shell(*inst);
    std::uint64_t n = 0;
    for (; n < 5'000'000 && s.stats().ran_inline < 1'000; ++n) ASSERT_TRUE(s.submit([] {}, [&out, n] { out.serial(n); }));
    ASSERT_TRUE(s.drain());
    EXPECT_GE(s.stats().ran_inline, 1'000u);
    EXPECT_FALSE(out.bad);

    auto never = make_shell(*inst, {.inline_jobs = false});
    auto submitter = std::this_thread::get_id();
    std::atomic<int> here{0};
    for (int i = 0; i < 500; ++i) {
        // Below the window: nothing to help with either.
        ASSERT_TRUE(never.submit([&] { here += std::this_thread::get_id() == submitter; }, [] {}));
    }
    EXPECT_EQ(never.stats().ran_inline, 0u);
    EXPECT_EQ(here.load(), 0);
    ASSERT_TRUE(never.drain());
}

TEST(shell, a_gate_stands_around_every_job_and_may_refuse_inline_runs) {
    struct counting : work::gate {
        void enter(int) override { entered++; now++; }
        void leave(int) override { now--; }
        bool admits_inline(int) override { return false; }
        std::atomic<int> entered{0}, now{0};
    } gate;
    auto inst = make_instance({.gate = &gate});
    auto s = make_shell(*inst, {.window = 16});
    std::atomic<int> outside{0};
    const auto look = [&] { outside += gate.now.load() < 1; };
    for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(s.submit(look, look));
    ASSERT_TRUE(s.drain());
    EXPECT_GT(gate.entered.load(), 10'000) << "serial() stands inside too";
    EXPECT_EQ(gate.now.load(), 0);
    EXPECT_EQ(outside.load(), 0);
    EXPECT_EQ(s.stats().ran_inline, 0u);
}

TEST(shell, without_threads_everything_runs_in_poll) {
    auto inst = make_instance({.own_threads = false});
    auto s = make_shell(*inst, {.window = 32, .when_full = full_policy::eagain, .inline_jobs = false});
    checker out;
    auto me = std::this_thread::get_id();
    bool elsewhere = false;
    std::uint64_t submitted = 0;
    while (submitted < 1'000) {
        if (s.submit([&] { elsewhere |= std::this_thread::get_id() != me; }, [&out, submitted] { out.serial(submitted); })) ++submitted;
        else EXPECT_TRUE(inst->poll());
    }
    while (inst->poll()) {
    }
    EXPECT_EQ(out.next, 1'000u);
    EXPECT_FALSE(out.bad || elsewhere);
    EXPECT_FALSE(inst->poll());
}

TEST(shell, serial_may_free_the_last_job_and_the_owner_the_shell_at_once) {
    auto inst = make_instance();
    for (int round = 0; round < 2'000; ++round) {
        auto s = std::make_unique<shell>(make_shell(*inst, {.window = 8, .inline_jobs = round % 2 == 0}));
        std::latch last(1);
        for (int i = 0; i < 5; ++i) ASSERT_TRUE(s->submit([] {}, [&last, i] { if (i == 4) last.count_down(); }));
        last.wait();
        s.reset();  // some worker may still be on its way out of the last drain
    }
}

TEST(shell, many_submitters_share_one_stream) {
    auto inst = make_instance();
    auto s = make_shell(*inst, {.window = 128});
    std::atomic<std::uint64_t> expected{0};
    std::atomic<bool> bad{false};
    std::atomic<int> inside{0};
    struct numbered : job {
        void parallel() override { do_serial(*this); }
        void serial() override {
            if (inside->fetch_add(1) != 0 || seq() != expected->fetch_add(1)) *bad = true;
            inside->fetch_sub(1);
            delete this;
        }
        std::atomic<std::uint64_t>* expected;
        std::atomic<bool>* bad;
        std::atomic<int>* inside;
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 5'000; ++i) {
                auto* j = new numbered;
                j->expected = &expected;
                j->bad = &bad;
                j->inside = &inside;
                EXPECT_TRUE(s.do_parallel(*j));
            }
        });
    }
    for (auto& t : threads) t.join();
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(expected.load(), 20'000u);
    EXPECT_FALSE(bad);
}

TEST(shell, many_shells_are_independent_and_share_the_workers) {
    auto inst = make_instance();
    std::vector<shell> shells;
    std::deque<checker> outs;
    for (int i = 0; i < 200; ++i) {
        shells.push_back(make_shell(*inst, {.window = 8}));
        outs.emplace_back();
    }
    for (std::uint64_t n = 0; n < 100; ++n) {
        for (std::size_t i = 0; i < shells.size(); ++i) {
            ASSERT_TRUE(shells[i].submit([] {}, [&out = outs[i], n] { out.serial(n); }));
        }
    }
    for (std::size_t i = 0; i < shells.size(); ++i) {
        ASSERT_TRUE(shells[i].drain());
        EXPECT_EQ(outs[i].next, 100u);
        EXPECT_FALSE(outs[i].bad);
    }
}

TEST(shell, a_job_that_never_finishes_holds_up_its_own_stream_only) {
    auto inst = make_instance();
    checker a, b;
    auto stuck = make_shell(*inst, {.inline_jobs = false});
    auto other = make_shell(*inst, {.inline_jobs = false});
    async_job head(a, 0);
    ASSERT_TRUE(stuck.do_parallel(head));
    ASSERT_TRUE(stuck.submit([] {}, [&a] { a.serial(1); }));
    for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(other.submit([] {}, [&b, i] { b.serial(i); }));
    ASSERT_TRUE(other.drain());
    EXPECT_EQ(b.next, 100u);
    EXPECT_EQ(stuck.stats().delivered, 0u);
    while (!head.started.load()) sys::yield_thread();
    do_serial(head);
    ASSERT_TRUE(stuck.drain());
    EXPECT_EQ(a.next, 2u);
}

TEST(shell, bad_windows_and_moved_from_shells_answer_an_error) {
    auto inst = make_instance();
    for (std::uint32_t window : {0u, (1u << 20) + 1}) {
        auto r = shell::create(*inst, {.window = window});
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, EINVAL);
    }
    auto s = make_shell(*inst, {.window = 5});  // rounded up
    shell moved = std::move(s);
    auto r = s.submit([] {}, [] {});  // NOLINT(bugprone-use-after-move): that is what is tested
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ESHUTDOWN);
    EXPECT_TRUE(moved.submit([] {}, [] {}));
}

TEST(instance, refuses_bad_masks_and_keeps_the_old_one) {
    auto inst = make_instance({.name = "masks", .usable = cpumask{0, 1, 2}});
    cpumask before = inst->user_mask(mask_kind::parallel);
    struct {
        cpumask mask;
        const char* reason;
    } bad[] = {
        {{}, "the mask is empty"},
        {{0, 900}, "cpu 900 is beyond the machine, which has 0-2"},
    };
    for (auto& b : bad) {
        for (mask_kind kind : {mask_kind::parallel, mask_kind::serial}) {
            auto r = inst->set_cpumask(kind, b.mask);
            ASSERT_FALSE(r);
            EXPECT_EQ(r.error().code, EINVAL);
            EXPECT_EQ(r.error().reason, b.reason);
        }
    }
    EXPECT_EQ(inst->user_mask(mask_kind::parallel), before);
    ASSERT_TRUE(inst->set_cpumask(mask_kind::parallel, cpumask{1}));
    EXPECT_EQ(inst->usable_mask(mask_kind::parallel), cpumask{1});

    auto gap = make_instance({.usable = cpumask{0, 2}});
    ASSERT_TRUE(gap->set_cpumask(mask_kind::parallel, cpumask{1})) << "as in the kernel, see masks_test.cpp";
    EXPECT_TRUE(gap->stopped());
    EXPECT_FALSE(instance::create({.parallel = cpumask{}}));
}

}  // namespace
}  // namespace cohort::padata
