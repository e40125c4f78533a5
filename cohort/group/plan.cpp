// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/plan.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/detail/foresee.hpp>
#include <cohort/group/detail/kinship.hpp>
#include <cohort/group/detail/plan_cookies.hpp>
#include <cohort/group/detail/plan_cpus.hpp>
#include <cohort/group/detail/plan_cpusets.hpp>
#include <cohort/group/detail/plan_offline.hpp>
#include <cohort/group/quantity.hpp>

namespace cohort::group {
namespace {

namespace fs = std::filesystem;

std::string absolute(const std::string& path, const std::string& base) {
    return path.empty() ? path : (fs::path(base) / path).lexically_normal().string();
}

/// The cores of a set of CPUs, as a set of core numbers.
std::set<int> cores_of(const cpumask& cpus, const machine_view& m) {
    std::set<int> out;
    for (int cpu : cpus) {
        if (const int core = m.core_of(cpu); core >= 0) out.insert(core);
    }
    return out;
}

struct planner {
    const spec& in;
    const machine_view& machine;
    const detail::kinship kin;
    plan out;
    std::vector<step> cpuset_steps = {};

    void sharing();
    void promises();
    void jobs();
    void share_memory();
    void waves();
    void steps();
    void checks(const job_plan& j);
    bool written_by_a_job(const std::string& path) const;
};

void planner::sharing() {
    // Who has a CPU is written down once per CPU, so that cohorts that do not touch cost nothing.
    std::vector<std::vector<int>> holders(max_cpus);
    std::map<int, std::set<int>> core_holders;
    for (std::size_t i = 0; i < out.cohorts.size(); ++i) {
        for (int cpu : out.cohorts[i].cpus) holders[static_cast<std::size_t>(cpu)].push_back(static_cast<int>(i));
        for (int core : cores_of(out.cohorts[i].cpus, machine)) core_holders[core].insert(static_cast<int>(i));
    }
    for (std::size_t i = 0; i < out.cohorts.size(); ++i) {
        cohort_plan& c = out.cohorts[i];
        std::map<int, cpumask> with;
        // That those inside of a cohort have CPUs of it says nothing.
        const auto stranger = [&](int other) { return other != static_cast<int>(i) && !kin.related(i, static_cast<std::size_t>(other)); };
        for (int cpu : c.cpus) {
            bool alone = true;
            for (const int other : holders[static_cast<std::size_t>(cpu)]) {
                if (!stranger(other)) continue;
                with[other].set(cpu);
                alone = false;
            }
            const int core = machine.core_of(cpu);
            if (core >= 0 && alone && std::ranges::any_of(core_holders[core], stranger)) c.siblings_elsewhere.set(cpu);
        }
        for (auto& [other, cpus] : with) c.shared.push_back({cpus, out.cohorts[static_cast<std::size_t>(other)].name});
    }
}

void planner::promises() {
    const std::vector<cpumask> cores = detail::cores_with_siblings(machine);
    for (cohort_plan& c : out.cohorts) {
        if (c.cpus.empty()) continue;
        detail::promise_cpus(c, out);
        detail::promise_cookie(c, cores);
        detail::offline_by_affinity(c, out);
        if (c.memory > 0) {
            c.enforced.push_back("blocks of its pipes take at most " + human_bytes(static_cast<double>(c.memory)) + " together: charged to its account group");
            c.advisory.push_back("memory of its exec jobs is not limited: that needs a memory cgroup");
        }
        if (c.pool) c.enforced.push_back("its processes share a pool of " + c.pool.text());
        if (!c.pool.of.empty()) c.enforced.push_back("its processes share a pool: " + c.pool.text());
        if (!c.siblings_elsewhere.empty()) {
            c.advisory.push_back(cpus_text(c.siblings_elsewhere) + (c.siblings_elsewhere.weight() == 1 ? " shares its core" : " share their cores") +
                                 " with another cohort" + (c.cookie.name.empty() ? ": it has no cookie" : ""));
        }
    }
    if (machine.cpu_limit) {
        out.notes.push_back(fmt::format("all cohorts together get at most {:.2f} CPUs of time: {}", *machine.cpu_limit, machine.cpu_limit_reason));
    }
}

void planner::jobs() {
    std::map<std::string_view, cohort_plan*> by_name;
    for (cohort_plan& c : out.cohorts) by_name.emplace(c.name, &c);
    for (const job_spec& j : in.jobs) {
        job_plan p;
        p.spec = j;
        const auto owner = by_name.find(j.cohort);
        if (owner != by_name.end()) {
            p.cpus = owner->second->cpus;
            owner->second->jobs.push_back(j.name);
        }
        pipe_spec& pipe = p.spec.pipe;
        exec_spec& exec = p.spec.exec;
        for (std::string* path : {&pipe.input, &pipe.output, &pipe.plugin, &exec.stdin_file, &exec.stdout_file, &exec.stderr_file}) {
            *path = absolute(*path, out.workdir);
        }
        p.cwd = exec.cwd.empty() ? out.workdir : absolute(exec.cwd, out.workdir);
        p.threads = j.kind == job_spec::form::exec ? exec.instances : pipe.threads > 0 ? pipe.threads : std::max(1, p.cpus.weight());
        if (j.streams() && pipe.threads > p.cpus.weight() && !p.cpus.empty()) {
            out.notes.push_back(fmt::format("job \"{}\": {} threads share {}", j.name, pipe.threads, cpus_text(p.cpus)));
        }
        out.jobs.push_back(std::move(p));
    }
    share_memory();
}

/// Each pipe gets its share of the least limit over it: pipes of cohorts that are inside of others count in all of them.
void planner::share_memory() {
    std::map<std::string_view, std::size_t> number;
    for (std::size_t i = 0; i < in.cohorts.size(); ++i) number.emplace(in.cohorts[i].name, i);
    std::vector<std::uint64_t> pipes(in.cohorts.size());
    const auto over = [&](const job_plan& j, const auto& each) {
        const auto owner = number.find(j.spec.cohort);
        if (owner == number.end() || j.spec.kind != job_spec::form::pipe) return;
        for (int i = static_cast<int>(owner->second); i >= 0; i = kin.above[static_cast<std::size_t>(i)]) each(static_cast<std::size_t>(i));
    };
    for (const job_plan& j : out.jobs) over(j, [&](std::size_t i) { ++pipes[i]; });
    for (job_plan& j : out.jobs) {
        over(j, [&](std::size_t i) {
            if (in.cohorts[i].memory == 0) return;
            const std::uint64_t share = std::max<std::uint64_t>(in.cohorts[i].memory / pipes[i], 1);
            j.memory = j.memory == 0 ? share : std::min(j.memory, share);
        });
    }
}

/// `after` has no cycles (the spec was checked), so as many rounds as jobs are enough; most specs need two or three.
void planner::waves() {
    std::map<std::string_view, job_plan*> by_name;
    for (job_plan& j : out.jobs) by_name.emplace(j.spec.name, &j);
    for (bool moved = true; moved;) {
        moved = false;
        for (job_plan& j : out.jobs) {
            for (const std::string& before : j.spec.after) {
                const auto it = by_name.find(before);
                if (it != by_name.end() && j.wave <= it->second->wave && it->second->wave < static_cast<int>(out.jobs.size())) {
                    j.wave = it->second->wave + 1;
                    moved = true;
                }
            }
        }
    }
}

bool planner::written_by_a_job(const std::string& path) const {
    return std::any_of(out.jobs.begin(), out.jobs.end(), [&](const job_plan& j) {
        return j.spec.pipe.output == path || j.spec.exec.stdout_file == path || j.spec.exec.stderr_file == path;
    });
}

void planner::checks(const job_plan& j) {
    const std::string object = "job \"" + j.spec.name + "\"";
    const auto add = [&](step::form kind, const std::string& target) {
        step s{kind, object, target};
        if (!target.empty() && std::find(out.steps.begin(), out.steps.end(), s) == out.steps.end()) out.steps.push_back(std::move(s));
    };
    for (const command_line* c : {&j.spec.pipe.input_command, &j.spec.pipe.output_command, &j.spec.pipe.command, &j.spec.exec.command, &j.spec.verify}) {
        if (c->empty()) continue;
        // A relative program with a slash is looked for where the job will stand.
        const std::string& word = c->words.front();
        add(step::form::check_command, word.find('/') == std::string::npos ? word : absolute(word, j.cwd));
    }
    for (const std::string* file : {&j.spec.pipe.input, &j.spec.pipe.plugin, &j.spec.exec.stdin_file}) {
        // What comes from an earlier job cannot be there yet; a name for each instance is looked for when it starts.
        if (file->find("{instance}") != std::string::npos) continue;
        if (j.spec.after.empty() && !written_by_a_job(*file)) add(step::form::check_input, *file);
        else if (j.spec.after.empty() && !file->empty()) out.notes.push_back(fmt::format("{}: {} is written by another job; say so in after", object, *file));
    }
    for (const std::string* file : {&j.spec.pipe.output, &j.spec.exec.stdout_file, &j.spec.exec.stderr_file}) add(step::form::check_output, *file);
}

void planner::steps() {
    for (const cohort_plan& c : out.cohorts) out.steps.push_back({step::form::claim_name, "cohort \"" + c.name + "\"", c.name});
    if (!in.workdir.empty()) out.steps.push_back({step::form::make_directory, "workdir", out.workdir});
    for (const job_plan& j : out.jobs) checks(j);
    std::move(cpuset_steps.begin(), cpuset_steps.end(), std::back_inserter(out.steps));
    for (const cohort_plan& c : out.cohorts) {
        if (c.pool) out.steps.push_back({step::form::make_pool, "cohort \"" + c.name + "\"", c.pool.text()});
    }
    for (int wave = 1; wave <= out.waves(); ++wave) {
        for (const job_plan& j : out.jobs) {
            if (j.wave == wave) out.steps.push_back({step::form::run_job, "job \"" + j.spec.name + "\"", j.spec.name});
        }
    }
}

}  // namespace

std::string cpus_text(const cpumask& cpus) {
    const int n = cpus.weight();
    return n == 0 ? "no CPU" : (n == 1 ? "CPU " : "CPUs ") + cpus.list();
}

std::string step::text() const {
    switch (kind) {
        case form::claim_name: return object + ": take the name";
        case form::make_directory: return "make directory " + target + " if it is missing";
        case form::check_command: return object + ": find command " + target;
        case form::check_input: return object + ": see that " + target + " can be read";
        case form::check_output: return object + ": see that " + target + " can be written";
        case form::change_cpuset: return object + ": " + cpuset::to_line(change);
        case form::make_pool: return object + ": make its pool, " + target;
        case form::run_job: return object + ": run";
    }
    return {};
}

std::string step::undo_text() const {
    switch (kind) {
        case form::claim_name: return "give it back";
        case form::make_pool: return "its memory goes, whoever had it";
        case form::make_directory: return "remove it if made here and empty";
        case form::run_job: return "end its processes, remove unfinished output";
        case form::change_cpuset: {
            std::string out;
            for (const cpuset::operation& op : undo) out += (out.empty() ? "" : "; ") + cpuset::to_line(op);
            return out;
        }
        default: return {};
    }
}

bool plan::unsupported() const {
    return std::any_of(refusals.begin(), refusals.end(), [](const refusal& r) { return r.unsupported; });
}

int plan::waves() const {
    int most = 0;
    for (const job_plan& j : jobs) most = std::max(most, j.wave);
    return most;
}

namespace {

void check_nodes(const spec& s, const cohort_spec& c, const machine_view& machine, std::vector<fault>& out) {
    if (c.mems.empty() || !machine.cpusets) return;
    const machine::topology& there = machine.cpusets->machine;
    const nodemask wanted = nodemask::parse_list(c.mems).value_or(nodemask{}), missing = wanted - there.node_numbers();
    const auto fault_of = [&](const std::string& text) { out.push_back({s.file, c.mems_at, "cohort \"" + c.name + "\"", fmt::format("mems \"{}\": {}", c.mems, text)}); };
    if (!missing.empty()) return fault_of(fmt::format("machine {} has nodes {}, not {}", machine.name, there.node_numbers().list(), missing.list()));
    // Where no node's memory is known, nothing can be said.
    nodemask with;
    for (const auto& n : there.nodes) {
        if (n.memory_bytes > 0) with.set(n.number);
    }
    if (const nodemask without = wanted - with; !with.empty() && !without.empty()) fault_of(fmt::format("{} {} no memory; nodes {} have", without.weight() == 1 ? "node " + without.list() : "nodes " + without.list(), without.weight() == 1 ? "has" : "have", with.list()));
}

/// CPUs that one cohort names for a partition, which is for itself alone, and another names, too.
void check_claims(const spec& s, const machine_view& machine, std::vector<fault>& out) {
    const auto kin = detail::kinship_of(s);
    const auto named = [&](const cohort_spec& c) { return c.cpus.kind == cpu_wish::form::list ? cpumask::parse_list(c.cpus.text, machine.possible.last() + 1).value_or(cpumask{}) : cpumask{}; };
    const auto alone = [](const cohort_spec& c) { return c.partition == "root" || c.partition == "isolated"; };
    std::vector<std::size_t> first(static_cast<std::size_t>(machine.possible.last()) + 1, s.cohorts.size());  // who names a CPU for a partition
    for (std::size_t i = 0; i < s.cohorts.size(); ++i) {
        if (!alone(s.cohorts[i])) continue;
        for (const int cpu : named(s.cohorts[i])) {
            if (std::size_t& who = first[static_cast<std::size_t>(cpu)]; who == s.cohorts.size()) who = i;
        }
    }
    for (std::size_t i = 0; i < s.cohorts.size(); ++i) {
        const cohort_spec& c = s.cohorts[i];
        std::map<std::size_t, cpumask> twice;
        for (const int cpu : named(c)) {
            const std::size_t who = first[static_cast<std::size_t>(cpu)];
            if (who < s.cohorts.size() && who != i && !kin.related(i, who)) twice[who].set(cpu);
        }
        for (const auto& [who, cpus] : twice) {
            const cohort_spec& other = s.cohorts[who];
            out.push_back({s.file, c.cpus.at, "cohort \"" + c.name + "\"", fmt::format("cpus \"{}\": {} {} wanted twice: cohort \"{}\" in line {} wants {} alone, as a partition", c.cpus.text, cpus_text(cpus), cpus.weight() == 1 ? "is" : "are", other.name, other.cpus.at.line, cpus.weight() == 1 ? "it" : "them")});
        }
    }
}

}  // namespace

std::vector<fault> check_cpus(const spec& s, const machine_view& machine) {
    std::vector<fault> out;
    for (const cpumask& core : s.cores) {
        const cpumask missing = core - machine.possible;
        if (!missing.empty()) out.push_back({s.file, s.cores_at, "machine", fmt::format("cores \"{}\": machine {} has {}, not {}", core.list(), machine.name, cpus_text(machine.possible), cpus_text(missing))});
    }
    for (const cohort_spec& c : s.cohorts) check_nodes(s, c, machine, out);
    check_claims(s, machine, out);
    for (const cohort_spec& c : s.cohorts) {
        if (c.cpus.kind != cpu_wish::form::list || !cpumask::parse_list(c.cpus.text)) continue;
        const auto here = cpumask::parse_list(c.cpus.text, machine.possible.last() + 1);
        std::string beyond;
        if (!here && here.error().code == ERANGE) {
            // Without N in the list the missing numbers can be named.
            const bool names_last = c.cpus.text.find('N') != std::string::npos;
            if (!names_last) beyond = cpus_text(*cpumask::parse_list(c.cpus.text) - machine.possible);
        } else if (!here) {
            out.push_back({s.file, c.cpus.at, "cohort \"" + c.name + "\"", fmt::format("cpus \"{}\": {} (machine {})", c.cpus.text, here.error().reason, machine.name)});
            continue;
        } else if (const cpumask missing = *here - machine.possible; !missing.empty()) {
            beyond = cpus_text(missing);
        } else {
            continue;
        }
        out.push_back({s.file, c.cpus.at, "cohort \"" + c.name + "\"",
                       fmt::format("cpus \"{}\": machine {} has {}{}", c.cpus.text, machine.name, cpus_text(machine.possible),
                                   beyond.empty() ? "" : ", not " + beyond)});
    }
    return out;
}

namespace {

/// CPUs of declared cores leave those that the machine has them in.
machine_view with_declared_cores(machine_view m, const spec& s) {
    int next = m.core.empty() ? 0 : *std::max_element(m.core.begin(), m.core.end()) + 1;
    for (const cpumask& core : s.cores) {
        for (int cpu : core & m.possible) m.core[static_cast<std::size_t>(cpu)] = next;
        ++next;
    }
    if (!s.cores.empty() && m.no_core_scheduling.empty()) m.no_core_scheduling = "it knows nothing of cores that a spec declares";
    return m;
}

}  // namespace

plan make_plan(const spec& s, const machine_view& found, const std::string& here) {
    const machine_view machine = with_declared_cores(found, s);
    planner p{s, machine, detail::kinship_of(s), {}};
    p.out.file = s.file;
    p.out.machine = machine;
    p.out.cores_declared = !s.cores.empty();
    p.out.workdir = s.workdir.empty() ? fs::path(here).lexically_normal().string() : absolute(s.workdir, here);
    p.out.stop_on_failure = s.stop_on_failure;
    detail::plan_cpus(s, p.kin, p.out);
    detail::plan_cookies(s, p.kin, p.out);
    p.sharing();
    p.jobs();
    p.cpuset_steps = detail::plan_cpusets(s, p.kin, p.out);
    p.promises();
    p.waves();
    p.steps();
    p.out.foreseen = detail::foresee(s, p.out);
    return std::move(p.out);
}

}  // namespace cohort::group
