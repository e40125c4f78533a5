// SPDX-License-Identifier: Apache-2.0
/// A plan: what bringing a spec up on a machine will do, before anything is done. Pure data from a pure function.
///
///     std::vector<fault> beyond = check_cpus(spec, machine);       // CPUs that the machine does not have at all
///     plan p = make_plan(spec, machine, "/where/paths/start");
///     if (!p.holds()) for (const refusal& r : p.refusals) print(r.line());
///     for (const step& s : p.steps) print(s.text(), s.undo_text());
///
/// Kernel: none. The words online, possible and affinity are the kernel's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/cpuset/operation.hpp>
#include <cohort/group/spec.hpp>

namespace cohort::group {

/// CPUs that this process may not use, and why.
struct unusable {
    cpumask cpus;
    std::string reason;  // "offline", "not in this process's affinity", ...
};
inline constexpr const char* offline_reason = "offline";

struct cpuset_view;

/// What a plan has to know of a machine; the machine may be one that is not there.
struct machine_view {
    std::string name;           // live, synthetic:..., file.xml
    bool live = false;
    cpumask possible;
    cpumask usable;
    std::vector<unusable> not_usable;  // one entry a reason; together possible minus usable
    std::vector<int> order;            // possible CPUs, those that share most next to each other
    std::vector<int> core;             // core[cpu]: which physical core; -1 for a number that is no CPU
    std::vector<int> node;             // node[cpu]: its memory; -1 likewise
    std::optional<double> cpu_limit;   // cpu.max as a number of CPUs
    std::string cpu_limit_reason;      // which cgroup says so
    std::string no_core_scheduling = "the machine is not there, and what its kernel has is not known";  // why its kernel keeps no cookies; empty: it does
    std::shared_ptr<const cpuset_view> cpusets;  // null: not looked at (cpuset_view.hpp)

    /// -1 for a number that is no CPU.
    int core_of(int cpu) const { return entry(core, cpu); }
    int node_of(int cpu) const { return entry(node, cpu); }
    /// These CPUs by core: cores, and CPUs in each, in the machine's order; one without a core stands alone. Cost: all CPUs.
    std::vector<std::vector<int>> by_core(const cpumask& of) const;

private:
    static int entry(const std::vector<int>& of, int cpu) { return cpu >= 0 && static_cast<std::size_t>(cpu) < of.size() ? of[static_cast<std::size_t>(cpu)] : -1; }
};

/// By what a cohort's CPUs and nodes are kept.
struct keeping {
    enum class form {
        affinity,  // set once, before a job's first instruction
        emulated,  // affinity and memory policy, looked after while its commands run
        kernel,    // a set of the kernel's
    };
    cpuset_policy policy = cpuset_policy::none;
    form by = form::affinity;
    std::string backend = "affinity";  // "cgroup v2 at /sys/fs/cgroup"
    std::string set = {};              // kernel: the set, from the top
    std::string procs = {};            // kernel: the file that takes processes
    std::string partition = {};        // asked for; kernel, version 2: what the set is
    nodemask mems = {};                // empty: any
    std::string fallback = {};         // why it is not the kernel, where that was wanted

    /// "set cohort-web, cgroup v2 at /sys/fs/cgroup, partition root, nodes 0".
    std::string text() const;
};

/// By what a cohort is kept off cores on which others run at the same time.
struct cookie_keeping {
    enum class form {
        nothing,
        cores,     // no job with another cookie may run on a sibling while its own run
        executor,  // blocks of pipes wait for each other (coresched/executor.hpp)
        kernel,    // PR_SCHED_CORE
    };
    std::string name = {};      // the cookie; empty: none
    std::vector<std::string> parts = {};  // what it is made of
    cookie_policy policy = cookie_policy::prefer;
    form by = form::nothing;
    std::string fallback = {};  // why it is not the kernel
    std::string unkept = {};    // why it is nothing
    bool passes_gate = false;   // its pipes pass the executor's gate: for its own cookie, or another's

    /// "kept by whole cores (not by the kernel: ...)".
    std::string text() const;
};
const char* form_name(cookie_keeping::form by);

struct cohort_plan {
    std::string name;
    std::string inside = {};           // the cohort of whose CPUs it has some; empty: none
    std::string asked_text;            // all usable; "0-3"; part 1/2; 4, whole cores, on one node, apart from "web"
    cpumask asked;
    cpumask cpus;                      // asked and usable
    std::vector<unusable> dropped;     // asked and not usable
    std::vector<unusable> shared;      // CPUs that another cohort has too; reason: its name
    cpumask siblings_elsewhere;        // CPUs here whose core has a CPU of another cohort
    keeping keep;
    cookie_keeping cookie;
    std::uint64_t memory = 0;          // limit of its account group; 0: none
    pool_spec pool;
    std::vector<std::string> jobs;
    std::vector<std::string> enforced, advisory;
    std::vector<std::string> if_offline;   // what breaks when CPUs of it go offline
};

/// A job with its paths made absolute and its CPUs known.
struct job_plan {
    job_spec spec;
    cpumask cpus;
    int threads = 1;   // pipe, flow: workers; exec: instances
    std::uint64_t memory = 0;  // pipe: its share of the cohort's memory; 0: no limit
    int wave = 1;      // 1: starts at once; n: after jobs of wave n-1
    std::string cwd;
};

/// One thing that will be done, and how it is undone.
struct step {
    enum class form { claim_name, make_directory, check_command, check_input, check_output, change_cpuset, make_pool, run_job };
    form kind = form::run_job;
    std::string object;  // `cohort "left"`, `job "pack"`
    std::string target;  // the name, path or command it is about
    cpuset::operation change = {};             // change_cpuset
    std::vector<cpuset::operation> undo = {};  // of it, at the end

    std::string text() const;
    std::string undo_text() const;  // empty: changes nothing
    bool operator==(const step&) const = default;
};

/// What cookies will do to the cores on which they stand, while every cohort there has work for each of its CPUs: simulated (coresched/scenario.hpp), and so as good as those rules are.
struct foresight {
    struct course {
        std::string policy;            // kernel (core scheduling), unprotected (no cookies), nosmt (one thread a core)
        double throughput = 0;         // CPUs' worth of work, of all these cores
        double forced_idle = 0;        // of their CPUs' time: 0 .. 1
    };
    struct tenant {
        std::string name = {};         // the cohort
        int cpus = 0;                  // of these cores
        double work = 0, work_unprotected = 0;  // CPUs' worth, under the kernel's rules and without cookies
        double forces_idle = 0;        // CPUs' worth of others' idleness that is charged to it
    };
    double smt_yield = 1;              // what a core with all siblings busy does, against one busy
    std::size_t cores = 0, kinds = 0;  // simulated: so many cores, of so many kinds
    std::size_t left_out = 0;          // cores with cookies that were not
    std::vector<course> courses = {};
    std::vector<tenant> tenants = {};  // in the order of the plan
    std::optional<double> pays_from_yield = {};  // the yield at which core scheduling does as much as nosmt; unset: at none
};

/// Why a plan cannot hold on its machine.
struct refusal {
    fault what;
    bool unsupported = false;  // this machine has no means for it
    std::string line() const { return what.line(); }
};

struct plan {
    std::string file;
    machine_view machine;
    std::string workdir;  // absolute
    bool stop_on_failure = false;
    bool cores_declared = false;  // the spec says which CPUs are siblings
    std::vector<cohort_plan> cohorts;
    std::vector<job_plan> jobs;   // in the order of the spec
    std::vector<step> steps;      // in the order of execution; jobs of one wave run at the same time
    std::optional<foresight> foreseen;  // where cookies stand on cores with several CPUs
    std::vector<std::string> notes;
    std::vector<refusal> refusals;

    bool holds() const { return refusals.empty(); }
    /// It does not, and the reason is what this machine has.
    bool unsupported() const;
    int waves() const;
};

/// Faults of a spec against a machine: CPU (also in declared cores) and node numbers that do not exist there (offline CPUs do exist), nodes without memory, CPUs that somebody names beside a partition that
/// names them. Expects a spec whose lists parse;
/// others are skipped.
std::vector<fault> check_cpus(const spec& s, const machine_view& machine);

/// Needs a spec without faults. `here`: the absolute directory where relative paths start. Cost: cohorts^2 + CPUs; 1,000 cohorts on
/// 8,192 CPUs take well under a second.
plan make_plan(const spec& s, const machine_view& machine, const std::string& here);

/// The CPUs that a wish names on a machine, usable or not; empty when the list does not fit the machine.
cpumask asked_cpus(const cpu_wish& wish, const machine_view& machine);

/// The plan as people read it; `width` columns.
std::string plan_text(const plan& p);

/// The same as JSON, with schema_version 1.
std::string plan_json(const plan& p);

/// "CPU 0", "CPUs 0-3,8", "no CPU".
std::string cpus_text(const cpumask& cpus);

}  // namespace cohort::group
