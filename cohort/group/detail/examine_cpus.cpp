// SPDX-License-Identifier: Apache-2.0
// The doctor's questions about CPUs: work, percpu, stream, coresched.
#include <cohort/group/detail/examine.hpp>

#include <cmath>

#include <fmt/format.h>

#include <cohort/group/plan.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {
namespace {

using enum finding::form;

struct membarrier_command {
    std::uint64_t bit;
    const char* name;
};
constexpr membarrier_command membarrier_commands[] = {{1, "GLOBAL"}, {2, "GLOBAL_EXPEDITED"}, {8, "PRIVATE_EXPEDITED"}, {32, "PRIVATE_EXPEDITED_SYNC_CORE"},
                                                      {128, "PRIVATE_EXPEDITED_RSEQ"}};
/// The bytes of struct rseq up to and with mm_cid.
constexpr unsigned rseq_with_mm_cid = 28;

}  // namespace

void examine_work(sys::os& os, findings& out) {
    const auto usable = machine::usable(os);
    if (!usable) {
        out.push_back({"work", "CPUs", missing, "", usable.error().line(), "", "sched_getaffinity", true});
        return;
    }
    const cpumask lost = usable->possible - usable->cpus;
    out.push_back({"work", "CPUs", lost.empty() ? there : limited, cpus_text(usable->cpus) + " usable",
                   lost.empty() ? "" : cpus_text(lost) + " cannot be used, see below", "", "possible & online & affinity & cpuset", true});
    for (const auto& p : usable->parts) {
        const bool finite = p.name == "quota" && std::isfinite(usable->cpu_quota);
        const cpumask* mask = p.name == "online" ? &usable->online : p.name == "affinity" ? &usable->affinity : p.name == "cpuset" ? &usable->cpuset : nullptr;
        const bool narrows = p.limits && (finite || (mask && !usable->possible.subset_of(*mask)));
        out.push_back({"work", p.name, narrows ? limited : there, p.value, narrows ? "it narrows what may be used" : "", p.limits ? "" : p.from, p.limits ? p.from : "", false});
    }
    const auto mine = os.sched_getaffinity(0);
    const auto set = mine ? os.sched_setaffinity(0, *mine) : result<void>(std::unexpected(mine.error()));
    out.push_back({"work", "binding", set ? there : missing, set ? "threads can be bound to CPUs" : "", set ? "" : set.error().line(),
                   set ? "" : "threads run where the kernel puts them", "sched_setaffinity", true});
}

void examine_percpu(const sys::kernel_probe& k, findings& out) {
    if (k.rseq.registered) {
        out.push_back({"percpu", "rseq", there, fmt::format("registered by {}, {} bytes, cpu_id {}", k.c_library, k.rseq.size, k.rseq.cpu_id), "", "", "__rseq_offset", true});
    } else {
        const std::string why = k.rseq.size == 0 ? k.c_library + " did not register it: older than 2.35, GLIBC_TUNABLES=glibc.pthread.rseq=0, or a kernel without CONFIG_RSEQ"
                                                 : "the area is registered but its cpu_id says it is not in use";
        out.push_back({"percpu", "rseq", missing, "", why, "lock-prefixed atomics are used everywhere", "__rseq_size", true});
    }
    // __rseq_size does not tell: glibc 2.36 says 20 and registers 32 bytes, which is all that mm_cid needs.
    const bool cid = k.rseq.registered && k.rseq.feature_size >= rseq_with_mm_cid;
    out.push_back({"percpu", "mm_cid", cid ? there : missing, cid ? fmt::format("kernel fills {} bytes", k.rseq.feature_size) : "",
                   cid                        ? ""
                   : !k.rseq.registered       ? "rseq is not registered"
                   : k.rseq.feature_size == 0 ? "this kernel does not tell a feature size (older than 6.3)"
                                              : fmt::format("this kernel fills only {} bytes", k.rseq.feature_size),
                   cid ? "" : "memory is indexed by cpu_id", "AT_RSEQ_FEATURE_SIZE", false});
    if (!k.membarrier.ok()) {
        out.push_back({"percpu", "membarrier", missing, "", errno_name(k.membarrier.code) + ": " + (k.membarrier.code == ENOSYS ? "CONFIG_MEMBARRIER is not set, or a filter hides it" : errno_text(k.membarrier.code)),
                       "readers pay a full fence", "membarrier(QUERY)", true});
        return;
    }
    std::string names;
    for (const auto& c : membarrier_commands) {
        if (k.membarrier.value & c.bit) names += (names.empty() ? "" : " ") + std::string(c.name);
    }
    const bool rseq_fence = (k.membarrier.value & 128) != 0, fence = (k.membarrier.value & 8) != 0;
    out.push_back({"percpu", "membarrier", fence && rseq_fence ? there : fence ? limited : missing, names,
                   !fence ? "PRIVATE_EXPEDITED is not offered" : !rseq_fence ? "PRIVATE_EXPEDITED_RSEQ is not offered (older than 5.10)" : "",
                   fence && rseq_fence ? "" : "remote work waits for a grace period of its own", "membarrier(QUERY)", true});
}

void examine_stream(const sys::kernel_probe& k, sys::os& os, findings& out) {
    out.push_back({"stream", "pidfd", k.pidfd.ok() ? there : missing, k.pidfd.ok() ? "ends of commands are seen at once" : "",
                   k.pidfd.ok() ? "" : errno_name(k.pidfd.code) + ": " + errno_text(k.pidfd.code), k.pidfd.ok() ? "" : "ends of commands are looked for 50 times a second",
                   "pidfd_open", false});
    const auto most = sys::read_line(os, "/proc/sys/fs/pipe-max-size");
    out.push_back({"stream", "pipes", most ? there : limited, most ? "up to " + *most + " bytes each" : "", most ? "" : most.error().line(), most ? "" : "the usual 64 KiB",
                   "/proc/sys/fs/pipe-max-size", false});
}

void examine_coresched(const sys::kernel_probe& k, sys::os& os, findings& out) {
    const std::string dir = "/sys/devices/system/cpu/smt/";
    const auto active = sys::read_line(os, dir + "active"), control = sys::read_line(os, dir + "control");
    const auto topology = machine::load("live", os);
    int siblings = 1;
    if (topology) {
        for (const auto& c : topology->cores) siblings = std::max(siblings, static_cast<int>(c.cpus.size()));
    }
    const bool smt = active ? *active == "1" : siblings > 1;
    const std::string how = control ? "smt/control says \"" + *control + "\"" : "no core shows two CPUs";
    out.push_back({"coresched", "SMT", smt ? there : missing, smt ? fmt::format("{} CPUs a core", siblings) : "", smt ? "" : how,
                   smt ? "" : "no two tenants can meet on one core: nothing has to be kept apart", dir + "active", false});

    const std::string config = kernel_config(os, k.release, "SCHED_CORE");
    const std::string known = config.empty() ? "" : " (/boot/config says CONFIG_SCHED_CORE=" + config + ")";
    finding f{"coresched", "core scheduling", missing, "", "", "the executor keeps cookies apart in user space; the simulator predicts", "prctl(PR_SCHED_CORE, GET)", true};
    switch (k.core_sched.code) {
        case 0:
            f.state = there;
            f.value = k.core_sched.value ? "this thread has a cookie" : "available; this thread has no cookie";
            f.instead.clear();
            break;
        // The kernel looks at its own configuration first, then at SMT, then at the arguments; ours are right.
        case EINVAL: f.reason = "EINVAL: CONFIG_SCHED_CORE is not set in kernel " + k.release + known; break;
        case ENODEV: f.reason = "ENODEV: the kernel can, but no core has two CPUs online"; break;
        case EPERM: f.reason = "EPERM: a filter (seccomp) or the ptrace rules forbid it"; break;
        default: f.reason = errno_name(k.core_sched.code) + ": " + errno_text(k.core_sched.code);
    }
    out.push_back(std::move(f));

    const auto scope = sys::read_line(os, "/proc/sys/kernel/yama/ptrace_scope");
    const bool open = !scope || *scope == "0";
    out.push_back({"coresched", "ptrace scope", open ? there : limited, scope ? *scope : "no yama", open ? "" : "cookies of processes that are not descendants cannot be read or shared without CAP_SYS_PTRACE",
                   "", "/proc/sys/kernel/yama/ptrace_scope", false});
}

}  // namespace cohort::group::detail
