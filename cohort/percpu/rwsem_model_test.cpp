// SPDX-License-Identifier: Apache-2.0
/// rwsem and rcu_sync (their headers tell the protocol) over all interleavings of small scenarios. Rules: a writer is alone; whoever waits gets the lock; a reader that
/// comes by the fast way, without any order of its own, finds a grace period between the last write and itself.
///
/// This is a model: functions have the names of those in rwsem.cpp and rcu_sync.cpp and do the same steps in the same order; change both together. Left out: spinning, and
/// the quiet time (settle comes at the worst moment instead). `fault` leaves a step out or moves it: each must be found, else the model would prove nothing. Memory is
/// sequentially consistent here, so the fences A, B, D and W are not covered.
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
    slow_reader_does_not_look_at_block,
    writer_sums_before_it_blocks,
    sums_ins_before_outs,
    sums_in_one_pass,
    enter_without_grace_period,
    flags_down_after_the_grace_period,
    second_writer_does_not_wait_for_passed,
    settles_without_grace_period,
    no_replay,
    flags_up_outside_of_the_lock,
    settles_with_a_writer_inside,
    leaves_without_a_look_at_drain,
    leaves_with_a_look_at_drain_before_it_counts,
    writer_sleeps_without_a_last_look,
    woken_writer_does_not_look_again,
    hand_over_without_counting,
    hand_over_opens_before_a_writer,
    unlock_forgets_the_queue,
    failed_try_forgets_the_queue,
    allows_without_a_second_look,
    enqueues_at_an_open_lock,
    failed_attempt_stays_counted,
};

using thread = testing::sequence_model::thread;
using testing::model_unit;

class world {
public:
    world(interleave::run& x, fault f) : fault_(f), run_(x) {
        x.at_end([this] {
            int inside = 0;
            for (const model_unit& u : m_.units) inside += u.in - u.out;
            if (inside != 0) return std::string("ins and outs differ");
            if (block_.peek() != open || !queue_.empty()) return std::string("the lock is not open");
            return std::string(count_of(word_.peek()) == 0 ? "" : "a writer is counted");
        });
    }
    thread& new_thread(int cpu) {
        threads_.push_back({.cpu = cpu});
        m_.knows(threads_.back());
        return threads_.back();
    }
    void starts_idle(bool flags_up) {
        for (model_unit& u : m_.units) u.fast = flags_up;
    }

    // ---- readers

    void read(thread& t) {
        lock_shared(t);
        ++readers_inside_;
        if (writers_inside_ > 0) run_.broken("a reader came in beside a writer");
        interleave::run::point();
        --readers_inside_;
        unlock_shared(t);
    }
    void lock_shared(thread& t) {
        if (m_.add_if_set(t, &model_unit::in, 1)) {
            if (grace_covers_ < version_) run_.broken("a fast reader may see old data");
            return;
        }
        allow_here(t);
        come(t);
        if (may_stay(t)) return;
        for (;;) {
            auto me = std::make_shared<waiter>();
            if (enqueue(me)) return interleave::run::wait_until([me] { return me->granted; });
            come(t);
            if (may_stay(t)) return;
        }
    }
    void unlock_shared(thread& t) {
        if (!m_.add_if_set(t, &model_unit::out, 1)) leave(t);
    }
    void come(thread& t) { m_.add(t, &model_unit::in, 1); }
    bool may_stay(thread& t) {
        if (fault_ == fault::slow_reader_does_not_look_at_block || block_.load() == open) return true;
        if (fault_ != fault::failed_attempt_stays_counted) leave(t);
        return false;
    }
    void leave(thread& t) {
        int drain = 0;
        if (fault_ == fault::leaves_with_a_look_at_drain_before_it_counts) drain = drain_.load();
        m_.add(t, &model_unit::out, 1);
        if (fault_ == fault::leaves_without_a_look_at_drain) return;
        if (fault_ != fault::leaves_with_a_look_at_drain_before_it_counts) drain = drain_.load();
        if (drain != 0 && all_left()) drain_.exchange(0);  // and futex_wake
    }

    // ---- writers

    void write(thread& t) {
        lock();
        ++writers_inside_;
        if (writers_inside_ > 1) run_.broken("two writers are inside");
        if (readers_inside_ > 0) run_.broken("a writer came in beside a reader");
        interleave::run::point();
        ++version_;
        --writers_inside_;
        unlock(t);
    }
    void lock() {
        enter();
        bool left = fault_ == fault::writer_sums_before_it_blocks && all_left();
        take_block();
        if (!left) wait_until_all_left();
    }
    bool try_lock(thread& t) {
        if (block_.load() != open) return false;
        enter();
        int is = open;
        if (!block_.compare_exchange_weak(is, held)) {
            exit();
            return false;
        }
        if (!all_left()) {
            if (fault_ == fault::failed_try_forgets_the_queue) block_.store(open);
            else release_block(t);
            exit();
            return false;
        }
        return true;
    }
    void try_write(thread& t) {
        if (!try_lock(t)) return;
        ++writers_inside_;
        if (writers_inside_ > 1 || readers_inside_ > 0) run_.broken("try_lock let a writer in beside others");
        interleave::run::point();
        ++version_;
        --writers_inside_;
        unlock(t);
    }
    void unlock(thread& t) {
        release_block(t);
        exit();
    }
    void take_block() {
        for (;;) {
            int is = open;
            if (block_.compare_exchange_weak(is, held)) return;
            auto me = std::make_shared<waiter>();
            me->writes = true;
            if (enqueue(me)) return interleave::run::wait_until([me] { return me->granted; });
        }
    }
    bool all_left() {
        if (fault_ == fault::sums_in_one_pass) {
            int inside = 0;
            for (const model_unit& u : m_.units) {
                interleave::run::point();
                inside += u.in - u.out;
            }
            return inside == 0;
        }
        if (fault_ == fault::sums_ins_before_outs) {
            const int came = m_.sum(&model_unit::in);
            return came == m_.sum(&model_unit::out);
        }
        const int left = m_.sum(&model_unit::out);
        return m_.sum(&model_unit::in) == left;
    }
    void wait_until_all_left() {
        if (all_left()) return;
        do {
            drain_.store(1);
            m_.restart_sequences();
            if (fault_ != fault::writer_sleeps_without_a_last_look && all_left()) break;
            interleave::run::wait_until([this] { return drain_.peek() == 0; });
        } while (fault_ != fault::woken_writer_does_not_look_again && !all_left());
        drain_.store(0);
    }
    void release_block(thread& t) {
        if (fault_ == fault::unlock_forgets_the_queue) return block_.store(open);
        int is = held;
        if (!block_.compare_exchange_weak(is, open)) hand_over(t);
    }
    struct waiter {
        bool writes = false, granted = false;
    };
    bool enqueue(const std::shared_ptr<waiter>& me) {
        const std::lock_guard hold(queue_lock_);
        int is = block_.load();
        do {
            if (is == open && fault_ != fault::enqueues_at_an_open_lock) return false;
        } while (is == held && !block_.compare_exchange_weak(is, contended));
        queue_.push_back(me);
        return true;
    }
    void hand_over(thread& t) {
        std::deque<std::shared_ptr<waiter>> granted;
        {
            const std::lock_guard hold(queue_lock_);
            int readers = 0;
            for (; !queue_.empty() && !queue_.front()->writes; queue_.pop_front(), ++readers) granted.push_back(queue_.front());
            if (readers > 0 && fault_ != fault::hand_over_without_counting) m_.add(t, &model_unit::in, readers);
            const bool to_writer = !queue_.empty();
            if (to_writer) {
                granted.push_back(queue_.front());
                queue_.pop_front();
            }
            if (!to_writer) block_.store(open);
            else if (fault_ == fault::hand_over_opens_before_a_writer) block_.store(open);
            else if (queue_.empty()) block_.store(held);
        }
        for (auto& w : granted) {
            interleave::run::point();
            w->granted = true;
        }
    }

    // ---- rcu_sync

    enum state { idle, entering, passed, exiting, replay };
    static constexpr int one = 8;
    static int count_of(int w) { return w / one; }

    void enter() {
        int w = word_.load();
        for (;;) {
            if (w == idle) {
                if (leave_idle()) return;
                w = word_.load();
            } else if (word_.compare_exchange_weak(w, w + one)) {
                break;
            }
        }
        if (w % one == entering && fault_ != fault::second_writer_does_not_wait_for_passed) {
            interleave::run::wait_until([this] { return word_.peek() % one != entering; });
        }
    }
    bool leave_idle() {
        {
            const std::lock_guard hold(flags_);
            int is = idle;
            if (!word_.compare_exchange_weak(is, entering + one)) return false;
            if (fault_ != fault::flags_down_after_the_grace_period) m_.set_flags(false);
        }
        if (fault_ != fault::enter_without_grace_period) grace_period();
        if (fault_ == fault::flags_down_after_the_grace_period) m_.set_flags(false);
        word_.fetch_add(passed - entering);
        return true;
    }
    void exit() {
        int w = word_.load(), next;
        do {
            next = w - one;
            if (next == exiting && fault_ != fault::no_replay) next = replay;
        } while (!word_.compare_exchange_weak(w, next));
    }
    void settle() {
        int is = passed;
        if (!word_.compare_exchange_weak(is, exiting)) return;
        if (fault_ != fault::settles_without_grace_period) grace_period();
        const auto finish = [this] {
            const std::lock_guard hold(flags_);
            int w = word_.load(), next;
            do {
                next = w == exiting ? idle : passed + count_of(w) * one;
                if (fault_ == fault::settles_with_a_writer_inside && w % one == exiting) next = idle;
            } while (!word_.compare_exchange_weak(w, next));
            if (next == idle && fault_ != fault::flags_up_outside_of_the_lock) m_.set_flags(true);
            return next == idle;
        };
        if (finish() && fault_ == fault::flags_up_outside_of_the_lock) m_.set_flags(true);
    }
    void allow_here(thread& t) {
        if (word_.load() != idle) return;
        const std::lock_guard hold(flags_);  // tried only; here it waits, which is a longer way to the same
        if (fault_ == fault::allows_without_a_second_look || word_.load() == idle) m_.units[static_cast<std::size_t>(t.cpu)].fast = true;
    }
    void grace_period() {
        const int covers = version_;
        m_.restart_sequences();
        grace_covers_ = covers;
    }

private:
    enum : int { open, held, contended };
    const fault fault_;
    interleave::run& run_;
    testing::sequence_model m_;
    std::deque<thread> threads_;
    interleave::atomic<int> block_{open}, drain_{0}, word_{idle};
    interleave::mutex queue_lock_, flags_;
    std::deque<std::shared_ptr<waiter>> queue_;  // under queue_lock_
    int readers_inside_ = 0, writers_inside_ = 0;
    int version_ = 0, grace_covers_ = 0;         // writes that were made; of them, those before the last grace period
};

using scenario = interleave::scenario<fault>;
using act = std::function<void(world&, thread&)>;

/// A thread for each act, on alternating CPUs; readers fast at first, or on CPUs that have just appeared.
scenario of(std::vector<act> acts, bool flags_up = true) {
    return [acts, flags_up](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f);
        w->starts_idle(flags_up);
        int cpu = 0;
        for (const act& a : acts) x.thread([w, a, &t = w->new_thread(cpu++ % 2)] { a(*w, t); });
    };
}

const act reads = [](world& w, thread& t) { w.read(t); };
const act reads_twice = [](world& w, thread& t) { w.read(t), w.read(t); };
const act writes = [](world& w, thread& t) { w.write(t); };
const act writes_twice = [](world& w, thread& t) { w.write(t), w.write(t); };
const act tries = [](world& w, thread& t) { w.try_write(t); };
const act writes_and_settles = [](world& w, thread& t) { w.write(t), w.settle(); };
const act writes_settles_and_reads = [](world& w, thread& t) { w.write(t), w.settle(), w.read(t); };

const scenario one_of_each = of({reads_twice, writes});
const scenario two_readers = of({reads, reads_twice, writes});
const scenario appearing = of({reads_twice, writes}, false);
const scenario three_reads = of({reads_twice, writes_twice, reads});
const scenario two_writers = of({reads, writes, writes});
const scenario a_try = of({reads, tries, writes});
const scenario settling = of({reads_twice, writes_and_settles, writes});
const scenario settling_and_reading = of({writes_settles_and_reads, writes_twice, reads});

TEST(rwsem_model, a_reader_and_a_writer) { interleave::expect_clean(one_of_each, 4); }
TEST(rwsem_model, a_reader_on_cpus_that_appear) { interleave::expect_clean(appearing, 3); }
TEST(rwsem_model, two_readers_and_a_writer) { interleave::expect_clean(two_readers, 2); }
TEST(rwsem_model, two_writers_and_a_reader) { interleave::expect_clean(two_writers, 2); }
TEST(rwsem_model, a_writer_that_tries) { interleave::expect_clean(a_try, 2); }
TEST(rwsem_model, the_way_back_to_fast_reading) { interleave::expect_clean(settling, 2); }
TEST(rwsem_model, the_way_back_beside_two_more_writes) { interleave::expect_clean(settling_and_reading, 2); }

TEST(rwsem_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(slow_reader_does_not_look_at_block), one_of_each},
        {COHORT_FAULT(writer_sums_before_it_blocks), one_of_each},
        {COHORT_FAULT(sums_ins_before_outs), two_readers},
        {COHORT_FAULT(sums_in_one_pass), two_readers},
        {COHORT_FAULT(enter_without_grace_period), one_of_each},
        {COHORT_FAULT(flags_down_after_the_grace_period), one_of_each},
        {COHORT_FAULT(second_writer_does_not_wait_for_passed), two_writers},
        {COHORT_FAULT(settles_without_grace_period), settling},
        {COHORT_FAULT(no_replay), settling_and_reading},
        {COHORT_FAULT(flags_up_outside_of_the_lock), settling},
        {COHORT_FAULT(settles_with_a_writer_inside), settling},
        {COHORT_FAULT(leaves_without_a_look_at_drain), one_of_each},
        {COHORT_FAULT(leaves_with_a_look_at_drain_before_it_counts), one_of_each},
        {COHORT_FAULT(writer_sleeps_without_a_last_look), one_of_each},
        {COHORT_FAULT(woken_writer_does_not_look_again), three_reads},
        {COHORT_FAULT(hand_over_without_counting), one_of_each},
        {COHORT_FAULT(hand_over_opens_before_a_writer), two_writers},
        {COHORT_FAULT(unlock_forgets_the_queue), two_writers},
        {COHORT_FAULT(failed_try_forgets_the_queue), a_try},
        {COHORT_FAULT(allows_without_a_second_look), appearing},
        {COHORT_FAULT(enqueues_at_an_open_lock), two_writers},
        {COHORT_FAULT(failed_attempt_stays_counted), one_of_each},
    }, 3);
}

}  // namespace
}  // namespace cohort::percpu
