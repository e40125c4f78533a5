// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

namespace cohort::cli {

void add_doctor(registry& all) {
    all.add("doctor", "Tell what this machine offers, what is missing, and why").run([]() -> outcome { return fail(ENOSYS, "cohort doctor", "run", "not built yet"); });
}

}  // namespace cohort::cli
