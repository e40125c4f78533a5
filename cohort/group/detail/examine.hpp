// SPDX-License-Identifier: Apache-2.0
/// The parts of the doctor, one function a room.
#pragma once

#include <cohort/group/doctor.hpp>

namespace cohort::group::detail {

using findings = std::vector<finding>;

void examine_work(sys::os& os, findings& out);
void examine_percpu(const sys::kernel_probe& k, findings& out);
void examine_stream(const sys::kernel_probe& k, sys::os& os, findings& out);
void examine_cpuset(const sys::kernel_probe& k, sys::os& os, findings& out);
void examine_coresched(const sys::kernel_probe& k, sys::os& os, findings& out);
void examine_sharepool(const sys::kernel_probe& k, sys::os& os, findings& out);
void examine_host(const sys::kernel_probe& k, sys::os& os, findings& out);

/// "6.18.44-fc" is at least 6.7?
bool at_least(const std::string& release, int major, int minor);

/// The word between [ and ] of a sysfs choice: "always [madvise] never" -> "madvise".
std::string chosen(const std::string& text);

/// The value of CONFIG_name in /boot/config-RELEASE: "y", "m", "n"; empty when the file is not there or does not say.
std::string kernel_config(sys::os& os, const std::string& release, const std::string& name);

}  // namespace cohort::group::detail
