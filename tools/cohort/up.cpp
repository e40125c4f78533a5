// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

namespace cohort::cli {

void add_up(registry& all) {
    all.add("up", "Bring the cohorts of a spec up and run their jobs").run([]() -> outcome { return fail(ENOSYS, "cohort up", "run", "not built yet"); });
}

}  // namespace cohort::cli
