// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/group/cpuset_target.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/state.hpp>

/// The other texts that this room reads: states, targets, sizes and times.
FUZZ(text) {
    using namespace cohort::group;
    if (text.size() > 16'384) return;
    const std::string whole(text);
    if (const auto s = read_state(whole)) CLAIM(read_state(state_json(*s)) == *s);
    const auto target = read_cpuset_target("t.toml", text);
    for (const fault& f : target.faults) CLAIM(!f.text.empty());
    if (const auto bytes = parse_bytes(text)) CLAIM(*bytes > 0);
    if (const auto time = parse_duration(text)) CLAIM(*time > 0 && *time <= std::uint64_t{366} * 24 * 3600 * 1'000'000'000);
    (void)owner::parse(whole);
}
