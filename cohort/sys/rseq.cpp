// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/rseq.hpp>

#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace cohort::sys {

namespace {

// Not in every libc's headers.
constexpr unsigned long at_rseq_feature_size = 27;
constexpr int cmd_private_expedited_rseq = 1 << 7, cmd_register_private_expedited_rseq = 1 << 8, flag_cpu = 1 << 0;

int membarrier(int command, unsigned flags = 0, int cpu = 0) noexcept {
    return static_cast<int>(::syscall(SYS_membarrier, command, flags, cpu));
}

#if defined(RSEQ_SIG)
template <class T>
T area_field(int at) noexcept {
    return *reinterpret_cast<const volatile T*>(static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset + at);
}
#endif

}  // namespace

bool rseq_registered() noexcept {
#if defined(RSEQ_SIG)
    return __rseq_size != 0 && area_field<std::int32_t>(rseq_cpu_id_at) >= 0;
#else
    return false;
#endif
}

bool sequences_work() noexcept {
    // Signal handlers ask, too: no guard, whose holder the handler may have interrupted. Registering twice does no harm.
    static constinit std::atomic<signed char> fence{-1};
    signed char known = fence.load(std::memory_order_relaxed);
    if (known < 0) {
        known = membarrier(cmd_register_private_expedited_rseq) == 0;
        fence.store(known, std::memory_order_relaxed);
    }
    return known > 0 && rseq_registered();
}

bool rseq_has_cid() noexcept { return rseq_registered() && ::getauxval(at_rseq_feature_size) >= rseq_mm_cid_at + 4; }

int current_cid() noexcept {
#if defined(RSEQ_SIG)
    return area_field<std::int32_t>(rseq_mm_cid_at);
#else
    return 0;
#endif
}

void restart_sequences() noexcept { membarrier(cmd_private_expedited_rseq); }

void restart_sequences_on(int cpu) noexcept {
    if (membarrier(cmd_private_expedited_rseq, flag_cpu, cpu) != 0) restart_sequences();
}

static_assert(sizeof(sigset_t) <= sizeof(std::uint64_t) * 16);

signals_blocked::signals_blocked() noexcept {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::memcpy(before_, &before, sizeof before);
}

signals_blocked::~signals_blocked() {
    sigset_t before;
    std::memcpy(&before, before_, sizeof before);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace cohort::sys
