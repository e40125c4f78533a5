// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/boot.hpp>

#include <cerrno>

#include <cohort/sys/fd.hpp>

namespace cohort::sys {

result<std::string> boot_id(os& system) {
    auto id = read_line(system, "/proc/sys/kernel/random/boot_id");
    if (!id && id.error().code == ENOENT) return std::string();
    return id;
}

}  // namespace cohort::sys
