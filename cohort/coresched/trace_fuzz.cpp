// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <cohort/base/testing/fuzz.hpp>
#include <cohort/coresched/trace_check.hpp>
#include <cohort/sys/os.hpp>

/// Whatever is read can be checked, and its times add up.
FUZZ(text) {
    static const auto machine = cohort::machine::load("synthetic:core:2 pu:2", cohort::sys::real()).value();
    (void)cohort::coresched::read_cookies(text);
    const auto trace = cohort::coresched::read_trace(text);
    if (!trace) return;
    CLAIM(std::ranges::is_sorted(trace->events, {}, &cohort::coresched::trace_event::at_ns));
    const auto r = cohort::coresched::check_trace(*trace, {{100, 1}, {200, 2}}, machine);
    if (!r) return;
    for (const auto& c : r->cpus) {
        CLAIM(c.busy_ns + c.idle_ns == r->duration_ns);
        CLAIM(c.forced_idle_ns <= c.idle_ns);
    }
    CLAIM(r->violation_count >= r->violations.size());
}
