// SPDX-License-Identifier: Apache-2.0
/// Which boot of the machine this is: what was written down before another one tells of processes that are gone.
#pragma once

#include <string>

#include <cohort/sys/os.hpp>

namespace cohort::sys {

/// 36 characters that no other boot has; empty where the system does not tell. Errors: those of open and read, save ENOENT. Kernel: /proc/sys/kernel/random/boot_id.
result<std::string> boot_id(os& system);

}  // namespace cohort::sys
