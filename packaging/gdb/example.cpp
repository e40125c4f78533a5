// SPDX-License-Identifier: Apache-2.0
// What packaging/gdb/test.sh looks at with gdb. Prints what gdb should find.
#include <cstdint>
#include <cstdio>

#include <cohort/padata/detail/shell_core.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/percpu/variable.hpp>

using namespace cohort;

struct pair_of_counts {
    std::uint64_t packets, bytes;
};
COHORT_DEFINE_PER_CPU(long, everywhere);

/// gdb stops here.
[[gnu::noinline]] void stop_here(const percpu::ptr<std::uint64_t>& hits, const percpu::ptr<pair_of_counts>& both, const percpu::ptr<std::uint64_t>& empty, const padata::detail::shell_core& core) {
    asm volatile("" : : "r"(&hits), "r"(&both), "r"(&empty), "r"(&core) : "memory");
}

int main() {
    auto hits = percpu::make<std::uint64_t>().value();
    auto both = percpu::make<pair_of_counts>().value();
    percpu::ptr<std::uint64_t> empty;
    for (int i = 0; i < 7; ++i) percpu::this_cpu::add(hits.get(), 6);
    percpu::this_cpu::add(both->member(&pair_of_counts::bytes), std::uint64_t{1500});
    percpu::this_cpu::add(everywhere, 5L);
    for (unsigned cpu = 0; cpu < percpu::possible_cpus(); ++cpu) std::printf("copy %u %p\n", cpu, static_cast<void*>(percpu::per_cpu(hits.get(), cpu)));
    std::printf("sum %llu\n", static_cast<unsigned long long>(percpu::sum(hits.get())));
    std::fflush(stdout);

    // No threads: what is submitted stays in flight until it is polled.
    auto inst = padata::instance::create({.own_threads = false}).value();
    auto stream = padata::shell::create(*inst, {.inline_jobs = false}).value();
    static_assert(sizeof stream == sizeof(void*), "a shell is the pointer to its core");
    for (int i = 0; i < 3; ++i) (void)stream.submit([] {}, [] {});
    stop_here(hits, both, empty, **reinterpret_cast<padata::detail::shell_core**>(&stream));
    while (inst->poll()) {
    }
    (void)stream.drain();
}
