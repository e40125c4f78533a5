// SPDX-License-Identifier: Apache-2.0
/// OpenMP's ordered loop. It has no reorder buffer: a thread that is early waits for its turn.
#include <omp.h>

#include "support.hpp"

namespace cohort::bench {
namespace {

void pin_team(const std::vector<int>& cpus) {
    omp_set_dynamic(0);
    omp_set_num_threads(static_cast<int>(cpus.size()));
#pragma omp parallel
    pin_to(cpus[static_cast<std::size_t>(omp_get_thread_num()) % cpus.size()]);
}

}  // namespace

std::vector<variant> openmp_variants(const settings& s, load l) {
    pin_team(s.cpus);
    std::vector<variant> all;
    all.push_back({"OpenMP ordered, static,1", "shown", "OpenMP ordered", [=](std::uint32_t n) {
                       sink out;
#pragma omp parallel for ordered schedule(static, 1)
                       for (std::uint32_t i = 0; i < n; ++i) {
                           const auto value = l.result(i);
#pragma omp ordered
                           out.take(i, value);
                       }
                       check(out, l, n, "OpenMP static,1");
                   }});
    all.push_back({"OpenMP ordered, dynamic,1", "shown", "OpenMP ordered", [=](std::uint32_t n) {
                       sink out;
#pragma omp parallel for ordered schedule(dynamic, 1)
                       for (std::uint32_t i = 0; i < n; ++i) {
                           const auto value = l.result(i);
#pragma omp ordered
                           out.take(i, value);
                       }
                       check(out, l, n, "OpenMP dynamic,1");
                   }});
    return all;
}

}  // namespace cohort::bench
