// SPDX-License-Identifier: Apache-2.0
/// The turnstile over all interleavings of small scenarios. Rules: serial() in order, once, one at a time; the window holds; nothing is touched after the turn was passed
/// on and the owner has destroyed the ring; the turn is never lost.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <cohort/base/testing/model.hpp>
#include <cohort/padata/detail/turnstile.hpp>

namespace cohort::padata::detail {
namespace {

struct token {
    int number;
};
/// Blocks that were freed are kept, filled with what no word ever holds, so that a late look or write is found.
struct watched_memory {
    struct piece {
        std::unique_ptr<unsigned char[]> bytes;
        std::size_t size;
        bool freed;
    };
    static constexpr unsigned char poison = 0xa5;
    static std::vector<piece>& pieces() {
        static std::vector<piece> all;
        return all;
    }
    static void* get(std::size_t bytes) {
        pieces().push_back({std::make_unique<unsigned char[]>(bytes), bytes, false});
        return pieces().back().bytes.get();
    }
    static void put(void* p) {
        for (piece& x : pieces()) {
            if (x.bytes.get() != p) continue;
            if (x.freed) interleave::run::now()->broken("a block was freed twice");
            x.freed = true;
            std::fill_n(x.bytes.get(), x.size, poison);
        }
    }
    static void use(const void* p) {
        for (const piece& x : pieces()) {
            if (x.bytes.get() == p && x.freed) interleave::run::now()->broken("a freed block was looked at");
        }
    }
    static bool untouched() {
        return std::all_of(pieces().begin(), pieces().end(), [](const piece& x) {
            return !x.freed || std::all_of(x.bytes.get(), x.bytes.get() + x.size, [](unsigned char b) { return b == poison; });
        });
    }
};
/// Its first block has one slot, so that every scenario makes the ring grow and shrink.
using ring_type = turnstile<token, interleave::atomic, interleave::mutex, watched_memory, 1>;

/// What the scenarios share: a ring, its jobs, and what serial() saw.
struct world {
    world(interleave::run& r, std::uint32_t window, int jobs) : x(r), ring(window), total(jobs) {
        watched_memory::pieces().clear();
        for (int i = 0; i < jobs; ++i) tokens.push_back({i});
        r.at_step([this] {
            bool outsider = gone && interleave::run::now()->current() != owner;
            return std::string(outsider ? "the ring was touched after its owner destroyed it" : "");
        });
        r.at_end([this] {
            if (next != total) return std::string("jobs never delivered: the turn was lost");
            if (!watched_memory::untouched()) return std::string("a freed block was written");
            if (ring.extra_bytes() != 0) return std::string("a ring at rest holds a block");
            return std::string(gone ? "" : "the ring never came to rest");
        });
    }

    void serial(int number) {
        if (in_serial) x.broken("two serial() at once");
        if (number != next) x.broken("out of order");
        in_serial = true;
        interleave::run::point();
        ++next;
        in_serial = false;
    }

    /// As shell_core::drain_from and settle.
    void drain(run_of_jobs r) {
        for (;;) {
            for (std::uint64_t seq = r.first; seq != r.end(); ++seq) serial(ring.job_at(seq)->number);
            ring.leave(r);
            if (!settle(r.end(), r)) return;
        }
    }
    bool settle(std::uint64_t at, run_of_jobs& r) {
        for (;;) {
            bool may_go_home;
            if (ring.pass_on(at, r, may_go_home)) return true;
            if (!may_go_home) return false;
            std::lock_guard hold(ring);
            if (ring.go_home(at)) return false;
        }
    }

    /// Numbers are given under the lock, as sequence numbers are.
    token* next_token() { return &tokens[static_cast<std::size_t>(entered++)]; }

    void submit() {
        for (;;) {
            interleave::run::wait_until([this] { return !ring.full(); });
            std::lock_guard hold(ring);
            if (!ring.has_place()) continue;
            ring.enter(next_token());
            return;
        }
    }

    /// As shell_core::try_inline. False: not at home.
    bool submit_inline(bool finishes) {
        run_of_jobs r{0, 1};
        {
            std::lock_guard hold(ring);
            if (!ring.at_home()) return false;
            r.first = ring.enter_with_turn(next_token());
            ++claimed;
        }
        if (finishes) {
            serial(static_cast<int>(r.first));
            ring.leave_inline(r.first);
        } else {
            late = {r.first, 1};
            has_late = true;
            r.count = 0;
        }
        if (settle(r.end(), r)) drain(r);
        return true;
    }

    /// A worker: takes runs until everything has been claimed.
    void work(std::uint32_t most, bool in_parts) {
        while (claimed < total) {
            ++claiming;  // stands for the worker set's users_, which retire() waits for
            run_of_jobs r = ring.claim(most);
            --claiming;
            if (r.count == 0) {
                interleave::run::wait_until([this] { return claimed == total || ring.ready(); });
                continue;
            }
            claimed += static_cast<int>(r.count);
            if (in_parts && r.count > 1) {
                run_of_jobs first{r.first, 1}, rest{r.first + 1, r.count - 1};
                if (ring.finish(first)) drain(first);
                r = rest;
            }
            if (ring.finish(r)) drain(r);
        }
    }

    /// The owner: waits until everything is delivered, then destroys the ring as ~shell_core does.
    void own() {
        interleave::run::wait_until([this] { return next == total; });
        owner = interleave::run::now()->current();
        for (bool home = false; !home;) {
            interleave::run::wait_until([this] { return ring.at_home(); });  // a loop without it would never let the others run
            std::lock_guard hold(ring);
            home = ring.at_home();
        }
        interleave::run::wait_until([this] { return claiming == 0; });
        gone = true;
    }

    interleave::run& x;
    ring_type ring;
    std::vector<token> tokens;
    int total, next = 0, entered = 0, claimed = 0, claiming = 0, owner = -1;
    bool in_serial = false, gone = false, has_late = false;
    run_of_jobs late{};
};

TEST(turnstile_model, two_workers_and_a_submitter_deliver_in_order) {
    interleave::expect_clean(
        [](interleave::run& x) {
            auto w = std::make_shared<world>(x, 4, 3);
            x.thread([w] { for (int i = 0; i < 3; ++i) w->submit(); });
            x.thread([w] { w->work(1, false); });
            x.thread([w] { w->work(2, true); });
            x.thread([w] { w->own(); });
        },
        {.preemptions = 2});
}

TEST(turnstile_model, a_window_of_two_is_used_again_and_again) {
    interleave::expect_clean(
        [](interleave::run& x) {
            auto w = std::make_shared<world>(x, 2, 4);
            x.thread([w] { for (int i = 0; i < 4; ++i) w->submit(); });
            x.thread([w] { w->work(2, true); });
            x.thread([w] { w->work(1, false); });
            x.thread([w] { w->own(); });
        },
        {.preemptions = 1});
}

TEST(turnstile_model, a_job_run_inline_meets_a_second_submitter_and_a_worker) {
    interleave::expect_clean(
        [](interleave::run& x) {
            auto w = std::make_shared<world>(x, 4, 3);
            x.thread([w] {
                for (int i = 0; i < 2; ++i) {
                    if (!w->submit_inline(true)) w->submit();
                }
            });
            x.thread([w] { w->submit(); });
            x.thread([w] { w->work(2, false); });
            x.thread([w] { w->own(); });
        },
        {.preemptions = 2});
}

TEST(turnstile_model, an_inline_job_that_is_finished_later_by_another_thread_keeps_its_turn) {
    interleave::expect_clean(
        [](interleave::run& x) {
            auto w = std::make_shared<world>(x, 4, 2);
            x.thread([w] {
                (void)w->submit_inline(false);
                w->submit();
            });
            x.thread([w] {
                interleave::run::wait_until([w] { return w->has_late; });
                run_of_jobs r = w->late;
                if (w->ring.finish(r)) w->drain(r);
            });
            x.thread([w] { w->work(1, false); });
            x.thread([w] { w->own(); });
        },
        {.preemptions = 2});
}

TEST(turnstile_model, a_ring_that_grows_twice_is_never_looked_up_in_a_freed_block) {
    interleave::expect_clean(
        [](interleave::run& x) {
            auto w = std::make_shared<world>(x, 16, 7);
            x.thread([w] { for (int i = 0; i < 7; ++i) w->submit(); });
            x.thread([w] { w->work(4, true); });
            x.thread([w] { w->work(2, false); });
            x.thread([w] { w->own(); });
        },
        {.preemptions = 1});
}

TEST(interleave, finds_a_lost_update) {
    if (!interleave::possible_here) GTEST_SKIP() << "fibers and sanitizers do not go together";
    auto r = interleave::explore([](interleave::run& x) {
        auto word = std::make_shared<interleave::atomic<int>>(0);
        for (int t = 0; t < 2; ++t) x.thread([word] { word->store(word->load() + 1); });
        x.at_end([word] { return std::string(word->peek() == 2 ? "" : "an update was lost"); });
    });
    EXPECT_EQ(r.failure, "an update was lost");
}

TEST(interleave, finds_a_deadlock) {
    if (!interleave::possible_here) GTEST_SKIP() << "fibers and sanitizers do not go together";
    auto r = interleave::explore([](interleave::run& x) {
        auto a = std::make_shared<interleave::mutex>(), b = std::make_shared<interleave::mutex>();
        x.thread([=] { a->lock(); b->lock(); b->unlock(); a->unlock(); });
        x.thread([=] { b->lock(); a->lock(); a->unlock(); b->unlock(); });
    });
    EXPECT_EQ(r.failure, "deadlock");
}

}  // namespace
}  // namespace cohort::padata::detail
