// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include <cohort/base/histogram.hpp>
#include <cohort/base/ida.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/base/refcount.hpp>
#include <cohort/base/static_flag.hpp>
#include <cohort/base/trace.hpp>

namespace cohort {
namespace {

using testing::ElementsAre;
using testing::IsSupersetOf;

void on_threads(int count, const std::function<void(int)>& body) {
    std::vector<std::thread> threads;
    for (int t = 0; t < count; ++t) threads.emplace_back(body, t);
    for (auto& t : threads) t.join();
}

TEST(ida, gives_the_smallest_free_number_of_the_range) {
    ida ids;
    EXPECT_EQ(ids.alloc().value(), 0);
    EXPECT_EQ(ids.alloc().value(), 1);
    EXPECT_EQ(ids.alloc(1).value(), 2);
    EXPECT_EQ(ids.alloc_range(100, 199).value(), 100);
    ASSERT_TRUE(ids.free(1));
    EXPECT_EQ(ids.alloc().value(), 1);
    EXPECT_EQ(ids.alloc_range(ida::max_id, ida::max_id).value(), ida::max_id);
    EXPECT_TRUE(ids.taken(ida::max_id));
    EXPECT_FALSE(ids.taken(3));
    EXPECT_FALSE(ids.taken(-1));
}

TEST(ida, errors) {
    ida ids;
    EXPECT_EQ(ids.alloc_range(-1, 5).error().code, EINVAL);
    EXPECT_EQ(ids.alloc_range(5, 4).error().code, EINVAL);
    EXPECT_EQ(ids.alloc_range(7, 7).value(), 7);
    EXPECT_EQ(ids.alloc_range(7, 7).error().line(), "ids 7-7: allocate: ENOSPC: all are taken");
    EXPECT_EQ(ids.free(8).error().line(), "id 8: free: EINVAL: it is not taken");
    EXPECT_EQ(ids.free(-1).error().code, EINVAL);
    ASSERT_TRUE(ids.free(7));
    EXPECT_EQ(ids.free(7).error().code, EINVAL);
    EXPECT_TRUE(ids.empty());
}

TEST(ida, behaves_as_a_set_of_numbers_over_random_calls) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    ida ids;
    std::vector<bool> model(40'000);  // taken
    for (int step = 0; step < 60'000; ++step) {
        const int min = static_cast<int>(random() % 20'000), max = min + static_cast<int>(random() % 9000);
        if (random() % 5 < 4) {
            int expected = min;
            while (model[static_cast<std::size_t>(expected)]) ++expected;
            const auto got = ids.alloc_range(min, max);
            if (expected > max) {
                ASSERT_EQ(got.error().code, ENOSPC);
            } else {
                ASSERT_EQ(got.value(), expected);
                model[static_cast<std::size_t>(expected)] = true;
            }
        } else {
            const int id = static_cast<int>(random() % 30'000);
            ASSERT_EQ(ids.free(id).has_value(), model[static_cast<std::size_t>(id)]) << id;
            model[static_cast<std::size_t>(id)] = false;
        }
    }
    for (int id = 0; id < 40'000; ++id) {
        if (model[static_cast<std::size_t>(id)]) {
            ASSERT_TRUE(ids.free(id));
        }
    }
    EXPECT_TRUE(ids.empty());
}

TEST(ida, gives_no_number_to_two_threads) {
    ida ids;
    std::array<std::vector<int>, 4> got;
    on_threads(4, [&](int t) {
        for (int i = 0; i < 2000; ++i) {
            got[static_cast<std::size_t>(t)].push_back(ids.alloc_range(0, 7999).value());
        }
    });
    std::set<int> all;
    for (auto& g : got) all.insert(g.begin(), g.end());
    EXPECT_EQ(all.size(), 8000u);
    EXPECT_EQ(ids.alloc_range(0, 7999).error().code, ENOSPC);
}

/// Counts faults instead of printing them.
struct fault_counter {
    static inline std::atomic<int> seen[3];
    fault_counter() {
        for (auto& s : seen) s = 0;
        set_refcount_reporter([](refcount_fault f, const void*) { ++seen[static_cast<int>(f)]; });
    }
    ~fault_counter() { set_refcount_reporter(nullptr); }
};

TEST(refcount, counts_and_tells_the_last_one) {
    refcount r;
    r.inc();
    EXPECT_EQ(r.read(), 2);
    EXPECT_FALSE(r.dec_and_test());
    EXPECT_TRUE(r.dec_and_test());
    EXPECT_FALSE(r.inc_not_zero()) << "what is gone is not revived";
    EXPECT_EQ(r.read(), 0);
}

TEST(refcount, saturates_at_overflow_and_never_frees) {
    const fault_counter faults;
    refcount r{refcount::max};
    r.inc();
    EXPECT_EQ(r.read(), refcount::saturated);
    EXPECT_EQ(faults.seen[0], 1);
    for (int i = 0; i < 1000; ++i) EXPECT_FALSE(r.dec_and_test());
    EXPECT_LT(r.read(), 0);
    refcount other{refcount::max};
    EXPECT_TRUE(other.inc_not_zero());
    EXPECT_EQ(other.read(), refcount::saturated);
    EXPECT_TRUE(other.inc_not_zero()) << "a saturated object still lives";
}

TEST(refcount, use_after_zero_is_reported_and_saturates) {
    const fault_counter faults;
    refcount a{0};
    a.inc();
    EXPECT_EQ(a.read(), refcount::saturated);
    EXPECT_EQ(faults.seen[1], 1);
    refcount b{0};
    EXPECT_FALSE(b.dec_and_test());
    EXPECT_EQ(b.read(), refcount::saturated);
    EXPECT_EQ(faults.seen[2], 1);
}

TEST(refcount, default_report_is_one_line_per_kind) {
    // In a process of its own: it is one line for the life of the process.
    EXPECT_EXIT(
        {
            set_refcount_reporter(nullptr);
            refcount a{0};
            refcount b{0};
            a.inc();
            b.inc();
            std::_Exit(0);
        },
        testing::ExitedWithCode(0), testing::MatchesRegex("[^\n]*reference taken from zero[^\n]*\n"));
}

TEST(refcount, last_holder_sees_what_the_others_wrote) {
    for (int round = 0; round < 200; ++round) {
        struct object {
            refcount users{4};
            int parts[4]{};
        };
        auto* o = new object;
        std::atomic<int> ends{0};
        on_threads(4, [&](int t) {
            o->parts[t] = 1;
            if (!o->users.dec_and_test()) return;
            EXPECT_EQ(o->parts[0] + o->parts[1] + o->parts[2] + o->parts[3], 4);
            delete o;
            ++ends;
        });
        ASSERT_EQ(ends, 1);
    }
}

constinit static_flag flag;

TEST(static_flag, is_off_until_enabled_and_counts) {
    EXPECT_FALSE(flag.enabled());
    flag.enable();
    flag.enable();
    flag.disable();
    EXPECT_TRUE(flag.enabled());
    flag.disable();
    EXPECT_FALSE(flag.enabled());
    on_threads(4, [](int) {
        for (int i = 0; i < 1000; ++i) {
            flag.enable();
            flag.disable();
        }
    });
    EXPECT_EQ(flag.count(), 0);
}

TEST(static_flag_death, one_disable_too_many_is_the_callers_bug) {
    static_flag other;
    EXPECT_DEATH(other.disable(), "more often than enabled");
}

trace_point alpha{"test:alpha", {"a", "b"}};
trace_point beta{"test:beta", {}};
trace_point gamma_point{"other:gamma", {"x"}};

struct collector : trace_sink {
    void record(const trace_record& r) override {
        const lock_guard hold(lock);
        lines.push_back(std::string(r.point->name()) + " " + std::to_string(r.values[0]) + " " + std::to_string(r.values[1]));
    }
    mutex lock;
    std::vector<std::string> lines;
};

TEST(trace, tells_only_while_somebody_listens) {
    collector sink;
    alpha(1, 2);
    {
        auto session = trace_session::start("test:*", sink);
        ASSERT_TRUE(session);
        EXPECT_EQ(session->points(), 2u);
        alpha(3, 4);
        beta();
        gamma_point(9);
        EXPECT_EQ(trace_session::start("test:alpha", sink).error().code, EBUSY);
        trace_session moved = std::move(*session);
        EXPECT_TRUE(alpha.enabled());
    }
    alpha(5, 6);
    EXPECT_FALSE(alpha.enabled());
    EXPECT_THAT(sink.lines, ElementsAre("test:alpha 3 4", "test:beta 0 0"));
}

TEST(trace, patterns) {
    collector sink;
    const auto points = [&](const char* pattern) {
        auto s = trace_session::start(pattern, sink);
        return s ? static_cast<int>(s->points()) : -s.error().code;
    };
    EXPECT_EQ(points("test:alpha"), 1);
    EXPECT_EQ(points("test:alpha,other:*"), 2);
    EXPECT_EQ(points("*:*a*m*a"), 1);
    EXPECT_EQ(points("test:*,test:alpha"), 2);
    EXPECT_EQ(points("test:al"), -ENOENT);
    EXPECT_EQ(points(""), -ENOENT);
    EXPECT_THAT(trace_point::all(), IsSupersetOf({"other:gamma", "test:alpha", "test:beta"}));
    EXPECT_STREQ(alpha.fields()[1], "b");
}

TEST(trace, sink_is_not_called_after_the_session_ended) {
    std::atomic<bool> stop{false};
    std::thread worker([&] {
        while (!stop) alpha(1, 1);
    });
    for (int i = 0; i < 200; ++i) {
        auto sink = std::make_unique<collector>();
        auto session = trace_session::start("test:alpha", *sink);
        ASSERT_TRUE(session);
        std::this_thread::yield();
        { const trace_session ended = std::move(*session); }
        sink.reset();  // the sanitizers see a call that comes later
    }
    stop = true;
    worker.join();
}

TEST(mutex, guards_waits_and_shares) {
    mutex lock;
    condition_variable changed;
    int turn = 0;
    on_threads(2, [&](int t) {
        for (int i = 0; i < 200; ++i) {
            const lock_guard hold(lock);
            while (turn % 2 != t) changed.wait(lock);
            ++turn;
            changed.notify_all();
        }
    });
    EXPECT_EQ(turn, 400);
    const lock_guard hold(lock);
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (changed.wait_until(lock, until)) {
    }  // woken for nothing
    EXPECT_GE(std::chrono::steady_clock::now(), until);
    std::thread([&] { EXPECT_FALSE(lock.try_lock()); }).join();
}

TEST(mutex, shared_guard_lets_readers_in_together) {
    shared_mutex lock;
    long value = 0;
    on_threads(4, [&](int t) {
        for (int i = 0; i < 500; ++i) {
            if (t == 0) {
                const lock_guard hold(lock);
                ++value;
            } else {
                const shared_guard hold(lock);
                EXPECT_GE(value, 0);
            }
        }
    });
    EXPECT_EQ(value, 500);
    const shared_guard mine(lock);
    std::thread([&] { const shared_guard also(lock); }).join();
}

TEST(guarded, reaches_its_value_only_under_its_lock) {
    guarded<std::deque<int>> numbers(std::deque<int>{1});
    on_threads(4, [&](int t) {
        for (int i = 0; i < 500; ++i) numbers.lock()->push_back(t);
    });
    EXPECT_EQ(numbers.lock()->size(), 2001u);
    EXPECT_EQ((*numbers.lock()).front(), 1);
}

TEST(histogram, percentiles_are_within_a_thirty_second) {
    histogram h;
    EXPECT_EQ(h.percentile(50), 0u);
    for (std::uint64_t v = 1; v <= 100'000; ++v) h.add(v * 1000);
    EXPECT_NEAR(static_cast<double>(h.percentile(50)), 5e7, 5e7 / 32);
    EXPECT_NEAR(static_cast<double>(h.percentile(99)), 9.9e7, 9.9e7 / 32);
    EXPECT_GE(h.percentile(100), 100'000'000u);
    h.add(~std::uint64_t{0});
    EXPECT_EQ(h.percentile(100), ~std::uint64_t{0});
}

}  // namespace
}  // namespace cohort
