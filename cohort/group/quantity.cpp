// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/quantity.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace cohort::group {
namespace {

/// 1, 1024, 1024^2 ... for the unit's letter; 0 for no unit.
std::uint64_t unit_of(std::string_view unit) {
    if (unit.empty() || unit == "B") return 1;
    static constexpr std::string_view letters = "KMGT";
    const auto at = letters.find(static_cast<char>(unit[0] & ~0x20));
    if (at == std::string_view::npos) return 0;
    const std::string_view tail = unit.substr(1);
    if (!tail.empty() && tail != "B" && tail != "iB") return 0;
    return std::uint64_t{1} << (10 * (at + 1));
}

/// Three significant digits without an exponent.
std::string three_digits(double v) {
    if (v >= 99.95) return fmt::format("{:.0f}", v);
    if (v >= 9.995) return fmt::format("{:.1f}", v);
    return fmt::format("{:.2f}", v);
}

}  // namespace

result<std::uint64_t> parse_bytes(std::string_view text) {
    const std::string object = "size \"" + std::string(text) + "\"";
    std::uint64_t number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (problem == std::errc::result_out_of_range) return fail(ERANGE, object, "read", "it does not fit 64 bits");
    std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (unit.starts_with(' ')) unit.remove_prefix(1);
    const std::uint64_t scale = problem == std::errc() ? unit_of(unit) : 0;
    if (scale == 0) return fail(EINVAL, object, "read", "a size is a whole number and B, K, M, G or T, such as 64K");
    if (number == 0) return fail(EINVAL, object, "read", "it must be at least 1 byte");
    if (number > std::numeric_limits<std::uint64_t>::max() / scale) return fail(ERANGE, object, "read", "it does not fit 64 bits");
    return number * scale;
}

result<std::uint64_t> parse_duration(std::string_view text) {
    constexpr std::uint64_t second = 1'000'000'000, year = 365 * 86'400 * second;
    static constexpr std::pair<std::string_view, std::uint64_t> units[] = {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", second}, {"min", 60 * second}, {"h", 3'600 * second}};
    const std::string object = "time \"" + std::string(text) + "\"";
    std::uint64_t number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (unit.starts_with(' ')) unit.remove_prefix(1);
    const auto* scale = std::find_if(std::begin(units), std::end(units), [&](const auto& u) { return u.first == unit; });
    if (problem == std::errc::invalid_argument || scale == std::end(units)) return fail(EINVAL, object, "read", "a time is a whole number and ns, us, ms, s, min or h, such as 100ms");
    if (problem == std::errc::result_out_of_range || number > year / scale->second) return fail(ERANGE, object, "read", "it is more than a year");
    if (number == 0) return fail(EINVAL, object, "read", "it must be at least 1 ns");
    return number * scale->second;
}

std::string human_bytes(double bytes) {
    static constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    std::size_t unit = 0;
    while (bytes >= 999.5 && unit + 1 < units.size()) bytes /= 1024, ++unit;
    return (unit == 0 ? fmt::format("{:.0f}", bytes) : three_digits(bytes)) + " " + units[unit];
}

std::string human_seconds(double seconds) {
    if (seconds >= 99.95) {
        const long whole = std::lround(seconds);
        return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    }
    if (seconds >= 0.9995) return three_digits(seconds) + " s";
    if (seconds >= 0.9995e-3) return three_digits(seconds * 1e3) + " ms";
    if (seconds >= 0.9995e-6) return three_digits(seconds * 1e6) + " us";
    return fmt::format("{:.0f} ns", seconds * 1e9);
}

}  // namespace cohort::group
