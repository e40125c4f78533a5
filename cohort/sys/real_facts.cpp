// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/detail/real_os.hpp>

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

std::optional<std::string> real_os::getenv(const std::string& name) {
    if (const char* value = ::getenv(name.c_str())) return value;
    return std::nullopt;
}

}  // namespace cohort::sys::detail
