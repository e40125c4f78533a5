// SPDX-License-Identifier: Apache-2.0
/// A row of the table of members over all interleavings: processes join and are killed at any step, their numbers are used anew, others recover. No living member is
/// ever recovered; when all rests, no row is left to a process that is gone.
///
/// This is a model: functions have the names of those in member.cpp and do the same steps in the same order; change both together. `fault` leaves a step out or
/// moves it.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/testing/model.hpp>

namespace cohort::sharepool {
namespace {

enum class fault {
    none,
    present_before_the_mark,
    joining_is_not_looked_at,
    number_alone_is_looked_at,
    row_is_freed_by_a_store,
    generation_stays,
    late_recovery_clears_the_mark,
};

struct process {
    int pid = 0, mark = 0;
    bool mortal = false, alive = true, ended = false;
    int generation = 0;  // of its row; 0: it has none
};

class table {
public:
    table(interleave::run& x, fault f) : fault_(f), run_(x) {
        x.at_end([this] { return account(); });
    }

    process& starts(int pid, int mark) {
        processes_.push_back({.pid = pid, .mark = mark});
        return processes_.back();
    }
    void step(process& p) {
        interleave::run::point();
        if (p.mortal && interleave::run::choose(2) == 1) {
            p.alive = false;
            p.ended = true;
            interleave::run::stop();
        }
    }

    /// False: the row is taken.
    bool enter_table(process& p) {
        step(p);
        const word seen = row_;
        if (seen.what != phase::free) return false;
        step(p);
        if (row_ != seen) return false;
        const auto as = [&](phase is) { return word{seen.generation, is, p.pid}; };
        row_ = as(fault_ == fault::present_before_the_mark ? phase::present : phase::joining);
        p.generation = seen.generation;
        step(p);
        mark_ = p.mark;
        step(p);
        row_ = as(phase::present);
        return true;
    }
    void recover_dead(process& p) {
        step(p);
        const word w = row_;
        if (w.what == phase::free || (w.what == phase::joining && fault_ == fault::joining_is_not_looked_at)) return;
        step(p);
        const int mark = w.what == phase::present && fault_ != fault::number_alone_is_looked_at ? mark_ : 0;
        step(p);
        if (!has_ended(w.pid, mark)) return;
        for (const process& other : processes_) {
            if (other.alive && other.generation == w.generation) run_.broken("a living member was recovered");
        }
        step(p);
        if (fault_ == fault::late_recovery_clears_the_mark) {
            mark_ = 0;
            step(p);
        }
        if (row_ != w && fault_ != fault::row_is_freed_by_a_store) return;
        row_ = {w.generation + (fault_ == fault::generation_stays ? 0 : 1), phase::free, 0};
    }

private:
    enum class phase { free, joining, present };
    struct word {
        int generation = 1;
        phase what = phase::free;
        int pid = 0;
        bool operator==(const word&) const = default;
    };

    bool has_ended(int pid, int mark) const {
        for (const process& p : processes_) {
            if (p.alive && p.pid == pid) return mark != 0 && p.mark != mark;
        }
        return true;
    }
    std::string account() const {
        int members = 0;
        for (const process& p : processes_) members += p.alive && p.generation != 0;
        if (members > 1) return "a row has two members";
        if (members == 1 && row_.what != phase::present) return "the row of a living member is free";
        // One that was killed while it joined has left no mark: its row waits until no process has its number.
        const bool waits = row_.what == phase::joining && !has_ended(row_.pid, 0);
        if (members == 0 && row_.what != phase::free && !waits) return "a row is left to a process that is gone";
        if (members == 1) {
            for (const process& p : processes_) {
                if (p.alive && p.generation != 0 && mark_ != p.mark) return "the mark of a living member went";
            }
        }
        return "";
    }

    const fault fault_;
    interleave::run& run_;
    std::deque<process> processes_;
    word row_;
    int mark_ = 0;
};

using scenario = interleave::scenario<fault>;

/// The first process joins and may be killed. `again`: another, with its number if `same`, joins once the row is free. Two recover.
scenario of(bool again, bool same) {
    return [=](interleave::run& x, fault f) {
        auto t = std::make_shared<table>(x, f);
        process& first = t->starts(10, 100);
        first.mortal = true;
        x.thread([t, &first] {
            t->enter_table(first);
            t->step(first);
            first.ended = true;
        });
        const auto gone = [&first] { return first.ended; };
        if (again) {
            process& next = t->starts(same ? 10 : 11, 101);
            next.alive = false;
            x.thread([t, &first, &next, gone] {
                interleave::run::wait_until(gone);
                if (first.alive) return;
                next.alive = true;
                t->enter_table(next);
            });
        }
        for (int i = 0; i < 2; ++i) {
            process& r = t->starts(20 + i, 200 + i);
            x.thread([t, &r, gone] {
                t->recover_dead(r);
                interleave::run::wait_until(gone);
                t->recover_dead(r);
            });
        }
    };
}

const scenario alone = of(false, false), another_number = of(true, false), same_number = of(true, true);

TEST(table_model, frees_the_row_of_one_that_died_at_any_step) { interleave::expect_clean(alone, 4); }
TEST(table_model, never_recovers_the_next_in_the_row) { interleave::expect_clean(another_number, 2); }
TEST(table_model, frees_the_row_of_one_whose_number_is_used_anew) { interleave::expect_clean(same_number, 2); }

TEST(table_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(present_before_the_mark), another_number},
        {COHORT_FAULT(joining_is_not_looked_at), alone},
        {COHORT_FAULT(number_alone_is_looked_at), same_number},
        {COHORT_FAULT(row_is_freed_by_a_store), another_number},
        {COHORT_FAULT(generation_stays), another_number},
        {COHORT_FAULT(late_recovery_clears_the_mark), another_number},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool
