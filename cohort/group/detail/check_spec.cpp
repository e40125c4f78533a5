// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/check_spec.hpp>

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include <cohort/group/detail/cycles.hpp>
#include <cohort/group/detail/read_cookie.hpp>
#include <cohort/group/spell.hpp>

namespace cohort::group::detail {
namespace {

void check_references(const spec& s, fault_list& faults) {
    std::vector<std::string> cohorts, jobs;
    for (const cohort_spec& c : s.cohorts) cohorts.push_back(c.name);
    for (const job_spec& j : s.jobs) jobs.push_back(j.name);
    for (std::size_t i = 0; i < s.jobs.size(); ++i) {
        const job_spec& j = s.jobs[i];
        const std::string object = j.name.empty() ? fmt::format("job #{}", i + 1) : "job \"" + j.name + "\"";
        if (!j.cohort.empty() && !s.cohort_named(j.cohort)) {
            faults.add(j.cohort_at, object, fmt::format("cohort \"{}\" does not exist{}", j.cohort, did_you_mean(j.cohort, cohorts)));
        }
        for (std::size_t k = 0; k < j.after.size(); ++k) {
            const place at = j.after_at[k];
            if (!j.name.empty() && j.after[k] == j.name) faults.add(at, object, "it waits for itself");
            else if (!s.job_named(j.after[k])) {
                faults.add(at, object, fmt::format("job \"{}\" does not exist{}", j.after[k], did_you_mean(j.after[k], jobs)));
            }
        }
    }
}

void check_pools(const spec& s, fault_list& faults) {
    std::vector<std::string> names;
    for (const cohort_spec& c : s.cohorts) names.push_back(c.name);
    for (const cohort_spec& c : s.cohorts) {
        if (c.pool.of.empty()) continue;
        const cohort_spec* whose = s.cohort_named(c.pool.of);
        const std::string object = "cohort \"" + c.name + "\"";
        if (!whose) faults.add(c.pool.of_at, object, fmt::format("cohort \"{}\" does not exist{}", c.pool.of, did_you_mean(c.pool.of, names)));
        else if (!whose->pool) faults.add(c.pool.of_at, object, fmt::format("cohort \"{}\" has no pool of its own", c.pool.of));
    }
    for (const job_spec& j : s.jobs) {
        const cohort_spec* c = j.kind == job_spec::form::flow ? s.cohort_named(j.cohort) : nullptr;
        if (c && c->pool.at.line == 0) {
            faults.add(j.cohort_at, "job \"" + j.name + "\"", fmt::format("a flow's processes are joined by the pool of their cohort, and cohort \"{}\" has none; give it one: pool = \"256M\"", c->name));
        }
    }
}

void check_apart_from(const spec& s, fault_list& faults) {
    std::vector<std::string> names;
    for (const cohort_spec& c : s.cohorts) names.push_back(c.name);
    for (const cohort_spec& c : s.cohorts) {
        for (const std::string& other : c.cpus.apart_from) {
            const std::string object = "cohort \"" + c.name + "\"";
            if (other == c.name) faults.add(c.cpus.apart_at, object, "it cannot be apart from itself");
            else if (const cohort_spec* o = s.cohort_named(other); !o) faults.add(c.cpus.apart_at, object, fmt::format("cohort \"{}\" does not exist{}", other, did_you_mean(other, names)));
            else if (o->inside != c.inside) faults.add(c.cpus.apart_at, object, fmt::format("it does not stand beside cohort \"{}\": {}", other, o->inside.empty() ? "that one is inside of none" : "that one is inside of \"" + o->inside + "\""));
        }
    }
}

void check_outputs(const spec& s, fault_list& faults) {
    std::map<std::string, const job_spec*> writers;
    for (const job_spec& j : s.jobs) {
        for (const std::string* file : {&j.pipe.output, &j.exec.stdout_file, &j.exec.stderr_file}) {
            if (file->empty() || *file == "/dev/null") continue;
            const auto [it, fresh] = writers.emplace(std::filesystem::path(*file).lexically_normal().string(), &j);
            if (!fresh && it->second != &j) {
                faults.add(j.at, "job \"" + j.name + "\"", fmt::format("it writes \"{}\", so does job \"{}\"", *file, it->second->name));
            }
        }
    }
}

void check_cycles(const spec& s, fault_list& faults) {
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < s.jobs.size(); ++i) by_name.emplace(s.jobs[i].name, i);
    const auto before = [&](std::size_t i) {
        std::vector<std::size_t> out;
        for (const std::string& name : s.jobs[i].after) {
            if (const auto it = by_name.find(name); it != by_name.end() && !name.empty()) out.push_back(it->second);
        }
        return out;
    };
    find_cycles(s.jobs.size(), before, [&](const std::vector<std::size_t>& cycle) {
        std::string text;
        for (const std::size_t i : cycle) text += fmt::format("\"{}\" waits for ", s.jobs[i].name);
        const job_spec& j = s.jobs[cycle.back()];
        faults.add(j.at, "job \"" + j.name + "\"", fmt::format("a cycle in after: {}\"{}\"", text, s.jobs[cycle.front()].name));
    });
}

/// Cohorts inside of cohorts. Whoever is inside of nobody that there is, or in a circle, stands by himself from here on.
void check_inside(spec& s, fault_list& faults) {
    std::map<std::string_view, std::size_t> by_name;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < s.cohorts.size(); ++i) {
        by_name.emplace(s.cohorts[i].name, i);
        names.push_back(s.cohorts[i].name);
    }
    const auto object = [](const cohort_spec& c) { return "cohort \"" + c.name + "\""; };
    for (cohort_spec& c : s.cohorts) {
        if (c.inside_at.line == 0 || (!c.inside.empty() && c.inside != c.name && by_name.contains(c.inside))) continue;
        if (c.inside == c.name && !c.name.empty()) faults.add(c.inside_at, object(c), "it cannot be inside of itself");
        else faults.add(c.inside_at, object(c), fmt::format("cohort \"{}\" does not exist{}", c.inside, did_you_mean(c.inside, names)));
        c.inside.clear();
    }
    const auto above = [&](std::size_t i) { return s.cohorts[i].inside.empty() ? std::vector<std::size_t>{} : std::vector<std::size_t>{by_name.at(s.cohorts[i].inside)}; };
    find_cycles(s.cohorts.size(), above, [&](const std::vector<std::size_t>& cycle) {
        std::string text;
        for (const std::size_t i : cycle) text += fmt::format("\"{}\" is inside of ", s.cohorts[i].name);
        cohort_spec& c = s.cohorts[cycle.back()];
        faults.add(c.inside_at, object(c), fmt::format("a cycle in inside: {}\"{}\"", text, s.cohorts[cycle.front()].name));
        c.inside.clear();
    });
    for (const cohort_spec& c : s.cohorts) {
        const cohort_spec* p = c.inside.empty() ? nullptr : s.cohort_named(c.inside);
        if (!p) continue;
        const auto mine = nodemask::parse_list(c.mems), its = nodemask::parse_list(p->mems);
        if (mine && its && !c.mems.empty() && !p->mems.empty() && !mine->subset_of(*its)) {
            faults.add(c.mems_at, object(c), fmt::format("mems \"{}\": cohort \"{}\", which it is inside of, has nodes {}", c.mems, p->name, its->list()));
        }
        if (p->memory > 0 && c.memory > p->memory) faults.add(c.memory_at, object(c), fmt::format("the limit is larger than that of cohort \"{}\", which it is inside of", p->name));
    }
}

/// What a cohort does not say of its set is that of the one it is inside of, or the spec's.
void resolve_cpuset(spec& s, cohort_spec& c) {
    if (c.cpuset_at.line > 0) return;
    const auto p = std::ranges::find(s.cohorts, c.inside, &cohort_spec::name);
    if (!c.inside.empty() && p != s.cohorts.end()) {
        resolve_cpuset(s, *p);
        c.cpuset = p->cpuset;
    } else if (s.cpuset) {
        c.cpuset = *s.cpuset;
    }
    if (c.cpuset == cpuset_policy::none && (!c.mems.empty() || !c.partition.empty())) c.cpuset = cpuset_policy::prefer;
}

}  // namespace

void check_spec(spec& s, fault_list& faults) {
    check_inside(s, faults);
    for (cohort_spec& c : s.cohorts) resolve_cpuset(s, c);
    resolve_cookies(s, faults);
    check_references(s, faults);
    check_pools(s, faults);
    check_apart_from(s, faults);
    check_outputs(s, faults);
    check_cycles(s, faults);
}

}  // namespace cohort::group::detail
