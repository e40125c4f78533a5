// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/allocator.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

std::unique_ptr<allocator> fresh(allocator_options options = {}) {
    options.name = "test";
    return allocator::create(options).value();
}

/// Every copy of the object, as bytes.
void for_each_copy(const allocator& a, std::uintptr_t value, auto f) {
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        detail::make_present(a.index(), cpu);
        f(reinterpret_cast<unsigned char*>(value + detail::offset_of(detail::layout_of(value), cpu)));
    }
}

bool is_zero(const allocator& a, std::uintptr_t value, std::size_t size) {
    bool zero = true;
    for_each_copy(a, value, [&](const unsigned char* p) { zero = zero && std::all_of(p, p + size, [](unsigned char c) { return c == 0; }); });
    return zero;
}
void dirty(const allocator& a, std::uintptr_t value, std::size_t size, unsigned char with = 0xa5) {
    for_each_copy(a, value, [&](unsigned char* p) { std::memset(p, with, size); });
}

TEST(percpu_allocator, objects_of_every_size_and_alignment_are_aligned_zero_and_apart_on_every_cpu) {
    const auto a = fresh();
    for (int round = 0; round < 2; ++round) {
        std::vector<std::pair<std::uintptr_t, std::size_t>> all;
        for (std::size_t align = 1; align <= 4096; align *= 2) {
            for (const std::size_t size : {1u, 4u, 5u, 24u, 64u, 100u, 1024u, 1025u, 4096u, 5000u, 32768u}) {
                const auto v = a->alloc(size, align);
                ASSERT_TRUE(v) << v.error().line();
                for_each_copy(*a, *v, [&](unsigned char* p) { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u) << size; });
                ASSERT_TRUE(is_zero(*a, *v, size)) << size << " " << align;
                dirty(*a, *v, size, static_cast<unsigned char>(all.size() % 255 + 1));
                all.emplace_back(*v, size);
                EXPECT_GE(a->size_of(*v), size);
            }
        }
        for (std::size_t i = 0; i < all.size(); ++i) {
            for_each_copy(*a, all[i].first, [&](const unsigned char* p) {
                EXPECT_TRUE(std::all_of(p, p + all[i].second, [&](unsigned char c) { return c == i % 255 + 1; })) << i;
            });
            EXPECT_EQ(a->free(all[i].first), 0);
        }
        EXPECT_EQ(a->stats().nr_cur_alloc, 0);
    }
}

TEST(percpu_allocator, refuses_sizes_and_alignments_beyond_its_limits) {
    const auto a = fresh();
    for (const auto& [size, align] : {std::pair<std::size_t, std::size_t>{0, 8}, {32769, 8}, {8, 0}, {8, 3}, {8, 8192}, {SIZE_MAX, 8}}) {
        const auto v = a->alloc(size, align, alloc_flags::nowarn);
        ASSERT_FALSE(v) << size << " " << align;
        EXPECT_EQ(v.error().code, EINVAL);
        EXPECT_EQ(a->alloc_atomic(size, align, alloc_flags::nowarn).why, refusal::illegal);
        EXPECT_EQ(a->alloc_reserved(size, align, alloc_flags::nowarn).error().code, EINVAL);
    }
    EXPECT_EQ(a->stats().nr_chunks, 0);
    EXPECT_EQ(a->stats().failures, 18u);
    EXPECT_FALSE(allocator::create({.reserved_bytes = 65540}));
    EXPECT_FALSE(allocator::create({.reserved_bytes = 6}));
}

TEST(percpu_allocator, finds_double_frees_and_foreign_handles) {
    const auto a = fresh(), other = fresh();
    for (const std::size_t size : {4u, 64u, 1024u, 8000u}) {
        const std::uintptr_t v = a->alloc(size).value();
        EXPECT_EQ(a->free(v + 4), EINVAL) << "inside";
        EXPECT_EQ(a->free(v + 1), EINVAL) << "not even aligned";
        EXPECT_EQ(other->free(v), EINVAL) << "of another allocator";
        EXPECT_EQ(a->free(v), 0);
        EXPECT_EQ(a->free(v), EINVAL) << "twice";
        EXPECT_EQ(percpu::free(v), EINVAL);
        EXPECT_EQ(a->size_of(v), 0u);
    }
    int local = 0;
    EXPECT_EQ(percpu::free(reinterpret_cast<std::uintptr_t>(&local)), EINVAL);
    EXPECT_EQ(percpu::free(0), 0);
    EXPECT_EQ(a->stats().nr_cur_alloc, 0);
    a->trim();
    const std::uintptr_t v = a->alloc(64).value();
    a->trim();
    EXPECT_EQ(a->free(v), 0);
    a->trim();
    EXPECT_EQ(a->free(v), EINVAL) << "after its pages were given back";
}

TEST(percpu_allocator, typed_objects_own_themselves) {
    struct stats {
        long packets, bytes;
    };
    auto p = make<stats>().value();
    this_cpu::add(p->member(&stats::bytes), 60);
    EXPECT_EQ(sum(p->member(&stats::bytes)), 60);
    const auto h = p.get();
    p = make<stats>().value();
    EXPECT_FALSE(percpu::free(h.value()) == 0) << "the assignment has freed it";
    auto moved = std::move(p);
    EXPECT_FALSE(p);
    EXPECT_TRUE(moved);
    EXPECT_DEATH({
        ptr<stats> twin(moved.get());
        twin.reset();
        moved.reset();
    }, "freed twice");
    const auto h2 = moved.release();
    ptr<stats> again(h2);
    EXPECT_EQ(again.get().value(), h2.value());
    const auto other = fresh();
    const std::uintptr_t foreign = other->alloc(sizeof(stats)).value();
    EXPECT_DEATH(ptr<stats> taken{handle<stats>(foreign)}, "of the default allocator only");
    EXPECT_EQ(other->free(foreign), 0);
    auto array = make_array<int>(100).value();
    this_cpu::inc(array.get() + 99);
    EXPECT_EQ(sum(array.get() + 99), 1);
    EXPECT_EQ(make_array<int>(10000, alloc_flags::nowarn).error().code, EINVAL);
    EXPECT_EQ(make_array<int>(SIZE_MAX / 2, alloc_flags::nowarn).error().code, EINVAL);
    auto quick = try_make<stats>();
    ASSERT_TRUE(quick);
    this_cpu::inc(quick->member(&stats::packets));
    EXPECT_EQ(sum(quick->member(&stats::packets)), 1);
    struct too_large {
        char bytes[40'000];
    };
    EXPECT_FALSE(try_make<too_large>(alloc_flags::nowarn));
    struct alignas(256) wide {
        char bytes[256];
    };
    auto w = make<wide>().value();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(per_cpu(w.get(), 0)) % 256, 0u);
    auto c = make<long, by::cid>().value();
    this_cpu::inc(c.get());
    EXPECT_EQ(sum(c.get()), 1);
}

TEST(percpu_allocator, magazines_keep_their_stacks_off_the_lines_of_the_table) {
    using namespace detail;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(default_magazines[0].block) % alias_bytes, table_colour);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(default_magazines[1].block) % alias_bytes, table_colour);
    for (const unsigned cpu : {0u, 1u, 7u, 8u, 63u, 64u, 511u, 512u, 4095u}) {
        const std::size_t entry = (table_colour + cpu * sizeof(std::uintptr_t)) % alias_bytes / 64;
        for (std::size_t c = 0; c < static_cast<std::size_t>(classes); ++c) {
            const std::size_t from = block_colour(cpu) + stack_places[c], end = from + 8 + 8 * class_capacities[c];
            EXPECT_EQ(from % 64, 0u);
            EXPECT_GE(stack_places[c], c == 0 ? 0 : stack_places[c - 1] + 8 + 8 * class_capacities[c - 1]);
            EXPECT_LE(end, magazine_block_bytes);
            for (std::size_t line = from / 64; line <= (end - 1) / 64; ++line) EXPECT_NE(line % (alias_bytes / 64), entry) << cpu << ' ' << c;
        }
    }
}

TEST(percpu_allocator, reserved_space_is_apart_and_ends) {
    const auto a = fresh({.reserved_bytes = 8192});
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 8; ++i) all.push_back(a->alloc_reserved(1024).value());
    const auto full = a->alloc_reserved(4, 4, alloc_flags::nowarn);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, ENOMEM);
    EXPECT_NE(full.error().line().find("alloc from reserved chunk failed"), std::string::npos) << full.error().line();
    EXPECT_TRUE(a->alloc(1024)) << "dynamic space is another";
    dirty(*a, all[3], 1024);
    EXPECT_EQ(a->free(all[3]), 0);
    EXPECT_EQ(a->alloc_reserved(1024).value(), all[3]);
    EXPECT_TRUE(is_zero(*a, all[3], 1024));
    EXPECT_FALSE(fresh({.reserved_bytes = 0})->alloc_reserved(4, 4, alloc_flags::nowarn));
}

TEST(percpu_allocator, atomic_allocations_use_populated_pages_only) {
    const auto a = fresh({.magazines = false});
    EXPECT_EQ(a->alloc_atomic(64, 8, alloc_flags::nowarn).why, refusal::atomic_full) << "no chunk yet";
    a->balance();
    std::vector<std::uintptr_t> all;
    while (const attempt got = a->alloc_atomic(4096, 8, alloc_flags::nowarn)) all.push_back(got.value);
    EXPECT_GE(all.size(), 2u) << "the reserve that balance() keeps";
    EXPECT_LE(all.size(), 8u);
    a->balance();
    EXPECT_TRUE(a->alloc_atomic(4096)) << "refilled";
    for (const auto v : all) EXPECT_EQ(a->free(v), 0);
}

TEST(percpu_allocator, a_stop_token_ends_an_allocation_unless_it_must_not_fail) {
    const auto a = fresh();
    std::stop_source source;
    source.request_stop();
    const auto v = a->alloc(64, 8, alloc_flags::nowarn, source.get_token());
    ASSERT_FALSE(v);
    EXPECT_EQ(v.error().code, EINTR);
    EXPECT_TRUE(a->alloc(64, 8, alloc_flags::nofail, source.get_token()));
}

TEST(percpu_allocator, charges_the_current_group_for_every_possible_cpu) {
    const auto a = fresh();
    account::local_table table(4);
    const auto group = table->create(table->root(), "web", 100'000).value();
    const account::scope charging(group);
    EXPECT_TRUE(a->alloc(64));
    EXPECT_EQ(group.stats()->usage, 0u) << "without the flag nothing is charged";
    const auto v = a->alloc(64, 8, alloc_flags::account).value();
    const std::uint64_t one = group.stats()->usage;
    EXPECT_GE(one, 64 * possible_cpus());
    EXPECT_LE(one, 64 * possible_cpus() + 32);
    std::vector<std::uintptr_t> more;
    for (;;) {
        const auto m = a->alloc(1024, 8, alloc_flags::account | alloc_flags::nowarn);
        if (!m) {
            EXPECT_EQ(m.error().code, ENOMEM);
            break;
        }
        more.push_back(*m);
    }
    EXPECT_GT(more.size(), 0u);
    const std::uint64_t full = group.stats()->usage;
    EXPECT_FALSE(a->alloc(1024, 8, alloc_flags::account | alloc_flags::nowarn));
    EXPECT_EQ(group.stats()->usage, full) << "a refusal leaves no charge";
    std::stop_source source;
    source.request_stop();
    EXPECT_FALSE(a->alloc(4, 4, alloc_flags::account | alloc_flags::nowarn, source.get_token()));
    EXPECT_EQ(group.stats()->usage, full);
    {
        const account::scope nobody{account::group()};
        for (const auto m : more) EXPECT_EQ(a->free(m), 0);  // goes back to who paid, whoever frees
        EXPECT_EQ(a->free(v), 0);
    }
    EXPECT_EQ(group.stats()->usage, 0u);
}

TEST(percpu_allocator, gives_pages_back_and_keeps_what_lives) {
    const auto a = fresh();
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 20'000; ++i) {
        all.push_back(a->alloc(256).value());
        dirty(*a, all.back(), 256, static_cast<unsigned char>(i % 251 + 1));
    }
    const auto full = a->stats();
    int gone = 0;
    EXPECT_GE(full.resident_bytes, 20'000u * 256u * possible_cpus());
    for (int i = 0; i < 20'000; ++i) {
        if (i / 160 % 10 == 0) continue;
        EXPECT_EQ(a->free(all[static_cast<std::size_t>(i)]), 0);
        ++gone;
    }
    a->trim();
    const auto less = a->stats();
    EXPECT_LT(less.resident_bytes, full.resident_bytes / 4);
    EXPECT_EQ(less.nr_cur_alloc, 20'000 - gone);
    for (int i = 0; i < 20'000; ++i) {
        if (i / 160 % 10 != 0) continue;
        for_each_copy(*a, all[static_cast<std::size_t>(i)], [&](const unsigned char* p) { EXPECT_EQ(p[0], i % 251 + 1); });
        EXPECT_EQ(a->free(all[static_cast<std::size_t>(i)]), 0);
    }
    a->trim();
    const auto none = a->stats();
    EXPECT_EQ(none.nr_cur_alloc, 0);
    EXPECT_LE(none.nr_chunks, 2 + static_cast<int>(none.shards)) << none.text();
    for (int i = 0; i < 3'000; ++i) EXPECT_TRUE(is_zero(*a, a->alloc(256).value(), 256));
}

TEST(percpu_allocator, populate_now_backs_every_possible_cpu) {
    const auto a = fresh({.magazines = false});
    const auto before = a->stats().resident_bytes;
    const auto v = a->alloc(8192, 8, alloc_flags::populate_now).value();
    EXPECT_GE(a->stats().resident_bytes, before + 8192 * possible_cpus());
    EXPECT_EQ(a->free(v), 0);
    a->trim();
}

TEST(percpu_allocator, threads_that_share_objects_find_them_zero_and_whole) {
    const auto a = fresh();
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::vector<std::jthread> all;
    std::array<std::atomic<std::uintptr_t>, 64> passed{};
    std::atomic<int> faults{0};
    for (unsigned t = 0; t < 8; ++t) {
        all.emplace_back([&, t] {
            std::mt19937 random(seed + t);
            for (int i = 0; i < 30'000; ++i) {
                const std::size_t size = random() % 8 == 0 ? random() % 5000 + 1 : random() % 200 + 1;
                const auto v = a->alloc(size, std::size_t{1} << random() % 7);
                if (!v || !is_zero(*a, *v, size)) ++faults;
                dirty(*a, *v, size);
                const std::uintptr_t old = passed[random() % passed.size()].exchange(*v);
                if (old && a->free(old) != 0) ++faults;
                if (i % 1000 == 0) a->balance();
                if (i % 10'000 == 0) a->trim();
            }
        });
    }
    all.clear();
    for (auto& p : passed) {
        EXPECT_EQ(a->free(p), 0);
    }
    EXPECT_EQ(faults, 0);
    EXPECT_EQ(a->stats().nr_cur_alloc, 0);
}

}  // namespace
}  // namespace cohort::percpu
