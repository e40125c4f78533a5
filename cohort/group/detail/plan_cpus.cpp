// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_cpus.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/detail/plan_wishes.hpp>

namespace cohort::group {
namespace {

using cpu_runs = std::vector<std::vector<int>>;

/// What a part is made of. Computed once a family: it walks all CPUs.
struct parts {
    const cpumask all; // the usable CPUs of the machine, or those of a cohort
    cpu_runs cores;    // the same, one entry a core, in the machine's order
    cpu_runs singles;  // the same, one entry a CPU

    parts(const machine_view& m, const cpumask& of) : all(of), cores(m.by_core(of)) {
        for (const auto& core : cores) {
            for (int cpu : core) singles.push_back({cpu});
        }
    }

    /// The part-th of `of` equal runs: of whole cores while there are enough, of CPUs when there are fewer cores; with fewer CPUs than
    /// parts, neighbours get the same CPU (and the plan says so).
    cpumask part(int which, int of) const {
        const cpu_runs& units = static_cast<int>(cores.size()) < of ? singles : cores;
        const auto n = static_cast<std::int64_t>(units.size());
        const std::int64_t first = (which - 1) * n / of;
        const std::int64_t end = std::min(n, std::max(first + 1, which * n / of));
        cpumask out;
        for (std::int64_t i = first; i < end; ++i) {
            for (int cpu : units[static_cast<std::size_t>(i)]) out.set(cpu);
        }
        return out;
    }

    cpumask asked(const cpu_wish& wish, const machine_view& m) const {
        switch (wish.kind) {
            case cpu_wish::form::all: return all;
            case cpu_wish::form::part: return part(wish.part, wish.of);
            case cpu_wish::form::list: return cpumask::parse_list(wish.text, m.possible.last() + 1).value_or(cpumask{});
            case cpu_wish::form::count: return {};  // plan_wishes(), when all beside it that name their CPUs have them
        }
        return {};
    }
};

std::string asked_text(const cpu_wish& wish) {
    switch (wish.kind) {
        case cpu_wish::form::all: return "all usable";
        case cpu_wish::form::list: return "\"" + wish.text + "\"";
        case cpu_wish::form::part: return "part " + wish.text;
        case cpu_wish::form::count: return detail::wish_text(wish);
    }
    return {};
}

cohort_plan cohort_of(const cohort_spec& c, const cohort_plan* above, const parts& from, plan& out, const std::string& file) {
    cohort_plan p;
    p.name = c.name;
    p.inside = c.inside;
    p.asked_text = asked_text(c.cpus) + (above ? " of \"" + above->name + "\"" : "");
    p.memory = c.memory;
    p.pool = c.pool;
    p.asked = from.asked(c.cpus, out.machine);
    p.cpus = p.asked & from.all;
    std::string why;
    for (const unusable& u : out.machine.not_usable) {
        const cpumask lost = u.cpus & p.asked;
        if (lost.empty()) continue;
        p.dropped.push_back({lost, u.reason});
        why += fmt::format("{}{}: {}", why.empty() ? "" : "; ", cpus_text(lost), u.reason);
    }
    const std::string asked = c.cpus.kind == cpu_wish::form::list ? "cpus \"" + c.cpus.text + "\"" : p.asked_text + " CPUs";
    const auto refuse = [&](const std::string& reason) { out.refusals.push_back({{file, c.cpus.at, "cohort \"" + c.name + "\"", asked + ": " + reason}}); };
    const cpumask outside = (p.asked & out.machine.usable) - from.all;
    if (above && !outside.empty()) refuse(fmt::format("{} {} not of cohort \"{}\", which it is inside of and which has {}", cpus_text(outside), outside.weight() == 1 ? "is" : "are", above->name, cpus_text(above->cpus)));
    else if (p.cpus.empty() && c.cpus.kind != cpu_wish::form::count) refuse("none of them can be used" + (why.empty() ? "" : " (" + why + ")"));
    return p;
}

}  // namespace

namespace detail {

void plan_cpus(const spec& in, const kinship& kin, plan& out) {
    out.cohorts.resize(in.cohorts.size());
    for (const kinship::family& f : kin.families) {
        const cohort_plan* above = f.above < 0 ? nullptr : &out.cohorts[static_cast<std::size_t>(f.above)];
        const parts from(out.machine, above ? above->cpus : out.machine.usable);
        for (const std::size_t i : f.members) out.cohorts[i] = cohort_of(in.cohorts[i], above, from, out, in.file);
        plan_wishes(in, f.members, from.all, out);
    }
}

}  // namespace detail

cpumask asked_cpus(const cpu_wish& wish, const machine_view& machine) { return parts(machine, machine.usable).asked(wish, machine); }

}  // namespace cohort::group
