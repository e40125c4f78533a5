// SPDX-License-Identifier: Apache-2.0
/// COHORT_CHECK: a caller's bug ends the program with the place and the broken rule; it is on in every build.
///
///     COHORT_CHECK(window > 0, "window of shell is zero");
#pragma once

namespace cohort::detail {
/// Prints "FILE:LINE: check failed: CONDITION: TEXT" on stderr and aborts. Async-signal-safe.
[[noreturn, gnu::cold]] void check_failed(const char* file, int line, const char* condition, const char* text) noexcept;
}  // namespace cohort::detail

#define COHORT_CHECK(condition, text) \
    (__builtin_expect(static_cast<bool>(condition), 1) ? void() : ::cohort::detail::check_failed(__FILE__, __LINE__, #condition, text))
