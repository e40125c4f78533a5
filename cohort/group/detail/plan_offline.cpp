// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_offline.hpp>

#include <map>

#include <fmt/format.h>

namespace cohort::group::detail {
namespace {

using cpuset::verb;

constexpr std::size_t most_tried = 128;

struct state {
    std::string cpus, partition;
};
state state_of(cpuset::model& m, const std::string& set) {
    const auto read = [&](const char* file) { return m.perform({.what = verb::read, .path = set, .file = file}); };
    const auto partition = read("cpuset.cpus.partition");
    return {read(m.is_v1() ? "cpuset.effective_cpus" : "cpuset.cpus.effective").value, partition.ok() ? partition.value : ""};
}

std::string number_of(const cpumask& cpus) { return cpus.weight() == 1 ? cpus_text(cpus) : "one of " + cpus_text(cpus); }

/// What has become of a set whose CPUs went offline.
std::string became(const cohort_plan& c, const state& now, const state& before) {
    const cpumask has = cpumask::parse_list(now.cpus).value_or(cpumask{});
    std::string out;
    if (has.empty()) out = "it has no CPU left";
    else if (!has.subset_of(c.cpus)) out = "its jobs run on " + cpus_text(has) + ", which are others'";
    else out = "its jobs run on " + cpus_text(has);
    if (now.partition != before.partition) out += fmt::format("; its partition becomes \"{}\"", now.partition);
    else if (!now.partition.empty() && now.partition != "member") out += "; its partition stays " + now.partition;
    return out;
}

void try_offline(cohort_plan& c, const cpuset::model& with_sets) {
    cpuset::model m = with_sets.clone();
    // A partition with tasks in it may not be without CPUs; an empty one may.
    m.perform({.what = verb::attach, .path = c.keep.set, .task = "job"});
    const state before = state_of(m, c.keep.set);
    const int first = *c.cpus.begin();
    std::size_t gone = 0;
    for (const int cpu : c.cpus) {
        if (const auto a = m.perform({.what = verb::cpu, .number = cpu, .on = false}); !a.ok()) {
            c.if_offline.push_back(fmt::format("CPU {} cannot go offline: {}", cpu, a.why));
            return;
        }
        ++gone;
        if (cpu == first) c.if_offline.push_back(fmt::format("with {} offline {}", number_of(c.cpus), became(c, state_of(m, c.keep.set), before)));
    }
    if (gone > 1) c.if_offline.push_back(fmt::format("with all of {} offline {}", cpus_text(c.cpus), became(c, state_of(m, c.keep.set), before)));
}

/// Sets in the same place with the same CPUs are members, as a partition's CPUs are nobody else's; they come to the same.
std::string sort_of(const cohort_plan& c) { return c.keep.set.substr(0, c.keep.set.rfind('/') + 1) + " " + c.cpus.list(); }

}  // namespace

void offline_in_sets(plan& out, const cpuset::model& with_sets) {
    std::map<std::string, const cohort_plan*> tried;
    std::size_t sets = 0, told = 0;
    for (cohort_plan& c : out.cohorts) {
        if (c.keep.by != keeping::form::kernel) continue;
        ++sets;
        const auto [of, first] = tried.try_emplace(sort_of(c), &c);
        if (first && tried.size() > most_tried) {
            tried.erase(of);
            continue;
        }
        ++told;
        if (first) try_offline(c, with_sets);
        else c.if_offline = of->second->if_offline;
    }
    if (told < sets) out.notes.push_back(fmt::format("what a CPU that goes offline does was tried for {} of {} sets", told, sets));
}

void offline_by_affinity(cohort_plan& c, const plan& p) {
    if (c.keep.by == keeping::form::kernel || c.cpus.empty()) return;
    std::string all = fmt::format("with {} offline", c.cpus.weight() == 1 ? cpus_text(c.cpus) : "all of " + cpus_text(c.cpus));
    if (c.cpus == p.machine.possible) return;  // a machine without CPUs does nothing
    if (c.cpus.weight() > 1) c.if_offline.push_back(fmt::format("with {} offline its jobs run on the others", number_of(c.cpus)));
    all += c.keep.by == keeping::form::emulated ? " its commands run on any CPU of this program's set, and are not brought back" : " its jobs run on any CPU of this program's set: the kernel drops an affinity that has no CPU left";
    if (c.cookie.by == cookie_keeping::form::cores) all += "; its cookie is not kept then";
    c.if_offline.push_back(all);
}

}  // namespace cohort::group::detail
