// SPDX-License-Identifier: Apache-2.0
/// What the benches of cpuset share.
#pragma once

#include <cohort/cpuset/model.hpp>

namespace cohort::bench {

/// A refusal ends the program.
void perform(cpuset::model& m, const cpuset::operation& op);

/// On 1,024 CPUs: a tenth of the sets are parents of nine, each with four CPUs of its own; the others have one of their parent's. tasks: one in each of these.
void build_tree(cpuset::model& m, int sets, bool tasks);

}  // namespace cohort::bench
