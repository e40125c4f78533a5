// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/thread.hpp>

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cohort/sys/futex.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::sys {

namespace {

void wait_on(std::atomic<std::uint32_t>& word, int operation, std::uint32_t expected, std::int64_t timeout_ns) noexcept {
    timespec limit{};
    if (timeout_ns >= 0) limit = {timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    ::syscall(SYS_futex, &word, operation, expected, timeout_ns >= 0 ? &limit : nullptr, nullptr, 0);
}

}  // namespace

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept { wait_on(word, FUTEX_WAIT_PRIVATE, expected, timeout_ns); }
void futex_wait_shared(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept { wait_on(word, FUTEX_WAIT, expected, timeout_ns); }

void futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}
void futex_wake_shared(std::atomic<std::uint32_t>& word, int count) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

std::uint64_t thread_cpu_ns() noexcept {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

std::uint64_t thread_sleeps() noexcept {
    rusage used{};
    ::getrusage(RUSAGE_THREAD, &used);
    return static_cast<std::uint64_t>(used.ru_nvcsw);
}

int thread_id() noexcept { return static_cast<int>(::gettid()); }

result<void> pin_thread(const cpumask& cpus) {
    unsigned long words[max_cpus / (8 * sizeof(unsigned long))] = {};
    for (int cpu : cpus) words[cpu / (8 * sizeof(long))] |= 1UL << (cpu % (8 * sizeof(long)));
    if (::syscall(SYS_sched_setaffinity, 0, sizeof words, words) == 0) return {};
    return fail(errno, "thread", "sched_setaffinity \"" + cpus.list() + "\"", errno_text(errno));
}

result<cpumask> thread_affinity() {
    unsigned long words[max_cpus / (8 * sizeof(unsigned long))] = {};
    long bytes = ::syscall(SYS_sched_getaffinity, 0, sizeof words, words);
    if (bytes < 0) return fail(errno, "thread", "sched_getaffinity", errno_text(errno));
    cpumask out;
    for (int cpu = 0; cpu < bytes * 8; ++cpu) {
        if (words[cpu / (8 * sizeof(long))] >> (cpu % (8 * sizeof(long))) & 1) out.set(cpu);
    }
    return out;
}

std::thread start_quiet_thread(std::function<void()> body) {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread t(std::move(body));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return t;
}
void name_thread(const char* name) noexcept {
    char cut[16] = {};
    for (int i = 0; i < 15 && name[i]; ++i) cut[i] = name[i];
    ::pthread_setname_np(::pthread_self(), cut);
}

namespace {
std::uint64_t monotonic_ns() {
    timespec t;
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

double measure_ns_per_tick() {
    std::uint64_t n0 = monotonic_ns(), t0 = ticks(), n1 = n0;
    while (n1 - n0 < 500'000) n1 = monotonic_ns();
    std::uint64_t t1 = ticks();
    return t1 == t0 ? 1.0 : static_cast<double>(n1 - n0) / static_cast<double>(t1 - t0);
}
}  // namespace

double ns_per_tick() noexcept {
    static const double value = measure_ns_per_tick();
    return value;
}

}  // namespace cohort::sys
