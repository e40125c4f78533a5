// SPDX-License-Identifier: Apache-2.0
/// A view that is drawn again and again, in the same place of a terminal; elsewhere one after the other.
///
///     return look_again({.rounds = 0, .interval_ms = 1000, .data = o.json}, [&](std::int64_t nth) -> result<std::string> { return text_of(look()); });
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "command.hpp"

namespace cohort::cli {

struct look_options {
    std::int64_t rounds = 0;  ///< 0: on a terminal until Ctrl-C, else once
    std::int64_t interval_ms = 1'000;
    bool data = false;        ///< for programs: no screen, nothing between looks
};

/// Each look's text is printed; the first error ends it. SIGINT and SIGTERM end it well.
outcome look_again(const look_options& o, const std::function<result<std::string>(std::int64_t nth)>& look);

}  // namespace cohort::cli
