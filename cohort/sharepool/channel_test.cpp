// SPDX-License-Identifier: Apache-2.0
/// A channel between processes: order, ends, deaths. COHORT_SEED sets the seed of what is random (printed).
#include <sys/prctl.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <cohort/sharepool/channel.hpp>
#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

using testing::child;
using testing::join;

class channels : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(channels);

constexpr std::int64_t long_ns = 120'000'000'000;

/// Numbered, and full of its number.
struct record {
    std::uint64_t number, words;
    static record* make(member& m, std::uint64_t number, std::size_t bytes) {
        auto* r = static_cast<record*>(m.alloc(bytes));
        if (!r) return nullptr;
        r->number = number, r->words = bytes / 8 - 2;
        for (std::uint64_t i = 0; i < r->words; ++i) r->word(i) = number + i;
        return r;
    }
    std::uint64_t& word(std::uint64_t i) { return reinterpret_cast<std::uint64_t*>(this + 1)[i]; }
    bool intact() {
        for (std::uint64_t i = 0; i < words; ++i) {
            if (word(i) != number + i) return false;
        }
        return true;
    }
};
std::size_t bytes_of(std::uint64_t number) { return number % 50 == 7 ? 80'000 : 64 + number % 7 * 200; }

channel* make_channel(member& m, std::uint32_t places) {
    auto c = channel::create(m, places);
    EXPECT_TRUE(c) << c.error().line();
    return c.value_or(nullptr);
}
template <class End>
End must_open(member& m, channel* c) {
    auto e = End::open(m, c);
    if (!e) {
        std::fprintf(stderr, "%s\n", e.error().line().c_str());
        std::abort();
    }
    return std::move(*e);
}
int code_of(const auto& r) { return r ? 0 : r.error().code; }

TEST_P(channels, pass_every_record_in_order) {
    const group g = make(128 << 20);
    member m = join(g);
    channel* c = make_channel(m, 16);
    constexpr std::uint64_t n = 20'000;
    child writes(g, [&](member& other) {
        auto w = must_open<channel_writer>(other, c);
        for (std::uint64_t i = 0; i < n; ++i) {
            if (!w.push(record::make(other, i, bytes_of(i)), long_ns)) ::_exit(3);
        }
    });
    auto r = must_open<channel_reader>(m, c);
    std::uint64_t i = 0;
    result<void*> p;
    for (; (p = r.pop(long_ns)); ++i) {
        auto* got = static_cast<record*>(*p);
        ASSERT_EQ(got->number, i);
        ASSERT_TRUE(got->intact());
        m.free(got);
        while (i == 0 && c->count().writer_waits == 0) ::usleep(100);  // the writer meets a full channel
        if (i % 3000 == 0) ::usleep(3000);
    }
    EXPECT_EQ(p.error().code, ENODATA) << p.error().line();
    EXPECT_EQ(i, n);
    EXPECT_EQ(writes.wait(), 0);
    EXPECT_EQ(c->count().pushed, n);
    EXPECT_GT(c->count().writer_waits, 0u);
    r.close();
    EXPECT_EQ(channel::destroy(m, c).value_or(77), 0u);
    (void)m.recover_dead();
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(channels, say_full_and_empty_and_keep_what_they_refuse) {
    const group g = make();
    member m = join(g);
    channel* c = make_channel(m, 3);  // four places
    auto w = must_open<channel_writer>(m, c);
    auto r = must_open<channel_reader>(m, c);
    EXPECT_EQ(r.try_pop(), nullptr);
    EXPECT_EQ(code_of(r.pop(0)), ETIMEDOUT);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(w.try_push(m.alloc(64)));
    void* fifth = m.alloc(64);
    EXPECT_FALSE(w.try_push(fifth));
    EXPECT_EQ(code_of(w.push(fifth, 2'000'000)), ETIMEDOUT);
    m.free(fifth);  // it is the caller's still
    m.free(r.pop().value());
    EXPECT_TRUE(w.try_push(m.alloc(64)));
    r.close();
    EXPECT_FALSE(w.try_push(fifth = m.alloc(64)));
    EXPECT_EQ(code_of(w.push(fifth)), EPIPE);
    m.free(fifth);
    w.close();
    EXPECT_EQ(channel::destroy(m, c).value_or(77), 4u);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(channels, refuse_what_is_none_and_ends_that_are_taken) {
    const group g = make();
    member m = join(g);
    EXPECT_EQ(code_of(channel::create(m, 1)), EINVAL);
    EXPECT_EQ(code_of(channel::create(m, (1 << 20) + 1)), EINVAL);
    auto* none = static_cast<channel*>(m.alloc(4096));
    std::memset(static_cast<void*>(none), 0, 4096);
    EXPECT_EQ(code_of(channel_writer::open(m, none)), EBADMSG);
    EXPECT_EQ(code_of(channel_reader::open(m, nullptr)), EBADMSG);
    EXPECT_EQ(code_of(channel::destroy(m, none)), EBADMSG);
    m.free(none);
    channel* c = make_channel(m, 4);
    {
        const auto w = must_open<channel_writer>(m, c);
        EXPECT_EQ(code_of(channel_writer::open(m, c)), EBUSY);
        EXPECT_EQ(code_of(channel::destroy(m, c)), EBUSY);
    }
    EXPECT_EQ(code_of(channel_writer::open(m, c)), EPIPE);
    EXPECT_EQ(channel::destroy(m, c).value_or(77), 0u);
    EXPECT_EQ(code_of(channel_reader::open(m, c)), EBADMSG);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(channels, end_the_program_that_pushes_what_is_not_its_own) {
    const group g = make();
    member m = join(g);
    channel* c = make_channel(m, 4);
    void* mine = m.alloc(64);
    void* const none = static_cast<std::byte*>(mine) + 16;
    for (void* wrong : {mine, none}) {
        child pushes(g, [&](member& other) {
            ::freopen("/dev/null", "w", stderr);
            must_open<channel_writer>(other, c).try_push(wrong);
        });
        const int status = pushes.wait();
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
    }
    EXPECT_EQ(channel::destroy(m, c).value_or(77), 0u);
    m.free(mine);
    (void)m.recover_dead();
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

/// Who waits for a dead one is told, when all that it had pushed is popped.
TEST_P(channels, tell_of_a_death_at_the_other_end) {
    const group g = make();
    member m = join(g);
    for (const bool writer_dies : {true, false}) {
        channel* c = make_channel(m, 2);
        testing::shared<std::atomic<bool>> ready;
        child dies(g, [&](member& other) {
            if (writer_dies) {
                auto w = must_open<channel_writer>(other, c);
                for (int i = 0; i < 2; ++i) (void)w.push(record::make(other, 7, 64));
                *ready = true;
                for (;;) ::pause();
            }
            auto r = must_open<channel_reader>(other, c);
            *ready = true;
            for (;;) ::pause();
        });
        while (!*ready) ::usleep(100);
        std::thread kills([&] {
            ::usleep(5000);
            dies.kill();
        });
        if (writer_dies) {
            auto r = must_open<channel_reader>(m, c);
            for (int i = 0; i < 2; ++i) m.free(r.pop(long_ns).value());
            EXPECT_EQ(code_of(r.pop(long_ns)), EOWNERDEAD);
        } else {
            auto w = must_open<channel_writer>(m, c);
            for (int i = 0; i < 2; ++i) EXPECT_TRUE(w.push(m.alloc(64), long_ns));
            void* last = m.alloc(64);
            EXPECT_EQ(code_of(w.push(last, long_ns)), EOWNERDEAD);
            m.free(last);
        }
        kills.join();
        dies.wait();
        EXPECT_EQ(channel::destroy(m, c).value_or(77), writer_dies ? 0u : 2u);
        (void)m.recover_dead();
    }
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

/// What the two ends have done, told by the processes themselves before (pushing, popped) and after.
struct books {
    static constexpr std::uint64_t most = 1 << 20;
    std::atomic<std::uint64_t> begun{0}, ended{0};  ///< pushes
    std::atomic<std::uint8_t> seen[most] = {};      ///< how often each number was given to a user
    std::atomic<bool> wrong{false};
};

/// Writers and readers are killed at random, and others take their places: every number is seen once, unless inherited() tells of it.
TEST_P(channels, lose_nothing_and_give_nothing_twice_whoever_is_killed) {
    const char* seed_text = std::getenv("COHORT_SEED");
    const std::uint64_t seed = seed_text ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
    std::printf("COHORT_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::mt19937_64 random(seed);
    const group g = make(128 << 20);
    member m = join(g);
    channel* c = make_channel(m, 32);
    testing::shared<books> b;
    const auto parent = ::getpid();
    const auto ends_with_parent = [parent] {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(0);
    };
    const auto writer = [&] {
        return child(g, [&](member& other) {
            ends_with_parent();
            auto w = must_open<channel_writer>(other, c);
            for (;;) {
                const std::uint64_t i = w.pushed();
                if (i >= books::most) ::pause();
                b->begun = i + 1;
                record* r = record::make(other, i, bytes_of(i));
                while (r && !w.push(r, long_ns)) {}  // a dead reader: the next comes
                b->ended = i + 1;
            }
        });
    };
    const auto reader = [&] {
        return child(g, [&](member& other) {
            ends_with_parent();
            auto r = must_open<channel_reader>(other, c);
            r.done();  // what inherited() tells of, which the test has counted: this one may die at its first record, too
            for (;;) {
                const auto p = r.pop(long_ns);
                if (!p) continue;
                auto* got = static_cast<record*>(*p);
                if (got->number != r.popped() - 1 || !got->intact() || b->seen[got->number]++ != 0) b->wrong = true;
                other.free(got);
                r.done();
            }
        });
    };
    child writes = writer(), reads = reader();
    std::uint64_t unknown = 0;
    // On a busy machine those that live may do much between two kills: fewer kills then, before the books are full.
    for (int kills = 0; kills < 150 && !b->wrong && c->count().pushed < books::most / 2; ++kills) {
        ::usleep(static_cast<unsigned>(random() % 3000));
        const bool the_writer = random() % 2 == 0;
        child& victim = the_writer ? writes : reads;
        victim.kill();
        ASSERT_TRUE(WIFSIGNALED(victim.wait()));
        // The end first, then the rest that the dead one has left.
        if (the_writer) {
            const std::uint64_t pushed = c->count().pushed;
            ASSERT_TRUE(pushed == b->ended || pushed == b->begun) << pushed << " pushed, " << b->begun << " begun, " << b->ended << " ended";
            child next = writer();
            writes = std::move(next);
            while (c->count().pushed == pushed && !b->wrong) ::usleep(100);
        } else {
            const auto before = c->count();
            if (before.popped - before.done == 1) unknown += b->seen[before.done] == 0;
            ASSERT_LE(before.popped - before.done, 1u);
            child next = reader();
            reads = std::move(next);
            while (c->count().popped == before.popped && !b->wrong) ::usleep(100);
        }
        (void)m.recover_dead();
    }
    EXPECT_FALSE(b->wrong);
    for (child* last : {&writes, &reads}) {
        last->kill();
        last->wait();
    }
    const auto end = c->count();
    std::uint64_t missing = 0;
    for (std::uint64_t i = 0; i < end.done; ++i) missing += b->seen[i] != 1;
    EXPECT_EQ(missing, unknown);
    std::printf("%llu records, %llu of them popped by one that died at once\n", static_cast<unsigned long long>(end.popped), static_cast<unsigned long long>(unknown));
    EXPECT_EQ(channel::destroy(m, c).value_or(0), end.pushed - end.popped);
    (void)m.recover_dead();
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

/// What ThreadSanitizer can follow: both ends in one process.
TEST_P(channels, pass_records_between_threads) {
    const group g = make();
    member m = join(g);
    channel* c = make_channel(m, 8);
    std::thread writes([&] {
        auto w = must_open<channel_writer>(m, c);
        for (std::uint64_t i = 0; i < 20'000; ++i) ASSERT_TRUE(w.push(record::make(m, i, bytes_of(i)), long_ns));
    });
    {
        auto r = must_open<channel_reader>(m, c);
        for (std::uint64_t i = 0;; ++i) {
            const auto p = r.pop(long_ns, 4);
            if (!p) {
                EXPECT_EQ(p.error().code, ENODATA);
                EXPECT_EQ(i, 20'000u);
                break;
            }
            auto* got = static_cast<record*>(*p);
            EXPECT_TRUE(got->number == i && got->intact());
            m.free(got);
        }
    }
    writes.join();
    EXPECT_EQ(channel::destroy(m, c).value_or(77), 0u);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

}  // namespace
}  // namespace cohort::sharepool
