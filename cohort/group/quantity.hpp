// SPDX-License-Identifier: Apache-2.0
/// Sizes and times as people write and read them.
///
///     parse_bytes("64K");          // result<uint64_t>: 65536
///     parse_duration("100ms");     // result<uint64_t>: 100'000'000
///     human_bytes(1536.0);         // "1.5 KiB"
///     human_seconds(0.0123);       // "12.3 ms"
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <cohort/base/error.hpp>

namespace cohort::group {

/// Reads "4096", "64K", "64KiB", "1M", "2G", "1T": powers of 1024, letters in either case. Errors: EINVAL (not a size, zero, negative),
/// ERANGE (does not fit 64 bits).
result<std::uint64_t> parse_bytes(std::string_view text);

/// Reads "250us", "100ms", "2s", "5min", "1h", in nanoseconds. Errors: EINVAL (not a time, zero, negative), ERANGE (more than a year).
result<std::uint64_t> parse_duration(std::string_view text);

/// "0 B", "1.5 KiB", "312 MiB": three significant digits.
std::string human_bytes(double bytes);

/// "850 ns", "12.3 ms", "4.56 s", "2 min 05 s".
std::string human_seconds(double seconds);

}  // namespace cohort::group
