// SPDX-License-Identifier: Apache-2.0
/// ref (its header tells the protocol) over all interleavings of small scenarios: it is released once, after the last put, and no live reference is taken after the
/// confirmation of kill.
///
/// This is a model: functions have the names of those in ref.cpp and do the same steps in the same order; change both together. `fault` leaves a step out or moves it:
/// each must be found, else the model would prove nothing.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include <cohort/base/testing/model.hpp>
#include <cohort/percpu/testing/sequence_model.hpp>

namespace cohort::percpu {
namespace {

enum class fault {
    none,
    no_grace_period,
    sums_before_the_grace_period,
    no_bias,
    bias_goes_before_the_sum_comes,
    dead_is_tested_apart,
    allows_without_a_look_at_the_mode,
    flags_up_before_the_bias,
    units_keep_their_counts,
};

using thread = testing::sequence_model::thread;
using testing::model_unit;

class world {
public:
    world(interleave::run& x, fault f) : fault_(f), run_(x) {
        x.at_end([this]() -> std::string {
            int in_units = 0;
            for (const model_unit& u : m_.units) in_units += u.in;
            if (killed_ && holders_ == 0 && releases_ != 1) return "it was not released";
            if (!killed_ && count_of(word_.peek()) + in_units != bias + 1 && count_of(word_.peek()) != 1) return "the count is wrong";
            return "";
        });
        for (model_unit& u : m_.units) u.fast = true;
    }
    void cpus_are_absent_at_first() {
        for (model_unit& u : m_.units) u.fast = false;
    }
    thread& new_thread(int cpu) {
        threads_.push_back({.cpu = cpu});
        m_.knows(threads_.back());
        return threads_.back();
    }
    /// A reference that was there from the start, in word_.
    void begins_with_one() {
        word_ = word_.peek() + one;
        ++holders_;
    }

    void get(thread& t) {
        if (!m_.add_if_set(t, &model_unit::in, 1)) {
            allow_here(t);
            word_.fetch_add(one);
        }
        ++holders_;
    }
    void put(thread& t) {
        if (releases_ > 0) run_.broken("it was released before the last put");
        --holders_;
        if (m_.add_if_set(t, &model_unit::in, -1)) return;
        allow_here(t);
        put_slow(1);
    }
    bool tryget_live(thread& t) {
        const bool late = confirmed_;
        bool got = m_.add_if_set(t, &model_unit::in, 1);
        if (!got) {
            allow_here(t);
            int w = word_.load();
            do {
                if (count_of(w) == 0 || (w & dead)) return false;
                if (fault_ == fault::dead_is_tested_apart) {
                    word_.fetch_add(one);
                    break;
                }
            } while (!word_.compare_exchange_weak(w, w + one));
        }
        if (late || confirmed_at_put_) run_.broken("a live reference was taken after the confirmation");
        ++holders_;
        return true;
    }
    void kill(thread&) {
        killed_ = true;
        {
            const std::lock_guard hold(switching_);
            int w = word_.load();
            while (!word_.compare_exchange_weak(w, w | dead)) {}
            to_atomic();
            confirmed_ = true;
        }
        confirmed_at_put_ = true;
        put_slow(1);
    }
    void switch_to_atomic(thread&) {
        const std::lock_guard hold(switching_);
        to_atomic();
    }
    void switch_to_percpu(thread&) {
        const std::lock_guard hold(switching_);
        if (percpu_.load()) return;
        if (fault_ == fault::flags_up_before_the_bias) set_mode(true);
        word_.fetch_add(bias * one);
        if (fault_ != fault::flags_up_before_the_bias) set_mode(true);
    }

private:
    static constexpr int dead = 1, one = 2, bias = 1000;
    static int count_of(int w) { return w >> 1; }

    void put_slow(int n) {
        const int left = count_of(word_.fetch_sub(n * one) - n * one);
        if (left < 0) run_.broken("the count fell below 0");
        if (left != 0) return;
        ++releases_;
        if (releases_ > 1) run_.broken("it was released twice");
        if (holders_ > 0) run_.broken("it was released while somebody holds it");
        if (!killed_) run_.broken("it was released before it was killed");
    }
    void allow_here(thread& t) {
        if (!percpu_.load() && fault_ != fault::allows_without_a_look_at_the_mode) return;
        if (flags_.exchange(true)) return;  // only tried
        if (percpu_.load() || fault_ == fault::allows_without_a_look_at_the_mode) m_.units[static_cast<std::size_t>(t.cpu)].fast = true;
        flags_.store(false);
    }
    void set_mode(bool percpu) {
        while (flags_.exchange(true)) interleave::run::wait_until([this] { return !flags_.peek(); });
        percpu_.store(percpu);
        m_.set_flags(percpu);
        flags_.store(false);
    }
    void to_atomic() {
        if (!percpu_.load()) return;
        set_mode(false);
        int total = 0;
        const auto take_units = [&] {
            for (model_unit& u : m_.units) {
                interleave::run::point();
                total += u.in;
                if (fault_ != fault::units_keep_their_counts) u.in = 0;
            }
        };
        if (fault_ == fault::sums_before_the_grace_period) take_units();
        if (fault_ != fault::no_grace_period) m_.restart_sequences();
        if (fault_ != fault::sums_before_the_grace_period) take_units();
        const int without = fault_ == fault::no_bias ? 0 : bias;
        if (fault_ == fault::bias_goes_before_the_sum_comes) {
            word_.fetch_sub(without * one);
            word_.fetch_add(total * one);
        } else {
            word_.fetch_add((total - without) * one);
        }
    }

    const fault fault_;
    interleave::run& run_;
    testing::sequence_model m_;
    std::deque<thread> threads_;
    interleave::atomic<int> word_{fault_ == fault::no_bias ? one : (bias + 1) * one};
    interleave::atomic<bool> percpu_{true}, flags_{false};
    interleave::mutex switching_;
    bool killed_ = false, confirmed_ = false, confirmed_at_put_ = false;
    int holders_ = 0, releases_ = 0;  // holders: the users' references, the owner's not
};

using scenario = interleave::scenario<fault>;
using act = std::function<void(world&, thread&)>;

enum class at_first { nothing, second_holds, absent };

scenario of(std::vector<act> acts, at_first first = at_first::nothing) {
    return [acts, first](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f);
        if (first == at_first::second_holds) w->begins_with_one();
        if (first == at_first::absent) w->cpus_are_absent_at_first();
        int cpu = 0;
        for (const act& a : acts) x.thread([w, a, &t = w->new_thread(cpu++ % 2)] { a(*w, t); });
    };
}

const act kills = [](world& w, thread& t) { w.kill(t); };
const act uses_what_it_holds = [](world& w, thread& t) {
    for (int i = 0; i < 3; ++i) w.get(t);
    for (int i = 0; i < 4; ++i) w.put(t);
};
const act tries_and_puts = [](world& w, thread& t) {
    for (int i = 0; i < 2; ++i) {
        if (!w.tryget_live(t)) continue;
        interleave::run::point();
        w.put(t);
    }
};
const act switches = [](world& w, thread& t) { w.switch_to_atomic(t), w.switch_to_percpu(t); };
const act takes_and_puts = [](world& w, thread& t) { w.get(t), w.get(t), w.put(t), w.put(t); };

const scenario ending = of({kills, uses_what_it_holds}, at_first::second_holds);
const scenario looking_up = of({kills, tries_and_puts});
const scenario two_look_up = of({kills, tries_and_puts, tries_and_puts});
const scenario absent = of({kills, tries_and_puts}, at_first::absent);
const scenario changing = of({switches, takes_and_puts});

TEST(ref_model, a_holder_beside_kill) { interleave::expect_clean(ending, 4); }
TEST(ref_model, a_lookup_beside_kill) { interleave::expect_clean(looking_up, 4); }
TEST(ref_model, a_lookup_on_a_cpu_that_appears) { interleave::expect_clean(absent, 4); }
TEST(ref_model, two_lookups_beside_kill) { interleave::expect_clean(two_look_up, 2); }
TEST(ref_model, modes_that_change_beside_a_user) { interleave::expect_clean(changing, 4); }

TEST(ref_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(no_grace_period), ending},
        {COHORT_FAULT(sums_before_the_grace_period), ending},
        {COHORT_FAULT(no_bias), ending},
        {COHORT_FAULT(bias_goes_before_the_sum_comes), ending},
        {COHORT_FAULT(dead_is_tested_apart), absent},
        {COHORT_FAULT(allows_without_a_look_at_the_mode), looking_up},
        {COHORT_FAULT(flags_up_before_the_bias), changing},
        {COHORT_FAULT(units_keep_their_counts), changing},
    }, 4);
}

}  // namespace
}  // namespace cohort::percpu
