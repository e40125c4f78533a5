// SPDX-License-Identifier: Apache-2.0
/// A line on stderr from places where nothing may be allocated or locked.
///
///     char line[128];
///     sys::say(line, std::snprintf(line, sizeof line, "percpu: %s\n", why));
#pragma once

#include <cstddef>

namespace cohort::sys {

/// Signal-safe. What cannot be written is lost. size: as snprintf answers; below 1 nothing is said.
void say(const char* text, int size) noexcept;

/// Runs these around every fork() of the process from now on: before it, and after it in the parent and in the child. There is no way to take them back.
/// Errors: ENOMEM as a number; 0 when done.
int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) noexcept;

}  // namespace cohort::sys
