// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/foresee.hpp>

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include <cohort/base/check.hpp>
#include <cohort/coresched/scenario.hpp>

namespace cohort::group::detail {
namespace {

constexpr std::size_t most_tasks = 64;  // on one core
constexpr double smt_yield = 1.25;

struct task {
    int place = 0;  // among the core's CPUs
    int who = 0;    // tenants of the core are numbered as they appear
    int tag = 0;    // cookies likewise; 0: none
    auto operator<=>(const task&) const = default;
};

/// Cores that differ by who stands there and not by how.
struct kind {
    std::size_t siblings = 0;
    std::vector<task> tasks;
    auto operator<=>(const kind&) const = default;
};
struct core {
    std::vector<std::size_t> tenants;  // cohorts, by number there
};

machine::topology one_core(std::size_t siblings) {
    machine::topology t;
    t.cores.resize(1);
    t.packages.resize(1);
    t.nodes.resize(1);
    t.cores[0].package = 0;
    for (int cpu = 0; cpu < static_cast<int>(siblings); ++cpu) {
        t.possible.set(cpu);
        t.cpus.push_back({.core = 0, .package = 0, .node = 0});
        t.cores[0].cpus.push_back(cpu);
    }
    t.online = t.packages[0].cpus = t.nodes[0].cpus = t.possible;
    t.source = "one core";
    return t;
}

coresched::outcome simulate(const kind& k, const coresched::policy& rules) {
    coresched::scenario s{.duration_ms = 1000, .smt_yield = std::min(smt_yield, static_cast<double>(k.siblings))};
    for (const task& t : k.tasks) s.tasks.push_back({.name = fmt::format("{}.{}", t.who, t.place), .tag = static_cast<std::uint64_t>(t.tag), .cpus = {t.place}});
    auto done = coresched::simulate(s, one_core(k.siblings), {.rules = rules});
    COHORT_CHECK(done, "a core of a plan can be simulated");
    return std::move(*done);
}

class seer {
public:
    seer(const spec& in, const plan& p) : in_(in), p_(p) {
        std::set<std::string_view> busy;
        for (const job_spec& j : in.jobs) busy.insert(j.cohort);
        holders_.resize(max_cpus);
        for (std::size_t i = 0; i < p.cohorts.size(); ++i) {
            if (!busy.empty() && !busy.contains(p.cohorts[i].name)) continue;
            for (const int cpu : p.cohorts[i].cpus) holders_[static_cast<std::size_t>(cpu)].push_back(i);
        }
        for (const auto& cpus : p.machine.by_core(p.machine.usable)) sort_in(cpus);
    }

    std::optional<foresight> look(std::size_t most_kinds) const {
        if (kinds_.empty() && crowded_ == 0) return std::nullopt;
        std::vector<const std::pair<const kind, std::vector<core>>*> order;
        for (const auto& entry : kinds_) order.push_back(&entry);
        std::ranges::stable_sort(order, std::greater<>{}, [](const auto* e) { return e->second.size(); });
        foresight out{.smt_yield = smt_yield};
        out.left_out = crowded_;
        for (std::size_t k = most_kinds; k < order.size(); ++k) out.left_out += order[k]->second.size();
        order.resize(std::min(order.size(), most_kinds));
        out.kinds = order.size();
        for (const auto* e : order) out.cores += e->second.size();
        std::vector<foresight::tenant> by_cohort(p_.cohorts.size());
        coresched::outcome whole_kernel, whole_nosmt;
        for (const char* name : {"kernel", "unprotected", "nosmt"}) {
            const coresched::policy rules = coresched::parse_policy(name).value();
            foresight::course line{.policy = name};
            double cpus = 0, idle = 0;
            coresched::outcome whole;
            for (const auto* e : order) {
                const coresched::outcome o = simulate(e->first, rules);
                const auto n = static_cast<double>(e->second.size());
                line.throughput += n * o.throughput;
                cpus += n * static_cast<double>(e->first.siblings);
                idle += n * static_cast<double>(o.forced_idle_ns) / static_cast<double>(o.duration_ns);
                whole.duration_ns = o.duration_ns;
                whole.throughput = line.throughput;
                whole.one_busy_s += n * o.one_busy_s;
                whole.more_busy_s += n * o.more_busy_s;
                share_out(*e, o, name, by_cohort);
            }
            line.forced_idle = cpus > 0 ? idle / cpus : 0;
            out.courses.push_back(line);
            if (line.policy == "kernel") whole_kernel = whole;
            if (line.policy == "nosmt") whole_nosmt = whole;
        }
        out.pays_from_yield = coresched::break_even(whole_kernel, whole_nosmt);
        for (std::size_t i = 0; i < by_cohort.size(); ++i) {
            if (by_cohort[i].cpus == 0) continue;
            by_cohort[i].name = p_.cohorts[i].name;
            out.tenants.push_back(by_cohort[i]);
        }
        return out;
    }

private:
    /// Finds what kind of core this is, if it is one with a cookie on it.
    void sort_in(const std::vector<int>& cpus) {
        if (cpus.size() < 2) return;
        kind k{.siblings = cpus.size(), .tasks = {}};
        core c;
        std::map<std::string_view, int> tags{{"", 0}};
        for (std::size_t place = 0; place < cpus.size(); ++place) {
            for (const std::size_t who : holders_[static_cast<std::size_t>(cpus[place])]) {
                auto at = std::ranges::find(c.tenants, who);
                const int number = static_cast<int>(at - c.tenants.begin());
                if (at == c.tenants.end()) c.tenants.push_back(who);
                const int tag = tags.emplace(in_.cohorts[who].cookie, static_cast<int>(tags.size())).first->second;
                k.tasks.push_back({static_cast<int>(place), number, tag});
            }
        }
        if (tags.size() < 2) return;
        if (k.tasks.size() > most_tasks) ++crowded_;
        else kinds_[std::move(k)].push_back(std::move(c));
    }

    void share_out(const std::pair<const kind, std::vector<core>>& e, const coresched::outcome& o, std::string_view policy, std::vector<foresight::tenant>& into) const {
        const auto seconds = static_cast<double>(o.duration_ns);
        for (std::size_t t = 0; t < e.first.tasks.size(); ++t) {
            for (const core& c : e.second) {
                foresight::tenant& mine = into[c.tenants[static_cast<std::size_t>(e.first.tasks[t].who)]];
                if (policy == "kernel") {
                    ++mine.cpus;
                    mine.work += static_cast<double>(o.tasks[t].work_ns) / seconds;
                    mine.forces_idle += static_cast<double>(o.tasks[t].forced_idle_ns) / seconds;
                } else if (policy == "unprotected") {
                    mine.work_unprotected += static_cast<double>(o.tasks[t].work_ns) / seconds;
                }
            }
        }
    }

    const spec& in_;
    const plan& p_;
    std::vector<std::vector<std::size_t>> holders_;  // by CPU
    std::map<kind, std::vector<core>> kinds_;
    std::size_t crowded_ = 0;                        // cores with more tasks than are simulated
};

}  // namespace

std::optional<foresight> foresee(const spec& in, const plan& p, std::size_t most_kinds) {
    if (std::ranges::all_of(in.cohorts, [](const cohort_spec& c) { return c.cookie.empty(); })) return std::nullopt;
    return seer(in, p).look(most_kinds);
}

}  // namespace cohort::group::detail
