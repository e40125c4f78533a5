// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sharepool/window.hpp>

namespace cohort::sharepool {
namespace {

using testing::child;
using testing::join;

class pool : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(pool);

TEST(window, is_reserved_where_it_is_said) {
    const auto w = window();
    ASSERT_TRUE(w) << w.error().line();
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(w->base), window_base);
}

TEST_P(pool, gives_blocks_that_do_not_overlap_in_every_size) {
    const group g = make();
    member m = join(g);
    std::vector<std::pair<std::byte*, std::size_t>> held;
    for (std::size_t bytes = 1; bytes <= 300'000; bytes += 1 + bytes / 5) {
        for (int i = 0; i < 3; ++i) {
            auto* p = static_cast<std::byte*>(m.alloc(bytes));
            ASSERT_NE(p, nullptr) << bytes;
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 16, 0u);
            EXPECT_GE(m.usable_size(p).value(), bytes);
            std::memset(p, static_cast<int>(held.size()), bytes);
            held.emplace_back(p, bytes);
        }
    }
    for (std::size_t i = 0; i < held.size(); ++i) {
        const auto [p, bytes] = held[i];
        EXPECT_TRUE(std::all_of(p, p + bytes, [&](std::byte b) { return b == static_cast<std::byte>(i); })) << bytes;
        m.free(p);
    }
    const census n = m.count();
    EXPECT_EQ(n.owned + n.lost + n.twice + n.kept, 0u);
    EXPECT_EQ(n.areas, 0u);
}

TEST_P(pool, keeps_alignments_that_are_asked_for) {
    const group g = make();
    member m = join(g);
    for (std::size_t a = 1; a <= 1 << 20; a *= 2) {
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{40'000}}) {
            const auto p = m.try_alloc(bytes, a);
            ASSERT_TRUE(p) << p.error().line();
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*p) % a, 0u) << a;
            m.free(*p);
        }
    }
    EXPECT_EQ(m.try_alloc(1, 3).error().code, EINVAL);
    EXPECT_EQ(m.try_alloc(1, std::size_t{2} << 30).error().code, EINVAL);
}

TEST_P(pool, wrong_frees_are_refused_and_say_whose_it_is) {
    const group g = make();
    member m = join(g);
    auto* p = static_cast<std::byte*>(m.alloc(100));
    auto* big = static_cast<std::byte*>(m.alloc(100'000));
    int local = 0;
    EXPECT_EQ(m.try_free(&local).error().code, EINVAL);
    EXPECT_EQ(m.try_free(p + 16).error().code, EINVAL);
    EXPECT_EQ(m.try_free(big + 65536).error().code, EINVAL);
    EXPECT_EQ(m.try_free(m.base() + m.bytes() - 65536).error().code, EINVAL);
    EXPECT_NE(m.describe(p).find("block " ), std::string::npos);
    EXPECT_NE(m.describe(p).find("process " + std::to_string(::getpid())), std::string::npos) << m.describe(p);
    EXPECT_TRUE(m.try_free(p));
    EXPECT_EQ(m.try_free(p).error().code, EALREADY);
    EXPECT_NE(m.try_free(p).error().line().find("free block"), std::string::npos) << m.try_free(p).error().line();
    EXPECT_TRUE(m.try_free(big));
    EXPECT_FALSE(m.try_free(big));
    EXPECT_TRUE(m.try_free(nullptr));
    // A block that was never given out.
    auto* q = static_cast<std::byte*>(m.alloc(2000));
    EXPECT_EQ(m.try_free(q + 2 * m.usable_size(q).value()).error().code, EALREADY);
    m.free(q);
    EXPECT_EQ(m.count().lost, 0u);
    EXPECT_DEATH(
        {
            member dying = join(g);  // a child of fork() is no member of itself
            void* twice = dying.alloc(100);
            dying.free(twice);
            dying.free(twice);
        },
        "free block .* of 112 bytes freed by process .* it is free already");
}

TEST_P(pool, full_groups_say_so_and_go_on) {
    const group g = make(2 << 20);
    member m = join(g);
    std::vector<void*> held;
    while (void* p = m.alloc(1000)) held.push_back(p);
    EXPECT_GT(held.size(), 1800u);
    EXPECT_EQ(m.try_alloc(1000).error().code, ENOMEM);
    EXPECT_EQ(m.try_alloc(100'000).error().code, ENOMEM);
    for (void* p : held) m.free(p);
    EXPECT_EQ(m.trim(), 0u);
    EXPECT_NE(m.alloc(1'500'000), nullptr);
}

TEST_P(pool, what_is_not_used_goes_back) {
    const group g = make(1 << 30);
    member m = join(g);
    const std::uint64_t idle = m.count().metadata_bytes;
    EXPECT_LT(idle, 1u << 20);
    std::vector<void*> held;
    for (int i = 0; i < 200'000; ++i) held.push_back(m.alloc(static_cast<std::size_t>(i % 700)));
    for (int i = 0; i < 50; ++i) held.push_back(m.alloc(1 << 20));
    EXPECT_GT(m.count().bytes, std::uint64_t{100} << 20);
    for (void* p : held) m.free(p);
    EXPECT_EQ(m.trim(), 0u);
    const census n = m.count();
    EXPECT_EQ(n.superblocks, 0u);
    EXPECT_EQ(n.bytes, 0u);
    EXPECT_LT(n.metadata_bytes, 1u << 20);
}

TEST_P(pool, pointers_mean_the_same_in_every_member) {
    struct node {
        node* next;
        int value;
    };
    const group g = make();
    member m = join(g);
    testing::shared<std::atomic<node*>> root;
    child c(g, [&](member& other) {
        node* list = nullptr;
        for (int i = 0; i < 1000; ++i) list = new (other.alloc(sizeof(node), lifetime::group)) node{list, i};
        root->store(list);
    });
    ASSERT_EQ(c.wait(), 0);
    int expected = 1000, n = 0;
    for (node* p = root->load(); p;) {
        EXPECT_EQ(p->value, --expected);
        node* next = p->next;
        m.free(p);
        p = next;
        ++n;
    }
    EXPECT_EQ(n, 1000);
    const census after = m.count();
    EXPECT_EQ(after.kept + after.owned + after.lost + after.twice, 0u);
}

TEST_P(pool, the_dead_leave_only_what_they_handed_over) {
    const group g = make();
    member m = join(g);
    testing::shared<std::atomic<void*>> handed;
    child c(g, [&](member& other) {
        for (int i = 0; i < 1000; ++i) (void)other.alloc(static_cast<std::size_t>(i));
        (void)other.alloc(1 << 20);
        void* kept = other.alloc(64);
        EXPECT_TRUE(other.hand_over(kept));
        void* area = other.alloc(1 << 20);
        EXPECT_TRUE(other.hand_over(area));
        other.free(other.alloc(3000));
        handed->store(kept);
        ::pause();
    });
    while (!handed->load()) ::usleep(1000);
    EXPECT_EQ(m.recover_dead().blocks_freed, 0u) << "it lives";
    c.kill();
    c.wait();
    const recovered r = m.recover_dead();
    EXPECT_EQ(r.blocks_kept, 1u);
    EXPECT_EQ(r.blocks_freed, 1000u);
    EXPECT_EQ(r.areas_freed, 1u);
    EXPECT_EQ(r.areas_kept, 1u);
    const census n = m.count();
    EXPECT_EQ(n.kept, 1u);
    EXPECT_EQ(n.owned + n.lost + n.twice, 0u);
    EXPECT_NE(m.describe(handed->load()).find("handed over by a process that is gone"), std::string::npos) << m.describe(handed->load());
    m.free(handed->load());
    EXPECT_EQ(m.recover_dead().blocks_freed, 0u);
    EXPECT_EQ(m.processes(), std::vector<int>{::getpid()});
}

TEST_P(pool, threads_and_processes_at_once) {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    const group g = make(256 << 20);
    const auto work = [&](member& m, unsigned s) {
        std::mt19937 random(s);
        std::vector<std::pair<std::uint32_t*, std::uint32_t>> held;
        for (int i = 0; i < 60'000; ++i) {
            if (held.size() < 300 && random() % 2) {
                const std::size_t bytes = 8 + random() % (random() % 8 ? 300 : 9000);
                auto* p = static_cast<std::uint32_t*>(m.alloc(bytes));
                if (!p) std::abort();
                p[0] = p[1] = random();
                held.emplace_back(p, p[0]);
            } else if (!held.empty()) {
                std::swap(held[random() % held.size()], held.back());
                const auto [p, value] = held.back();
                if (p[0] != value || p[1] != value) std::abort();  // somebody else has it
                held.pop_back();
                m.free(p);
            }
        }
        for (const auto& h : held) m.free(h.first);
    };
    {
        std::vector<child> children;
        for (unsigned i = 0; i < 2; ++i) {
            children.emplace_back(g, [&, i](member& m) {
                std::thread other;
                if (testing::threads_among_processes) other = std::thread([&] { work(m, seed + 10 + i); });
                work(m, seed + i);
                if (other.joinable()) other.join();
            });
        }
        for (child& c : children) EXPECT_EQ(c.wait(), 0);
    }
    member m = join(g);
    const census n = m.count();
    EXPECT_EQ(n.owned + n.kept + n.lost + n.twice, 0u);
    EXPECT_EQ(n.linked, n.blocks);
    m.trim();
    EXPECT_EQ(m.count().superblocks, 0u);
}

}  // namespace
}  // namespace cohort::sharepool
