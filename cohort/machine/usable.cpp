// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/usable.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

#include <cohort/machine/detail/cgroup.hpp>
#include <cohort/machine/detail/masks.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::machine {
namespace {

using detail::find_v1;
using detail::find_v2;
using detail::hierarchy;

constexpr double no_limit = std::numeric_limits<double>::infinity();

/// A mask and where it was found; no mask: why not.
struct mask_answer {
    std::optional<cpumask> mask;
    std::string from;
};

mask_answer first_of(sys::os& os, const std::vector<std::string>& files, std::string none) {
    for (const std::string& file : files) {
        auto mask = detail::read_mask<cpumask>(os, file);
        if (mask && !mask->empty()) return {*mask, file};
        if (!mask && mask.error().code != ENOENT) none = mask.error().line();
    }
    return {std::nullopt, std::move(none)};
}

mask_answer find_cpuset(sys::os& os, const std::vector<hierarchy>& groups) {
    // A controller belongs to one hierarchy: where v1 has cpuset, v2 does not.
    if (const hierarchy* v1 = find_v1(groups, "cpuset")) {
        if (v1->dirs.empty()) return {std::nullopt, "the v1 cpuset hierarchy is not mounted"};
        const std::string& own = v1->dirs.front();
        return first_of(os, {own + "/cpuset.effective_cpus", own + "/cpuset.cpus", own + "/effective_cpus", own + "/cpus"},
                        own + " has no cpuset.effective_cpus");
    }
    const hierarchy* v2 = find_v2(groups);
    if (!v2) return {std::nullopt, "no control groups"};
    if (v2->dirs.empty()) return {std::nullopt, "cgroup2 is not mounted"};
    // A group without the controller has what the nearest one above has.
    std::vector<std::string> files;
    for (const std::string& dir : v2->dirs) files.push_back(dir + "/cpuset.cpus.effective");
    return first_of(os, files, "no cpuset.cpus.effective from " + v2->dirs.front() + " up");
}

struct quota_answer {
    double cpus = no_limit;
    bool found = false;
    std::string from;
};

std::optional<double> to_number(std::string_view text) {
    double out = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (bad != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return out;
}

/// "150000 100000", "max 100000".
std::optional<double> parse_cpu_max(const std::string& text) {
    const std::size_t blank = text.find(' ');
    if (text.substr(0, blank) == "max") return no_limit;
    const auto quota = to_number(std::string_view(text).substr(0, blank));
    const auto period = blank == std::string::npos ? std::optional(100'000.0) : to_number(std::string_view(text).substr(blank + 1));
    if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
    return *quota / *period;
}

std::optional<double> parse_cfs(sys::os& os, const std::string& dir) {
    const auto quota = to_number(sys::read_line(os, dir + "/cpu.cfs_quota_us").value_or(""));
    const auto period = to_number(sys::read_line(os, dir + "/cpu.cfs_period_us").value_or(""));
    if (!quota || !period || *period <= 0 || *quota == 0) return std::nullopt;
    return *quota < 0 ? no_limit : *quota / *period;
}

/// A group may use no more than any group above it: the smallest counts.
quota_answer find_quota(sys::os& os, const std::vector<hierarchy>& groups) {
    quota_answer out;
    const auto take = [&](std::optional<double> cpus, const std::string& file) {
        if (!cpus) return;
        if (!out.found || *cpus < out.cpus) out = {*cpus, true, file};
    };
    const hierarchy* v1 = find_v1(groups, "cpu");
    const hierarchy* v2 = find_v2(groups);
    if (v1) {
        for (const std::string& dir : v1->dirs) take(parse_cfs(os, dir), dir + "/cpu.cfs_quota_us");
    } else if (v2) {
        for (const std::string& dir : v2->dirs) {
            if (const auto text = sys::read_line(os, dir + "/cpu.max")) take(parse_cpu_max(*text), dir + "/cpu.max");
        }
    }
    if (out.found) return out;
    if (!v1 && !v2) out.from = "no control groups";
    else if ((v1 ? v1 : v2)->dirs.empty()) out.from = v1 ? "the v1 cpu hierarchy is not mounted" : "cgroup2 is not mounted";
    else out.from = v1 ? "no cpu.cfs_quota_us from " + v1->dirs.front() + " up" : "no cpu.max from " + v2->dirs.front() + " up";
    return out;
}

std::string quota_text(double cpus) {
    if (std::isinf(cpus)) return "no limit";
    char text[64];
    std::snprintf(text, sizeof text, "%.4g CPUs", cpus);
    return text;
}

int workers_for(const cpumask& cpus, double quota) {
    const double rounded = std::ceil(quota);
    const int weight = cpus.weight();
    return rounded >= weight ? weight : std::max(1, static_cast<int>(rounded));
}

}  // namespace

result<usable_cpus> usable(sys::os& os) {
    usable_cpus out;
    const auto affinity = os.sched_getaffinity(0);
    if (!affinity) return std::unexpected(affinity.error());
    out.affinity = *affinity;

    const auto online = first_of(os, {sys::paths::cpu + "/online"}, sys::paths::cpu + "/online is not there");
    out.online = online.mask.value_or(out.affinity);
    const auto possible = first_of(os, {sys::paths::cpu + "/possible"}, sys::paths::cpu + "/possible is not there");
    out.possible = possible.mask.value_or(out.online);
    const auto groups = detail::parse_hierarchies(sys::read_file(os, sys::paths::self_cgroup).value_or(""), sys::read_file(os, sys::paths::self_mountinfo).value_or(""));
    auto cpuset = find_cpuset(os, groups);
    out.cpuset = cpuset.mask.value_or(out.online);

    // The masks are read one after the other and may be of different moments. The kernel keeps a thread's affinity non-empty, so that it is what counts
    // where the others leave nothing of it.
    out.cpus = out.affinity & out.possible & out.online & out.cpuset;
    if (out.cpus.empty()) {
        out.cpus = out.affinity;
        cpuset.from += " (has no CPU of the affinity mask; passed over)";
    }
    const auto quota = find_quota(os, groups);
    out.cpu_quota = quota.cpus;
    out.max_workers = workers_for(out.cpus, quota.cpus);
    out.parts = {{"possible", possible.mask.has_value(), out.possible.list(), possible.from},
                 {"online", online.mask.has_value(), out.online.list(), online.from},
                 {"affinity", true, out.affinity.list(), "sched_getaffinity"},
                 {"cpuset", cpuset.mask.has_value(), out.cpuset.list(), cpuset.from},
                 {"quota", quota.found, quota_text(quota.cpus), quota.from}};
    return out;
}

usable_cpus usable_of(const topology& machine) {
    usable_cpus out;
    out.possible = machine.possible;
    out.online = out.affinity = out.cpuset = out.cpus = machine.online;
    out.max_workers = out.cpus.weight();
    out.parts = {{"possible", true, machine.possible.list(), machine.source}, {"online", true, machine.online.list(), machine.source}};
    return out;
}

}  // namespace cohort::machine
