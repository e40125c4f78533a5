// SPDX-License-Identifier: Apache-2.0
// Who ran, who idled, and whose cookie was the reason. Kernel: __sched_core_account_forceidle (kernel/sched/core_sched.c, v6.12).
#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {

/// The kernel divides and drops the remainder; here the first of those that run get a nanosecond more, so that the sum is exact.
void account(state& s, core& c) {
    const std::uint64_t passed = s.now - c.since;
    c.since = s.now;
    if (passed == 0) return;
    std::uint64_t forced = 0, busy = 0;
    for (const int cpu : c.cpus) {
        queue& q = s.queue_of(cpu);
        if (!q.online) continue;
        if (q.curr != idle) {
            ++busy;
            q.figures.busy_ns += passed;
            s.tasks[q.curr].runtime += passed;
            continue;
        }
        q.figures.idle_ns += passed;
        if (!q.forced) continue;
        ++forced;
        q.figures.forced_idle_ns += passed;
        s.forced_by[{c.tag, q.hindered}] += passed;
    }
    if (forced == 0 || busy == 0) return;
    const std::uint64_t each = forced * passed / busy;
    std::uint64_t rest = forced * passed % busy;
    for (const int cpu : c.cpus) {
        const queue& q = s.queue_of(cpu);
        if (!q.online || q.curr == idle) continue;
        s.tasks[q.curr].forced_idle += each + (rest > 0 ? 1 : 0);
        if (rest > 0) --rest;
    }
}

}  // namespace cohort::coresched::detail
