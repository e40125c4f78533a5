// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/check_spec.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include <fmt/format.h>

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
            else if (!s.cohort_named(other)) faults.add(c.cpus.apart_at, object, fmt::format("cohort \"{}\" does not exist{}", other, did_you_mean(other, names)));
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

/// A walk in depth along `after`; a job met again while it is still open closes a cycle, reported once.
void check_cycles(const spec& s, fault_list& faults) {
    std::map<std::string_view, int> color;  // 0 new, 1 open, 2 done
    std::vector<const job_spec*> path;
    const std::function<void(const job_spec&)> visit = [&](const job_spec& j) {
        color[j.name] = 1;
        path.push_back(&j);
        for (const std::string& before : j.after) {
            const job_spec* next = s.job_named(before);
            if (!next || next == &j) continue;
            if (color[next->name] == 0) {
                visit(*next);
            } else if (color[next->name] == 1) {
                std::string text;
                for (auto it = std::find(path.begin(), path.end(), next); it != path.end(); ++it) text += "\"" + (*it)->name + "\" waits for ";
                faults.add(j.at, "job \"" + j.name + "\"", "a cycle in after: " + text + "\"" + next->name + "\"");
            }
        }
        path.pop_back();
        color[j.name] = 2;
    };
    for (const job_spec& j : s.jobs) {
        if (!j.name.empty() && color[j.name] == 0) visit(j);
    }
}

}  // namespace

void check_spec(const spec& s, fault_list& faults) {
    check_references(s, faults);
    check_pools(s, faults);
    check_apart_from(s, faults);
    check_outputs(s, faults);
    check_cycles(s, faults);
}

}  // namespace cohort::group::detail
