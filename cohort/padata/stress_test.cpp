// SPDX-License-Identifier: Apache-2.0
/// Order and exactly-once under everything at once: masks that change every millisecond, CPUs that go off- and online, jobs that finish later on another
/// thread, jobs bound to CPUs, cheap and dear jobs mixed, submits from callbacks. COHORT_STRESS_JOBS sets the number of jobs, COHORT_SEED the seed (printed).
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <cohort/machine/usable_events.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::padata {
namespace {

std::uint64_t from_env(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::uint64_t stress_seed() {
    std::uint64_t seed = from_env("COHORT_SEED", std::random_device{}());
    std::cout << "COHORT_SEED=" << seed << '\n';
    ::testing::Test::RecordProperty("seed", std::to_string(seed));
    return seed;
}

std::uint64_t stress_jobs(std::uint64_t otherwise) { return from_env("COHORT_STRESS_JOBS", otherwise); }

struct rng {  // xorshift64*: one per thread, a nanosecond a number
    std::uint64_t state;
    std::uint64_t operator()() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1DULL;
    }
};

/// Finishes jobs that other threads hand to it, in bunches and out of order: a device.
class device {
public:
    device() : thread_([this] { main(); }) {}
    ~device() {
        stop_.store(1);
        sys::futex_wake(bell_, 1);
        thread_.join();
    }
    void take(job& j) {
        {
            std::lock_guard hold(lock_);
            queue_.push_back(&j);
        }
        bell_.fetch_add(1);
        sys::futex_wake(bell_, 1);
    }

private:
    void main() {
        rng random{12345};
        for (;;) {
            std::uint32_t seen = bell_.load();
            std::vector<job*> batch;
            {
                std::lock_guard hold(lock_);
                batch.swap(queue_);
            }
            if (batch.empty()) {
                if (stop_.load()) return;
                sys::futex_wait(bell_, seen);
                continue;
            }
            std::shuffle(batch.begin(), batch.end(), std::mt19937(static_cast<unsigned>(random())));
            for (job* j : batch) do_serial(*j);
        }
    }
    std::mutex lock_;
    std::vector<job*> queue_;
    std::atomic<std::uint32_t> bell_{0};
    std::atomic<int> stop_{0};
    std::thread thread_;
};

struct shared_state {
    device* dev = nullptr;
    std::uint64_t next = 0;  // guarded by the order itself
    std::atomic<int> inside{0};
    std::atomic<std::uint64_t> bad{0}, asynchronous{0};
};

struct stress_job final : job {
    shared_state* out = nullptr;
    std::uint64_t number = 0;
    std::uint32_t work = 0;
    bool to_device = false;
    int parallels = 0, serials = 0;

    void parallel() override {
        ++parallels;
        for (std::uint32_t i = 0; i < work; ++i) sys::cpu_relax();
        if (to_device) {
            out->asynchronous.fetch_add(1, std::memory_order_relaxed);
            out->dev->take(*this);
        } else {
            do_serial(*this);
        }
    }
    void serial() override {
        bool wrong = out->inside.fetch_add(1, std::memory_order_relaxed) != 0;
        wrong |= number != out->next++ || seq() != number;
        wrong |= ++serials != 1 || parallels != 1;
        if (wrong) out->bad.fetch_add(1);
        out->inside.fetch_sub(1, std::memory_order_relaxed);
    }
};

/// Changes both masks of an instance every millisecond until it goes away.
class mask_changer {
public:
    mask_changer(instance& inst, std::uint64_t seed, cpumask cpus = *sys::thread_affinity()) : thread_([this, &inst, seed, cpus] { main(inst, seed, cpus); }) {}
    ~mask_changer() { join(); }
    std::uint64_t join() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
        return changes_;
    }

private:
    void main(instance& inst, std::uint64_t seed, const cpumask& all) {
        rng random{seed | 1};
        auto at = std::chrono::steady_clock::now();
        while (!stop_) {
            cpumask mask;
            for (int cpu : all) if (random() & 1) mask.set(cpu);
            if (mask.empty()) mask.set(all.nth(static_cast<int>(random() % static_cast<unsigned>(all.weight()))));
            if (auto r = inst.set_cpumask(random() & 1 ? mask_kind::parallel : mask_kind::serial, mask); !r) ADD_FAILURE() << r.error().line();
            ++changes_;
            at += std::chrono::milliseconds(1);
            std::this_thread::sleep_until(at);  // a rate, nothing waits for it
        }
    }
    std::atomic<bool> stop_{false};
    std::uint64_t changes_ = 0;
    std::thread thread_;
};

TEST(padata_stress, order_and_exactly_once_while_masks_change_every_millisecond) {
    std::uint64_t seed = stress_seed();
    const std::uint64_t jobs = stress_jobs(2'000'000);
    device dev;
    auto inst = instance::create({.name = "stress"}).value();
    shared_state out;
    out.dev = &dev;
    constexpr std::uint32_t window = 1024;
    std::vector<stress_job> pool(2 * window);
    rng random{seed | 1};
    cpumask all = *sys::thread_affinity();
    std::uint64_t changes;
    {
        auto s = shell::create(*inst, {.window = window}).value();
        mask_changer changer(*inst, seed + 1);
        for (std::uint64_t i = 0; i < jobs; ++i) {
            // At most `window` jobs fly, so the one of 2 * window submits ago is through.
            stress_job& j = pool[i % pool.size()];
            std::uint64_t r = random();
            j.out = &out;
            j.number = i;
            j.parallels = j.serials = 0;
            j.work = (i >> 16) % 2 ? 0 : static_cast<std::uint32_t>(r % 64);  // epochs of cheap jobs, epochs of mixed ones
            j.to_device = (r >> 32) % 4096 == 0;
            int cpu = (r >> 48) % 1024 == 0 ? all.nth(static_cast<int>((r >> 8) % static_cast<unsigned>(all.weight()))) : any_cpu;
            auto done = s.do_parallel(j, cpu);
            ASSERT_TRUE(done) << done.error().line();
        }
        ASSERT_TRUE(s.drain());
        changes = changer.join();
        shell_stats st = s.stats();
        EXPECT_EQ(st.delivered, jobs);
        EXPECT_EQ(st.submitted, jobs);
        std::cout << jobs << " jobs, " << changes << " mask changes, " << st.ran_inline << " inline, " << st.handovers << " hand-overs, " << out.asynchronous
                  << " finished elsewhere\n";
    }
    EXPECT_EQ(out.next, jobs);
    EXPECT_EQ(out.bad.load(), 0u);
    EXPECT_GT(changes, 0u);
}

/// A machine whose CPUs, affinity, cpuset and quota change all the time. It has two CPUs more than this one, so that workers are not bound.
class restless_machine {
public:
    explicit restless_machine(std::uint64_t seed)
        : all_(*sys::thread_affinity() | cpumask{sys::thread_affinity()->last() + 1, sys::thread_affinity()->last() + 2}),
          cpus_(all_, nodemask{0}),
          may_(cpus_, all_),
          random_{seed | 1} {}

    machine::usable_events& usable() { return may_; }
    const cpumask& all() const { return all_; }
    void begin() { thread_ = std::thread([this] { main(); }); }
    /// Everything is online and allowed again. How many changes there were.
    std::uint64_t end() {
        stop_ = true;
        thread_.join();
        EXPECT_TRUE(cpus_.set(all_, nodemask{0}));
        EXPECT_TRUE(may_.set_affinity(all_));
        EXPECT_TRUE(may_.set_cpuset(all_));
        EXPECT_TRUE(may_.set_quota(std::numeric_limits<double>::infinity()));
        return changes_;
    }

private:
    cpumask some() {
        cpumask out;
        for (int cpu : all_) if (random_() & 1) out.set(cpu);
        return out;
    }
    void main() {
        auto at = std::chrono::steady_clock::now();
        while (!stop_) {
            const int cpu = all_.nth(static_cast<int>(random_() % static_cast<unsigned>(all_.weight())));
            switch (random_() % 8) {
                case 0: (void)may_.set_affinity(some()); break;
                case 1: (void)may_.set_cpuset(some()); break;
                case 2: (void)may_.set_quota(static_cast<double>(random_() % 40 + 1) / 10); break;
                case 3: case 4: (void)cpus_.cpu_offline(cpu); break;  // EINVAL: the last one stays
                default: (void)cpus_.cpu_online(cpu);
            }
            ++changes_;
            at += std::chrono::microseconds(500);
            std::this_thread::sleep_until(at);  // a rate, nothing waits for it
        }
    }
    const cpumask all_;
    machine::synthetic_events cpus_;
    machine::synthetic_usable may_;
    rng random_;
    std::atomic<bool> stop_{false};
    std::uint64_t changes_ = 0;
    std::thread thread_;
};

/// Jobs that are refused (the instance is stopped, or being changed) are submitted again; how often that was.
template <class Submit>
std::uint64_t submit_at_last(Submit submit, std::initializer_list<int> may_answer) {
    for (std::uint64_t refused = 0;; ++refused) {
        auto done = submit();
        if (done) return refused;
        if (std::find(may_answer.begin(), may_answer.end(), done.error().code) == may_answer.end()) {
            ADD_FAILURE() << done.error().line();
            return refused;
        }
        sys::yield_thread();
    }
}

void order_with_hotplug(bool kernel_compatible) {
    const std::uint64_t seed = stress_seed();
    const std::uint64_t jobs = stress_jobs(1'000'000);
    device dev;
    restless_machine world(seed + 2);
    std::atomic<std::uint64_t> stops{0};
    notifier::block count([&](unsigned long event, void* data) {
        if (event == masks_changed && static_cast<mask_change*>(data)->stopped) ++stops;
        return notifier::ok;
    });
    shared_state out;
    out.dev = &dev;
    constexpr std::uint32_t window = 512;
    std::vector<stress_job> pool(2 * window);
    rng random{seed | 1};
    std::uint64_t changes, hotplugs, refused = 0;
    auto inst = instance::create({.name = "hotplug", .machine = &world.usable(), .busy_while_changing = kernel_compatible}).value();
    ASSERT_TRUE(inst->changes().add(count));
    {
        auto s = shell::create(*inst, {.name = "all", .window = window}).value();
        mask_changer changer(*inst, seed + 1, world.all());
        world.begin();
        for (std::uint64_t i = 0; i < jobs; ++i) {
            stress_job& j = pool[i % pool.size()];
            const std::uint64_t r = random();
            j.out = &out;
            j.number = i;
            j.parallels = j.serials = 0;
            j.work = (i >> 14) % 2 ? 0 : static_cast<std::uint32_t>(r % 64);
            j.to_device = (r >> 32) % 4096 == 0;
            const cpumask& all = world.all();
            const int cpu = (r >> 48) % 512 == 0 ? all.nth(static_cast<int>((r >> 8) % static_cast<unsigned>(all.weight()))) : any_cpu;
            refused += submit_at_last([&] { int at = cpu; return s.do_parallel(j, at); }, {EINVAL, EBUSY});
        }
        ASSERT_TRUE(s.drain());
        changes = changer.join();
        hotplugs = world.end();
        const shell_stats st = s.stats();
        EXPECT_EQ(st.delivered, jobs);
        EXPECT_EQ(st.submitted, jobs);
        for (mask_kind kind : {mask_kind::parallel, mask_kind::serial}) {
            EXPECT_EQ(inst->usable_mask(kind), inst->user_mask(kind)) << "all that was asked for is there again";
        }
        EXPECT_FALSE(inst->stopped());
        std::cout << jobs << " jobs, " << changes << " mask changes, " << hotplugs << " changes of the machine, " << stops << " stops, " << refused << " refusals, "
                  << st.ran_inline << " inline, " << st.handovers << " hand-overs, " << out.asynchronous << " finished elsewhere\n";
    }
    ASSERT_TRUE(inst->changes().remove(count));
    EXPECT_EQ(out.next, jobs);
    EXPECT_EQ(out.bad.load(), 0u);
    EXPECT_GT(changes, 0u);
    EXPECT_GT(hotplugs, 0u);
    EXPECT_TRUE(jobs < 100'000 || stops.load() > 0) << "no mask ever lost its last CPU";
}

TEST(padata_stress, order_and_exactly_once_while_masks_change_and_cpus_come_and_go) { order_with_hotplug(false); }
TEST(padata_stress, order_and_exactly_once_with_ebusy_and_cpus_that_come_and_go) { order_with_hotplug(true); }

TEST(padata_stress, shells_come_and_go_while_others_work) {
    std::uint64_t seed = stress_seed();
    const std::uint64_t rounds = stress_jobs(2'000'000) / 1'000;
    auto inst = instance::create({.name = "comings"}).value();
    mask_changer changer(*inst, seed);
    std::atomic<std::uint64_t> bad{0};
    std::vector<std::thread> users;
    for (int t = 0; t < 3; ++t) {
        users.emplace_back([&, t] {
            rng random{seed + static_cast<std::uint64_t>(t) * 7919 + 1};
            for (std::uint64_t round = 0; round < rounds; ++round) {
                auto policy = static_cast<full_policy>(random() % 3);  // block, help or help_all
                auto s = shell::create(*inst, {.window = 1u << random() % 5, .when_full = policy, .inline_jobs = random() % 2 == 0}).value();
                std::uint64_t next = 0, jobs = random() % 64;
                for (std::uint64_t i = 0; i < jobs; ++i) {
                    if (!s.submit([] {}, [&next, &bad, i] { if (next++ != i) ++bad; })) ++bad;
                }
                if (round % 3 == 0 && (!s.drain() || next != jobs)) ++bad;
            }
        });
    }
    for (auto& u : users) u.join();
    EXPECT_EQ(bad.load(), 0u);
}

TEST(padata_stress, callbacks_feed_their_own_and_a_second_shell) {
    std::uint64_t seed = stress_seed();
    const std::uint64_t roots = stress_jobs(2'000'000) / 100;
    auto inst = instance::create({.name = "feeding"}).value();
    auto second = shell::create(*inst, {.window = 16}).value();
    std::atomic<std::uint64_t> ran{0};
    {
        auto first = shell::create(*inst, {.window = 16}).value();
        mask_changer changer(*inst, seed);
        for (std::uint64_t i = 0; i < roots; ++i) {
            ASSERT_TRUE(first.submit([&] { (void)second.submit([] {}, [&] { ++ran; }); },
                                     [&] { (void)first.submit([] {}, [&] { ++ran; }); }));
        }
        // A job that serial() submits is in flight before its parent is delivered, so two drains reach everything.
        ASSERT_TRUE(first.drain());
        ASSERT_TRUE(first.drain());
    }
    ASSERT_TRUE(second.drain());
    EXPECT_EQ(ran.load(), 2 * roots);
}

}  // namespace
}  // namespace cohort::padata
