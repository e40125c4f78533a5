// SPDX-License-Identifier: Apache-2.0
/// Why a cgroup hierarchy refused something, from what stands in it now.
#pragma once

#include <string>

#include <cohort/cpuset/live_mount.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::cpuset::detail {

/// Which call failed: the open, by permission or because a file is not there, or the write itself, by the kernel's rules.
enum class stage { open, write };

std::string why_not_created(sys::os& os, const live_mount& m, const std::string& path, int code);
std::string why_not_removed(sys::os& os, const live_mount& m, const std::string& path, int code);
std::string why_not_written(sys::os& os, const live_mount& m, const std::string& path, const std::string& file, const std::string& text, int code, stage at);
std::string why_not_attached(sys::os& os, const live_mount& m, const std::string& path, int pid, int code, stage at);
std::string why_not_handed_on(sys::os& os, const live_mount& m, const std::string& path, bool on, int code, stage at);

}  // namespace cohort::cpuset::detail
