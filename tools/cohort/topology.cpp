// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

namespace cohort::cli {

void add_topology(registry& all) {
    all.add("topology", "Show packages, nodes, caches, cores and CPUs").run([]() -> outcome { return fail(ENOSYS, "cohort topology", "run", "not built yet"); });
}

}  // namespace cohort::cli
