// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include <cohort/account/charged.hpp>
#include <cohort/account/counter.hpp>
#include <cohort/account/table.hpp>

namespace cohort::account {
namespace {

using ::testing::HasSubstr;

std::uint64_t usage(group g) { return g.stats().value().usage; }

/// /, /web (limit 100), /web/cache (limit 60), /web/logs, /batch
struct tree {
    local_table t{16};
    group root = t->root();
    group web = t->create(root, "web", 100).value();
    group cache = t->create(web, "cache", 60).value();
    group logs = t->create(web, "logs").value();
    group batch = t->create(root, "batch").value();
};

TEST(group, charge_counts_in_every_group_above) {
    tree x;
    ASSERT_TRUE(x.cache.charge(10));
    ASSERT_TRUE(x.logs.charge(5));
    EXPECT_EQ(usage(x.cache), 10u);
    EXPECT_EQ(usage(x.web), 15u);
    EXPECT_EQ(usage(x.root), 15u);
    EXPECT_EQ(usage(x.batch), 0u);
    x.cache.uncharge(4);
    EXPECT_EQ(usage(x.cache), 6u);
    EXPECT_EQ(usage(x.root), 11u);
    EXPECT_EQ(x.cache.stats()->peak, 10u);
    EXPECT_EQ(x.root.stats()->peak, 15u);
    ASSERT_TRUE(x.root.reset_peak());
    EXPECT_EQ(x.root.stats()->peak, 11u);
    x.cache.uncharge(6);
    x.logs.uncharge(5);
    EXPECT_EQ(usage(x.root), 0u);
}

TEST(group, refusal_above_undoes_all_below_and_names_who_refused) {
    tree x;
    ASSERT_TRUE(x.logs.charge(70));
    const auto r = x.cache.charge(40);
    EXPECT_EQ(r.error().line(), "group \"/web/cache\": charge 40: ENOMEM: group \"/web\" is at its limit, 70 of 100");
    EXPECT_EQ(usage(x.cache), 0u);
    EXPECT_EQ(usage(x.web), 70u);
    EXPECT_EQ(usage(x.root), 70u);
    EXPECT_EQ(x.web.stats()->failures, 1u);
    EXPECT_EQ(x.cache.stats()->failures, 0u);
    EXPECT_EQ(x.cache.charge(61).error().reason, "group \"/web/cache\" is at its limit, 0 of 60");
    group by;
    EXPECT_FALSE(x.logs.try_charge(31, &by));
    EXPECT_EQ(by, x.web);
    EXPECT_TRUE(x.logs.try_charge(30)) << "up to the limit itself";
    x.logs.uncharge(100);
}

TEST(group, amounts_that_overflow_are_refused) {
    tree x;
    EXPECT_EQ(x.batch.charge(~std::uint64_t{0}).error().code, ENOMEM);
    EXPECT_TRUE(x.batch.charge(unlimited));
    EXPECT_EQ(x.batch.charge(1).error().code, ENOMEM);
    EXPECT_EQ(x.web.charge(1).error().reason, "group \"/\" is at its limit, " + std::to_string(unlimited) + " of unlimited");
    EXPECT_EQ(x.batch.stats()->children, 0) << "usage never runs over into its neighbours in the word";
    x.batch.uncharge(unlimited);
    EXPECT_TRUE(x.batch.charge(0));
    x.batch.uncharge(0);
}

TEST(group, limit_below_usage_answers_ebusy_and_keeps_the_old_one) {
    tree x;
    ASSERT_TRUE(x.web.charge(50));
    EXPECT_EQ(x.web.set_limit(49).error().line(), "group \"/web\": set limit 49: EBUSY: 50 are charged");
    EXPECT_EQ(x.web.stats()->limit, 100u);
    ASSERT_TRUE(x.web.set_limit(50));
    EXPECT_FALSE(x.web.try_charge(1));
    ASSERT_TRUE(x.web.set_limit(~std::uint64_t{0}));
    EXPECT_EQ(x.web.stats()->limit, unlimited);
    EXPECT_TRUE(x.web.try_charge(1000));
    x.web.uncharge(1050);
    ASSERT_TRUE(x.web.set_limit(0));
    EXPECT_FALSE(x.cache.try_charge(1));
}

TEST(table, groups_come_and_go) {
    tree x;
    EXPECT_EQ(x.cache.path(), "/web/cache");
    EXPECT_EQ(x.root.path(), "/");
    EXPECT_EQ(x.cache.parent().value(), x.web);
    EXPECT_EQ(x.root.parent().error().code, ENOENT);
    EXPECT_EQ(x.t->remove(x.web).error().line(), "group \"/web\": remove: EBUSY: 0 charged, 2 children");
    ASSERT_TRUE(x.cache.charge(1));
    EXPECT_EQ(x.t->remove(x.cache).error().line(), "group \"/web/cache\": remove: EBUSY: 1 charged, 0 children");
    x.cache.uncharge(1);
    ASSERT_TRUE(x.t->remove(x.cache));
    EXPECT_EQ(x.t->remove(x.cache).error().code, ENODEV);
    EXPECT_EQ(x.t->remove(x.root).error().code, EINVAL);
    ASSERT_TRUE(x.t->remove(x.logs));
    EXPECT_EQ(x.t->groups().size(), 3u);
    ASSERT_TRUE(x.t->remove(x.web));
}

TEST(table, removed_group_stays_removed_when_its_place_is_taken) {
    local_table t(2);
    const group old = t->create(t->root(), "old").value();
    ASSERT_TRUE(t->remove(old));
    const group fresh = t->create(t->root(), "fresh", 5).value();
    ASSERT_EQ(fresh.id().index, old.id().index) << "the only place";
    EXPECT_EQ(old.charge(1).error().line(), "group \"(removed)\": charge 1: ENODEV: it was removed");
    EXPECT_EQ(old.charge(100).error().code, ENODEV) << "not ENOMEM by the limit of another";
    EXPECT_EQ(fresh.stats()->failures, 0u);
    EXPECT_EQ(usage(t->root()), 0u);
    EXPECT_EQ(old.set_limit(1).error().code, ENODEV);
    EXPECT_EQ(old.stats().error().code, ENODEV);
    EXPECT_EQ(old.reset_peak().error().code, ENODEV);
    EXPECT_EQ(old.parent().error().code, ENODEV);
    EXPECT_EQ(t->remove(old).error().code, ENODEV);
    EXPECT_EQ(t->create(old, "child").error().code, ENODEV);
    EXPECT_EQ(fresh.stats()->children, 0);
    EXPECT_EQ(group(*t, {99, 0}).charge(1).error().code, ENODEV);
    EXPECT_EQ(t->create(group(*t, {99, 0}), "x").error().code, ENODEV);
}

TEST(table, create_errors) {
    local_table t(2);
    const auto root = t->root();
    EXPECT_EQ(t->create(root, "").error().code, EINVAL);
    EXPECT_EQ(t->create(root, "a/b").error().code, EINVAL);
    EXPECT_EQ(t->create(root, std::string(32, 'x')).error().code, EINVAL);
    ASSERT_TRUE(t->create(root, std::string(31, 'x')));
    EXPECT_EQ(t->create(root, "full").error().line(), "group \"full\": create: ENOSPC: the table is full");
    EXPECT_EQ(root.stats()->children, 1);
}

TEST(table, as_many_children_as_the_word_counts) {
    local_table t(33'000);
    for (int i = 0; i < 32'767; ++i) ASSERT_TRUE(t->create(t->root(), "c"));
    EXPECT_THAT(t->create(t->root(), "c").error().line(), HasSubstr("ENOSPC: its parent has 32767 children"));
    ASSERT_TRUE(t->root().charge(1)) << "the children do not run over into the dead bit";
    t->root().uncharge(1);
}

TEST(table, format_and_attach_check_their_memory) {
    alignas(64) std::byte memory[1024]{};
    EXPECT_EQ(table::format(std::span(memory + 1, 1000)).error().code, EINVAL);
    EXPECT_EQ(table::format(std::span(memory, 64)).error().code, EINVAL);
    EXPECT_EQ(table::attach(memory).error().reason, "there is no table of this version");
    table* t = table::format(memory).value();
    EXPECT_EQ(t->capacity(), static_cast<int>((1024 - 64) / 128));
    EXPECT_EQ(table::attach(memory).value(), t);
    EXPECT_EQ(table::attach(std::span(memory, 512)).error().reason, "the table is cut short");
    EXPECT_EQ(table::attach(std::span(memory, 10)).error().code, EINVAL);
}

TEST(charged, goes_back_to_the_group_it_came_from) {
    tree x;
    charged held;
    {
        const scope as_web(x.web);
        held = charge_current(30).value();
        const scope as_batch(x.batch);
        EXPECT_EQ(current(), x.batch);
        ASSERT_TRUE(held.grow(10));
        EXPECT_EQ(held.where(), x.web);
    }
    EXPECT_FALSE(current());
    EXPECT_EQ(usage(x.web), 40u);
    EXPECT_EQ(usage(x.batch), 0u);
    charged moved = std::move(held);
    EXPECT_EQ(held.amount(), 0u);
    moved.shrink(5);
    EXPECT_EQ(usage(x.web), 35u);
    EXPECT_EQ(moved.grow(1000).error().code, ENOMEM);
    EXPECT_EQ(moved.amount(), 35u);
    moved = charged::take(x.cache, 7).value();
    EXPECT_EQ(usage(x.web), 7u);
    std::thread([m = std::move(moved)] {}).join();
    EXPECT_EQ(usage(x.root), 0u);
}

TEST(charged, without_a_group_nothing_is_counted) {
    auto held = charge_current(1'000'000);
    ASSERT_TRUE(held);
    EXPECT_EQ(held->amount(), 0u);
    EXPECT_TRUE(held->grow(5));
    held->shrink(5);
    tree x;
    const scope as_web(x.web);
    const scope off{group()};
    EXPECT_TRUE(charge_current(1'000'000));
    EXPECT_EQ(usage(x.web), 0u);
}

TEST(charged, refusal_holds_nothing_and_detach_keeps_the_charge) {
    tree x;
    const scope as_web(x.web);
    EXPECT_EQ(charge_current(101).error().code, ENOMEM);
    auto held = charge_current(50).value();
    EXPECT_EQ(held.detach(), 50u);
    held.release();
    EXPECT_EQ(usage(x.web), 50u);
    x.web.uncharge(50);
}

/// Random charges of four threads in four groups; what is still held must be what is counted.
TEST(account, sums_are_exact_after_threads_and_no_limit_is_passed) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    tree x;
    const group groups[] = {x.web, x.cache, x.logs, x.batch};
    std::atomic<bool> stop{false};
    std::thread watcher([&] {
        while (!stop) {
            EXPECT_LE(usage(x.web), 100u);
            EXPECT_LE(usage(x.cache), 60u);
        }
    });
    std::array<std::array<std::uint64_t, 4>, 4> kept{};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(seed + t);
            std::vector<std::pair<unsigned, charged>> held;
            for (int i = 0; i < 20'000; ++i) {
                const unsigned g = random() % 4;
                if (auto c = charged::take(groups[g], 1 + random() % 20)) held.emplace_back(g, std::move(*c));
                while (held.size() > 4) {
                    held[random() % held.size()].second = {};
                    std::erase_if(held, [](const auto& h) { return !h.second.where(); });
                }
            }
            for (auto& [g, c] : held) kept[t][g] += c.detach();
        });
    }
    for (auto& t : threads) t.join();
    stop = true;
    watcher.join();
    std::array<std::uint64_t, 4> sum{};
    for (const auto& k : kept) {
        for (unsigned g = 0; g < 4; ++g) sum[g] += k[g];
    }
    EXPECT_EQ(usage(x.cache), sum[1]);
    EXPECT_EQ(usage(x.logs), sum[2]);
    EXPECT_EQ(usage(x.batch), sum[3]);
    EXPECT_EQ(usage(x.web), sum[0] + sum[1] + sum[2]);
    EXPECT_EQ(usage(x.root), sum[0] + sum[1] + sum[2] + sum[3]);
    EXPECT_LE(x.web.stats()->peak, 100u);
    EXPECT_GT(x.web.stats()->failures + x.cache.stats()->failures, 0u) << "the limits were reached";
    for (unsigned g = 0; g < 4; ++g) groups[g].uncharge(sum[g]);
    EXPECT_EQ(usage(x.root), 0u);
}

TEST(account, groups_made_removed_and_charged_by_many_threads) {
    local_table t(64);
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> shared_id{0};
    for (unsigned n = 0; n < 4; ++n) {
        threads.emplace_back([&, n] {
            std::mt19937 random(n);
            for (int i = 0; i < 5000; ++i) {
                const auto mine = t->create(t->root(), "m" + std::to_string(n), 1000);
                ASSERT_TRUE(mine);
                shared_id.store(std::uint64_t{mine->id().generation} << 32 | mine->id().index);
                ASSERT_TRUE(mine->charge(7));
                // Another thread's group, perhaps removed by now, perhaps replaced.
                const std::uint64_t id = shared_id.load();
                const group other(*t, {static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32)});
                if (auto c = charged::take(other, 3)) {
                    EXPECT_EQ(c->where(), other);
                } else {
                    EXPECT_EQ(c.error().code, ENODEV);
                }
                mine->uncharge(7);
                while (!t->remove(*mine)) std::this_thread::yield();  // EBUSY while another thread charges it
            }
        });
    }
    for (auto& th : threads) th.join();
    EXPECT_EQ(t->groups().size(), 1u);
    EXPECT_EQ(usage(t->root()), 0u);
    EXPECT_EQ(t->root().stats()->children, 0);
}

TEST(counter, counts_up_to_its_limit_and_is_put_right) {
    counter c{};
    EXPECT_FALSE(c.try_charge(1)) << "zeroes have no room";
    EXPECT_EQ(c.set_limit(100), 0);
    EXPECT_TRUE(c.try_charge(100));
    EXPECT_FALSE(c.try_charge(1));
    EXPECT_EQ(c.set_limit(99), EBUSY);
    c.uncharge(30);
    EXPECT_EQ(c.usage(), 70);
    EXPECT_EQ(c.peak, 100u);
    EXPECT_EQ(c.failures, 2u);
    c.uncharge(80);
    EXPECT_EQ(c.usage(), -10);
    EXPECT_FALSE(c.try_charge(1)) << "a count that is none refuses";
    c.put_right(10 + 5);
    EXPECT_EQ(c.usage(), 5);
    c.put_right(-5);
    EXPECT_TRUE(c.try_charge(100));
}

TEST(account, processes_charge_one_table_at_addresses_of_their_own) {
    const std::size_t bytes = table::bytes_for(8);
    const int fd = ::memfd_create("table", 0);
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    const auto map = [&] {
        void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return std::span(static_cast<std::byte*>(p), bytes);
    };
    const auto here = map();
    table* t = table::format(here).value();
    const group g = t->create(t->root(), "pool", 1'000'000).value();
    const group_id id = g.id();
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            const auto mine = map();
            ::munmap(here.data(), bytes);  // whoever followed an address of the parent's mapping dies here
            const auto table_here = table::attach(mine);
            if (!table_here) ::_exit(10);
            const group pool(**table_here, id);
            for (int n = 0; n < 20'000; ++n) {
                if (!pool.try_charge(5)) ::_exit(11);
                if (n % 2) pool.uncharge(5);
            }
            const auto own = (*table_here)->create(pool, "child", 10);
            if (!own || !own->charge(i + 1) || own->charge(11)) ::_exit(12);
            ::_exit(0);
        }
        children.push_back(pid);
    }
    for (pid_t pid : children) {
        int status = 0;
        ASSERT_EQ(::waitpid(pid, &status, 0), pid);
        EXPECT_EQ(status, 0);
    }
    EXPECT_EQ(usage(g), 4u * 10'000 * 5 + 1 + 2 + 3 + 4);
    EXPECT_EQ(usage(t->root()), usage(g));
    EXPECT_EQ(g.stats()->children, 4);
    ::munmap(here.data(), bytes);
    ::close(fd);
}

TEST(account, anonymous_shared_memory_after_fork) {
    const std::size_t bytes = table::bytes_for(4);
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    table* t = table::format({static_cast<std::byte*>(p), bytes}).value();
    const group g = t->create(t->root(), "g").value();
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(g.try_charge(123) ? 0 : 1);
    int status = 1;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(usage(g), 123u) << "what a process charged stays when it ends";
    ::munmap(p, bytes);
}

TEST(account_death, callers_bugs_end_the_program) {
    tree x;
    ASSERT_TRUE(x.web.charge(5));
    EXPECT_DEATH(x.web.uncharge(6), "more uncharged than was charged");
    EXPECT_DEATH(x.cache.uncharge(1), "more uncharged than was charged");
    tree y;
    EXPECT_DEATH((void)x.t->create(y.root, "n"), "in another table");
    EXPECT_DEATH((void)x.t->remove(y.web), "in another table");
    auto held = charged::take(x.web, 1).value();
    EXPECT_DEATH(held.shrink(2), "more given back than is held");
    EXPECT_DEATH(local_table(0), "outside 1");
    ASSERT_TRUE(x.t->remove(x.batch));
    EXPECT_DEATH(x.batch.uncharge(1), "was removed");
}

}  // namespace
}  // namespace cohort::account
