// SPDX-License-Identifier: Apache-2.0
/// A std::unordered_map of strings and vectors in the pool, shared by raw pointer under a robust lock. Processes that use it are killed at random, with the lock and without; another goes on.
/// COHORT_SEED sets the seed (printed).
#include <pthread.h>
#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

using testing::child;
using testing::join;

class containers : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(containers);

using text = std::basic_string<char, std::char_traits<char>, allocator<char>>;
using numbers = std::vector<std::uint64_t, allocator<std::uint64_t>>;

/// What a key stands for: a text too long to lie in the string itself, and numbers that follow from the key.
struct value {
    explicit value(const allocator<char>& a) : name(a), parts(a) {}
    void fill(std::uint64_t key, std::uint64_t length) {
        name.assign("the name that belongs to the key ").append(std::to_string(key));
        parts.clear();
        for (std::uint64_t i = 0; i < length; ++i) parts.push_back(key * i);
    }
    bool belongs_to(std::uint64_t key, std::uint64_t length) const {
        if (parts.size() != length || std::string_view(name) != "the name that belongs to the key " + std::to_string(key)) return false;
        for (std::size_t i = 0; i < length; ++i) {
            if (parts[i] != key * i) return false;
        }
        return true;
    }
    text name;
    numbers parts;
};
using map = std::unordered_map<std::uint64_t, value, std::hash<std::uint64_t>, std::equal_to<>, allocator<std::pair<const std::uint64_t, value>>>;

/// All that the processes share, at one address in each. The journal is the truth: one store changes it, before the map is changed.
struct library {
    static constexpr std::size_t keys = 300;
    pthread_mutex_t lock;
    std::atomic<bool> dirty{false};                       ///< somebody is changing the map, or died in it
    std::array<std::atomic<std::uint16_t>, keys> journal{};  ///< 0: the key is not there; else the length of its value, and 1
    std::uint64_t repairs = 0, deaths_with_the_lock = 0, acts = 0;
    std::optional<map> index;

    explicit library(const member& m) {
        pthread_mutexattr_t a;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&lock, &a);
        index.emplace(map::allocator_type(m));
    }
    /// "": it was right. Everything that uses the group in this test holds the lock.
    std::string act(member& m, std::mt19937_64& random) {
        const int e = pthread_mutex_lock(&lock);
        if (e != 0 && e != EOWNERDEAD) return "the lock is lost: " + std::to_string(e);
        if (e == EOWNERDEAD) {
            ++deaths_with_the_lock;
            (void)m.recover_dead();
            if (dirty) rebuild(m);
            pthread_mutex_consistent(&lock);
        }
        const std::uint64_t key = random() % keys;
        const auto found = index->find(key);
        const std::uint16_t noted = journal[key];
        std::string wrong;
        if ((found != index->end()) != (noted != 0)) wrong = "key " + std::to_string(key) + (noted ? " is gone" : " is still there");
        else if (noted && !found->second.belongs_to(key, noted - 1u)) wrong = "key " + std::to_string(key) + " has another's value";
        const auto length = static_cast<std::uint16_t>(random() % 60);
        dirty = true;
        if (noted && random() % 2) {
            journal[key] = 0;
            if (wrong.empty()) index->erase(found);
        } else if (wrong.empty()) {
            journal[key] = static_cast<std::uint16_t>(length + 1);
            index->try_emplace(key, index->get_allocator()).first->second.fill(key, length);
        }
        dirty = false;
        ++acts;
        pthread_mutex_unlock(&lock);
        return wrong;
    }
    /// The old map may be broken anywhere: none of it is read. What it consisted of is all that was handed over but this library.
    void rebuild(member& m) {
        for (void* p : testing::audit_of(m).handed_over) {
            if (p != this) m.free(p);
        }
        new (&index) std::optional<map>(std::in_place, map::allocator_type(m));
        for (std::uint64_t key = 0; key < keys; ++key) {
            if (journal[key]) index->try_emplace(key, index->get_allocator()).first->second.fill(key, journal[key] - 1u);
        }
        ++repairs;
        dirty = false;
    }
};

TEST_P(containers, a_map_is_shared_by_raw_pointer_while_its_users_are_killed) {
    const char* given = std::getenv("COHORT_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("COHORT_SEED=%llu\n", static_cast<unsigned long long>(seed));
    const group g = in_both_modes::make();
    member m = join(g);
    auto* shelf = sharepool::make<library>(m, m);
    struct page {
        std::atomic<bool> stop{false};
        std::atomic<std::uint64_t> acts{0};
        char wrong[200] = {};
    };
    testing::shared<page> seen;
    const auto use = [&](std::uint64_t s) {
        return child(g, [&, s](member& other) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            std::mt19937_64 random(s);
            while (!seen->stop) {
                const std::string wrong = shelf->act(other, random);
                ++seen->acts;
                if (wrong.empty()) continue;
                std::snprintf(seen->wrong, sizeof seen->wrong, "%s", wrong.c_str());
                ::_exit(9);
            }
        });
    };
    std::mt19937_64 random(seed);
    child survivor = use(random());
    constexpr unsigned kills = 150;
    for (unsigned i = 0; i < kills && !seen->wrong[0]; ++i) {
        child victim = use(random());
        const std::uint64_t from = seen->acts;
        while (seen->acts < from + 20 && !seen->wrong[0]) ::usleep(200);
        ::usleep(static_cast<unsigned>(random() % 500));
        victim.kill();
        const int status = victim.wait();
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    }
    seen->stop = true;
    EXPECT_EQ(survivor.wait(), 0);
    EXPECT_STREQ(seen->wrong, "");
    (void)m.recover_dead();
    // The last may have died with the lock.
    EXPECT_EQ(shelf->act(m, random), "");
    std::size_t there = 0;
    for (std::uint64_t key = 0; key < library::keys; ++key) there += shelf->journal[key] != 0;
    EXPECT_EQ(shelf->index->size(), there);
    std::printf("%u kills, %llu with the lock, %llu of them in the middle of a change; %llu acts\n", kills, static_cast<unsigned long long>(shelf->deaths_with_the_lock),
                static_cast<unsigned long long>(shelf->repairs), static_cast<unsigned long long>(shelf->acts));
    EXPECT_EQ(testing::audit_of(m).wrong, "");
    drop(m, shelf);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

}  // namespace
}  // namespace cohort::sharepool
