// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

namespace cohort::cli {

void add_pipe(registry& all) {
    all.add("pipe", "Pass a stream through a codec or a command, in parallel and in order").run([]() -> outcome { return fail(ENOSYS, "cohort pipe", "run", "not built yet"); });
}

}  // namespace cohort::cli
