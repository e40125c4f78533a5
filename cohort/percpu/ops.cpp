// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/ops.hpp>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::percpu {

namespace {

unsigned count_possible() noexcept {
    sys::os& os = sys::real();
    unsigned n = std::max(1u, std::thread::hardware_concurrency());
    if (auto text = sys::read_file(os, sys::paths::cpu + "/possible")) {
        if (auto mask = cpumask::parse_list(text->substr(0, text->find('\n'))); mask && !mask->empty()) n = static_cast<unsigned>(mask->last()) + 1;
    } else if (auto mask = os.sched_getaffinity(0); mask && !mask->empty()) {
        n = std::max(n, static_cast<unsigned>(mask->last()) + 1);
    }
    // As the kernel's parameter possible_cpus=, which can only make room for more.
    if (const auto more = os.getenv("COHORT_POSSIBLE_CPUS")) n = std::max(n, static_cast<unsigned>(std::strtoul(more->c_str(), nullptr, 10)));
    return std::min(n, static_cast<unsigned>(max_cpus));
}

}  // namespace

unsigned possible_cpus() noexcept {
    // Operations in signal handlers ask, too: no function-local static, whose guard could be held by whom the handler interrupted.
    static constinit std::atomic<unsigned> cached{0};
    unsigned n = cached.load(std::memory_order_relaxed);
    if (n == 0) {
        n = count_possible();
        cached.store(n, std::memory_order_relaxed);
    }
    return n;
}

namespace {
/// Asked once at start-up, while no handler runs.
[[maybe_unused]] const unsigned asked_early = possible_cpus();
}  // namespace

}  // namespace cohort::percpu
