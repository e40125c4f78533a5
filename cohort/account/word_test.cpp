// SPDX-License-Identifier: Apache-2.0
// Runs the protocols over a group's word through every order of their steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <cohort/account/detail/word.hpp>

namespace cohort::account::detail {
namespace {

/// Runs tasks one step at a time in an order that it chooses, and then in every other order. A step is one access of a `stepped` word.
class interleaver {
public:
    /// make(): fresh tasks for one run; check(): what must hold after it. Answers how many orders there were.
    static int every_order(const std::function<std::vector<std::function<void()>>()>& make, const std::function<void()>& check) {
        std::vector<std::pair<std::size_t, std::size_t>> path;  // choice, of how many
        for (int orders = 1;; ++orders) {
            interleaver run;
            run.go(make(), path);
            check();
            while (!path.empty() && path.back().first + 1 == path.back().second) path.pop_back();
            if (path.empty()) return orders;
            ++path.back().first;
        }
    }
    /// A task is about to take a step.
    static void point() {
        if (current_) current_->yield();
    }

private:
    void yield() {
        std::unique_lock lock(mutex_);
        turn_ = -1;
        changed_.notify_all();
        changed_.wait(lock, [this] { return turn_ == me_; });
    }
    void go(std::vector<std::function<void()>> tasks, std::vector<std::pair<std::size_t, std::size_t>>& path) {
        std::vector<std::thread> threads;
        std::vector<int> left;
        std::unique_lock lock(mutex_);
        for (int i = 0; i < static_cast<int>(tasks.size()); ++i) {
            left.push_back(i);
            threads.emplace_back([this, i, &task = tasks[static_cast<std::size_t>(i)]] {
                current_ = this;
                me_ = i;
                {
                    std::unique_lock start(mutex_);
                    changed_.wait(start, [this] { return turn_ == me_; });
                }
                task();
                const std::lock_guard end(mutex_);
                ended_ = true;
                turn_ = -1;
                changed_.notify_all();
            });
        }
        for (std::size_t at = 0; !left.empty(); ++at) {
            if (at == path.size()) path.emplace_back(0, left.size());
            const std::size_t choice = path[at].first;
            ended_ = false;
            turn_ = left[choice];
            changed_.notify_all();
            changed_.wait(lock, [this] { return turn_ == -1; });
            if (ended_) left.erase(left.begin() + static_cast<std::ptrdiff_t>(choice));
        }
        lock.unlock();
        for (auto& t : threads) t.join();
    }

    static inline thread_local interleaver* current_ = nullptr;
    static inline thread_local int me_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    int turn_ = -1;       // [guarded: mutex_] the task that runs; -1: the chooser
    bool ended_ = false;  // [guarded: mutex_]
};

/// What of std::atomic the protocols use; each access is a step. Only one task runs at a time, as under seq_cst.
struct stepped {
    std::uint64_t value;
    std::uint64_t highest = 0;  // usage that any compare-and-swap made
    std::uint64_t load() { return interleaver::point(), value; }
    std::uint64_t exchange(std::uint64_t v) { return interleaver::point(), std::exchange(value, v); }
    std::uint64_t fetch_sub(std::uint64_t v) { return interleaver::point(), std::exchange(value, value - v); }
    bool compare_exchange_weak(std::uint64_t& expected, std::uint64_t v) {
        interleaver::point();
        if (value != expected) return expected = value, false;
        highest = std::max(highest, usage_of(v));
        return value = v, true;
    }
    bool compare_exchange_strong(std::uint64_t& expected, std::uint64_t v) { return compare_exchange_weak(expected, v); }
};

constexpr std::uint64_t no_limit = usage_mask;

struct world {
    stepped word{0}, limit{no_limit};
    int granted = 0;
    int refused = 0;
    bool lowered = false;
    void charge(std::uint64_t n) {
        std::uint64_t after = 0;
        if (count(word, limit, n, after) == answer::yes) granted += static_cast<int>(n);
        else ++refused;
    }
    void lower(std::uint64_t to) {
        std::uint64_t usage = 0;
        lowered = set_limit(word, limit, to, usage);
    }
};

TEST(word, a_limit_and_charges_never_stand_together_against_each_other) {
    world w;
    int with = 0, without = 0;
    const int orders = interleaver::every_order(
        [&]() -> std::vector<std::function<void()>> {
            w = {};
            return {[&] { w.charge(10), w.charge(10); }, [&] { w.lower(15); }};
        },
        [&] {
            EXPECT_EQ(usage_of(w.word.value), static_cast<std::uint64_t>(w.granted)) << "what is counted is what was granted";
            if (w.lowered) {
                ++with;
                EXPECT_LE(w.granted, 15);
                EXPECT_EQ(w.limit.value, 15u);
            } else {
                ++without;
                EXPECT_EQ(w.limit.value, no_limit);
            }
        });
    EXPECT_GT(orders, 50);
    EXPECT_GT(with, 0);
    EXPECT_GT(without, 0);
}

TEST(word, charges_side_by_side_never_pass_the_limit_and_one_of_them_succeeds) {
    world w;
    const int orders = interleaver::every_order(
        [&]() -> std::vector<std::function<void()>> {
            w = {};
            w.limit.value = 15;
            return {[&] { w.charge(10); }, [&] { w.charge(10); }};
        },
        [&] {
            EXPECT_EQ(w.granted, 10);
            EXPECT_EQ(w.refused, 1);
            EXPECT_EQ(usage_of(w.word.value), 10u);
            EXPECT_LE(w.word.highest, 15u) << "not even for a moment";
        });
    EXPECT_GT(orders, 10);
}

TEST(word, removal_and_a_charge_never_both_succeed) {
    world w;
    bool removed = false;
    int removals = 0;
    interleaver::every_order(
        [&]() -> std::vector<std::function<void()>> {
            w = {};
            removed = false;
            return {[&] { w.charge(10); },
                    [&] {
                        std::uint64_t none = 0;
                        removed = w.word.compare_exchange_strong(none, dead);
                    }};
        },
        [&] {
            EXPECT_NE(removed, w.granted == 10);
            removals += removed;
        });
    EXPECT_GT(removals, 0);
}

TEST(word, children_and_usage_stay_in_their_fields) {
    world w;
    w.word.value = children_mask;
    w.charge(usage_mask);
    EXPECT_EQ(children_of(w.word.value), 32767);
    EXPECT_EQ(usage_of(w.word.value), usage_mask);
    w.charge(1);
    EXPECT_EQ(w.refused, 1);
    EXPECT_FALSE(w.word.value & dead);
}

}  // namespace
}  // namespace cohort::account::detail
