// SPDX-License-Identifier: Apache-2.0
// Files that only version 1 has: numbers and switches.
#include <charconv>
#include <limits>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

std::string_view stripped(std::string_view text) {
    constexpr std::string_view space = " \t\n\v\f\r";
    const std::size_t from = text.find_first_not_of(space);
    return from == std::string_view::npos ? std::string_view{} : text.substr(from, text.find_last_not_of(space) - from + 1);
}

/// A whole number as the kernel takes it: 0x and 0 choose the base. EINVAL, ERANGE.
result<std::uint64_t> parse_number(std::string_view text) {
    const auto refuse = [&](int code, const char* why) { return fail(code, "number \"" + std::string(text) + "\"", "parse", why); };
    std::string_view digits = text;
    if (digits.starts_with('+')) digits.remove_prefix(1);
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
        base = 16;
        digits.remove_prefix(2);
    } else if (digits.size() > 1 && digits[0] == '0') {
        base = 8;
    }
    std::uint64_t n = 0;
    const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), n, base);
    if (fault == std::errc::result_out_of_range) return refuse(ERANGE, "it does not fit 64 bits");
    if (fault != std::errc() || end != digits.data() + digits.size()) return refuse(EINVAL, "it is no whole number");
    return n;
}

bool* switch_of(world& w, group& g, std::string_view file) {
    if (file == "cgroup.clone_children") return &g.clone_children;
    if (file == "cpuset.mem_hardwall") return &g.hardwall;
    if (file == "cpuset.memory_migrate") return &g.migrate;
    if (file == "cpuset.memory_spread_page") return &g.spread_page;
    if (file == "cpuset.memory_spread_slab") return &g.spread_slab;
    if (file == "cpuset.sched_load_balance") return &g.balance;
    return file == "cpuset.memory_pressure_enabled" ? &w.pressure_on : nullptr;
}

}  // namespace

verdict write_flag(world& w, group& g, std::string_view file, std::string_view text) {
    auto n = parse_number(stripped(text));
    if (!n) return {n.error().code, n.error().object + ": " + n.error().reason};
    const bool on = *n != 0;
    if (bool* s = switch_of(w, g, file)) {
        if (s == &g.balance && *s != on && !g.own.cpus.empty()) w.domains_due = true;
        *s = on;
        return {};
    }
    request trial = g.own;
    (file == "cpuset.cpu_exclusive" ? trial.cpu_exclusive : trial.mem_exclusive) = on;
    if (verdict v = validate(w, g, trial); v.refused()) return v;
    g.own = trial;
    return {};
}

verdict write_relax(world& w, group& g, std::string_view text) {
    std::string_view digits = stripped(text);
    const bool minus = digits.starts_with('-');
    if (minus) digits.remove_prefix(1);
    auto n = parse_number(digits);
    if (!n) return {n.error().code, n.error().object + ": " + n.error().reason};
    if (minus && digits.starts_with('+')) return {EINVAL, "it is no whole number"};
    const auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (*n > limit + (minus ? 1 : 0)) return {ERANGE, "it does not fit 64 bits"};
    const auto most = static_cast<std::uint64_t>(w.relax_max + 1);
    if (minus ? *n > 1 : *n > most) return {EINVAL, "the level is not in -1.." + std::to_string(most)};
    g.relax = minus ? -static_cast<int>(*n) : static_cast<int>(*n);
    return {};
}

}  // namespace cohort::cpuset::detail
