// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/variable.hpp>

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include <cohort/percpu/list.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/thread.hpp>

COHORT_DEFINE_PER_CPU(long, plain_variable);
COHORT_DEFINE_PER_CPU(int, initialized_variable, 64);
struct limits_of_test {
    int low, high;
};
static COHORT_DEFINE_PER_CPU(limits_of_test, struct_variable, limits_of_test{3, 9});
struct alignas(128) wide_of_test {
    char bytes[128];
};
COHORT_DEFINE_PER_CPU(wide_of_test, wide_variable, wide_of_test{{1, 2, 3}});

namespace cohort::percpu {
namespace {

TEST(percpu_variable, begins_with_its_value_on_every_cpu) {
    EXPECT_EQ(sum(initialized_variable), 64 * static_cast<int>(possible_cpus()));
    EXPECT_EQ(sum(plain_variable), 0);
    for_each_possible_cpu(initialized_variable, [](unsigned cpu, int& copy) { EXPECT_EQ(copy, 64) << cpu; });
    for_each_possible_cpu(struct_variable, [](unsigned cpu, limits_of_test& copy) {
        EXPECT_EQ(copy.low, 3) << cpu;
        EXPECT_EQ(copy.high, 9) << cpu;
    });
    for_each_possible_cpu(wide_variable, [](unsigned cpu, wide_of_test& copy) {
        EXPECT_EQ(copy.bytes[2], 3) << cpu;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&copy) % 128, 0u);
    });
    EXPECT_EQ(sum(initialized_variable), 64 * static_cast<int>(possible_cpus())) << "the same when all are present";
    EXPECT_TRUE(initialized_variable.bound());
}

TEST(percpu_variable, takes_the_same_operations_as_allocated_objects) {
    const long before = sum(plain_variable);
    this_cpu::inc(plain_variable);
    this_cpu::add(plain_variable, 41);
    EXPECT_EQ(sum(plain_variable), before + 42);
    this_cpu::add(plain_variable, -42);  // another test looks at how it begins
    this_cpu::add(struct_variable.member(&limits_of_test::high), 1);
    int high = 0;
    for_each_possible_cpu(struct_variable, [&](unsigned, limits_of_test& copy) { high += std::exchange(copy.high, 9); });
    EXPECT_EQ(high, 9 * static_cast<int>(possible_cpus()) + 1);
    EXPECT_GE(default_allocator().stats().static_size, sizeof(long) + sizeof(int) + sizeof(limits_of_test) + sizeof(wide_of_test));
}

TEST(percpu_variable, a_cpu_that_arrives_later_finds_the_initial_values) {
    // In a new process, where hardly a CPU is present.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            variable<int> late(7);
            unsigned wrong = 0;
            for_each_possible_cpu(late, [&](unsigned, int& copy) { wrong += copy != 7; });
            const int all = sum(late);
            std::_Exit(wrong == 0 && all == 7 * static_cast<int>(possible_cpus()) ? 0 : 1);
        },
        ::testing::ExitedWithCode(0), "");
}

struct library {
    explicit library(const char* name) : handle(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {}
    ~library() {
        if (handle) ::dlclose(handle);
    }
    template <class F>
    F* function(const char* name) const { return reinterpret_cast<F*>(::dlsym(handle, name)); }
    void* handle;
};

const char* const plugin_path = COHORT_TEST_variable_plugin;

#if COHORT_HAS_SEQUENCES
TEST(percpu_variable, no_thread_names_a_sequence_of_a_library_that_may_be_unloaded) {
    if (!sys::sequences_work()) GTEST_SKIP() << "no restartable sequences here";
    const library plugin(plugin_path);
    ASSERT_NE(plugin.handle, nullptr) << ::dlerror();
    EXPECT_EQ(plugin.function<unsigned long(int)>("plugin_named")(0), 0u);
    EXPECT_EQ(plugin.function<unsigned long(int)>("plugin_named")(1), 0u);
}
#endif

TEST(percpu_variable, of_a_library_comes_from_the_reserved_part_and_goes_back) {
    const auto reserved = [] {
        for (const chunk_stats& c : default_allocator().stats().chunks) {
            if (c.label == "<- Reserved Chunk") return c.nr_alloc;
        }
        return 0;
    };
    ASSERT_EQ(reserved(), 0);
    for (int round = 0; round < 3; ++round) {
        const library plugin(plugin_path);
        ASSERT_NE(plugin.handle, nullptr) << ::dlerror();
        EXPECT_EQ(reserved(), 2);
        EXPECT_EQ(plugin.function<long()>("plugin_sum")(), 5L * possible_cpus()) << "fresh in each round";
        plugin.function<void(long)>("plugin_add")(100);
        EXPECT_EQ(plugin.function<long()>("plugin_sum")(), 5L * possible_cpus() + 100);
    }
    EXPECT_EQ(reserved(), 0);
}

TEST(percpu_variable, of_a_library_fails_when_the_reserved_part_is_full) {
    std::vector<std::uintptr_t> all;
    while (auto v = default_allocator().alloc_reserved(1024, 8, alloc_flags::nowarn)) all.push_back(*v);
    while (auto v = default_allocator().alloc_reserved(4, 4, alloc_flags::nowarn)) all.push_back(*v);
    {
        const library plugin(plugin_path);
        ASSERT_NE(plugin.handle, nullptr) << ::dlerror();
        EXPECT_EQ(plugin.function<int()>("plugin_bound")(), ENOMEM);
    }
    for (const auto v : all) EXPECT_EQ(free(v), 0);
    const library plugin(plugin_path);
    EXPECT_EQ(plugin.function<int()>("plugin_bound")(), 0);
}

struct node {
    node* next = nullptr;
    int value = 0;
};
using nodes = list<node, &node::next>;

TEST(percpu_list, gives_back_what_was_pushed_last) {
    const cpumask before = sys::thread_affinity().value();
    ASSERT_TRUE(sys::pin_thread(cpumask{before.first()}));
    auto l = nodes::create().value();
    node a, b, c;
    EXPECT_EQ(l.pop(), nullptr);
    l.push(&a);
    l.push(&b);
    EXPECT_EQ(l.pop(), &b);
    l.push(&c);
    EXPECT_EQ(l.take_all(), &c);
    EXPECT_EQ(c.next, &a);
    EXPECT_EQ(a.next, nullptr);
    EXPECT_EQ(l.pop(), nullptr);
    l.push(&a);
    int left = 0;
    l.drain([&](node*) { ++left; });
    EXPECT_EQ(left, 1);
    ASSERT_TRUE(sys::pin_thread(before));
}

TEST(percpu_list, loses_no_node_and_gives_none_twice) {
    auto l = nodes::create().value();
    constexpr int threads = 16, each = 8;
    std::vector<node> all(threads * each);
    std::atomic<int> twice{0};
    {
        std::vector<std::jthread> workers;
        for (int t = 0; t < threads; ++t) {
            workers.emplace_back([&, t] {
                for (int i = 0; i < each; ++i) l.push(&all[static_cast<std::size_t>(t * each + i)]);
                for (int i = 0; i < 50'000; ++i) {
                    node* n = l.pop();
                    if (!n) continue;
                    if (n->value++ != 0) ++twice;  // it is ours alone
                    --n->value;
                    l.push(n);
                }
            });
        }
    }
    int left = 0;
    l.drain([&](node*) { ++left; });
    EXPECT_EQ(left, threads * each);
    EXPECT_EQ(twice, 0);
}

}  // namespace
}  // namespace cohort::percpu
