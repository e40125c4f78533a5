// SPDX-License-Identifier: Apache-2.0
/// A channel over all interleavings: writers and readers are killed at any step, others take their ends over, the dead are recovered before or after. What was pushed is popped once; nothing is kept that nobody
/// knows of; nothing is freed that somebody has.
///
/// This is a model: functions have the names of those in channel.hpp and channel.cpp and do the same steps in the same order; change both together. `fault` leaves a step out or moves it.
#include <gtest/gtest.h>

#include <array>
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
    written_before_the_cell,
    kept_after_the_commit,
    no_note_of_a_push,
    place_before_the_record,
    note_of_a_push_without_its_place,
    held_before_the_commit,
    no_note_of_a_pop,
    note_of_a_pop_without_its_place,
    note_of_a_pop_stays,
    frees_whatever_is_kept,
    end_taken_by_a_store,
    closed_is_looked_at_last,
};

struct process {
    int name = 0;  // 0: nobody
    bool mortal = false, alive = true, ended = false;
    std::vector<int> popped;  // what its user got
};

/// Two places, so that cells are used again.
class model {
public:
    static constexpr int places = 2, records = 5;

    model(interleave::run& x, fault f) : fault_(f), run_(x) {
        x.at_end([this] { return account(); });
    }
    process& starts(bool mortal) {
        processes_.push_back({.name = static_cast<int>(processes_.size()) + 1, .mortal = mortal, .popped = {}});
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

    struct end {
        int holder = 0;
        bool closed = false;
        int record = -1, at = 0, by = 0;
    };
    end writer, reader;

    /// False: a living process has it, or it was closed.
    bool open(process& p, end& e, bool writes) {
        step(p);
        if (e.closed) return false;
        const int seen = e.holder;
        if (seen != 0 && !gone(seen)) return false;
        step(p);
        if (e.holder != seen && fault_ != fault::end_taken_by_a_store) return false;
        e.holder = p.name;
        step(p);
        const int mine = writes ? written_ : read_, record = e.record;
        step(p);
        const bool there = writes ? e.at == mine || fault_ == fault::note_of_a_push_without_its_place : e.at + 1 == mine || fault_ == fault::note_of_a_pop_without_its_place;
        if (record >= 0 && there) free_if_kept_by(p, record, e.by);
        step(p);
        e.record = -1;
        step(p);
        e.by = p.name;
        return true;
    }
    bool try_push(process& p, int record) {
        step(p);
        const int w = written_;
        if (w - read_ == places) return false;
        if (fault_ == fault::place_before_the_record) {
            step(p);
            writer.at = w;
        }
        if (fault_ != fault::no_note_of_a_push) {
            step(p);
            writer.record = record;
        }
        step(p);
        writer.at = w;
        if (fault_ == fault::written_before_the_cell) {
            step(p);
            written_ = w + 1;
        }
        step(p);
        cells_[at(w)] = record;
        if (fault_ == fault::kept_after_the_commit) {
            step(p);
            written_ = w + 1;
        }
        step(p);
        words_[idx(record)].kept = true;
        if (fault_ != fault::kept_after_the_commit && fault_ != fault::written_before_the_cell) {
            step(p);
            written_ = w + 1;
        }
        pushed_[idx(record)] = true;
        return true;
    }
    bool empty() const { return read_ == written_; }
    bool has_room() const { return written_ - read_ < places; }
    /// -1: there is none.
    int try_pop(process& p) {
        step(p);
        const int r = read_;
        if (r == written_) return -1;
        step(p);
        const int record = cells_[at(r)];
        if (record < 0) return run_.broken("a cell without a record"), -1;
        step(p);
        reader.at = r;
        if (fault_ != fault::no_note_of_a_pop) {
            step(p);
            reader.record = record;
        }
        step(p);
        word& w = words_[idx(record)];
        if (w.free) run_.broken("a record in the queue is free");
        if (!w.kept) run_.broken("a record in the queue is not kept");
        w = {p.name, fault_ != fault::held_before_the_commit, false};
        step(p);
        read_ = r + 1;
        if (fault_ != fault::held_before_the_commit) {
            step(p);
            w.kept = false;
        }
        if (fault_ != fault::note_of_a_pop_stays) {
            step(p);
            reader.record = -1;
        }
        p.popped.push_back(record);
        return record;
    }
    void close(process& p, end& e) {
        step(p);
        e.closed = true;
    }
    /// Pops to the end of the stream, or of the writer. False: the writer is gone, and there is none left.
    bool pop_all(process& p) {
        for (;;) {
            interleave::run::wait_until([this] { return read_ != written_ || writer.closed || (writer.holder != 0 && gone(writer.holder)); });
            step(p);
            const bool closed = writer.closed, dead = !closed && writer.holder != 0 && gone(writer.holder);
            if (fault_ == fault::closed_is_looked_at_last) {
                if (try_pop(p) >= 0) continue;
                step(p);
                if (writer.closed) return at_the_end();
                if (dead) return false;
                continue;
            }
            if (try_pop(p) >= 0) continue;
            if (closed) return at_the_end();
            if (dead) return false;
        }
    }
    bool at_the_end() {
        if (!empty()) run_.broken("the end came before the last record");
        return true;
    }
    void owns(process& p, int record) { words_[idx(record)] = {p.name, false, false}; }
    /// A user keeps what it popped for others: the word says so, and others know of it.
    void hands_over(process& p, int record) {
        step(p);
        words_[idx(record)].kept = true;
        given_on_[idx(record)] = true;
    }
    /// Another process has the memory for something of its own, kept.
    void allocates(process& p) {
        for (int i = 0; i < records; ++i) {
            step(p);
            if (!words_[idx(i)].free) continue;
            words_[idx(i)] = {p.name, true, false};
            again_[idx(i)] = true;
            return;
        }
    }
    /// Of one that is dead: kept ones become nobody's, the others free.
    void recover(process& p, const process& d) {
        interleave::run::wait_until([&d] { return d.ended; });
        if (d.alive) return;
        for (int i = 0; i < records; ++i) {
            step(p);
            word& w = words_[idx(i)];
            if (w.owner != d.name || w.free) continue;
            if (w.kept) w.owner = 0;
            else w.free = true;
        }
    }
    bool gone(int name) const { return !processes_[static_cast<std::size_t>(name - 1)].alive; }
    /// A reader may die: what it had popped is its own.
    bool readers_die = false;
    /// Recovered after the end was opened, nothing may be left; before, the one record of that moment may.
    bool recovered_first = false;

private:
    struct word {
        int owner = 0;
        bool kept = false, free = false;
    };
    static std::size_t idx(int i) { return static_cast<std::size_t>(i); }
    static std::size_t at(int i) { return static_cast<std::size_t>(i % places); }

    void free_if_kept_by(process& p, int record, int by) {
        step(p);
        word& w = words_[idx(record)];
        if (w.free || !w.kept || (w.owner != by && fault_ != fault::frees_whatever_is_kept)) return;
        if (again_[idx(record)]) run_.broken("another's memory was freed");
        if (given_on_[idx(record)]) run_.broken("what was handed over was freed");
        w = {p.name, false, true};
    }
    std::string account() const {
        std::array<int, records> times{};
        for (const process& p : processes_) {
            for (const int r : p.popped) ++times[idx(r)];
        }
        for (const int n : times) {
            if (n > 1) return "a record was popped twice";
        }
        for (int i = read_; i < written_; ++i) {
            const int r = cells_[at(i)];
            if (r < 0 || words_[idx(r)].free) return "a record in the queue is free";
            if (times[idx(r)] != 0) return "a record in the queue was popped before";
        }
        int missing = 0;
        for (int r = 0; r < records; ++r) {
            bool in_queue = false;
            for (int i = read_; i < written_; ++i) in_queue = in_queue || cells_[at(i)] == r;
            missing += pushed_[idx(r)] && !in_queue && times[idx(r)] == 0;
        }
        if (missing > (readers_die ? 1 : 0)) return "a record that was pushed is nowhere";
        int unknown = 0;
        for (int r = 0; r < records; ++r) {
            const word& w = words_[idx(r)];
            bool in_queue = false;
            for (int i = read_; i < written_; ++i) in_queue = in_queue || cells_[at(i)] == r;
            if (w.kept && !w.free && !in_queue && !again_[idx(r)] && !given_on_[idx(r)] && (w.owner == 0 || gone(w.owner))) ++unknown;
        }
        if (unknown > (recovered_first ? 1 : 0)) return "a record is kept, and nobody knows of it";
        return "";
    }

    const fault fault_;
    interleave::run& run_;
    std::deque<process> processes_;
    int written_ = 0, read_ = 0;
    std::array<int, places> cells_{-1, -1};
    std::array<word, records> words_{};
    std::array<bool, records> again_{}, given_on_{}, pushed_{};
};

using scenario = interleave::scenario<fault>;

/// Pushes records, with room or waiting for it; then closes.
void pushes(model& m, process& p, int first, int n) {
    for (int i = first; i < first + n; ++i) {
        m.owns(p, i);
        while (!m.try_push(p, i)) interleave::run::wait_until([&m] { return m.has_room(); });
    }
    m.close(p, m.writer);
}

/// The first writer may be killed; then another goes on. `early`: somebody recovers the dead at any time, and allocates.
scenario a_writer_dies(int successors, bool early) {
    return [=](interleave::run& x, fault f) {
        auto m = std::make_shared<model>(x, f);
        m->recovered_first = early || successors > 1;  // who loses the race recovers while the winner still looks
        process& first = m->starts(true);
        process& reader = m->starts(false);
        x.thread([m, &first, few = early || successors > 1] {
            if (m->open(first, m->writer, true)) pushes(*m, first, 0, few ? 1 : 2);
            first.ended = true;
        });
        for (int i = 0; i < successors; ++i) {
            process& next = m->starts(false);
            x.thread([m, &first, &next, i] {
                interleave::run::wait_until([&first] { return first.ended; });
                if (!first.alive && m->open(next, m->writer, true)) pushes(*m, next, 2 + i, 1);
                m->recover(next, first);
            });
        }
        if (early) {
            process& other = m->starts(false);
            x.thread([m, &first, &other] {
                m->recover(other, first);
                if (!first.alive) m->allocates(other);
            });
        }
        x.thread([m, &reader] {
            if (!m->open(reader, m->reader, false)) return;
            while (!m->pop_all(reader)) interleave::run::wait_until([m] { return m->writer.closed || !m->gone(m->writer.holder); });
        });
    };
}

/// The first reader may be killed; then another goes on. `hands_over`: what the first popped it gives to others.
scenario a_reader_dies(bool early, bool hands_over) {
    return [=](interleave::run& x, fault f) {
        auto m = std::make_shared<model>(x, f);
        m->recovered_first = early, m->readers_die = true;
        process& first = m->starts(true);
        process& writer = m->starts(false);
        process& next = m->starts(false);
        x.thread([m, &writer, early] {
            if (m->open(writer, m->writer, true)) pushes(*m, writer, 0, early ? 2 : 3);
        });
        x.thread([m, &first, hands_over, early] {
            if (m->open(first, m->reader, false)) {
                for (int i = 0; i < (early ? 1 : 2); ++i) {
                    interleave::run::wait_until([m] { return !m->empty(); });
                    const int r = m->try_pop(first);
                    if (hands_over) m->hands_over(first, r);
                }
                m->step(first);
                first.alive = false;  // at the latest here
            }
            first.ended = true;
        });
        x.thread([m, &first, &next] {
            interleave::run::wait_until([&first] { return first.ended; });
            if (m->open(next, m->reader, false)) m->pop_all(next);
            m->recover(next, first);
        });
        if (early) {
            process& other = m->starts(false);
            x.thread([m, &first, &other] { m->recover(other, first); });
        }
    };
}

const scenario writer = a_writer_dies(1, false), rivals = a_writer_dies(2, false), writer_early = a_writer_dies(1, true);
const scenario reader = a_reader_dies(false, false), reader_early = a_reader_dies(true, false), giver = a_reader_dies(false, true);

TEST(channel_model, pops_once_what_was_pushed_though_its_writer_dies) { interleave::expect_clean(writer, 1); }
TEST(channel_model, has_one_successor_of_a_writer) { interleave::expect_clean(rivals, 1); }
TEST(channel_model, frees_nothing_of_others_when_the_dead_were_recovered_first) { interleave::expect_clean(writer_early, 1); }
TEST(channel_model, pops_once_though_its_reader_dies) { interleave::expect_clean(reader, 1); }
TEST(channel_model, may_leave_one_record_when_a_reader_was_recovered_first) { interleave::expect_clean(reader_early, 1); }
TEST(channel_model, leaves_what_a_dead_reader_had_given_to_others) { interleave::expect_clean(giver, 1); }

TEST(channel_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(written_before_the_cell), writer},
        {COHORT_FAULT(kept_after_the_commit), writer},
        {COHORT_FAULT(no_note_of_a_push), writer},
        {COHORT_FAULT(place_before_the_record), writer},
        {COHORT_FAULT(note_of_a_push_without_its_place), writer},
        {COHORT_FAULT(held_before_the_commit), reader},
        {COHORT_FAULT(no_note_of_a_pop), reader},
        {COHORT_FAULT(note_of_a_pop_without_its_place), reader},
        {COHORT_FAULT(note_of_a_pop_stays), giver},
        {COHORT_FAULT(frees_whatever_is_kept), writer_early},
        {COHORT_FAULT(end_taken_by_a_store), rivals},
        {COHORT_FAULT(closed_is_looked_at_last), writer},
    }, 3);
}

/// Waiting: who pushes looks at the flag, who sleeps looks at the queue again.
enum class sleeping { none, looks_before_the_flag, flag_is_looked_at_before_the_push };
void sleeps(interleave::run& x, sleeping f) {
    struct words {
        interleave::atomic<int> written{0}, sleeps{0}, woken{0};
    };
    auto w = std::make_shared<words>();
    x.thread([w, f] {
        for (int i = 1; i <= 2; ++i) {
            const bool early = f == sleeping::flag_is_looked_at_before_the_push && w->sleeps.load() != 0;
            w->written.store(i);
            if (f == sleeping::flag_is_looked_at_before_the_push ? early : w->sleeps.load() != 0) w->sleeps.store(0), w->woken.store(w->woken.load() + 1);
        }
    });
    x.thread([w, f] {
        for (int read = 0; read < 2;) {
            if (w->written.load() != read) {
                ++read;
                continue;
            }
            if (f == sleeping::looks_before_the_flag) {
                w->sleeps.store(1);
            } else {
                w->sleeps.store(1);
                if (w->written.load() != read) continue;
            }
            interleave::run::wait_until([w] { return w->sleeps.peek() == 0; });
        }
    });
}

TEST(channel_model, wakes_who_sleeps) {
    interleave::expect_clean(interleave::scenario<sleeping>(sleeps), 4);
    interleave::expect_found<sleeping>({{sleeping::looks_before_the_flag, "looks_before_the_flag", sleeps}, {sleeping::flag_is_looked_at_before_the_push, "flag_is_looked_at_before_the_push", sleeps}}, 4);
}

}  // namespace
}  // namespace cohort::sharepool
