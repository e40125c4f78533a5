// SPDX-License-Identifier: Apache-2.0
/// The room of a core over all interleavings of small scenarios: the code itself, on a lock, words and a clock that are stepped. Rules: tasks with unequal cookies are never inside together;
/// everybody who enters comes in; and whoever waits is not passed by once the turn is over.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <cohort/base/testing/model.hpp>
#include <cohort/coresched/detail/room.hpp>

namespace cohort::coresched::detail {
namespace {

enum class fault {
    none,
    joins_whatever_the_cookie,
    joins_after_the_turn,
    flips_while_one_is_inside,
    lets_all_in,
    counts_one_too_few,
    never_must_go,
    no_lock,
    wakes_nobody,
};

/// Where the books and the platform of a scenario find what they are to do; one scenario runs at a time.
struct scene {
    std::uint64_t time = 0;
    fault planted = fault::none;
    int inside[4] = {};           // by cookie
    std::map<const void*, bool> rung;  // words that sleepers were woken by
    std::multiset<cookie> waits;
    std::uint64_t slice = 0;
    bool others_wait(cookie tag) const {
        return std::ranges::any_of(waits, [tag](cookie w) { return w != tag; });
    }
};
scene* now_playing = nullptr;

struct stepped_platform {
    class lock {
    public:
        void lock_it() {
            if (now_playing->planted == fault::no_lock) return interleave::run::point();
            m_.lock();
        }
        void unlock_it() {
            if (now_playing->planted != fault::no_lock) m_.unlock();
        }

    private:
        interleave::mutex m_;
    };
    struct guard {
        explicit guard(lock& l) : lock_(l) { lock_.lock_it(); }
        ~guard() { lock_.unlock_it(); }
        lock& lock_;
    };
    template <class T>
    using atomic = interleave::atomic<T>;

    /// Time passes when somebody comes in.
    static std::uint64_t now() { return now_playing->time; }
    /// Until it is woken, as a futex does: a word that changes wakes nobody by itself.
    /// With a time it may end at any moment: at once.
    static void sleep(interleave::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) {
        interleave::run::point();
        if (timeout_ns >= 0) return;
        if (word.peek() != expected) return;
        const void* w = &word;
        now_playing->rung[w] = false;
        interleave::run::wait_until([w] { return now_playing->rung[w]; });
    }
    static void wake(interleave::atomic<std::uint32_t>& word) {
        interleave::run::point();
        if (now_playing->planted != fault::wakes_nobody) now_playing->rung[&word] = true;
    }
    template <class T>
    static void relax(const interleave::atomic<std::uint32_t>& word, const interleave::atomic<T>& holder) {
        auto *w = &word;
        auto *h = &holder;
        const auto was = w->peek();
        const auto held = h->peek();
        interleave::run::wait_until([w, h, was, held] { return w->peek() != was || h->peek() != held; });
    }

    struct books {
        explicit books(int) {}
        std::uint32_t begin(int, cookie tag, std::uint32_t, std::uint64_t, bool waited) {
            ++now_playing->time;
            for (cookie other = 0; other < 4; ++other) {
                if (other != tag && now_playing->inside[other] > 0) interleave::run::now()->broken("unequal cookies are inside together");
            }
            ++now_playing->inside[tag];
            if (!waited && now_playing->slice == 0 && now_playing->others_wait(tag)) interleave::run::now()->broken("one who waits is passed by");
            return static_cast<std::uint32_t>(tag);
        }
        void end(std::uint32_t t, std::uint64_t) { --now_playing->inside[t]; }
        void waits(int, cookie tag, std::uint64_t) { now_playing->waits.insert(tag); }
        void comes(int, cookie tag, std::uint64_t) { now_playing->waits.erase(now_playing->waits.find(tag)); }
    };
};

struct planted_rules {
    static bool is(fault f) { return now_playing->planted == f; }
    static bool may_join(int members, bool same, bool waited_for, bool turn_over) {
        if (is(fault::joins_whatever_the_cookie)) same = true;
        if (is(fault::joins_after_the_turn)) turn_over = false;
        return room_rules::may_join(members, same, waited_for, turn_over);
    }
    static bool must_go(bool waited_for, bool turn_over) { return !is(fault::never_must_go) && room_rules::must_go(waited_for, turn_over); }
    static bool may_flip(int members) { return room_rules::may_flip(is(fault::flips_while_one_is_inside) ? std::max(members - 1, 0) : members); }
    static bool goes_with(cookie heir, cookie c) { return is(fault::lets_all_in) || room_rules::goes_with(heir, c); }
    static int counted(int let_in) { return room_rules::counted(is(fault::counts_one_too_few) ? let_in - 1 : let_in); }
};

using stage = room<stepped_platform, planted_rules>;

struct world {
    world(interleave::run& x, fault f, bool hold, std::uint64_t slice_ns = 0, std::uint64_t spin_ns = 0) : r({.slice_ns = slice_ns, .hold = hold, .wake_ns = 0, .spin_ns = spin_ns}, 2) {
        play.planted = f;
        play.slice = slice_ns;
        now_playing = &play;
        x.at_end([this] { return std::string(std::ranges::any_of(play.inside, [](int n) { return n != 0; }) ? "somebody is inside for ever" : ""); });
    }
    /// A worker that runs tasks one after another, and stays inside between them.
    void work(int place, cookie tag, int tasks) {
        auto t = r.enter(place, tag, 0);
        for (int i = 1; i < tasks; ++i) {
            interleave::run::point();
            ++play.time;
            const bool waited_for = play.slice == 0 && play.others_wait(tag);
            if (!r.must_go()) {
                if (waited_for && play.others_wait(tag)) interleave::run::now()->broken("one who must go stays");
                continue;
            }
            r.leave(place, t);
            t = r.enter(place, tag, 0);
        }
        interleave::run::point();
        r.leave(place, t);
    }
    scene play;
    stage r;
};

using scenario = interleave::scenario<fault>;

/// Two cookies: one has a worker on each of the siblings, the other on the second alone.
scenario two_tenants(bool hold, int tasks, std::uint64_t slice = 0, std::uint64_t spin = 0) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f, hold, slice, spin);
        x.thread([w, tasks] { w->work(0, 1, tasks); });
        x.thread([w, tasks] { w->work(1, 1, tasks); });
        x.thread([w, tasks] { w->work(1, 2, tasks); });
    };
}

/// Three cookies, one worker each; the first comes again and again.
scenario three_cookies(bool hold) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f, hold);
        x.thread([w] { w->work(0, 1, 4); });
        x.thread([w] { w->work(1, 2, 1); });
        x.thread([w] { w->work(1, 3, 2); });
    };
}

/// One cookie on one CPU comes and goes, another waits on the sibling.
scenario crowd(bool hold) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f, hold);
        for (int i = 0; i < 2; ++i) {
            x.thread([w] {
                const auto t = w->r.enter(0, 1, 0);
                w->r.leave(0, t);
            });
        }
        x.thread([w] { w->work(1, 2, 1); });
    };
}

TEST(room_model, two_tenants_on_two_siblings_sleeping) { interleave::expect_clean<fault>(two_tenants(false, 2), 2); }
TEST(room_model, two_tenants_on_two_siblings_holding) { interleave::expect_clean<fault>(two_tenants(true, 2), 2); }
TEST(room_model, turns_that_last) { interleave::expect_clean<fault>(two_tenants(true, 2, 3), 2); }
/// One on each sibling: who waits has a free CPU, and wakes up before the turn ends.
scenario one_each(std::uint64_t slice) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f, false, slice, 1);
        x.thread([w] { w->work(0, 1, 7); });
        x.thread([w] { w->work(1, 2, 7); });
    };
}

TEST(room_model, who_sleeps_until_a_turn_will_end) { interleave::expect_clean<fault>(one_each(4), 3); }
TEST(room_model, turns_of_which_sleepers_know) { interleave::expect_clean<fault>(two_tenants(false, 3, 4, 1), 2); }
TEST(room_model, three_cookies_take_turns) { interleave::expect_clean<fault>(three_cookies(false), 2); }
TEST(room_model, three_cookies_take_turns_holding) { interleave::expect_clean<fault>(three_cookies(true), 2); }
TEST(room_model, nobody_is_passed_by_a_crowd) { interleave::expect_clean<fault>(crowd(false), 2); }

TEST(room_model, finds_what_is_planted) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(joins_whatever_the_cookie), two_tenants(false, 1)},
        {COHORT_FAULT(joins_after_the_turn), two_tenants(false, 2)},
        {COHORT_FAULT(flips_while_one_is_inside), two_tenants(false, 1)},
        {COHORT_FAULT(lets_all_in), three_cookies(false)},
        {COHORT_FAULT(counts_one_too_few), two_tenants(false, 1)},
        {COHORT_FAULT(never_must_go), two_tenants(false, 2)},
        {COHORT_FAULT(no_lock), two_tenants(false, 1)},
        {COHORT_FAULT(wakes_nobody), two_tenants(false, 1)},
        {COHORT_FAULT(wakes_nobody), one_each(4)},
        {COHORT_FAULT(flips_while_one_is_inside), two_tenants(false, 3, 4, 1)},
    }, 3);
}

}  // namespace
}  // namespace cohort::coresched::detail
