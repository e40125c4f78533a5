// SPDX-License-Identifier: Apache-2.0
/// What only the kernel itself can tell: which of its facilities answer, and with which errno the others refuse. Nothing is changed.
///
///     const kernel_probe k = sys::probe_kernel();
///     if (k.core_sched.code == EINVAL) print("CONFIG_SCHED_CORE is not set");
///     if (!k.rseq.registered) print("no restartable sequences");
///
/// Kernel: prctl(PR_SCHED_CORE), membarrier(MEMBARRIER_CMD_QUERY), memfd_create, fcntl(F_ADD_SEALS), get_mempolicy, pidfd_open, uname.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cohort::sys {

/// A question's answer: code 0 and a value, or a positive errno.
struct answer {
    int code = 0;
    std::uint64_t value = 0;
    bool ok() const { return code == 0; }
    bool operator==(const answer&) const = default;
};

struct resource_limit {
    std::string name;                            ///< "RLIMIT_NOFILE"
    std::uint64_t soft = 0, hard = 0;            ///< ~0: unlimited
    bool operator==(const resource_limit&) const = default;
};

/// A value type, so that tests write the answers of kernels that are not there.
struct kernel_probe {
    std::string release, version, architecture;  ///< uname
    std::string c_library;                       ///< "glibc 2.36"

    struct {
        bool registered = false;                 ///< by the C library, for this thread
        unsigned size = 0;                       ///< bytes that the C library registered
        int cpu_id = -1;                         ///< as the area says now
        std::uint64_t feature_size = 0;          ///< AT_RSEQ_FEATURE_SIZE; 0: the kernel does not tell (before 6.3)
    } rseq;
    answer membarrier;                           ///< value: a bit for each command

    answer core_sched;                           ///< PR_SCHED_CORE_GET of this thread; value: its cookie
    answer memfd, memfd_seal, memfd_huge;        ///< memfd_huge: 2 MiB pages mapped and touched; 0 too when the page came
    answer get_mempolicy;
    answer pidfd;
    answer reserve;                              ///< 1 TiB of address space without memory
    unsigned address_bits = 0;                   ///< of user space: 47, 48, 52, 56
    std::uint64_t page_bytes = 0;
    unsigned euid = 0;
    std::vector<resource_limit> limits;
};

/// Cost: some thirty system calls; it maps and unmaps, and makes memory files that it closes.
kernel_probe probe_kernel();

}  // namespace cohort::sys
