// SPDX-License-Identifier: Apache-2.0
/// One capture through a tunnel's end, and what is said about it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

#include "esp.hpp"
#include "tunnel.hpp"

namespace esp {

struct run_options {
    direction way = direction::encrypt;
    std::string sa_file, input, output;
    unsigned shells = 8;
    std::optional<cohort::cpumask> parallel = {}, serial = {};
    std::optional<std::uint32_t> iv_high = {};  ///< unset: random
    std::string control;                        ///< a directory in which the instance's masks stand as files; empty: none
    std::uint64_t say = 20;                     ///< so many refused packets are named one by one
};

struct run_report {
    std::array<std::uint64_t, verdicts> packets{};  ///< by verdict
    std::uint64_t read = 0, written = 0, bytes_in = 0, bytes_out = 0;
    double seconds = 0;
    std::string instance, parallel, serial;         ///< its name and its masks at the end
    unsigned shells = 0;
    std::optional<cohort::error> ended_by;          ///< the input was not read to its end
    std::uint64_t of(verdict v) const { return packets[static_cast<std::size_t>(v)]; }
    std::uint64_t refused() const;
};

/// Refused packets are named on stderr, in their order. A capture that is cut off is worked on as far as it goes, and its output is kept: ended_by says why.
/// Errors: those of the files; ECANCELED, a signal came. Then there is no output.
cohort::result<run_report> run(const run_options& options, int& signal);

/// The report for people, and for programs (schema_version 1).
std::string text_of(const run_report& r, const run_options& options);
std::string json_of(const run_report& r, const run_options& options);

}  // namespace esp
