// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/detail/real_os.hpp>

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include <cohort/sys/fd.hpp>

namespace cohort::sys::detail {
namespace {
std::string thread_name(int tid) { return tid == 0 ? std::string("this thread") : "thread " + std::to_string(tid); }
}  // namespace

cpu_place real_os::getcpu() {
    unsigned cpu = 0, node = 0;
    if (::getcpu(&cpu, &node) < 0) return {};
    return {static_cast<int>(cpu), static_cast<int>(node)};
}

result<cpumask> real_os::sched_getaffinity(int tid) {
    // The raw call: it takes any size and answers the kernel's own, so that 8,192 CPUs need no cpu_set_t of a guessed size.
    std::uint64_t words[affinity_words]{};
    const long bytes = ::syscall(SYS_sched_getaffinity, tid, sizeof words, words);
    if (bytes < 0) return fail_errno(thread_name(tid), "sched_getaffinity");
    cpumask out;
    for (int cpu = 0; cpu < max_cpus; ++cpu) {
        if (words[cpu / 64] >> (cpu % 64) & 1) out.set(cpu);
    }
    return out;
}

result<void> real_os::sched_setaffinity(int tid, const cpumask& mask) {
    std::uint64_t words[affinity_words];
    to_words(mask, words);
    if (::syscall(SYS_sched_setaffinity, tid, sizeof words, words) < 0) {
        return fail_errno(thread_name(tid), "sched_setaffinity \"" + mask.list() + "\"");
    }
    return {};
}

result<mempolicy> real_os::get_mempolicy() {
    mempolicy out;
    std::uint64_t words[node_words]{};
    if (::syscall(SYS_get_mempolicy, &out.mode, words, node_bits, nullptr, 0UL) < 0) return fail_errno("this thread", "get_mempolicy");
    for (int n = 0; n < max_nodes; ++n) {
        if (words[n / 64] >> (n % 64) & 1) out.nodes.set(n);
    }
    return out;
}

result<void> real_os::set_mempolicy(const mempolicy& policy) {
    const node_set nodes(policy.nodes);
    if (::syscall(SYS_set_mempolicy, policy.mode, nodes.words, node_bits) < 0) return fail_errno("this thread", "set_mempolicy \"" + policy.nodes.list() + "\"");
    return {};
}

result<void> real_os::mbind(void* address, std::size_t bytes, const mempolicy& policy, bool move) {
    const node_set nodes(policy.nodes);
    if (::syscall(SYS_mbind, address, bytes, policy.mode, nodes.words, node_bits, move ? MPOL_MF_MOVE | MPOL_MF_STRICT : 0U) < 0) {
        return fail_errno(std::to_string(bytes) + " bytes of memory", "mbind \"" + policy.nodes.list() + "\"");
    }
    return {};
}

result<std::size_t> real_os::migrate_pages(int pid, const nodemask& from, const nodemask& to) {
    const node_set old(from), wanted(to);
    const long left = ::syscall(SYS_migrate_pages, pid, node_bits, old.words, wanted.words);
    if (left < 0) return fail_errno("process " + std::to_string(pid), "migrate_pages \"" + from.list() + "\" to \"" + to.list() + "\"");
    return static_cast<std::size_t>(left);
}

std::uint64_t real_os::now() {
    timespec t;
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

void real_os::sleep_until(std::uint64_t deadline) {
    const timespec until{static_cast<time_t>(deadline / 1'000'000'000), static_cast<long>(deadline % 1'000'000'000)};
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
}

int real_os::getpid() { return ::getpid(); }
int real_os::gettid() { return ::gettid(); }

std::optional<std::string> real_os::getenv(const std::string& name) {
    if (const char* value = ::getenv(name.c_str())) return value;
    return std::nullopt;
}

}  // namespace cohort::sys::detail
