// SPDX-License-Identifier: Apache-2.0
/// The kill storm: processes that do everything a member can do until they are killed, others that go on all the time, and the books that are held against the group.
///
///     storm s(g, seed);
///     s.run({.kills = 1000});                     // or .kills = 0, .seconds = 2: the same processes, and nobody dies
///     s.wrong()                                   // "": every block accounted for, every canary intact
///
/// Each block holds a canary from its allocation to its free: whoever gets a block that another has destroys the other's. What outlives its owner is known to the books: its pointer is in the process's hand
/// (a word of the shared page) from before it is handed over until it lies in the common table, and from before it is taken from there until it is free.
#pragma once

#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool::testing {

using steady = std::chrono::steady_clock;

/// Times in steps of a quarter of a power of two. One thread writes, who reads comes after.
struct times {
    std::array<std::atomic<std::uint64_t>, 256> at{};
    static unsigned bucket(std::uint64_t ns) {
        const unsigned top = std::bit_width(ns | 4) - 1;
        return top * 4 + static_cast<unsigned>(ns >> (top - 2) & 3);
    }
    static double from(unsigned bucket) { return static_cast<double>((4 + bucket % 4)) * static_cast<double>(std::uint64_t{1} << (bucket / 4 - 2)); }
    void add(std::uint64_t ns) {
        auto& n = at[bucket(ns)];
        n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
};

inline constexpr unsigned table_places = 200, survivor_threads = threads_among_processes ? 3 : 2, victims_at_once = 3, kills_per_audit = 40, rows = 64;

struct storm_page {
    std::atomic<bool> pause{false}, stop{false};
    std::atomic<unsigned> paused{0}, alive{0}, out_of_memory{0};
    std::atomic<std::uint64_t> acts{0}, recovered_blocks{0}, recovered_runs{0};
    std::array<std::atomic<std::uint64_t*>, table_places> table{};
    std::array<std::atomic<std::uint64_t*>, rows> hand{};
    std::array<times, survivor_threads> pairs{};
    std::atomic<unsigned> complaints{0};
    char complaint[200] = {};

    void complain(const char* what, const void* p) {
        if (complaints.fetch_add(1) == 0) std::snprintf(complaint, sizeof complaint, "%s at %p", what, p);
        ::_exit(9);
    }
};

/// A canary: value, bytes, and a last word that depends on both.
inline void brand(std::uint64_t* p, std::uint64_t bytes, std::uint64_t value) {
    p[0] = value;
    p[1] = bytes;
    p[bytes / 8 - 1] = value * 0x9e3779b97f4a7c15 + bytes;
}
inline bool is_branded(const std::uint64_t* p, std::uint64_t most) { return p[1] >= 32 && p[1] <= most && p[p[1] / 8 - 1] == p[0] * 0x9e3779b97f4a7c15 + p[1]; }

/// One thread that uses a group at random.
class actor {
public:
    actor(member& m, storm_page& page, unsigned row, std::uint64_t seed) : m_(m), page_(page), hand_(page.hand[row]), random_(seed) {}

    void act() {
        const unsigned r = random_() % 1000;
        if (r < 400) allocate(small_size());
        else if (r < 780) free_one();
        else if (r < 850) publish(small_size());
        else if (r < 920) take();
        else if (r < 960) burst();
        else if (r < 975) allocate(70'000 + random_() % 200'000);
        else if (r < 985) publish(70'000 + random_() % 100'000);
        else if (r < 995) recover();
        else (void)m_.trim();
    }
    void recover() {
        const recovered done = m_.recover_dead();
        page_.recovered_blocks += done.blocks_freed;
        page_.recovered_runs += done.runs_finished + done.superblocks_released;
    }
    void pair(times& t) {
        const auto from = steady::now();
        void* p = m_.alloc(64);
        if (!p) page_.complain("no block for a survivor", p);
        m_.free(p);
        t.add(static_cast<std::uint64_t>((steady::now() - from).count()));
    }
    void free_all() {
        while (!held_.empty()) free_one();
    }

private:
    struct holding {
        std::uint64_t* p;
        std::uint64_t bytes, value;
    };
    std::uint64_t small_size() {
        static constexpr std::uint64_t some[] = {32, 64, 64, 64, 200, 512, 1000, 4096, 9000, 32768};
        return some[random_() % std::size(some)];
    }
    std::uint64_t* branded(std::uint64_t bytes, std::uint64_t value) {
        auto* p = static_cast<std::uint64_t*>(m_.alloc(bytes));
        p ? brand(p, bytes, value) : void(++page_.out_of_memory);
        return p;
    }
    void allocate(std::uint64_t bytes) {
        if (held_.size() >= 150) return free_one();
        bytes &= ~std::uint64_t{7};
        const std::uint64_t value = random_();
        if (auto* p = branded(bytes, value)) held_.push_back({p, bytes, value});
    }
    void free_one() {
        if (held_.empty()) return;
        std::swap(held_[random_() % held_.size()], held_.back());
        const holding h = held_.back();
        held_.pop_back();
        if (h.p[0] != h.value || h.p[1] != h.bytes || !is_branded(h.p, h.bytes)) page_.complain("another's canary in a block of one's own", h.p);
        m_.free(h.p);
    }
    /// Refill and flush.
    void burst() {
        const std::uint64_t bytes = small_size();
        const std::size_t before = held_.size(), n = 10 + random_() % 90;
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint64_t value = random_();
            if (auto* p = branded(bytes, value)) held_.push_back({p, bytes, value});
        }
        while (held_.size() > before) free_one();
    }
    void publish(std::uint64_t bytes) {
        bytes &= ~std::uint64_t{7};
        std::atomic<std::uint64_t*>& place = page_.table[random_() % table_places];
        if (place.load()) return;
        std::uint64_t* p = branded(bytes, random_());
        if (!p) return;
        hand_ = p;
        if (!m_.hand_over(p)) page_.complain("one's own block cannot be handed over", p);
        std::uint64_t* empty = nullptr;
        if (!place.compare_exchange_strong(empty, p)) free_checked(p);
        hand_ = nullptr;
    }
    void take() {
        std::atomic<std::uint64_t*>& place = page_.table[random_() % table_places];
        std::uint64_t* p = place.load();
        if (!p) return;
        hand_ = p;
        if (place.compare_exchange_strong(p, nullptr)) free_checked(p);
        hand_ = nullptr;
    }
    void free_checked(std::uint64_t* p) {
        const auto most = m_.usable_size(p);
        if (!most || !is_branded(p, *most)) page_.complain("a broken canary in a block that was handed over", p);
        m_.free(p);
    }

    member& m_;
    storm_page& page_;
    std::atomic<std::uint64_t*>& hand_;
    std::mt19937_64 random_;
    std::vector<holding> held_;
};

struct storm_plan {
    unsigned kills = 0;
    double seconds = 0;  ///< without kills
};

class storm {
public:
    storm(const group& g, std::uint64_t seed) : g_(g), random_(seed), m_(join(g)) {
        for (unsigned first : {0u, 1u}) survivors_.push_back(survivor(first));
    }

    /// Kills so many, or lets the same processes run for so long.
    void run(storm_plan plan) {
        const auto from = steady::now();
        const unsigned until = kills_ + plan.kills;
        const auto goes_on = [&] { return plan.kills ? kills_ < until : std::chrono::duration<double>(steady::now() - from).count() < plan.seconds; };
        unsigned row = survivor_threads;
        while (goes_on() && wrong_.empty()) {
            while (victims_.size() < victims_at_once) victims_.push_back(victim(row++));
            ::usleep(static_cast<unsigned>(random_() % (random_() % 8 ? 3000 : 300)));
            if (plan.kills == 0) continue;
            kill_one(random_() % victims_.size());
            if (random_() % 8 == 0) recovered_ += m_.recover_dead();
            if (row < survivor_threads + kills_per_audit) continue;
            hold_the_books();
            row = survivor_threads;
        }
        hold_the_books();
        seconds_ = std::chrono::duration<double>(steady::now() - from).count();
    }
    /// Everybody frees what he has, and leaves; then nothing may be left.
    void end() {
        page_->stop = true;
        for (child& c : survivors_) {
            if (const int status = c.wait(); status != 0) say("a survivor ended with status " + std::to_string(status));
        }
        for (auto& place : page_->table) {
            if (std::uint64_t* p = place.exchange(nullptr)) m_.free(p);
        }
        if (wrong_.empty()) say(wrong_when_empty(m_));
    }

    const std::string& wrong() const { return wrong_; }
    unsigned kills() const { return kills_; }
    double seconds() const { return seconds_; }
    const storm_page& page() const { return *page_; }
    /// Nanoseconds that so large a part of the survivors' pairs took at most.
    double pair_ns(double part) const {
        std::array<std::uint64_t, 256> sum{};
        std::uint64_t all = 0;
        for (const times& t : page_->pairs) {
            for (unsigned b = 0; b < sum.size(); ++b) sum[b] += t.at[b].load(), all += t.at[b].load();
        }
        std::uint64_t seen = 0;
        for (unsigned b = 0; b < sum.size(); ++b) {
            if ((seen += sum[b]) > 0 && static_cast<double>(seen) >= part * static_cast<double>(all)) return times::from(b + 1);
        }
        return 0;
    }

private:
    static void die_with(int parent) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(0);
    }
    /// The first has one thread, the second two, if they may.
    child survivor(unsigned first) {
        const std::uint64_t seed = random_();
        const auto parent = ::getpid();
        return child(g_, [=, this](member& m) {
            die_with(parent);
            std::thread other;
            if (first == 1 && threads_among_processes) other = std::thread([&] { survive(m, 2, seed + 1); });
            survive(m, first, seed);
            if (other.joinable()) other.join();
        });
    }
    void survive(member& m, unsigned row, std::uint64_t seed) {
        actor a(m, *page_, row, seed);
        ++page_->alive;
        while (!page_->stop) {
            for (int i = 0; i < 64; ++i) a.pair(page_->pairs[row]);
            for (int i = 0; i < 8; ++i) a.act();
            page_->acts += 8;
            if (!page_->pause) continue;
            ++page_->paused;
            while (page_->pause) ::usleep(50);
            --page_->paused;
        }
        a.free_all();
    }
    child victim(unsigned row) {
        const std::uint64_t seed = random_();
        const auto parent = ::getpid();
        return child(g_, [=, this](member& first) {
            die_with(parent);
            std::mt19937_64 random(seed);
            std::deque<member> m;
            m.push_back(std::move(first));
            for (;;) {
                actor a(m.front(), *page_, row, random());
                const bool recovers = random() % 4 == 0;
                for (std::uint64_t n = random() % 4000; n > 0; --n) n % 4 == 0 && recovers ? a.recover() : a.act();
                // Leaving frees what it has.
                m.clear();
                m.push_back(join(g_));
            }
        });
    }
    void kill_one(std::size_t which) {
        victims_[which].kill();
        const int status = victims_[which].wait();
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) say("a victim ended by itself, with status " + std::to_string(status));
        if (page_->complaints) say(page_->complaint);
        std::swap(victims_[which], victims_.back());
        victims_.pop_back();
        ++kills_;
    }
    /// Nobody acts: every block is somebody's that is alive, linked, or in the table, but for what was in the hands of those that were killed.
    void hold_the_books() {
        while (!victims_.empty()) kill_one(0);  // in a control run, too: its end
        page_->pause = true;
        const auto from = steady::now();
        while (page_->paused != survivor_threads && page_->complaints == 0 && steady::now() - from < std::chrono::minutes(5)) ::usleep(50);
        if (page_->paused != survivor_threads) say(page_->complaints ? page_->complaint : "a survivor does not come");
        recovered_ += m_.recover_dead();
        if (m_.processes().size() != 3) say("members are left: " + std::to_string(m_.processes().size()));
        std::vector<void*> known;
        for (auto& place : page_->table) {
            if (std::uint64_t* p = place.load()) known.push_back(p);
        }
        std::sort(known.begin(), known.end());
        const audit a = audit_of(m_);
        say(a.wrong);
        if (!std::includes(a.handed_over.begin(), a.handed_over.end(), known.begin(), known.end())) say("what lies in the table is gone from the group");
        std::vector<void*> left;
        std::set_difference(a.handed_over.begin(), a.handed_over.end(), known.begin(), known.end(), std::back_inserter(left));
        for (void* p : left) {
            const bool held = std::any_of(page_->hand.begin() + survivor_threads, page_->hand.end(), [&](const auto& h) { return h.load() == p; });
            if (!held) say("kept, and nobody knows it: " + m_.describe(p));
            if (!is_branded(static_cast<std::uint64_t*>(p), m_.usable_size(p).value_or(0))) say("kept, with a broken canary: " + m_.describe(p));
            if (auto freed = m_.try_free(p); !freed) say(freed.error().line());
        }
        for (unsigned r = survivor_threads; r < rows; ++r) page_->hand[r] = nullptr;
        page_->pause = false;
        while (page_->paused != 0) ::usleep(50);
    }
    void say(const std::string& what) {
        if (!what.empty() && wrong_.size() < 2000) wrong_ += (wrong_.empty() ? "" : "\n") + what + " (after " + std::to_string(kills_) + " kills)";
    }

    const group& g_;
    shared<storm_page> page_;
    std::mt19937_64 random_;
    member m_;
    std::vector<child> survivors_, victims_;
    recovered recovered_;
    std::string wrong_;
    unsigned kills_ = 0;
    double seconds_ = 0;
};

}  // namespace cohort::sharepool::testing
