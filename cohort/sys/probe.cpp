// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/probe.hpp>

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include <cerrno>

namespace cohort::sys {
namespace {

// Names that older headers lack; the numbers are the kernel's interface.
constexpr int pr_sched_core = 62, pr_sched_core_get = 0;
constexpr int membarrier_query = 0;
constexpr unsigned long at_rseq_feature_size = 27;
constexpr unsigned mfd_huge_2mb = 21u << 26;
constexpr std::size_t huge_page = std::size_t{2} << 20;

answer answer_of(long r) { return r < 0 ? answer{errno, 0} : answer{0, static_cast<std::uint64_t>(r)}; }

void probe_names(kernel_probe& k) {
    utsname u{};
    if (::uname(&u) == 0) {
        k.release = u.release;
        k.version = u.version;
        k.architecture = u.machine;
    }
    char text[128] = {};
    if (::confstr(_CS_GNU_LIBC_VERSION, text, sizeof text) > 0) k.c_library = text;
    k.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    k.euid = ::geteuid();
}

void probe_rseq(kernel_probe& k) {
    k.rseq.feature_size = ::getauxval(at_rseq_feature_size);
#if __has_include(<sys/rseq.h>)
    k.rseq.size = __rseq_size;
    if (__rseq_size > 0) {
        const auto* area = reinterpret_cast<const struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
        k.rseq.cpu_id = static_cast<int>(*const_cast<const volatile decltype(area->cpu_id)*>(&area->cpu_id));
        k.rseq.registered = k.rseq.cpu_id >= 0;
    }
#endif
}

void probe_memory_files(kernel_probe& k) {
    const int fd = ::memfd_create("cohort_probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    k.memfd = answer_of(fd);
    if (fd >= 0) {
        k.memfd.value = 0;
        k.memfd_seal = answer_of(::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
        ::close(fd);
    } else {
        k.memfd_seal = k.memfd;
    }
    const int huge = ::memfd_create("cohort_probe", MFD_CLOEXEC | MFD_HUGETLB | mfd_huge_2mb);
    k.memfd_huge = answer_of(huge);
    if (huge < 0) return;
    k.memfd_huge.value = 0;
    // A shared mapping reserves its pages at once: ENOMEM here, and not a SIGBUS later, when the pool has none.
    if (::ftruncate(huge, huge_page) != 0) {
        k.memfd_huge = answer_of(-1);
    } else if (void* at = ::mmap(nullptr, huge_page, PROT_READ | PROT_WRITE, MAP_SHARED, huge, 0); at == MAP_FAILED) {
        k.memfd_huge = answer_of(-1);
    } else {
        ::munmap(at, huge_page);
    }
    ::close(huge);
}

/// Whether user space reaches the page below 2^bits.
bool reaches(unsigned bits, std::size_t page) {
    void* want = reinterpret_cast<void*>((std::uintptr_t{1} << bits) - 4 * page);
    void* got = ::mmap(want, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return false;
    const bool there = got == want;
    ::munmap(got, page);
    return there;
}

void probe_addresses(kernel_probe& k) {
    for (unsigned bits : {56u, 52u, 48u, 47u, 42u, 39u, 38u}) {
        if (sizeof(void*) == 8 && reaches(bits, k.page_bytes)) {
            k.address_bits = bits;
            break;
        }
    }
    const std::size_t wanted = std::size_t{1} << 40;
    void* at = ::mmap(nullptr, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    k.reserve = at == MAP_FAILED ? answer{errno, 0} : answer{0, wanted};
    if (at != MAP_FAILED) ::munmap(at, wanted);
}

void probe_limits(kernel_probe& k) {
    const std::pair<const char*, int> names[] = {{"RLIMIT_NOFILE", RLIMIT_NOFILE}, {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_AS", RLIMIT_AS},
                                                 {"RLIMIT_NPROC", RLIMIT_NPROC},   {"RLIMIT_RTPRIO", RLIMIT_RTPRIO}};
    for (const auto& [name, number] : names) {
        rlimit l{};
        if (::getrlimit(static_cast<__rlimit_resource_t>(number), &l) != 0) continue;
        const auto value = [](rlim_t v) { return v == RLIM_INFINITY ? ~std::uint64_t{0} : static_cast<std::uint64_t>(v); };
        k.limits.push_back({name, value(l.rlim_cur), value(l.rlim_max)});
    }
}

}  // namespace

kernel_probe probe_kernel() {
    kernel_probe k;
    probe_names(k);
    probe_rseq(k);
    k.membarrier = answer_of(::syscall(SYS_membarrier, membarrier_query, 0, 0));
    unsigned long long cookie = 0;
    k.core_sched = answer_of(::prctl(pr_sched_core, pr_sched_core_get, 0, 0, &cookie));
    if (k.core_sched.ok()) k.core_sched.value = cookie;
    probe_memory_files(k);
    int mode = 0;
    k.get_mempolicy = answer_of(::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0));
    const long pidfd = ::syscall(SYS_pidfd_open, ::getpid(), 0);
    k.pidfd = answer_of(pidfd);
    if (pidfd >= 0) {
        k.pidfd.value = 0;
        ::close(static_cast<int>(pidfd));
    }
    probe_addresses(k);
    probe_limits(k);
    return k;
}

}  // namespace cohort::sys
