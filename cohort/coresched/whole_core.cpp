// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/whole_core.hpp>

#include <cohort/machine/topology.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>

namespace cohort::coresched {
namespace {

std::unexpected<error> none(int code, std::string reason) { return fail(code, "this program", "take a whole core", std::move(reason)); }

}  // namespace

result<cpumask> take_whole_core(sys::os& os) {
    const auto topology = machine::load("live", os);
    if (!topology) return std::unexpected(topology.error());
    const auto mine = os.sched_getaffinity(0);
    if (!mine) return std::unexpected(mine.error());
    bool any = false;
    for (const auto& core : topology->cores) {
        cpumask cpus;
        for (int cpu : core.cpus) {
            if (topology->online.test(cpu)) cpus.set(cpu);
        }
        if (cpus.empty() || !cpus.subset_of(*mine)) continue;
        any = true;
        const auto name = sys::listen_local("cohort-core-" + std::to_string(sys::effective_uid()) + "-" + std::to_string(cpus.first()));
        if (!name && name.error().code == EADDRINUSE) continue;
        if (!name) return std::unexpected(name.error());
        sys::owned_fd held(os, *name);
        if (auto r = os.sched_setaffinity(0, cpus); !r) return std::unexpected(r.error());
        if (auto r = sys::keep_over_exec(held.get()); !r) return std::unexpected(r.error());
        (void)held.release();
        return cpus;
    }
    return any ? none(EBUSY, "all of them are taken by others that were started so") : none(EINVAL, "no core has all its CPUs in the affinity " + mine->list());
}

}  // namespace cohort::coresched
