// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_cpusets.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/cpuset/live_affinity.hpp>
#include <cohort/cpuset/plan.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/detail/plan_offline.hpp>

namespace cohort::group::detail {
namespace {

using cpuset::operation;
using cpuset::verb;

/// A cohort that asks for a set.
struct candidate {
    cohort_plan* cohort;
    const cohort_spec* spec;
    std::size_t number;
};

/// Of a cohort's own processes, where others' sets stand in its set.
constexpr std::string_view leaf = "jobs";

bool is_partition(std::string_view word) { return word == "root" || word == "isolated"; }

class set_planner {
public:
    set_planner(const spec& in, const kinship& kin, plan& out) : in_(in), kin_(kin), out_(out), view_(out.machine.cpusets.get()) {}

    std::vector<step> run() {
        std::vector<candidate> wanted;  // those inside of others after them
        for (const std::size_t i : in_order()) {
            cohort_plan& c = out_.cohorts[i];
            const cohort_spec& s = in_.cohorts[i];
            c.keep.policy = s.cpuset;
            c.keep.partition = s.partition;
            c.keep.mems = nodemask::parse_list(s.mems).value_or(nodemask{});
            if (s.cpuset == cpuset_policy::none || c.cpus.empty()) continue;
            if (s.cpuset == cpuset_policy::emulate) emulate(c);
            else if (const std::string why = in_the_way(c); !why.empty()) do_without({&c, &s, i}, why);
            else wanted.push_back({&c, &s, i});
        }
        std::vector<step> steps = make_sets(wanted);
        if (view_) out_.notes.insert(out_.notes.end(), view_->notes.begin(), view_->notes.end());
        return steps;
    }

private:
    std::vector<std::size_t> in_order() const {
        std::vector<std::size_t> out;
        for (const kinship::family& f : kin_.families) out.insert(out.end(), f.members.begin(), f.members.end());
        return out;
    }

    std::string in_the_way(const cohort_plan& c) const {
        if (!view_) return "the machine's cpusets were not looked at";
        if (!view_->barred.empty()) return view_->barred;
        for (const job_plan& j : out_.jobs) {
            if (j.spec.cohort == c.name && j.spec.kind == job_spec::form::pipe) {
                return fmt::format("the workers of pipe \"{}\" are threads of this program, and a set takes whole processes", j.spec.name);
            }
        }
        if (view_->tree->is_v1() && c.keep.policy == cpuset_policy::require && (c.keep.partition == "root" || c.keep.partition == "isolated")) {
            return view_->about + " has no partitions";
        }
        return {};
    }

    void emulate(cohort_plan& c) {
        if (!view_) return;  // what would be looked after is not known
        c.keep.by = keeping::form::emulated;
        c.keep.backend = "affinities and memory policies";
    }
    void do_without(const candidate& c, const std::string& why) {
        if (c.spec->cpuset == cpuset_policy::require) {
            out_.refusals.push_back({{in_.file, c.spec->at, "cohort \"" + c.spec->name + "\"", "cpuset = \"require\": " + why}});
            return;
        }
        emulate(*c.cohort);
        c.cohort->keep.fallback = "no set of the kernel's: " + why;
    }

    /// Below the set of the nearest of `all` that it is inside of.
    std::string path_of(const candidate& c, const std::vector<candidate>& all) const {
        const candidate* above = nullptr;
        for (int i = kin_.above[c.number]; i >= 0 && !above; i = kin_.above[static_cast<std::size_t>(i)]) {
            const auto it = std::ranges::find(all, static_cast<std::size_t>(i), &candidate::number);
            if (it != all.end()) above = &*it;
        }
        const std::string under = above ? path_of(*above, all) : view_->under;
        return (under.empty() ? "" : under + "/") + "cohort-" + c.spec->name;
    }
    bool has_jobs(const candidate& c) const {
        return std::ranges::any_of(out_.jobs, [&](const job_plan& j) { return j.spec.cohort == c.spec->name; });
    }
    /// Its processes stand in a set below its own: version 2 has none in sets that hand CPUs on.
    bool needs_leaf(const candidate& c, const std::vector<candidate>& all) const {
        return !view_->tree->is_v1() && has_jobs(c) && std::ranges::any_of(all, [&](const candidate& o) { return kin_.within(o.number, c.number); });
    }
    /// The CPUs of partitions inside of it, which are not its own while those are.
    cpumask taken_from(const candidate& c, const std::vector<candidate>& all) const {
        cpumask out;
        for (const candidate& o : all) {
            if (!view_->tree->is_v1() && kin_.within(o.number, c.number) && is_partition(o.cohort->keep.partition)) out |= o.cohort->cpus;
        }
        return out;
    }
    /// A partition below a member has its CPUs from further up, where all sets between hand them down by cpuset.cpus.exclusive: what this one has to.
    cpumask kept_for_remote(const candidate& c, const std::vector<candidate>& all) const {
        cpumask out;
        for (const candidate& o : all) {
            if (!is_partition(o.cohort->keep.partition) || (o.number != c.number && !kin_.within(o.number, c.number))) continue;
            const bool below_a_member = std::ranges::any_of(all, [&](const candidate& between) { return kin_.within(o.number, between.number) && !is_partition(between.cohort->keep.partition); });
            if (below_a_member) out |= o.cohort->cpus;
        }
        return out;
    }
    const char* effective_file() const { return view_->tree->is_v1() ? "cpuset.effective_cpus" : "cpuset.cpus.effective"; }
    static cpumask cpus_of(cpuset::model& m, const std::string& path, const char* file) {
        return cpumask::parse_list(m.perform({.what = verb::read, .path = path == "." ? "" : path, .file = file}).value).value_or(cpumask{});
    }

    cpuset::target_set wish_of(const candidate& c, const std::vector<candidate>& all, cpuset::model& m) const {
        cpuset::target_set t{.path = path_of(c, all), .cpus = c.cohort->cpus};
        if (!c.cohort->keep.mems.empty()) t.mems = c.cohort->keep.mems;
        if (!m.is_v1()) {
            if (!c.cohort->keep.partition.empty()) t.partition = c.cohort->keep.partition;
            // Kernels that know of it say at the top what is isolated, since the same one (6.7).
            const bool known = m.perform({.what = verb::read, .path = "", .file = "cpuset.cpus.isolated"}).ok();
            if (const cpumask kept = kept_for_remote(c, all); known && !kept.empty()) t.exclusive = kept;
            return t;
        }
        // A new set of version 1 has no nodes.
        if (!t.mems) t.mems = nodemask::parse_list(m.perform({.what = verb::read, .path = view_->under, .file = "cpuset.effective_mems"}).value).value_or(nodemask{});
        if (c.cohort->keep.partition == "root" || c.cohort->keep.partition == "isolated") t.flags["cpuset.cpu_exclusive"] = "1";
        return t;
    }

    struct attempt {
        std::vector<operation> leftovers;  // sets of runs that were killed
        cpuset::plan plan;
        cpuset::model after;
    };
    /// Sets for these cohorts, or why not.
    std::expected<attempt, std::string> attempt_sets(const std::vector<candidate>& list) const {
        attempt out{{}, {}, view_->tree->clone()};
        cpuset::target wish;
        for (const candidate& c : list) {
            if (auto gone = clear(out, path_of(c, list)); !gone) return std::unexpected(gone.error());
        }
        for (const candidate& c : list) {
            wish.sets.push_back(wish_of(c, list, out.after));
            if (needs_leaf(c, list)) wish.sets.push_back({.path = fmt::format("{}/{}", path_of(c, list), leaf)});
        }
        out.plan = cpuset::make_plan(out.after, view_->machine, wish);
        if (!out.plan.holds()) return std::unexpected(out.plan.refusals.front());
        for (const cpuset::plan_step& s : out.plan.steps) out.after.perform(s.what);
        for (const candidate& c : list) {
            const std::string path = path_of(c, list);
            const cpumask has = cpus_of(out.after, path, effective_file()), wanted = c.cohort->cpus - taken_from(c, list);
            if (has != wanted) return std::unexpected(fmt::format("set \"{}\" would have {}, not {}", path, cpus_text(has), cpus_text(wanted)));
        }
        return out;
    }

    /// What a run that was killed has left there, the innermost first.
    std::expected<void, std::string> clear(attempt& a, const std::string& path) const {
        std::vector<std::string> there = a.after.paths();
        std::erase_if(there, [&](const std::string& p) { return p != path && !p.starts_with(path + "/"); });
        std::ranges::sort(there, std::greater<>{}, [](const std::string& p) { return p.size(); });
        for (const std::string& p : there) {
            const operation gone{.what = verb::rmdir, .path = p};
            if (const auto done = a.after.perform(gone); !done.ok()) return std::unexpected("set \"" + p + "\" is there and in use: " + done.why);
            a.leftovers.push_back(gone);
        }
        return {};
    }

    std::vector<step> make_sets(const std::vector<candidate>& wanted) {
        if (wanted.empty()) return {};
        std::vector<candidate> taken = wanted;
        auto found = attempt_sets(taken);
        if (!found) {
            // All together cannot be: one after the other, whoever comes first in the spec.
            taken.clear();
            for (const candidate& c : wanted) {
                taken.push_back(c);
                auto one = attempt_sets(taken);
                if (one) {
                    found = std::move(one);
                } else {
                    taken.pop_back();
                    do_without(c, one.error());
                }
            }
        }
        if (taken.empty()) return {};
        for (const candidate& c : taken) keep_in_set(c, taken);
        for (const candidate& c : taken) leave_to_partitions(c, taken);
        partitions_leave_others_alone(found->after);
        offline_in_sets(out_, found->after);
        return steps_of(*found);
    }

    /// Jobs of a cohort run on what partitions inside of it leave.
    void leave_to_partitions(const candidate& c, const std::vector<candidate>& all) {
        const cpumask gone = taken_from(c, all);
        for (job_plan& j : out_.jobs) {
            if (gone.empty() || j.spec.cohort != c.spec->name) continue;
            j.cpus = j.cpus - gone;
            if (!j.cpus.empty()) continue;
            out_.refusals.push_back({{in_.file, j.spec.at, "job \"" + j.spec.name + "\"", fmt::format("no CPU is left for it: the partitions inside of cohort \"{}\" have {}", c.spec->name, cpus_text(gone))}});
        }
    }

    void keep_in_set(const candidate& c, const std::vector<candidate>& all) {
        keeping& k = c.cohort->keep;
        k.by = keeping::form::kernel;
        k.backend = view_->about;
        k.set = path_of(c, all);
        k.procs = view_->place.directory(needs_leaf(c, all) ? fmt::format("{}/{}", k.set, leaf) : k.set) + "/cgroup.procs";
        if (view_->tree->is_v1() && is_partition(k.partition)) {
            k.fallback = "version 1 has no partitions: cpuset.cpu_exclusive stands in for one";
            k.partition.clear();
        }
    }

    /// Cohorts that run where this program runs need their CPUs there.
    void partitions_leave_others_alone(cpuset::model& after) {
        if (view_->home.empty()) return;
        const cpumask left = cpus_of(after, view_->home, effective_file());
        for (std::size_t i = 0; i < out_.cohorts.size(); ++i) {
            const cohort_plan& c = out_.cohorts[i];
            const cpumask lost = c.cpus - left;
            if (c.keep.by == keeping::form::kernel || lost.empty()) continue;
            std::string whose;
            for (const cohort_plan& other : out_.cohorts) {
                if (other.keep.by == keeping::form::kernel && other.cpus.intersects(lost)) whose += fmt::format("{}\"{}\"", whose.empty() ? "" : ", ", other.name);
            }
            out_.refusals.push_back({{in_.file, in_.cohorts[i].cpus.at, "cohort \"" + c.name + "\"", fmt::format("{} {} taken by the partition of cohort {}", cpus_text(lost), lost.weight() == 1 ? "is" : "are", whose)}});
        }
    }

    /// At the end partitions give their CPUs back, sets are removed and controllers are as before; lists go with their sets.
    static std::vector<step> steps_of(const attempt& a) {
        std::vector<step> out;
        const auto add = [&](const operation& op, std::vector<operation> undo) {
            out.push_back({step::form::change_cpuset, op.what == verb::controller ? "cpuset \"" + (op.path.empty() ? "/" : op.path) + "\"" : "cpuset", op.path, op, std::move(undo)});
        };
        for (const operation& op : a.leftovers) add(op, {});
        for (const cpuset::plan_step& s : a.plan.steps) {
            const bool partition = s.what.file == "cpuset.cpus.partition" && s.what.text != "member";
            if (partition) add(s.what, {{.what = verb::write, .path = s.what.path, .file = s.what.file, .text = "member"}});
            else add(s.what, s.what.what == verb::write ? std::vector<operation>{} : s.undo);
        }
        return out;
    }

    const spec& in_;
    const kinship& kin_;
    plan& out_;
    const cpuset_view* view_;
};

void promise_of_kernel(cohort_plan& c) {
    const keeping& k = c.keep;
    c.enforced.push_back(fmt::format("its jobs run on {} only, whatever they ask for: set {} of {}", cpus_text(c.cpus), k.set, k.backend));
    if (!k.mems.empty()) c.enforced.push_back("memory of its jobs comes from nodes " + k.mems.list() + " only: the same set");
    const bool alone = k.partition == "root" || k.partition == "isolated";
    if (alone) c.enforced.push_back("nobody else runs there: partition " + k.partition);
    if (k.partition == "isolated" && c.cpus.weight() > 1) c.advisory.push_back("isolated: the scheduler does not spread threads over " + cpus_text(c.cpus) + ", jobs bind them themselves");
    if (!k.fallback.empty()) c.advisory.push_back("other programs may run there too: " + k.fallback + ", which binds other sets only");
    else if (!alone) c.advisory.push_back("other programs may run there too: no cpuset partition is made");
    if (k.mems.empty()) c.advisory.push_back("memory may come from any node that the set above has");
}

void promise_of_emulation(cohort_plan& c, bool has_pipe) {
    const keeping& k = c.keep;
    c.enforced.push_back("its jobs run on " + cpus_text(c.cpus) + " only: affinity, set before their first instruction");
    if (!k.mems.empty()) c.enforced.push_back("memory of its commands comes from nodes " + k.mems.list() + ": policy, set before their first instruction");
    if (!k.fallback.empty()) c.advisory.push_back(k.fallback);
    const auto limit = [&](std::string_view what) {
        for (const cpuset::limitation& l : cpuset::affinity_limits(false)) {
            if (l.what == what) c.advisory.push_back(l.what + ": " + l.why);
        }
    };
    if (is_partition(k.partition)) limit("exclusive CPUs, partitions");
    if (k.partition == "isolated") limit("isolated");
    c.advisory.push_back("a command can widen its own affinity: that is looked for, and taken back, several times a second; not so for what it has started itself");
    if (k.mems.empty()) c.advisory.push_back("memory may come from any node");
    else c.advisory.push_back(has_pipe ? "blocks of its pipes may lie on any node: their threads are this program's; a command can change its own memory policy" : "a command can change its own memory policy");
}

}  // namespace

std::vector<step> plan_cpusets(const spec& in, const kinship& kin, plan& out) { return set_planner(in, kin, out).run(); }

void promise_cpus(cohort_plan& c, const plan& p) {
    switch (c.keep.by) {
        case keeping::form::kernel: return promise_of_kernel(c);
        case keeping::form::emulated: {
            const auto is_pipe_here = [&](const job_plan& j) { return j.spec.cohort == c.name && j.spec.kind == job_spec::form::pipe; };
            return promise_of_emulation(c, std::ranges::any_of(p.jobs, is_pipe_here));
        }
        case keeping::form::affinity: break;
    }
    c.enforced.push_back("its jobs run on " + cpus_text(c.cpus) + " only: affinity, set before their first instruction");
    c.advisory.push_back("other programs may run there too: no cpuset partition is made");
    c.advisory.push_back("a job can widen its own affinity, and memory may come from any node");
}

}  // namespace cohort::group::detail
