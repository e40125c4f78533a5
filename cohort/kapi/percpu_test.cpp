// SPDX-License-Identifier: Apache-2.0
// Calling sequences as they stand in kernel code, over our per-CPU memory.
#include <cohort/kapi/percpu-rwsem.h>
#include <cohort/kapi/percpu.h>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/account/table.hpp>
#include <cohort/percpu/stats.hpp>

namespace {

using s64 = std::int64_t;
using u64 = std::uint64_t;
using u32 = std::uint32_t;

struct dev_stats {
    u64 packets;
    u64 bytes;
    u32 drops;
    u32 ring[4];
};

struct device {
    struct dev_stats __percpu* stats;
    int id;
};

int device_open(struct device* dev) {
    dev->stats = alloc_percpu(struct dev_stats);
    if (!dev->stats) return -ENOMEM;
    return 0;
}

void device_receive(struct device* dev, unsigned length) {
    this_cpu_inc(dev->stats->packets);
    this_cpu_add(dev->stats->bytes, length);
    if (length % 7 == 0) this_cpu_inc(dev->stats->drops);
    this_cpu_inc(dev->stats->ring[length % 4]);
}

struct dev_stats device_totals(const struct device* dev) {
    struct dev_stats total = {};
    int cpu;
    for_each_possible_cpu(cpu) {
        const struct dev_stats* s = per_cpu_ptr(dev->stats, cpu);
        total.packets += s->packets;
        total.bytes += s->bytes;
        total.drops += s->drops;
        for (int i = 0; i < 4; i++) total.ring[i] += s->ring[i];
    }
    return total;
}

void on_threads(int n, auto f) {
    std::vector<std::thread> threads;
    for (int i = 0; i < n; i++) threads.emplace_back([=] { f(i); });
    for (auto& t : threads) t.join();
}

TEST(kapi_percpu, statistics_of_devices_are_exact_over_threads_and_cpus) {
    std::vector<struct device> devices(3);
    for (auto& d : devices) ASSERT_EQ(device_open(&d), 0);
    on_threads(8, [&](int) {
        for (unsigned i = 0; i < 30000; i++) device_receive(&devices[i % 3], i);
    });
    u64 packets = 0, bytes = 0, drops = 0, ring = 0;
    for (auto& d : devices) {
        const struct dev_stats t = device_totals(&d);
        EXPECT_EQ(t.packets, 80000u);
        packets += t.packets, bytes += t.bytes, drops += t.drops;
        for (u32 r : t.ring) ring += r;
        free_percpu(d.stats);
    }
    EXPECT_EQ(packets, 240000u);
    EXPECT_EQ(bytes, 8ull * 30000 * 29999 / 2);
    EXPECT_EQ(drops, 8u * 4286);
    EXPECT_EQ(ring, 240000u);
}

TEST(kapi_percpu, objects_are_zero_on_every_cpu_also_after_use) {
    for (int round = 0; round < 3; round++) {
        u64 __percpu* p = alloc_percpu(u64);
        ASSERT_TRUE(p);
        int cpu;
        for_each_possible_cpu(cpu) {
            EXPECT_EQ(*per_cpu_ptr(p, cpu), 0u) << "CPU " << cpu;
            *per_cpu_ptr(p, cpu) = ~0ull;
        }
        free_percpu(p);
    }
}

/// What its type does not tell, the address does: a small type in page aligned memory.
TEST(kapi_percpu, over_aligned_memory_is_counted_and_found_by_a_type_of_small_alignment) {
    struct page_stats {
        u64 faults, bytes;
    };
    auto* p = static_cast<page_stats __percpu*>(__alloc_percpu(sizeof(page_stats), 4096));
    ASSERT_TRUE(p);
    u64 __percpu* small = alloc_percpu(u64);
    ASSERT_TRUE(small);
    unsigned cpu;
    for_each_possible_cpu(cpu) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(per_cpu_ptr(p, cpu)) % 4096, 0u) << "CPU " << cpu;
    on_threads(4, [&](int) {
        for (int i = 0; i < 10000; i++) {
            this_cpu_add(p->bytes, 3u);
            this_cpu_inc(p->faults);
            this_cpu_inc(*small);
        }
    });
    u64 faults = 0, bytes = 0, others = 0;
    for_each_possible_cpu(cpu) faults += per_cpu_ptr(p, cpu)->faults, bytes += per_cpu_ptr(&p->bytes, cpu)[0], others += *per_cpu_ptr(small, cpu);
    EXPECT_EQ(faults, 40000u);
    EXPECT_EQ(bytes, 120000u);
    EXPECT_EQ(others, 40000u);
    free_percpu(p);
    free_percpu(small);

    struct alignas(256) wide {
        u64 count;
    };
    wide __percpu* w = alloc_percpu(wide);
    ASSERT_TRUE(w);
    this_cpu_add(w->count, 5u);
    u64 sum = 0;
    for_each_possible_cpu(cpu) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(per_cpu_ptr(w, cpu)) % 256, 0u);
        sum += per_cpu_ptr(w, cpu)->count;
    }
    EXPECT_EQ(sum, 5u);
    free_percpu(w);
    // What is there serves, also those who ask for no new chunk, or not to fail.
    for (gfp_t gfp : {GFP_KERNEL | __GFP_NORETRY, GFP_KERNEL | __GFP_NOFAIL, GFP_KERNEL | __GFP_ZERO}) {
        small = alloc_percpu_gfp(u64, gfp);
        EXPECT_TRUE(small);
        free_percpu(small);
    }
}

template <class T>
T total(T __percpu* p) {
    T sum = 0;
    int cpu;
    for_each_possible_cpu(cpu) sum = static_cast<T>(sum + *per_cpu_ptr(p, cpu));
    return sum;
}

#define OPERATIONS(family)                                                        \
    [](auto type) {                                                               \
        using T = decltype(type);                                                 \
        T __percpu* p = alloc_percpu(T);                                          \
        ASSERT_TRUE(p);                                                           \
        /* One CPU's copy has all: what is said of one holds on any. */           \
        int cpu;                                                                  \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##read(*p), T(12));                                       \
        const T all = T(12 * num_possible_cpus());                                \
        family##add(*p, 5);                                                       \
        EXPECT_EQ(total(p), T(all + 5));                                          \
        family##sub(*p, 3);                                                       \
        family##inc(*p);                                                          \
        family##dec(*p);                                                          \
        EXPECT_EQ(total(p), T(all + 2));                                          \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##add_return(*p, 2), T(14));                              \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##sub_return(*p, 2), T(10));                              \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##inc_return(*p), T(13));                                 \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##dec_return(*p), T(11));                                 \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        family##and(*p, 6);                                                       \
        EXPECT_EQ(total(p), T(all - 12 + 4));                                     \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        family##or(*p, 3);                                                        \
        EXPECT_EQ(total(p), T(all + 3));                                          \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##xchg(*p, 20), T(12));                                   \
        EXPECT_EQ(total(p), T(all + 8));                                          \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        EXPECT_EQ(family##cmpxchg(*p, 11, 9), T(12));                             \
        EXPECT_EQ(total(p), all);                                                 \
        EXPECT_EQ(family##cmpxchg(*p, 12, 9), T(12));                             \
        EXPECT_EQ(total(p), T(all - 3));                                          \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        T old = 11;                                                               \
        EXPECT_FALSE(family##try_cmpxchg(*p, &old, 40));                          \
        EXPECT_EQ(old, T(12));                                                    \
        EXPECT_TRUE(family##try_cmpxchg(*p, &old, 40));                           \
        EXPECT_EQ(total(p), T(all + 28));                                         \
        for_each_possible_cpu(cpu)* per_cpu_ptr(p, cpu) = T(12);                  \
        family##write(*p, 50);                                                    \
        EXPECT_EQ(total(p), T(all + 38));                                         \
        free_percpu(p);                                                           \
    }

TEST(kapi_percpu, this_cpu_operations_do_what_their_names_say_in_all_sizes) {
    OPERATIONS(this_cpu_)(u64{});
    OPERATIONS(this_cpu_)(s64{});
    OPERATIONS(this_cpu_)(u32{});
    OPERATIONS(this_cpu_)(int{});
    OPERATIONS(this_cpu_)(std::uint16_t{});
    OPERATIONS(this_cpu_)(std::uint8_t{});
}
TEST(kapi_percpu, the_families_for_callers_without_preemption_are_the_same) {
    OPERATIONS(__this_cpu_)(u64{});
    OPERATIONS(__this_cpu_)(u32{});
    OPERATIONS(raw_cpu_)(u64{});
    OPERATIONS(raw_cpu_)(u32{});
}

TEST(kapi_percpu, this_cpu_ptr_is_the_copy_of_some_cpu) {
    u64 __percpu* p = alloc_percpu(u64);
    ASSERT_TRUE(p);
    ++*get_cpu_ptr(p);
    put_cpu_ptr(p);
    ++*this_cpu_ptr(p);
    ++*raw_cpu_ptr(p);
    EXPECT_EQ(total(p), 3u);
    this_cpu_write(*p, 0u);
    free_percpu(p);
    int* pointer = nullptr;
    int** __percpu* pointers = alloc_percpu(int**);
    ASSERT_TRUE(pointers);
    int cpu;
    for_each_possible_cpu(cpu) *per_cpu_ptr(pointers, cpu) = &pointer;
    EXPECT_EQ(this_cpu_read(*pointers), &pointer) << "pointers are values, too";
    free_percpu(pointers);
}

TEST(kapi_percpu, wrong_sizes_and_alignments_return_null) {
    const auto failures = cohort::percpu::default_allocator().stats().failures;
    EXPECT_EQ(__alloc_percpu_gfp(0, 8, GFP_KERNEL | __GFP_NOWARN), nullptr);
    EXPECT_EQ(__alloc_percpu_gfp((32 << 10) + 1, 8, GFP_KERNEL | __GFP_NOWARN), nullptr);
    EXPECT_EQ(__alloc_percpu_gfp(8, 24, GFP_KERNEL | __GFP_NOWARN), nullptr);
    EXPECT_EQ(__alloc_percpu_gfp(8, 8192, GFP_KERNEL | __GFP_NOWARN), nullptr);
    EXPECT_EQ(__alloc_percpu_gfp(8, 0, GFP_NOWAIT), nullptr);
    EXPECT_TRUE(gfpflags_allow_blocking(GFP_KERNEL_ACCOUNT) && !gfpflags_allow_blocking(GFP_ATOMIC) && !gfpflags_allow_blocking(GFP_NOWAIT));
    EXPECT_EQ(cohort::percpu::default_allocator().stats().failures, failures + 5);
    void __percpu* biggest = __alloc_percpu(32 << 10, 4096);
    EXPECT_NE(biggest, nullptr);
    free_percpu(biggest);
    free_percpu(nullptr);
}

TEST(kapi_percpu_death, a_refusal_is_told_unless_nowarn) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(std::exit(__alloc_percpu(0, 8) != nullptr), testing::ExitedWithCode(0), "illegal size or align");
    EXPECT_EXIT(std::exit(__alloc_percpu_gfp(0, 8, GFP_KERNEL | __GFP_NOWARN) != nullptr), testing::ExitedWithCode(0), "^$");
}

TEST(kapi_percpu, atomic_allocation_serves_from_what_is_populated) {
    u64 __percpu* first = alloc_percpu(u64);  // populates a page
    ASSERT_TRUE(first);
    u64 __percpu* p = alloc_percpu_gfp(u64, GFP_ATOMIC);
    ASSERT_TRUE(p);
    this_cpu_inc(*p);
    EXPECT_EQ(total(p), 1u);
    free_percpu(p);
    // Page-sized ones, until what is populated has been used up.
    std::vector<void __percpu*> taken;
    while (void __percpu* page = __alloc_percpu_gfp(32 << 10, 64, GFP_NOWAIT)) {
        taken.push_back(page);
        ASSERT_LT(taken.size(), 10000u) << "atomic allocation makes chunks";
    }
    for (void __percpu* page : taken) free_percpu(page);
    free_percpu(first);
}

TEST(kapi_percpu, reserved_allocation_ends_with_the_reserved_part) {
    std::vector<void __percpu*> taken;
    while (void __percpu* p = __alloc_reserved_percpu(1024, 64)) {
        taken.push_back(p);
        ASSERT_LE(taken.size(), 8u) << "8 KiB are reserved";
    }
    EXPECT_GE(taken.size(), 6u);
    for (void __percpu* p : taken) free_percpu(p);
}

TEST(kapi_percpu, accounted_allocation_is_charged_for_all_cpus_and_refused_at_the_limit) {
    cohort::account::local_table table(4);
    auto group = table->create(table->root(), "kapi", 100 * num_possible_cpus() * 256).value();
    const cohort::account::scope current(group);
    void __percpu* p = __alloc_percpu_gfp(256, 8, GFP_KERNEL_ACCOUNT);
    ASSERT_TRUE(p);
    EXPECT_GE(group.stats()->usage, 256u * num_possible_cpus());
    free_percpu(p);
    EXPECT_EQ(group.stats()->usage, 0u);
    EXPECT_EQ(__alloc_percpu_gfp(32 << 10, 8, GFP_KERNEL_ACCOUNT | __GFP_NOWARN), nullptr);
    EXPECT_EQ(group.stats()->usage, 0u);
}

TEST(kapi_percpu, nr_pages_grows_with_what_is_touched) {
    const unsigned long before = pcpu_nr_pages();
    void __percpu* p[16];
    int cpu;
    for (auto& one : p) {
        one = __alloc_percpu(32 << 10, 8);
        ASSERT_TRUE(one);
        for_each_possible_cpu(cpu) {
            for (int i = 0; i < 32 << 10; i += 4096) static_cast<char*>(per_cpu_ptr(one, cpu))[i] = 1;
        }
    }
    EXPECT_GE(pcpu_nr_pages(), 16 * 8 * num_possible_cpus());
    EXPECT_GT(pcpu_nr_pages(), before);
    for (auto& one : p) free_percpu(one);
}

TEST(kapi_percpu_death, pointers_that_are_none_end_the_program) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(free_percpu(reinterpret_cast<void*>(0x1000)), "free_percpu");
    EXPECT_DEATH(
        {
            u64 __percpu* p = alloc_percpu(u64);
            free_percpu(p);
            free_percpu(p);
        },
        "free_percpu");
    EXPECT_DEATH(
        {
            u64 __percpu* p = alloc_percpu(u64);
            (void)per_cpu_ptr(p, num_possible_cpus());
        },
        "no such CPU");
}

// --- static variables --------------------------------------------------------------------------------------------------------------------------

struct vm_state {
    unsigned long event[3];
    int limit;
};

}  // namespace
DECLARE_PER_CPU(long, kapi_declared);
DEFINE_PER_CPU(long, kapi_declared);
namespace {

DEFINE_PER_CPU(struct vm_state, vm_states) = {.event = {1, 2, 3}, .limit = 9};
static DEFINE_PER_CPU(int, budget) = 64;
static DEFINE_PER_CPU(int, spent);
static DEFINE_PER_CPU(int*, pointers) = nullptr;
struct alignas(4096) page_of_words {
    unsigned long words[512];
};
static DEFINE_PER_CPU(page_of_words, page_variable) = {.words = {7}};
COHORT_DECLARE_PER_CPU(long, our_declared);
COHORT_DEFINE_PER_CPU(long, our_declared, 3);

TEST(kapi_percpu, static_variables_are_used_by_name_and_begin_with_their_value) {
    int cpu, sum = 0;
    static bool again = false;
    if (std::exchange(again, true)) GTEST_SKIP() << "they have their first values once in a program";
    for_each_possible_cpu(cpu) {
        EXPECT_EQ(per_cpu(budget, cpu), 64) << "CPU " << cpu;
        EXPECT_EQ(per_cpu(spent, cpu), 0);
        EXPECT_EQ(per_cpu(vm_states, cpu).event[1], 2u);
        EXPECT_EQ(per_cpu_ptr(&vm_states, cpu)->limit, 9);
    }
    on_threads(4, [](int) {
        for (int i = 0; i < 1000; i++) {
            this_cpu_inc(spent);
            this_cpu_dec(budget);
            this_cpu_add(vm_states.event[2], 2u);
            this_cpu_inc(kapi_declared);
        }
    });
    unsigned long events = 0;
    for_each_possible_cpu(cpu) sum += per_cpu(spent, cpu) + per_cpu(budget, cpu), events += per_cpu(vm_states, cpu).event[2];
    EXPECT_EQ(sum, 64 * static_cast<int>(num_possible_cpus()));
    EXPECT_EQ(events, 3 * num_possible_cpus() + 8000);
    EXPECT_EQ(total(&spent), 4000);
    EXPECT_EQ(total(&kapi_declared), 4000);
    get_cpu_var(pointers) = nullptr;
    put_cpu_var(pointers);
    EXPECT_EQ(this_cpu_read(pointers), nullptr);
    for_each_possible_cpu(cpu) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(per_cpu_ptr(&page_variable, cpu)) % 4096, 0u) << "alignment is the type's";
        EXPECT_EQ(per_cpu(page_variable, cpu).words[0], 7u);
    }
    this_cpu_inc(page_variable.words[0]);
    EXPECT_EQ(total(&page_variable.words[0]), 7 * num_possible_cpus() + 1);
    EXPECT_EQ(cohort::percpu::sum(our_declared), 3 * static_cast<long>(num_possible_cpus()));
    EXPECT_NE(static_cast<void*>(&budget), static_cast<void*>(&spent));
}

// --- percpu-rwsem.h ------------------------------------------------------------------------------------------------------------------------------

DEFINE_STATIC_PERCPU_RWSEM(static_sem);
DEFINE_PERCPU_RWSEM(public_sem);

TEST(kapi_percpu_rwsem, writers_exclude_readers_and_one_another) {
    struct percpu_rw_semaphore sem;
    ASSERT_EQ(percpu_init_rwsem(&sem), 0);
    int a = 0, b = 0;
    std::atomic<int> torn{0};
    on_threads(6, [&](int me) {
        for (int i = 0; i < 3000; i++) {
            if (me < 2 && i % 10 == 0) {
                percpu_down_write(&sem);
                a++, b++;
                percpu_up_write(&sem);
            } else {
                percpu_down_read(&sem);
                if (a != b) torn++;
                percpu_up_read(&sem);
            }
        }
    });
    EXPECT_EQ(torn, 0);
    EXPECT_EQ(a, 600);
    percpu_free_rwsem(&sem);
}

TEST(kapi_percpu_rwsem, trylock_and_the_questions_tell_who_holds_it) {
    for (struct percpu_rw_semaphore* sem : {&static_sem, &public_sem}) {
        EXPECT_FALSE(percpu_rwsem_is_held(sem));
        ASSERT_TRUE(percpu_down_read_trylock(sem));
        EXPECT_TRUE(percpu_is_read_locked(sem));
        EXPECT_FALSE(percpu_is_write_locked(sem));
        percpu_rwsem_assert_held(sem);
        percpu_up_read(sem);
        percpu_down_write(sem);
        EXPECT_TRUE(percpu_is_write_locked(sem));
        EXPECT_TRUE(percpu_rwsem_is_held(sem));
        EXPECT_FALSE(percpu_down_read_trylock(sem));
        percpu_up_write(sem);
        EXPECT_FALSE(percpu_is_read_locked(sem));
        EXPECT_FALSE(percpu_is_write_locked(sem));
    }
}

TEST(kapi_percpu_rwsem, one_that_was_only_zeroed_may_be_freed) {
    auto* sem = static_cast<struct percpu_rw_semaphore*>(std::calloc(1, sizeof(struct percpu_rw_semaphore)));
    percpu_free_rwsem(sem);
    ASSERT_EQ(percpu_init_rwsem(sem), 0);
    percpu_down_read(sem);
    percpu_up_read(sem);
    percpu_free_rwsem(sem);
    percpu_free_rwsem(sem);
    std::free(sem);
}

}  // namespace
