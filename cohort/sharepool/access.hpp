// SPDX-License-Identifier: Apache-2.0
/// What a process may do with a group's memory. Kernel: PROT_READ and PROT_READ | PROT_WRITE of mg_sp_group_add_task.
#pragma once

#include <cstdint>

namespace cohort::sharepool {

enum class access : std::uint8_t { read, read_write };

}  // namespace cohort::sharepool
