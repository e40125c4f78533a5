// SPDX-License-Identifier: Apache-2.0
/// Two processes count words in one std::unordered_map, by raw pointer, under one lock; one is killed with SIGKILL again and again, at any moment, and replaced; the other goes on. At the end the
/// counts, the map and the pool add up.
///
///     shared_map [KILLS (100)] [SEED]
///
/// What a kill in the middle of a change leaves half done is the users' part: here each change is written down first (a journal of one entry), and who gets the lock of a dead owner does it again.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>

#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/group.hpp>

namespace {

namespace pool = cohort::sharepool;

using text = std::basic_string<char, std::char_traits<char>, pool::allocator<char>>;
struct hash {
    std::size_t operator()(const text& t) const { return std::hash<std::string_view>()(t); }
};
using table = std::unordered_map<text, std::uint64_t, hash, std::equal_to<>, pool::allocator<std::pair<const text, std::uint64_t>>>;

/// What both processes find at one address.
struct shared {
    pthread_mutex_t lock;
    table* counts = nullptr;
    std::uint64_t added = 0;         // how often a word was counted, and
    std::uint64_t by_child = 0;      // how often by the second process
    // The change under way: rebuilt from `safe`, if its owner died in the middle of it.
    std::uint64_t next_word = 0;
    bool under_way = false;
    std::uint64_t repaired = 0;

    explicit shared(const pool::member& m) {
        pthread_mutexattr_t robust;
        pthread_mutexattr_init(&robust);
        pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&lock, &robust);
        counts = pool::make<table>(m, pool::allocator<char>(m));
    }
};
constexpr std::uint64_t words = 500;

text word(const pool::member& m, std::uint64_t i) { return text(("a word that does not fit into the string itself: " + std::to_string(i % words)).c_str(), pool::allocator<char>(m)); }

/// The map anew from the number of words counted: which ones they were is known. The old one may be half changed: it is left as it is, and its memory stays until the
/// group ends: nobody can tell what of it is whole.
void repair(shared& s, pool::member& m) {
    auto* fresh = pool::make<table>(m, pool::allocator<char>(m));
    for (std::uint64_t i = 0; i < std::min(words, s.added); ++i) (*fresh)[word(m, i)] = s.added / words + (i < s.added % words);
    s.counts = fresh;
    s.under_way = false;
    ++s.repaired;
}

void count_one(shared& s, pool::member& m) {
    if (const int e = pthread_mutex_lock(&s.lock); e == EOWNERDEAD) {
        if (s.under_way) repair(s, m);
        pthread_mutex_consistent(&s.lock);
    } else if (e != 0) {
        std::abort();
    }
    s.under_way = true;
    ++(*s.counts)[word(m, s.added)];
    ++s.added;
    s.under_way = false;
    pthread_mutex_unlock(&s.lock);
}

pool::member must_join(const pool::group& g) {
    auto m = pool::member::join(g.data_fd(), g.metadata_fd());
    if (m) return std::move(*m);
    std::fprintf(stderr, "shared_map: %s\n", m.error().line().c_str());
    std::exit(5);
}

}  // namespace

int main(int argc, char** argv) {
    const int kills = argc > 1 ? std::atoi(argv[1]) : 100;
    const unsigned seed = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : std::random_device{}();
    std::printf("%d kills, seed %u\n", kills, seed);
    std::mt19937 random(seed);
    const auto g = pool::group::create({.name = "words", .bytes = 1 << 30});
    if (!g) {
        std::fprintf(stderr, "shared_map: %s\n", g.error().line().c_str());
        return 5;
    }
    pool::member m = must_join(*g);
    auto* s = pool::make<shared>(m, m);
    pool::recovered all;
    for (int i = 0; i < kills; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            pool::member other = must_join(*g);  // `s` means the same here
            for (;;) {
                count_one(*s, other);
                __atomic_fetch_add(&s->by_child, 1, __ATOMIC_RELAXED);
            }
        }
        const std::uint64_t until = s->by_child + random() % 200;
        while (__atomic_load_n(&s->by_child, __ATOMIC_RELAXED) <= until) count_one(*s, m);
        usleep(static_cast<useconds_t>(random() % 300));  // it has the map for itself, and perhaps the lock when it dies
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
        all += m.recover_dead();
    }
    count_one(*s, m);  // a last owner that died is noticed here
    std::uint64_t sum = 0;
    for (const auto& [w, n] : *s->counts) sum += n;
    const pool::census n = m.count();
    std::printf("%llu words counted, the map adds up to %llu; %llu times it was rebuilt, for its owner had died in the middle of a change\n", static_cast<unsigned long long>(s->added),
                static_cast<unsigned long long>(sum), static_cast<unsigned long long>(s->repaired));
    std::printf("pool: %llu blocks: %llu free, %llu in use by members, %llu handed over by the dead; lost %llu, twice %llu; recovery freed %llu\n", static_cast<unsigned long long>(n.blocks),
                static_cast<unsigned long long>(n.linked), static_cast<unsigned long long>(n.owned), static_cast<unsigned long long>(n.kept), static_cast<unsigned long long>(n.lost),
                static_cast<unsigned long long>(n.twice), static_cast<unsigned long long>(all.blocks_freed));
    return sum == s->added && n.lost == 0 && n.twice == 0 && n.linked + n.owned + n.kept == n.blocks ? 0 : 1;
}
