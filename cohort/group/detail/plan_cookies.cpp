// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_cookies.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace cohort::group::detail {
namespace {

/// Whose tasks may run on one core at the same time; a CPU runs one at a time. Cohorts with the same CPUs are as one here: cores times the square of how many kinds of them stand on each.
class neighbours {
public:
    neighbours(const std::vector<cohort_plan>& cohorts, const std::vector<cpumask>& cores) {
        std::map<std::vector<int>, std::size_t> known;
        std::vector<std::vector<std::size_t>> on_cpu(max_cpus);
        for (const cohort_plan& c : cohorts) {
            std::vector<int> cpus;
            for (const int cpu : c.cpus) cpus.push_back(cpu);
            const auto [it, fresh] = known.emplace(std::move(cpus), known.size());
            class_.push_back(it->second);
            if (!fresh) continue;
            for (const int cpu : it->first) on_cpu[static_cast<std::size_t>(cpu)].push_back(it->second);
        }
        meet_.assign(known.size(), std::vector<bool>(known.size()));
        for (const cpumask& core : cores) {
            std::map<std::size_t, cpumask> here;
            for (const int cpu : core) {
                for (const std::size_t who : on_cpu[static_cast<std::size_t>(cpu)]) here[who].set(cpu);
            }
            for (const auto& [a, in_a] : here) {
                for (const auto& [b, in_b] : here) {
                    if (!meet_[a][b] && (in_a | in_b).weight() > 1) meet_[a][b] = true;
                }
            }
        }
    }
    bool meet(std::size_t i, std::size_t k) const { return meet_[class_[i]][class_[k]]; }

private:
    std::vector<std::size_t> class_;       // by cohort
    std::vector<std::vector<bool>> meet_;  // by class
};

/// What it computes is computed by threads of this program, block by block, behind a gate.
bool runs_in_blocks(const job_spec& j) {
    return j.kind == job_spec::form::pipe && !j.pipe.codec.empty() && !j.pipe.input.empty() && j.verify.empty();
}

class cookie_planner {
public:
    cookie_planner(const spec& in, const kinship& kin, plan& out) : in_(in), kin_(kin), out_(out), cores_(cores_with_siblings(out.machine)), jobs_(out.cohorts.size()) {}

    void run() {
        std::vector<std::size_t> others;  // whom the kernel does not keep
        for (std::size_t i = 0; i < out_.cohorts.size(); ++i) {
            const cohort_spec& asked = in_.cohorts[i];
            cookie_keeping& k = out_.cohorts[i].cookie;
            k.name = asked.cookie;
            k.parts = asked.cookie_parts;
            k.policy = asked.coresched;
            if (k.name.empty() || out_.cohorts[i].cpus.empty()) continue;
            const std::string& lacks = out_.machine.no_core_scheduling;
            if (k.policy != cookie_policy::emulate && lacks.empty()) {
                k.by = cookie_keeping::form::kernel;
            } else if (k.policy == cookie_policy::require) {
                refuse(i, "coresched = \"require\": " + lacks);
            } else {
                k.fallback = lacks.empty() ? "the spec wants it emulated" : lacks;
                others.push_back(i);
            }
        }
        if (others.empty()) return;
        know_jobs();
        neighbours_.emplace(out_.cohorts, cores_);
        if (std::ranges::any_of(others, [&](std::size_t i) { return !find_keeper(i); })) deal_cores(others);
        for (const std::size_t i : others) {
            if (find_keeper(i)) continue;
            cookie_keeping& k = out_.cohorts[i].cookie;
            if (k.policy == cookie_policy::emulate) refuse(i, "coresched = \"emulate\": " + k.unkept + "; give it whole cores");
        }
        for (const std::size_t i : others) {
            if (out_.cohorts[i].cookie.by != cookie_keeping::form::executor) continue;
            out_.cohorts[i].cookie.passes_gate = true;
            for (const std::size_t k : rivals(i)) out_.cohorts[k].cookie.passes_gate = true;
        }
    }

private:
    void refuse(std::size_t i, const std::string& why) {
        const cohort_spec& c = in_.cohorts[i];
        out_.refusals.push_back({{in_.file, c.cookie_at, "cohort \"" + c.name + "\"", "cookie \"" + c.cookie + "\": " + why}, true});
    }

    /// Jobs of each cohort, and which of all come before which.
    void know_jobs() {
        std::map<std::string_view, std::size_t> cohort, job;
        for (std::size_t i = 0; i < in_.cohorts.size(); ++i) cohort.emplace(in_.cohorts[i].name, i);
        for (std::size_t i = 0; i < in_.jobs.size(); ++i) {
            job.emplace(in_.jobs[i].name, i);
            if (const auto owner = cohort.find(in_.jobs[i].cohort); owner != cohort.end()) jobs_[owner->second].push_back(i);
        }
        before_.assign(in_.jobs.size(), std::vector<bool>(in_.jobs.size()));
        std::vector<bool> known(in_.jobs.size());
        const auto learn = [&](const auto& self, std::size_t i) -> void {
            if (known[i]) return;
            known[i] = true;
            for (const std::string& name : in_.jobs[i].after) {
                const auto earlier = job.find(name);
                if (earlier == job.end()) continue;
                self(self, earlier->second);
                before_[i][earlier->second] = true;
                for (std::size_t k = 0; k < in_.jobs.size(); ++k) before_[i][k] = before_[i][k] || before_[earlier->second][k];
            }
        };
        for (std::size_t i = 0; i < in_.jobs.size(); ++i) learn(learn, i);
    }

    /// Calls f(job of i, job of another cookie's cohort, that cohort) for all that may run on one core at the same time.
    template <class F>
    void meetings(std::size_t i, F f) const {
        for (std::size_t k = 0; k < out_.cohorts.size(); ++k) {
            if (in_.cohorts[k].cookie == in_.cohorts[i].cookie || !neighbours_->meet(i, k)) continue;
            for (const std::size_t a : jobs_[i]) {
                for (const std::size_t b : jobs_[k]) {
                    if (!before_[a][b] && !before_[b][a]) f(in_.jobs[a], in_.jobs[b], k);
                }
            }
        }
    }

    std::set<std::size_t> rivals(std::size_t i) const {
        std::set<std::size_t> out;
        meetings(i, [&](const job_spec&, const job_spec&, std::size_t k) { out.insert(k); });
        return out;
    }

    /// Whether something keeps its cookie; `by` and `unkept` are set.
    bool find_keeper(std::size_t i) {
        cookie_keeping& k = out_.cohorts[i].cookie;
        bool meets = false;
        k.unkept.clear();
        meetings(i, [&](const job_spec& mine, const job_spec& other, std::size_t whose) {
            meets = true;
            const job_spec* program = !runs_in_blocks(mine) ? &mine : !runs_in_blocks(other) ? &other : nullptr;
            if (program && k.unkept.empty()) {
                k.unkept = fmt::format("it shares cores with cohort \"{}\", and job \"{}\" runs a program, which no executor holds", in_.cohorts[whose].name, program->name);
            }
        });
        using enum cookie_keeping::form;
        k.by = !meets ? cores : k.unkept.empty() ? executor : nothing;
        return k.by != nothing;
    }

    /// Cores that the same cookies want are cut into runs, one for each; who can have fewest others comes first. Those named in a list stay with who named them. All or nothing: each cohort
    /// must keep a CPU.
    void deal_cores(const std::vector<std::size_t>& others) {
        std::set<std::size_t> players;
        for (const std::size_t i : others) {
            if (out_.cohorts[i].cookie.by != cookie_keeping::form::nothing) continue;
            players.insert(i);
            for (const std::size_t k : rivals(i)) players.insert(k);
        }
        for (const std::size_t a : players) {
            // Who is inside of another has some of that one's cores by his own wish.
            for (const std::size_t b : players) {
                if (kin_.within(a, b) && in_.cohorts[a].cookie != in_.cohorts[b].cookie) return;
            }
        }
        std::map<std::string, int> can_have;                                    // by cookie: cores
        std::map<std::vector<std::string>, std::vector<std::size_t>> contested;  // by who wants them
        std::map<std::string, cpumask> lost;
        for (std::size_t c = 0; c < cores_.size(); ++c) {
            std::set<std::string> want, name;
            for (const std::size_t i : players) {
                if (!cores_[c].intersects(out_.cohorts[i].cpus)) continue;
                want.insert(in_.cohorts[i].cookie);
                if (in_.cohorts[i].cpus.kind == cpu_wish::form::list) name.insert(in_.cohorts[i].cookie);
            }
            if (name.size() > 1) return;
            for (const std::string& cookie : want) {
                if (name.empty() || name.contains(cookie)) ++can_have[cookie];
                else lost[cookie] |= cores_[c];
            }
            if (name.empty() && want.size() > 1) contested[{want.begin(), want.end()}].push_back(c);
        }
        for (auto& [who, cores] : contested) {
            std::vector<std::string> first = who;
            std::ranges::sort(first, {}, [&](const std::string& cookie) { return std::pair(can_have[cookie], cookie); });
            for (std::size_t k = 0; k < cores.size(); ++k) {
                for (std::size_t i = 0; i < first.size(); ++i) {
                    if (k * first.size() / cores.size() != i) lost[first[i]] |= cores_[cores[k]];
                }
            }
        }
        narrow(players, lost);
    }
    void narrow(const std::set<std::size_t>& players, std::map<std::string, cpumask>& lost) {
        std::vector<cpumask> left;
        for (std::size_t i = 0; i < out_.cohorts.size(); ++i) left.push_back(players.contains(i) ? out_.cohorts[i].cpus - lost[in_.cohorts[i].cookie] : out_.cohorts[i].cpus);
        for (const kinship::family& f : kin_.families) {
            for (const std::size_t i : f.members) {
                if (f.above >= 0) left[i] &= left[static_cast<std::size_t>(f.above)];
                if (left[i].empty() && !out_.cohorts[i].cpus.empty()) return;
            }
        }
        for (std::size_t i = 0; i < out_.cohorts.size(); ++i) {
            cohort_plan& c = out_.cohorts[i];
            const cpumask gone = c.cpus - left[i];
            if (gone.empty()) continue;
            c.cpus = left[i];
            c.dropped.push_back({gone, "whole cores are dealt out, so that unequal cookies share none"});
        }
        neighbours_.emplace(out_.cohorts, cores_);
    }

    const spec& in_;
    const kinship& kin_;
    plan& out_;
    const std::vector<cpumask> cores_;
    std::optional<neighbours> neighbours_;        // of the CPUs as they are
    std::vector<std::vector<std::size_t>> jobs_;  // by cohort
    std::vector<std::vector<bool>> before_;       // before_[a][b]: a waits for b
};

}  // namespace

std::vector<cpumask> cores_with_siblings(const machine_view& m) {
    std::vector<cpumask> out;
    for (const auto& cpus : m.by_core(m.possible)) {
        if (cpus.size() < 2) continue;
        cpumask& core = out.emplace_back();
        for (const int cpu : cpus) core.set(cpu);
    }
    return out;
}

void plan_cookies(const spec& in, const kinship& kin, plan& out) { cookie_planner(in, kin, out).run(); }

void promise_cookie(cohort_plan& c, const std::vector<cpumask>& cores) {
    const cookie_keeping& k = c.cookie;
    const auto enforced = [&](const std::string& what) { c.enforced.push_back("cookie \"" + k.name + "\": " + what); };
    const auto advisory = [&](const std::string& what) { c.advisory.push_back("cookie \"" + k.name + "\": " + what); };
    if (k.name.empty() || c.cpus.empty()) return;
    if (k.parts.size() > 1 && k.by == cookie_keeping::form::kernel) {
        advisory(fmt::format("its {} parts are emulated: a task has one cookie in the kernel, and one stands for all of them; who takes it over with prctl takes it whole", k.parts.size()));
    }
    switch (k.by) {
        case cookie_keeping::form::kernel: return enforced("nothing without it runs on a core at the same time: the kernel's core scheduling");
        case cookie_keeping::form::executor:
            enforced("blocks of its pipes never run on a core at the same time as those of other cookies: the executor");
            advisory("not by the kernel: " + k.fallback + "; other programs, and the reading of its pipes, are not held");
            return;
        case cookie_keeping::form::cores: {
            enforced("no job of this spec with another cookie runs on its cores while its own do: whole cores, by affinity");
            const bool alone = c.keep.by == keeping::form::kernel && (c.keep.partition == "root" || c.keep.partition == "isolated");
            cpumask siblings;
            for (const cpumask& core : cores) {
                if (core.intersects(c.cpus)) siblings |= core - c.cpus;
            }
            if (!alone || !siblings.empty()) advisory("not by the kernel: " + k.fallback + "; other programs may run on its cores");
            return;
        }
        case cookie_keeping::form::nothing: return advisory("nothing keeps it: " + k.unkept + "; not the kernel: " + k.fallback);
    }
}

}  // namespace cohort::group::detail
