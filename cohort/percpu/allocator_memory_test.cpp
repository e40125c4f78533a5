// SPDX-License-Identifier: Apache-2.0
// Memory that fails, is bound to nodes, or is not there: a defined error, and nothing changed.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <random>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/detail/magazine.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/percpu/testing/failing_address_space.hpp>
#include <cohort/percpu/testing/respawn.hpp>

namespace cohort::percpu {
namespace {

using testing::failing_address_space;
using testing::memory_call;
using testing::name_of;
using testing::scaled;

std::byte* copy_of(std::uintptr_t value, unsigned cpu) { return reinterpret_cast<std::byte*>(value + detail::offset_of(detail::layout_of(value), cpu)); }
bool is_zero(std::uintptr_t value, std::size_t bytes) {
    static const std::vector<std::byte> zeroes(unit_limit);
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        if (std::memcmp(copy_of(value, cpu), zeroes.data(), bytes) != 0) return false;
    }
    return true;
}

/// All kinds of calls of the allocator, each of which may meet a failure; counts what was refused.
class script {
public:
    explicit script(failing_address_space& memory) : memory_(memory) {}

    void run() {
        std::vector<int> nodes(possible_cpus());
        for (std::size_t i = 0; i < nodes.size(); ++i) nodes[i] = static_cast<int>(i % 2);
        auto made = allocator::create({.name = "script", .memory = &memory_, .node_of = nodes});
        if (!made) {
            EXPECT_EQ(made.error().code, ENOMEM);
            ++refused_;
            return;
        }
        a_ = std::move(*made);
        const account::scope paying(payer_);
        for (int round = 0; round < 2; ++round) {
            take(24, 8, alloc_flags::none);
            take(8, 8, alloc_flags::account);
            take(5000, 4096, alloc_flags::none);
            take(3000, 128, alloc_flags::account | alloc_flags::populate_now);
            take(100, 8, alloc_flags::populate_now);
            for (int i = 0; i < 12; ++i) take(32768, 8, round ? alloc_flags::none : alloc_flags::account);  // more than two chunks
            step([&] { return give(3); });
            step([&] { a_->balance(); });
            step([&] { return give(2); });
            step([&] { a_->trim(); });
        }
        step([&] { return give(1); });
        a_->trim();
        EXPECT_EQ(payer_.stats()->usage, 0u);
        EXPECT_EQ(a_->stats().nr_cur_alloc, 0);
        memory_.plan({});  // afterwards all is as if nothing had failed
        take(32768, 8, alloc_flags::account);
        take(1024, 8, alloc_flags::none);
        give(1);
        a_.reset();
    }
    int refused() const { return refused_; }

private:
    struct object {
        std::uintptr_t value;
        std::size_t bytes;
        unsigned char mark;
    };
    void check() {
        for (const object& o : live_) {
            for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
                const std::byte* at = copy_of(o.value, cpu);
                // Not every byte: what goes wrong here goes in pages and in objects.
                for (std::size_t i = 0; i < o.bytes; i += 251) ASSERT_EQ(at[i], std::byte{o.mark}) << "a live object has changed";
                ASSERT_EQ(at[o.bytes - 1], std::byte{o.mark});
            }
        }
        ASSERT_EQ(a_->stats().nr_cur_alloc, static_cast<std::int64_t>(live_.size()));
    }
    void step(auto what) {
        what();
        check();
    }
    void take(std::size_t bytes, std::size_t align, alloc_flags flags) {
        const std::uint64_t charged = payer_.stats()->usage;
        const allocator_stats before = a_->stats();
        const int failed = memory_.failures();
        const auto got = a_->alloc(bytes, align, flags | alloc_flags::nowarn);
        if (got) {
            ASSERT_TRUE(is_zero(*got, bytes));
            const auto mark = static_cast<unsigned char>(++marks_ % 255 + 1);
            for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
                detail::make_present(by::cpu, cpu);
                std::memset(copy_of(*got, cpu), mark, bytes);
            }
            live_.push_back({*got, bytes, mark});
        } else {
            ++refused_;
            EXPECT_EQ(got.error().code, ENOMEM);
            EXPECT_GT(memory_.failures(), failed) << "a refusal without a failure";
            const allocator_stats after = a_->stats();
            EXPECT_EQ(payer_.stats()->usage, charged);
            EXPECT_EQ(after.nr_cur_alloc, before.nr_cur_alloc);
            EXPECT_EQ(after.live_bytes, before.live_bytes);
            EXPECT_EQ(after.failures, before.failures + 1);
            // What populate_now brought in before it failed stays with the free space, and a chunk that was made stays with its metadata.
            const auto chunks = static_cast<std::uint64_t>(after.nr_chunks - before.nr_chunks);
            if (!has(flags, alloc_flags::populate_now)) { EXPECT_LE(after.resident_bytes, before.resident_bytes + chunks * detail::metadata_bytes); }
        }
        check();
    }
    void give(std::size_t every) {
        for (std::size_t i = 0; i < live_.size();) {
            if ((i + live_.size()) % every != 0) {
                ++i;
                continue;
            }
            EXPECT_EQ(a_->free(live_[i].value), 0);
            EXPECT_TRUE(is_zero(live_[i].value, live_[i].bytes));
            live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }

    failing_address_space& memory_;
    account::local_table table_{4};
    account::group payer_ = table_->create(table_->root(), "payer").value();
    std::unique_ptr<allocator> a_;
    std::vector<object> live_;
    int refused_ = 0;
    unsigned marks_ = 0;
};

constexpr std::array kinds{memory_call::any, memory_call::reserve, memory_call::commit, memory_call::populate, memory_call::give_back, memory_call::prefer_node};

/// The nth call of this kind fails, and `times` altogether, for every n that there is.
void run_with_each_failure(memory_call call, int times) {
    int refused = 0, nth = 1;
    // Where the tests are made shorter, not every one, and others the next time.
    const int step = std::max(1, 1000 / scaled(1000) / 10);
    if (step > 1) nth += static_cast<int>(std::random_device{}() % static_cast<unsigned>(step));
    for (bool hit = true; hit; nth += step) {
        SCOPED_TRACE(std::string(name_of(call)) + " " + std::to_string(nth));
        failing_address_space memory({.call = call, .nth = nth, .times = times});
        {
            script s(memory);
            s.run();
            refused += s.refused();
        }
        hit = memory.failures() > 0;
        ASSERT_EQ(memory.reserved_ranges(), 0u) << "addresses were lost";
        if (::testing::Test::HasFailure()) return;
    }
    if (step > 1) return;
    EXPECT_GT(nth, 2) << "no such call was made";
    // Where a page is, and that it goes, are wishes.
    const bool wish = call == memory_call::give_back || call == memory_call::prefer_node;
    EXPECT_EQ(refused > 0, !wish) << name_of(call);
}

TEST(percpu_memory, each_call_that_fails_once_leaves_all_as_it_was) {
    for (const auto call : kinds) run_with_each_failure(call, 1);
}
TEST(percpu_memory, calls_that_fail_from_some_point_on_leave_all_as_it_was) {
    for (const auto call : kinds) run_with_each_failure(call, -1);
}

std::vector<failing_address_space::binding> bindings_of_one_chunk(by index, std::vector<int> node_of, std::size_t align, std::uintptr_t& value) {
    failing_address_space memory;
    const auto a = allocator::create({.name = "nodes", .index = index, .memory = &memory, .node_of = std::move(node_of)}).value();
    value = a->alloc(8, align).value();
    EXPECT_EQ(a->free(value), 0);
    return memory.bindings();
}

TEST(percpu_memory, units_are_bound_to_the_node_of_their_cpu_in_runs) {
    if (!testing::in_program_with("COHORT_POSSIBLE_CPUS", "8")) return;
    ASSERT_EQ(possible_cpus(), 8u);
    for (const std::size_t align : {8, 256}) {
        std::uintptr_t value = 0;
        const auto b = bindings_of_one_chunk(by::cpu, {0, 0, 0, 1, 1, 0, -1, 1}, align, value);
        const struct {
            unsigned first, end;
            int node;
        } expected[] = {{0, 3, 0}, {3, 5, 1}, {5, 6, 0}, {7, 8, 1}};
        ASSERT_EQ(b.size(), std::size(expected));
        std::vector<int> node_at(8, -1);
        for (std::size_t i = 0; i < b.size(); ++i) {
            EXPECT_EQ(b[i].node, expected[i].node);
            EXPECT_EQ(b[i].at % 4096, 0u);
            for (unsigned cpu = 0; cpu < 8; ++cpu) {
                const auto copy = reinterpret_cast<std::uintptr_t>(copy_of(value, cpu));
                if (copy >= b[i].at && copy + 8 <= b[i].at + b[i].bytes) node_at[cpu] = b[i].node;
            }
        }
        EXPECT_EQ(node_at, (std::vector<int>{0, 0, 0, 1, 1, 0, -1, 1}));
        EXPECT_TRUE(bindings_of_one_chunk(by::cpu, std::vector<int>(8, 0), align, value).empty()) << "one node: nothing to choose";
        EXPECT_TRUE(bindings_of_one_chunk(by::cpu, {0, 1}, align, value).empty()) << "not told for every CPU";
        EXPECT_TRUE(bindings_of_one_chunk(by::cid, {0, 0, 0, 0, 1, 1, 1, 1}, align, value).empty()) << "a cid has no node";
    }
}

TEST(percpu_memory, a_refused_binding_is_no_error) {
    failing_address_space memory({.call = memory_call::prefer_node, .nth = 1, .times = -1, .code = EINVAL});
    std::vector<int> node_of(possible_cpus(), 0);
    node_of.back() = 1;
    if (possible_cpus() == 1) GTEST_SKIP() << "one possible CPU has one node";
    const auto a = allocator::create({.name = "nodes", .memory = &memory, .node_of = node_of}).value();
    const auto v = a->alloc(8).value();
    EXPECT_GT(memory.failures(), 0);
    EXPECT_EQ(a->free(v), 0);
}

TEST(percpu_memory, chunks_that_could_not_be_made_cost_no_address_and_nothing_committed) {
    failing_address_space memory;
    const auto a = allocator::create({.name = "failing", .memory = &memory}).value();
    const auto v = a->alloc(32768).value();
    const std::size_t ranges = memory.reserved_ranges(), committed = memory.committed_bytes();
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 6; ++i) all.push_back(a->alloc(32768).value());  // the first chunk is full
    for (int i = 0; i < 200; ++i) {
        memory.plan({.call = memory_call::commit, .nth = 1 + i % 2});  // its metadata, its units
        ASSERT_FALSE(a->alloc(32768, 8, alloc_flags::nowarn));
    }
    EXPECT_EQ(memory.failures(), 200);
    EXPECT_EQ(memory.reserved_ranges(), ranges);
    EXPECT_EQ(memory.committed_bytes(), committed);
    memory.plan({});
    EXPECT_EQ(a->free(a->alloc(32768).value()), 0);
    for (const auto o : all) EXPECT_EQ(a->free(o), 0);
    EXPECT_EQ(a->free(v), 0);
}

TEST(percpu_memory, pages_that_cannot_be_given_back_stay_populated_till_they_can) {
    failing_address_space memory;
    const auto a = allocator::create({.name = "stays", .magazines = false, .memory = &memory}).value();
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 60; ++i) all.push_back(a->alloc(8192).value());  // more than a chunk
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) detail::make_present(by::cpu, cpu);
    for (const auto v : all) {
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) std::memset(copy_of(v, cpu), 1, 8192);
    }
    memory.plan({.call = memory_call::give_back, .nth = 1, .times = -1, .code = EAGAIN});  // frees do it, too, when it is due
    for (std::size_t i = 0; i + 1 < all.size(); ++i) EXPECT_EQ(a->free(all[i]), 0);        // the last one keeps its chunk
    a->trim();
    const allocator_stats kept = a->stats();
    memory.plan({});
    EXPECT_GE(kept.populated_bytes, 60u * 8192) << kept.text();
    EXPECT_GT(memory.failures(), 0);
    a->trim();
    const allocator_stats gone = a->stats();
    EXPECT_LT(gone.populated_bytes + 100'000, kept.populated_bytes);
    EXPECT_LT(gone.resident_bytes + 100'000 * possible_cpus(), kept.resident_bytes);
    EXPECT_EQ(a->free(all.back()), 0);
}

TEST(percpu_memory, pages_of_absent_cpus_that_populate_now_brought_in_are_given_back) {
    if (!testing::in_program_with("COHORT_POSSIBLE_CPUS", "16")) return;
    const auto a = allocator::create({.name = "absent"}).value();
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 12; ++i) all.push_back(a->alloc(32768, 8, alloc_flags::populate_now).value());
    const allocator_stats full = a->stats();
    EXPECT_LT(full.present_cpus, 16u);
    EXPECT_GE(full.resident_bytes, 12u * 32768 * 16);
    // The second chunk keeps an object.
    for (std::size_t i = 0; i + 1 < all.size(); ++i) EXPECT_EQ(a->free(all[i]), 0);
    a->trim();
    EXPECT_LE(a->stats().resident_bytes + 3u * 32768 * 16, full.resident_bytes);
    EXPECT_EQ(a->free(all.back()), 0);
}

TEST(percpu_memory, allocations_are_counted_once_however_often_magazines_overflow) {
    const auto a = allocator::create({.name = "counts"}).value();
    for (int round = 1; round <= 3; ++round) {
        std::vector<std::uintptr_t> all;
        for (int i = 0; i < 2000; ++i) all.push_back(a->alloc(i % 2 ? 64 : 16).value());
        for (const auto v : all) EXPECT_EQ(a->free(v), 0);
        for (int twice = 0; twice < 2; ++twice) {
            const allocator_stats s = a->stats();
            EXPECT_EQ(s.nr_alloc, 2000 * round);
            EXPECT_EQ(s.nr_dealloc, 2000 * round);
            if (round == 2) a->trim();
        }
    }
}

TEST(percpu_memory, absent_cpus_of_a_large_machine_cost_no_memory) {
    if (!testing::in_program_with("COHORT_POSSIBLE_CPUS", "4096")) return;
    ASSERT_EQ(possible_cpus(), 4096u);
    const auto a = allocator::create({.name = "large"}).value();
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 2000; ++i) {
        all.push_back(a->alloc(64).value());
        this_cpu::inc(handle<long>(all.back()));
    }
    const allocator_stats s = a->stats();
    EXPECT_EQ(s.possible_cpus, 4096u);
    EXPECT_LE(s.present_cpus, 64u);
    // 128 KB for each CPU that ran, and metadata; 4096 copies would be 512 MiB.
    EXPECT_LE(s.resident_bytes, std::uint64_t{s.present_cpus} * (192 << 10) + (256 << 10));
    long total = 0;
    for (const auto v : all) {
        total += sum(handle<long>(v));
        EXPECT_EQ(a->free(v), 0);
    }
    EXPECT_EQ(total, 2000);
    a->trim();
    EXPECT_LE(a->stats().resident_bytes, s.resident_bytes);
    EXPECT_EQ(a->stats().present_cpus, s.present_cpus) << "freeing makes no CPU present";
    // The last possible CPU works like any other.
    const auto v = a->alloc(4096, 4096).value();
    *per_cpu(handle<long, by::cpu, detail::layout::flat>(v), 4095) = 7;
    EXPECT_EQ(sum(handle<long, by::cpu, detail::layout::flat>(v)), 7);
    EXPECT_EQ(a->free(v), 0);
    EXPECT_EQ(*reinterpret_cast<long*>(copy_of(v, 4095)), 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(percpu_memory, the_limit_of_addresses_is_an_error_and_no_change) {
    const int answer = testing::in_forked_child([] {
        const auto a = allocator::create({.name = "limited"}).value();
        std::vector<std::uintptr_t> all;
        all.reserve(100'000);
        all.push_back(a->alloc(32768).value());
        // What is mapped now, and 24 MiB.
        unsigned long pages = 0;
        if (FILE* f = std::fopen("/proc/self/statm", "r")) {
            if (std::fscanf(f, "%lu", &pages) != 1) return 2;
            std::fclose(f);
        }
        const rlimit limit{pages * 4096 + (24u << 20), pages * 4096 + (24u << 20)};
        if (::setrlimit(RLIMIT_AS, &limit) != 0) return 3;
        for (;;) {
            const auto got = a->alloc(32768, 8, alloc_flags::nowarn);
            if (!got) {
                if (got.error().code != ENOMEM) return 4;
                break;
            }
            if (!is_zero(*got, 32768)) return 5;
            all.push_back(*got);
            if (all.size() == 100'000) return 6;
        }
        if (a->stats().nr_cur_alloc != static_cast<std::int64_t>(all.size())) return 7;
        if (all.size() < 8) return 8;
        const auto failed = allocator::create({.name = "another"});  // its table needs addresses, too
        if (!failed && failed.error().code != ENOMEM) return 9;
        // What is freed can be had again; nothing was lost.
        for (int i = 0; i < 4; ++i) {
            if (a->free(all.back()) != 0) return 10;
            all.pop_back();
        }
        for (int i = 0; i < 4; ++i) {
            const auto got = a->alloc(32768, 8, alloc_flags::nowarn);
            if (!got) return 11;
            all.push_back(*got);
        }
        for (const auto v : all) {
            if (a->free(v) != 0) return 12;
        }
        return a->stats().nr_cur_alloc == 0 ? 0 : 13;
    });
    EXPECT_EQ(answer, 0);
}
#endif

TEST(percpu_memory, handles_of_a_destroyed_chunk_and_of_a_destroyed_allocator_are_refused) {
    std::uintptr_t last = 0;
    {
        const auto a = allocator::create({.name = "chunks"}).value();
        std::vector<std::uintptr_t> all;
        for (int i = 0; i < 40; ++i) all.push_back(a->alloc(32768).value());
        const int chunks = a->stats().nr_chunks;
        for (const auto v : all) EXPECT_EQ(a->free(v), 0);
        a->trim();
        EXPECT_LT(a->stats().nr_chunks, chunks) << "this test wants a chunk to go";
        for (const auto v : all) {
            EXPECT_EQ(a->free(v), EINVAL);
            EXPECT_EQ(a->size_of(v), 0u);
        }
        last = a->alloc(64).value();
        EXPECT_EQ(a->free(last), 0);
    }
    EXPECT_EQ(percpu::free(last), EINVAL);
}

TEST(percpu_memory, reserved_space_has_the_alignments_of_its_chunk_and_refuses_others) {
    const auto a = allocator::create({.name = "aligned", .reserved_bytes = 16 << 10}).value();
    for (std::size_t align = 1; align <= 4096; align *= 2) {
        const auto v = a->alloc_reserved(100, align, alloc_flags::nowarn);
        if (align > 64) {
            ASSERT_FALSE(v);
            EXPECT_EQ(v.error().code, EINVAL);
            continue;
        }
        ASSERT_TRUE(v) << v.error().line();
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(copy_of(*v, cpu)) % align, 0u) << align << " on CPU " << cpu;
        EXPECT_LT(detail::offset_in_unit(*v), 16u << 10) << "of the reserved part";
        EXPECT_EQ(a->free(*v), 0);
        EXPECT_EQ(a->free(*v), EINVAL);
    }
    EXPECT_EQ(a->stats().nr_cur_alloc, 0);
}

TEST(percpu_memory, charges_end_with_the_allocator_whose_objects_were_left) {
    account::local_table table(4);
    const auto group = table->create(table->root(), "left").value();
    {
        const account::scope paying(group);
        const auto a = allocator::create({.name = "left"}).value();
        for (const std::size_t bytes : {4u, 64u, 9000u}) EXPECT_TRUE(a->alloc(bytes, 8, alloc_flags::account));
        EXPECT_TRUE(a->alloc_reserved(16, 8, alloc_flags::account));
        EXPECT_GT(group.stats()->usage, 0u);
        ::testing::internal::CaptureStderr();
    }
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("allocator \"left\" ends with 4 objects of "), std::string::npos);
    EXPECT_EQ(group.stats()->usage, 0u);
}

}  // namespace
}  // namespace cohort::percpu
