// SPDX-License-Identifier: Apache-2.0
/// Many streams on one set of workers: who gets how much, and what they hold.
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include <cohort/sys/thread.hpp>
#include <cohort/sys/ticks.hpp>

namespace {
std::atomic<bool> no_memory{false};
}

/// What the rings grow by: no other part of the library takes memory so.
void* operator new(std::size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
    const auto a = static_cast<std::size_t>(align);
    return no_memory.load() ? nullptr : std::aligned_alloc(a, (bytes + a - 1) / a * a);
}
void* operator new(std::size_t bytes, std::align_val_t align) {
    if (void* p = operator new(bytes, align, std::nothrow)) return p;
    throw std::bad_alloc();
}
// All that belong together: sanitizers see that memory goes back the way it came.
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace cohort::padata {
namespace {

std::unique_ptr<instance> make_instance(instance_options options = {}) { return instance::create(std::move(options)).value(); }

void work_for(std::uint64_t ns) {
    const auto limit = static_cast<std::uint64_t>(static_cast<double>(ns) / sys::ns_per_tick());
    const std::uint64_t began = sys::ticks();
    while (sys::ticks() - began < limit) sys::cpu_relax();
}

/// A job that waits until the test lets it go: it keeps the only worker busy while streams fill up.
struct plug : job {
    void parallel() override {
        started = true;
        while (!go.load()) sys::yield_thread();
        do_serial(*this);
    }
    void serial() override {}
    std::atomic<bool> started{false}, go{false};
};

/// One worker; streams that were filled before it starts; which job ran when, and for how long.
struct contest {
    struct entry {
        std::uint16_t stream;
        std::uint64_t ns;
    };
    contest() {
        inst = make_instance({.max_workers = 1});
        stopper = std::make_unique<shell>(shell::create(*inst, {.inline_jobs = false}).value());
        hold_up();
    }
    void hold_up() {
        stop = std::make_unique<plug>();
        EXPECT_TRUE(stopper->do_parallel(*stop));
        while (!stop->started.load()) sys::yield_thread();
        order.clear();
    }
    void add(std::uint32_t weight, int jobs, std::uint64_t ns) {
        shells.push_back(shell::create(*inst, {.window = 1u << 14, .when_full = full_policy::block, .inline_jobs = false, .weight = weight}).value());
        fill(shells.size() - 1, jobs, ns);
    }
    void fill(std::size_t stream, int jobs, std::uint64_t ns) {
        for (int i = 0; i < jobs; ++i) {
            EXPECT_TRUE(shells[stream].submit(
                [this, stream, ns] {
                    const std::uint64_t began = sys::ticks();
                    work_for(ns);
                    order.push_back({static_cast<std::uint16_t>(stream), static_cast<std::uint64_t>(static_cast<double>(sys::ticks() - began) * sys::ns_per_tick())});
                },
                [] {}));
        }
    }
    void run() {
        stop->go = true;
        EXPECT_TRUE(stopper->drain());
        for (auto& s : shells) EXPECT_TRUE(s.drain());
    }
    /// How many jobs had run when this stream had run so many.
    std::size_t when(std::size_t stream, int jobs) const {
        std::size_t at = 0;
        for (; at < order.size() && jobs > 0; ++at) jobs -= order[at].stream == stream;
        return at;
    }
    int jobs(std::size_t until, std::size_t stream) const {
        return static_cast<int>(std::count_if(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(until), [&](const entry& e) { return e.stream == stream; }));
    }
    /// Time in the stream's jobs, of the first `until` that ran.
    double ns(std::size_t until, std::size_t stream) const {
        double sum = 0;
        for (std::size_t i = 0; i < until; ++i) sum += order[i].stream == stream ? static_cast<double>(order[i].ns) : 0;
        return sum;
    }
    /// While both have work, their times over their weights differ by no more than one visit of each.
    bool fair(std::size_t until, std::size_t i, double weight_i, std::size_t j, double weight_j) const {
        const double a = ns(until, i) * 100 / weight_i, b = ns(until, j) * 100 / weight_j;
        const double slack = 2 * (longest_ns_until(until, i) * 100 / weight_i + longest_ns_until(until, j) * 100 / weight_j) + 100'000;
        if (std::abs(a - b) <= slack) return true;
        std::cout << "stream " << i << ": " << a << " ns, stream " << j << ": " << b << " ns of a weight of 100\n";
        return false;
    }
    /// The longest run of jobs of one stream without another's in between: its quantum and a batch, and whatever preempted it.
    double longest_ns_until(std::size_t until, std::size_t stream) const {
        double longest = 0, sum = 0;
        for (std::size_t i = 0; i < until; ++i) {
            sum = order[i].stream == stream ? sum + static_cast<double>(order[i].ns) : 0;
            longest = std::max(longest, sum);
        }
        return longest;
    }

    std::unique_ptr<plug> stop;
    std::vector<entry> order;  // the worker's
    std::unique_ptr<instance> inst;
    std::unique_ptr<shell> stopper;
    std::vector<shell> shells;
};

/// A worker that loses its CPU is charged for the time that others had, to whom it happens: a contest on a busy machine may seem unfair. Of many one is not.
template <class Contest>
void expect_fair(Contest contest) {
    int tries = 1;
    while (!contest()) {
        if (++tries > 30) FAIL() << "unfair thirty times";
    }
}

TEST(fairness, streams_of_long_and_of_short_jobs_get_the_same_time) {
    expect_fair([] {
        contest c;
        c.add(100, 60, 1'000'000);
        c.add(100, 6'000, 10'000);
        c.run();
        EXPECT_EQ(c.order.size(), 6'060u);
        const std::size_t half = c.when(1, 3'000);
        return c.jobs(half, 0) >= 5 && c.fair(half, 0, 100, 1, 100);
    });
}

/// The bound: a stream with work gets a batch in each round, and a round gives each other stream its quantum and one batch at most.
TEST(fairness, a_heavy_stream_does_not_starve_light_ones) {
    constexpr std::size_t light = 50;
    expect_fair([] {
        contest c;
        c.add(100, 8'000, 20'000);  // 160 ms
        for (std::size_t i = 0; i < light; ++i) c.add(100, 1, 1'000);
        c.run();
        // One job each: all are through before the heavy one has had more than two quanta and a batch: 64 us + 64 us + 32 jobs.
        std::size_t through = 0;
        for (std::size_t i = 1; i <= light; ++i) through = std::max(through, c.when(i, 1));
        return c.jobs(through, 0) <= 7 + 32;
    });
}

TEST(fairness, a_stream_that_was_idle_has_saved_nothing_up) {
    expect_fair([] {
        contest c;
        c.add(100, 3'000, 10'000);
        c.run();  // 30 ms alone
        c.hold_up();
        c.fill(0, 2'000, 10'000);
        c.add(100, 2'000, 10'000);
        c.run();
        EXPECT_EQ(c.order.size(), 4'000u);
        return c.fair(1'000, 0, 100, 1, 100) && c.fair(c.when(0, 500), 0, 100, 1, 100);
    });
}

TEST(fairness, weights_share_the_workers_time) {
    expect_fair([] {
        contest c;
        c.add(400, 8'000, 5'000);
        c.add(100, 8'000, 5'000);
        c.add(25, 8'000, 5'000);
        c.run();
        const std::size_t half = c.when(0, 4'000);
        return c.fair(half, 0, 400, 1, 100) && c.fair(half, 1, 100, 2, 25) && c.jobs(half, 1) > 100 && c.jobs(half, 2) > 10;
    });
}

TEST(fairness, bad_weights_are_refused) {
    auto inst = make_instance();
    for (std::uint32_t weight : {0u, 10'001u}) {
        auto r = shell::create(*inst, {.weight = weight});
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, EINVAL);
        EXPECT_EQ(r.error().reason, "a weight is 1 to 10000");
    }
    EXPECT_TRUE(shell::create(*inst, {.weight = 10'000}));
}

// ---- memory

TEST(stream_memory, comes_with_the_jobs_and_goes_with_the_last) {
    auto inst = make_instance({.max_workers = 1});
    auto s = shell::create(*inst, {.window = 1u << 12, .when_full = full_policy::block, .inline_jobs = false}).value();
    const std::uint64_t at_rest = s.stats().memory_bytes;
    EXPECT_LT(at_rest, 900u);
    for (int round = 0; round < 3; ++round) {
        plug stop;
        ASSERT_TRUE(s.do_parallel(stop));
        for (int i = 1; i < 4; ++i) ASSERT_TRUE(s.submit([] {}, [] {}));
        EXPECT_EQ(s.stats().memory_bytes, at_rest) << "four jobs fit into the object";
        for (int i = 4; i < 3'000; ++i) ASSERT_TRUE(s.submit([] {}, [] {}));
        EXPECT_GE(s.stats().memory_bytes, at_rest + 3'000 * 16);
        EXPECT_LE(s.stats().memory_bytes, at_rest + 2 * 4'096 * 16);
        stop.go = true;
        ASSERT_TRUE(s.drain());
        while (s.stats().memory_bytes != at_rest) sys::yield_thread();  // the last drainer gives it back on its way out
    }
}

TEST(stream_memory, order_is_kept_while_the_ring_grows_and_shrinks) {
    auto inst = make_instance();
    std::mt19937 random(7);
    auto s = shell::create(*inst, {.window = 1024, .inline_jobs = false}).value();
    std::uint64_t next = 0, number = 0;
    std::atomic<int> bad{0};
    for (int burst = 0; burst < 2'000; ++burst) {
        const auto jobs = 1u << random() % 11;
        for (unsigned i = 0; i < jobs; ++i) {
            ASSERT_TRUE(s.submit([] {}, [&, n = number] { if (next++ != n) ++bad; }));
            ++number;
        }
        if (random() % 2) {
            ASSERT_TRUE(s.drain());
        }
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(next, number);
    EXPECT_EQ(bad.load(), 0);
}

TEST(stream_memory, without_it_a_stream_goes_on_in_the_slots_it_has) {
    auto inst = make_instance({.max_workers = 1});
    for (full_policy policy : {full_policy::block, full_policy::help, full_policy::eagain}) {
        auto s = shell::create(*inst, {.window = 64, .when_full = policy, .inline_jobs = false}).value();
        plug stop;
        std::uint64_t next = 0, number = 0;
        std::atomic<int> bad{0};
        auto add = [&] {
            auto r = s.submit([] {}, [&, n = number] { if (next++ != n) ++bad; });
            number += r.has_value();
            return r;
        };
        no_memory = true;
        ASSERT_TRUE(s.do_parallel(stop));
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(add());
        if (policy == full_policy::eagain) {
            auto r = add();
            ASSERT_FALSE(r);
            EXPECT_EQ(r.error().code, ENOMEM);
            EXPECT_EQ(s.stats().submitted, 4u);
        }
        stop.go = true;
        while (number < 1'000) {
            if (!add()) sys::yield_thread();
        }
        ASSERT_TRUE(s.drain());
        no_memory = false;
        EXPECT_EQ(next, 1'000u);
        EXPECT_EQ(bad.load(), 0);
    }
}

TEST(stream_memory, ten_thousand_streams_under_zipf_traffic_hold_less_than_a_kibibyte_each) {
    constexpr int streams = 10'000;
    auto inst = make_instance();
    std::vector<shell> shells;
    std::vector<std::uint64_t> next(streams), number(streams);
    std::vector<double> sums;
    double sum = 0;
    for (int i = 0; i < streams; ++i) {
        shells.push_back(shell::create(*inst).value());
        sums.push_back(sum += 1.0 / (i + 1));
    }
    std::atomic<int> bad{0};
    std::mt19937 random(11);
    std::uniform_real_distribution<double> at(0, sum);
    std::uint64_t most = 0;
    for (int i = 0; i < 60'000; ++i) {
        const auto to = static_cast<std::size_t>(std::lower_bound(sums.begin(), sums.end() - 1, at(random)) - sums.begin());
        ASSERT_TRUE(shells[to].submit([] { work_for(1'000); }, [&, to, n = number[to]] { if (next[to]++ != n) ++bad; }));
        ++number[to];
        if (i % 10'000 == 9'999) {
            std::uint64_t held = 0;
            for (auto& s : shells) held += s.stats().memory_bytes;
            most = std::max(most, held / streams);
        }
    }
    for (auto& s : shells) ASSERT_TRUE(s.drain());
    EXPECT_EQ(next, number);
    EXPECT_EQ(bad.load(), 0);
    EXPECT_LT(most, 1'024u);
    std::cout << most << " bytes a stream at most\n";
}

/// Thousands at once, from three submitters, on changing masks, some finished by handles elsewhere, some with weights, some on an executor or polled.
TEST(padata_stress, thousands_of_streams_in_every_mode_keep_order_and_deliver_once) {
    const char* text = std::getenv("COHORT_SEED");
    const std::uint64_t seed = text ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::cout << "COHORT_SEED=" << seed << '\n';
    const char* scale = std::getenv("COHORT_STRESS_JOBS");
    const std::uint64_t jobs = (scale ? std::strtoull(scale, nullptr, 10) : 2'000'000) / 10;
    constexpr int streams = 3'000, submitters = 3;
    auto inst = make_instance({.name = "thousands"});
    std::atomic<int> bad{0};
    std::mutex held_lock;
    std::vector<completion> held;
    std::deque<turn*> posted;
    std::mutex posted_lock;
    executor_of queue([&](turn& t) {
        std::lock_guard hold(posted_lock);
        posted.push_back(&t);
    });
    struct stream {
        std::unique_ptr<shell> s;
        std::uint64_t number = 0;               // its submitter's
        std::atomic<std::uint64_t> delivered{0};  // by the order itself
        std::atomic<int> inside{0};
    };
    std::vector<stream> all(streams);
    std::mt19937 random(static_cast<unsigned>(seed));
    for (stream& f : all) {
        executor* where = random() % 4 ? nullptr : random() % 2 ? static_cast<executor*>(&queue) : by_polling();
        f.s = std::make_unique<shell>(shell::create(*inst, {.window = 1u << random() % 8, .when_full = static_cast<full_policy>(random() % 2), .inline_jobs = random() % 2 == 0,
                                                            .weight = 1 + static_cast<std::uint32_t>(random() % 300), .serial = where}).value());
    }
    std::atomic<bool> stop{false};
    std::thread helper([&] {  // executor, poller, device and operator in one
        std::mt19937 mine(static_cast<unsigned>(seed) + 1);
        const cpumask every = *sys::thread_affinity();
        auto at = std::chrono::steady_clock::now();
        while (!stop.load()) {
            turn* t = nullptr;
            {
                std::lock_guard hold(posted_lock);
                if (!posted.empty()) {
                    t = posted.front();
                    posted.pop_front();
                }
            }
            if (t) t->run();
            while (inst->poll()) {
                if (mine() % 64 == 0) break;
            }
            std::vector<completion> done;
            {
                std::lock_guard hold(held_lock);
                done.swap(held);
            }
            std::shuffle(done.begin(), done.end(), mine);
            for (auto& c : done) {
                if (mine() % 2) c.finish();  // else it is dropped
            }
            done.clear();
            if (std::chrono::steady_clock::now() > at) {
                at += std::chrono::milliseconds(1);
                if (!inst->set_cpumask(mine() % 2 ? mask_kind::parallel : mask_kind::serial, mine() % 2 ? every : cpumask{every.nth(static_cast<int>(mine() % static_cast<unsigned>(every.weight())))})) ++bad;
            }
        }
    });
    std::vector<std::thread> users;
    for (int u = 0; u < submitters; ++u) {
        users.emplace_back([&, u] {
            std::mt19937 mine(static_cast<unsigned>(seed) + 100 + static_cast<unsigned>(u));
            for (std::uint64_t i = 0; i < jobs / submitters; ++i) {
                // Each stream has one submitter; small numbers come more often.
                const auto rank = static_cast<std::size_t>(std::pow(static_cast<double>(streams / submitters), static_cast<double>(mine()) / 4294967296.0));
                stream& f = all[std::min<std::size_t>(rank - 1, streams / submitters - 1) * submitters + static_cast<std::size_t>(u)];
                auto serial = [&f, &bad, n = f.number++] {
                    if (f.inside.fetch_add(1) != 0 || f.delivered.load() != n) ++bad;
                    f.delivered.store(n + 1);
                    f.inside.fetch_sub(1);
                };
                result<void> r;
                if (mine() % 64 == 0) {
                    r = f.s->submit(
                        [&](completion done) {
                            std::lock_guard hold(held_lock);
                            held.push_back(std::move(done));
                        },
                        serial);
                } else {
                    r = f.s->submit([] {}, serial);
                }
                if (!r) ++bad;
            }
        });
    }
    for (auto& u : users) u.join();
    std::uint64_t delivered = 0;
    for (stream& f : all) {
        if (!f.s->drain()) ++bad;
        if (f.delivered.load() != f.number) ++bad;
        delivered += f.delivered.load();
    }
    stop = true;
    helper.join();
    EXPECT_EQ(delivered, jobs / submitters * submitters);
    EXPECT_EQ(bad.load(), 0);
}

}  // namespace
}  // namespace cohort::padata
