// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/machine/detail/cgroup.hpp>

/// Up to the first NUL /proc/self/cgroup, behind it /proc/self/mountinfo.
FUZZ(text) {
    using namespace cohort::machine::detail;
    const std::size_t nul = std::min(text.find('\0'), text.size());
    const auto all = parse_hierarchies(text.substr(0, nul), text.substr(std::min(nul + 1, text.size())));
    for (const hierarchy& h : all) {
        CLAIM(h.v2 == h.controllers.empty() || !h.v2);
        for (const std::string& dir : h.dirs) CLAIM(dir.starts_with('/'));
    }
    (void)find_v1(all, "cpuset");
    (void)find_v2(all);
}
