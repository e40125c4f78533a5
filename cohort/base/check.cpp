// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/check.hpp>

#include <cstdio>
#include <cstdlib>

namespace cohort::detail {

void check_failed(const char* file, int line, const char* condition, const char* text) noexcept {
    std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", file, line, condition, text);
    std::abort();
}

}  // namespace cohort::detail
