// SPDX-License-Identifier: Apache-2.0
/// Who wakes whom (README.md), over all interleavings of small scenarios. Rule: when everything rests nothing is ready; and whatever waits inside a job for
/// other work gets it while a worker sleeps.
///
/// This is a model: functions have the names of those in worker_set.cpp, mail.cpp and idle.cpp and do the same steps in the same order; change both
/// together. Left out: mail, standing back (such a worker looks by itself), and the token (sleep() waits for `parked` to fall). The search is one look; a
/// longer one is one that was preempted. `fault` leaves a step out or moves it: each must be found, else the model would prove nothing; all are with one
/// preemption. COHORT_MODEL_PREEMPTIONS=2 walks half a million interleavings more (a quarter of a minute).
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <cohort/base/testing/model.hpp>

namespace cohort::work {
namespace {

enum class fault {
    none,
    publisher_looks_before_it_stores,
    dry_looks_before_it_unlists,
    dry_does_not_look_again,
    parks_without_a_look_at_the_list,
    looks_at_the_list_before_the_lock,
    found_wakes_nobody,
    found_looks_before_it_stops_searching,
    loses_its_role_in_silence,
    goes_to_its_mail_in_silence,
};

struct source {
    interleave::atomic<int> left{0};
    interleave::atomic<bool> listed{false};
    bool waits_for_other = false;  // its job ends only when the other source's job has
    int done = 0;
};

struct sleeper {
    interleave::atomic<bool> general{true};
    bool searching = false, parked = false, idle = false;  // parked and idle: under the lock
    source* current = nullptr;
    bool asleep = false;          // and has left the lock
    bool busy_elsewhere = false;  // it is given a mail that does not end before all else is done
};

class world {
public:
    world(interleave::run& x, fault f, int workers, int publishers) : fault_(f), publishers_(publishers), workers_(static_cast<std::size_t>(workers)) {
        x.at_end([this] {
            for (const source& s : sources) {
                if (s.left.peek() > 0) return std::string("work is left and everybody sleeps");
            }
            return std::string(state_.peek() == parked_general() * one_parked ? "" : "the counts are wrong");
        });
    }

    source sources[2];
    sleeper& worker(int i) { return workers_[static_cast<std::size_t>(i)]; }

    // ---- publishers

    void publish(source& s) {
        bool listed = false;
        if (fault_ == fault::publisher_looks_before_it_stores) listed = s.listed.load();
        s.left.fetch_add(1);
        if (fault_ != fault::publisher_looks_before_it_stores) listed = s.listed.load();
        if (!listed) return list(s);
        wake_if_idle();
    }
    void publisher_ends() { --publishers_; }

    void set_general(sleeper& w, bool now) {
        std::lock_guard hold(lock_);
        if (w.general.exchange(now) != now) unpark_locked(w);
    }

    // ---- workers

    void main(sleeper& w) {
        while (!at_rest()) {
            if (w.busy_elsewhere) deliver_mail(w);
            if (w.general.load()) {
                if (step(w)) continue;
                if (!w.searching) {
                    w.searching = true;
                    state_.fetch_add(one_searching);
                }
            }
            if (!search(w)) park(w);
        }
    }

    /// As poll(): a thread that is no worker.
    void poll() {
        sleeper lent;
        lent_inside_ = true;
        bool did = step(lent, true);
        if (!did && lent.current) (void)dry(*lent.current);
        lent_inside_ = false;
    }

private:
    static constexpr int one_searching = 1, one_parked = 1'000;
    static int searching(int state) { return state % one_parked; }
    static int parked(int state) { return state / one_parked; }

    int parked_general() const {
        return static_cast<int>(std::count_if(workers_.begin(), workers_.end(), [](const sleeper& w) { return w.parked && w.general.peek(); }));
    }
    /// Nobody will do anything any more.
    bool at_rest() const {
        return publishers_ == 0 && !lent_inside_ && std::all_of(workers_.begin(), workers_.end(), [](const sleeper& w) { return w.parked && w.asleep; });
    }

    void list(source& s) {
        std::lock_guard hold(lock_);
        if (!s.listed.load()) {
            list_.push_back(&s);
            s.listed.store(true);
            listed_count_.fetch_add(1);
        }
        if (searching(state_.load()) == 0) choose_idle_locked();
    }
    void wake_if_idle() {
        int s = state_.load();
        if (parked(s) == 0 || searching(s) != 0) return;
        std::lock_guard hold(lock_);
        if (searching(state_.load()) == 0) choose_idle_locked();
    }
    void choose_idle_locked() {
        for (sleeper& w : workers_) {
            if (w.idle) return unpark_locked(w);
        }
    }
    void unpark_locked(sleeper& w) {
        if (!w.parked) return;
        w.parked = false;
        if (!w.idle) return;
        w.idle = false;
        w.searching = true;
        state_.fetch_add(one_searching - one_parked);
    }
    void successor_locked() {
        if (!list_.empty() && searching(state_.load()) == 0) choose_idle_locked();
    }

    bool dry(source& s) {
        std::lock_guard hold(lock_);
        return dry_locked(s);
    }
    bool dry_locked(source& s) {
        if (!s.listed.load()) return s.left.load() == 0;
        bool ready = false;
        if (fault_ == fault::dry_looks_before_it_unlists) ready = s.left.load() > 0;
        s.listed.store(false);
        if (fault_ != fault::dry_looks_before_it_unlists && fault_ != fault::dry_does_not_look_again) ready = s.left.load() > 0;
        if (ready) {
            s.listed.store(true);
            return false;
        }
        std::erase(list_, &s);
        listed_count_.fetch_sub(1);
        return true;
    }
    source* pick() {
        if (listed_count_.load() == 0) return nullptr;
        std::lock_guard hold(lock_);
        return pick_locked();
    }
    source* pick_locked() {
        if (list_.empty()) return nullptr;
        source* s = list_.front();
        std::rotate(list_.begin(), list_.begin() + 1, list_.end());
        return s;
    }
    bool others_listed(const source* current) {
        int mine = current && current->listed.load() ? 1 : 0;
        return listed_count_.load() > mine;
    }

    bool step(sleeper& w, bool lent = false) {
        if (!w.current) w.current = pick();
        while (w.current) {
            if (run(w, *w.current, lent)) {
                if (others_listed(w.current)) w.current = nullptr;
                return true;
            }
            if (!others_listed(w.current)) return false;
            std::lock_guard hold(lock_);
            (void)dry_locked(*w.current);
            w.current = pick_locked();
        }
        return false;
    }
    bool run(sleeper& w, source& s, bool lent) {
        int n = s.left.load();
        while (n > 0 && !s.left.compare_exchange_weak(n, n - 1)) {
        }
        if (n == 0) return false;
        found(w, s, lent);
        if (s.waits_for_other) interleave::run::wait_until([this] { return sources[1].done > 0; });
        ++s.done;
        return true;
    }
    void found(sleeper& w, source& s, bool lent) {
        if (fault_ == fault::found_wakes_nobody) {
            if (!lent && std::exchange(w.searching, false)) state_.fetch_sub(one_searching);
            return;
        }
        bool more = false;
        if (!lent && w.searching) {
            w.searching = false;
            auto look = [&] {
                int listed = listed_count_.load();
                return listed > (s.listed.load() ? 1 : 0);
            };
            if (fault_ == fault::found_looks_before_it_stops_searching) {
                more = look();
                state_.fetch_sub(one_searching);
            } else {
                state_.fetch_sub(one_searching);
                if (parked(state_.load()) > 0) more = look();
            }
        }
        if (more || s.left.load() > 0) wake_if_idle();
    }
    void deliver_mail(sleeper& w) {
        w.current = nullptr;
        if (std::exchange(w.searching, false)) {
            state_.fetch_sub(one_searching);
            if (fault_ != fault::goes_to_its_mail_in_silence && listed_count_.load() > 0) wake_if_idle();
        }
        interleave::run::wait_until([this] { return sources[0].left.peek() == 0 && sources[1].left.peek() == 0 && publishers_ == 0; });
        w.busy_elsewhere = false;
    }

    bool search(sleeper& w) {
        if (w.busy_elsewhere) return true;
        if (!w.general.load()) return false;
        if (w.current && w.current->left.load() > 0) return true;
        return others_listed(w.current);
    }
    void park(sleeper& w) {
        if (w.current && w.general.load() && !dry(*w.current)) return;
        w.current = nullptr;
        bool empty = false;
        if (fault_ == fault::looks_at_the_list_before_the_lock) empty = listed_count_.load() == 0;
        {
            std::lock_guard hold(lock_);
            bool general = w.general.load();
            if (w.busy_elsewhere) return;
            if (fault_ != fault::looks_at_the_list_before_the_lock) empty = list_.empty();
            if (general && !empty && fault_ != fault::parks_without_a_look_at_the_list) return;
            int change = (w.searching ? -one_searching : 0) + (general ? one_parked : 0);
            w.searching = false;
            w.parked = true;
            w.idle = general;
            state_.fetch_add(change);
            if (!general && fault_ != fault::loses_its_role_in_silence) successor_locked();
        }
        w.asleep = true;
        interleave::run::wait_until([this, &w] { return !w.parked || at_rest(); });
        if (!w.parked) w.asleep = false;
    }

    fault fault_;
    int publishers_;
    bool lent_inside_ = false;
    interleave::mutex lock_;
    interleave::atomic<int> state_{0}, listed_count_{0};
    std::vector<source*> list_;  // under lock_
    std::vector<sleeper> workers_;
};

using scenario = interleave::scenario<fault>;

/// Two publishers of one source, two workers.
void one_source(interleave::run& x, fault f) {
    auto w = std::make_shared<world>(x, f, 2, 2);
    for (int t = 0; t < 2; ++t) {
        x.thread([w] {
            w->publish(w->sources[0]);
            w->publisher_ends();
        });
    }
    for (int i = 0; i < 2; ++i) x.thread([w, i] { w->main(w->worker(i)); });
}

/// The first source's job ends only after the second's: while one worker is inside, the other must come.
void a_job_that_waits(interleave::run& x, fault f) {
    auto w = std::make_shared<world>(x, f, 2, 2);
    w->sources[0].waits_for_other = true;
    for (int s = 0; s < 2; ++s) {
        x.thread([w, s] {
            w->publish(w->sources[s]);
            w->publisher_ends();
        });
    }
    for (int i = 0; i < 2; ++i) x.thread([w, i] { w->main(w->worker(i)); });
}

/// One worker leaves the mask while a publisher counts on it.
void a_role_that_is_lost(interleave::run& x, fault f) {
    auto w = std::make_shared<world>(x, f, 2, 2);
    x.thread([w] {
        for (int i = 0; i < 2; ++i) w->publish(w->sources[0]);
        w->publisher_ends();
    });
    x.thread([w] {
        w->set_general(w->worker(0), false);
        w->publisher_ends();
    });
    for (int i = 0; i < 2; ++i) x.thread([w, i] { w->main(w->worker(i)); });
}

/// One worker is called away by mail while a publisher counts on it.
void mail_for_a_searcher(interleave::run& x, fault f) {
    auto w = std::make_shared<world>(x, f, 2, 1);
    x.thread([w] {
        for (int i = 0; i < 2; ++i) w->publish(w->sources[0]);
        w->worker(0).busy_elsewhere = true;
        w->publish(w->sources[0]);
        w->publisher_ends();
    });
    for (int i = 0; i < 2; ++i) x.thread([w, i] { w->main(w->worker(i)); });
}

TEST(idle_model, publishers_of_one_source_lose_no_wake_up) { interleave::expect_clean<fault>(one_source, 1); }
TEST(idle_model, a_job_that_waits_for_other_work_gets_it) { interleave::expect_clean<fault>(a_job_that_waits, 1); }
TEST(idle_model, a_worker_that_leaves_the_mask_leaves_nothing_behind) { interleave::expect_clean<fault>(a_role_that_is_lost, 1); }
TEST(idle_model, a_worker_that_is_called_away_sends_another) { interleave::expect_clean<fault>(mail_for_a_searcher, 2); }

TEST(idle_model, a_lent_thread_loses_no_wake_up) {
    interleave::expect_clean<fault>(
        [](interleave::run& x, fault f) {
            auto w = std::make_shared<world>(x, f, 1, 1);
            x.thread([w] {
                for (int i = 0; i < 2; ++i) w->publish(w->sources[i]);
                w->publisher_ends();
            });
            x.thread([w] {
                for (int i = 0; i < 2; ++i) w->poll();
            });
            x.thread([w] { w->main(w->worker(0)); });
        },
        2);
}

TEST(idle_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(publisher_looks_before_it_stores), one_source},
        {COHORT_FAULT(dry_looks_before_it_unlists), one_source},
        {COHORT_FAULT(dry_does_not_look_again), one_source},
        {COHORT_FAULT(parks_without_a_look_at_the_list), a_job_that_waits},
        {COHORT_FAULT(looks_at_the_list_before_the_lock), one_source},
        {COHORT_FAULT(found_wakes_nobody), a_job_that_waits},
        {COHORT_FAULT(found_looks_before_it_stops_searching), a_job_that_waits},
        {COHORT_FAULT(loses_its_role_in_silence), a_role_that_is_lost},
        {COHORT_FAULT(goes_to_its_mail_in_silence), mail_for_a_searcher},
    }, 2);
}

}  // namespace
}  // namespace cohort::work
