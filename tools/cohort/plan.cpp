// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

namespace cohort::cli {

void add_plan(registry& all) {
    all.add("plan", "Show what a spec would do on a machine").run([]() -> outcome { return fail(ENOSYS, "cohort plan", "run", "not built yet"); });
}

}  // namespace cohort::cli
