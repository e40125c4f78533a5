// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/cpuset/model.hpp>
#include <cohort/sys/os.hpp>

namespace {

using namespace cohort::cpuset;

const cohort::machine::topology& eight_cpus() {
    static const auto t = cohort::machine::load("synthetic:numa:2 core:2 pu:2", cohort::sys::real()).value();
    return t;
}

}  // namespace

/// A script of operations, a line each: what is understood is written in one way, and no script breaks an invariant. The first byte says which kernel.
FUZZ(text) {
    if (text.empty() || text.size() > 4096) return;
    const bool v1 = text.front() & 1;
    model m(eight_cpus(), {.profile = text.front() & 2 ? kernel::v6_1 : kernel::v6_12, .v1 = v1});
    text.remove_prefix(1);
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const auto op = parse_operation(line);
        if (!op) {
            CLAIM(op.error().column >= 1 && !op.error().why.empty());
            continue;
        }
        const auto again = parse_operation(to_line(*op));
        CLAIM(again && *again == *op);
        const answer a = m.perform(*op);
        CLAIM(a.code >= 0);
        CLAIM(m.broken().empty());
    }
    CLAIM(m.clone().paths() == m.paths());
}
