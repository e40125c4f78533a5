// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/explain.hpp>

#include <algorithm>

#include <cohort/cpuset/detail/causes.hpp>
#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset {
namespace {

using detail::plain;

using detail::blame;
using detail::group;
using detail::world;


/// "d: CPUs 2-3" for each other set that has less in `after`.
std::vector<std::string> losers(const model& before, const model& after, const group& favoured) {
    std::vector<std::string> out;
    for (const std::string& path : before.paths()) {
        const group* was = detail::find(before.state(), plain(path));
        const group* is = detail::find(after.state(), plain(path));
        if (was == &favoured || !is || !was->has_cpuset) continue;
        if (const cpumask less = was->effective_cpus - is->effective_cpus; !less.empty()) out.push_back(path + ": CPUs " + less.list());
        if (const nodemask less = was->effective_mems - is->effective_mems; !less.empty()) out.push_back(path + ": nodes " + less.list());
    }
    return out;
}

/// The remedy, when it helps: performed on a copy, `helped` judges the set there.
template <class Helped>
std::vector<remedy> tried(const model& m, const group& g, std::vector<operation> operations, Helped helped) {
    if (operations.empty()) return {};
    model trial = m.clone();
    for (const operation& op : operations) {
        if (!trial.perform(op).ok()) return {};
    }
    const group* there = detail::find(trial.state(), plain(detail::path_of(g)));
    if (!there || !helped(*there)) return {};
    return {remedy{std::move(operations), losers(m, trial, g)}};
}

/// Members of `missing` by their chain of causes, in the order of the first member.
template <class Mask, class Why, class Helped>
std::vector<lack> lacks_of(const model& m, const group& g, const Mask& missing, bool cpus, Why why, Helped helped) {
    std::vector<std::pair<std::vector<blame>, Mask>> sorts;
    for (int number : missing) {
        std::vector<blame> chain = why(number);
        auto it = std::ranges::find(sorts, chain, [](const auto& s) -> const std::vector<blame>& { return s.first; });
        if (it == sorts.end()) it = sorts.insert(sorts.end(), {std::move(chain), Mask{}});
        it->second.set(number);
    }
    std::vector<lack> out;
    for (const auto& [chain, members] : sorts) {
        lack l{.list = members.list(), .chain = {}, .remedies = {}};
        std::vector<operation> operations;
        for (const blame& b : chain) l.chain.push_back(detail::told(m.state(), b, l.list, cpus));
        // What is farthest is done first, so that each write finds what it needs above.
        for (auto b = chain.rbegin(); b != chain.rend(); ++b) {
            for (operation& op : detail::against(m.state(), *b, members)) operations.push_back(std::move(op));
        }
        l.remedies = tried(m, g, std::move(operations), [&](const group& there) { return helped(there, members); });
        out.push_back(std::move(l));
    }
    return out;
}

wish cpus_wish(const model& m, const group& g) {
    const world& w = m.state();
    wish out{.file = "cpuset.cpus", .asked = g.own.cpus.list(), .has = (g.own.cpus & g.effective_cpus).list(), .lacks = {}};
    out.inherits = g.own.cpus.empty() && !g.valid();
    if (out.inherits) out.has = g.effective_cpus.list();
    out.falls_back = !w.v1 && !g.valid() && !g.own.cpus.empty() && !g.own.cpus.intersects(g.effective_cpus);
    out.lacks = lacks_of(m, g, g.own.cpus - g.effective_cpus, true, [&](int cpu) { return detail::why_no_cpu(w, g, cpu); },
                         [](const group& there, const cpumask& cpus) { return cpus.subset_of(there.effective_cpus); });
    return out;
}

/// In a valid partition an exclusive list is what the set runs on; else it is what the set passes on.
wish exclusive_wish(const model& m, const group& g) {
    const world& w = m.state();
    const cpumask& has = g.valid() ? g.effective_cpus : g.own.granted;
    wish out{.file = "cpuset.cpus.exclusive", .asked = g.own.exclusive.list(), .has = (g.own.exclusive & has).list(), .lacks = {}};
    out.lacks = lacks_of(m, g, g.own.exclusive - has, true, [&](int cpu) { return g.valid() ? detail::why_no_cpu(w, g, cpu) : detail::why_not_exclusive(w, g, cpu); },
                         [](const group& there, const cpumask& cpus) { return cpus.subset_of(there.valid() ? there.effective_cpus : there.own.granted); });
    return out;
}

wish mems_wish(const model& m, const group& g) {
    const world& w = m.state();
    wish out{.file = "cpuset.mems", .asked = g.own.mems.list(), .has = (g.own.mems & g.effective_mems).list(), .lacks = {}};
    out.inherits = g.own.mems.empty();
    if (out.inherits) out.has = g.effective_mems.list();
    out.falls_back = !w.v1 && !g.own.mems.empty() && !g.own.mems.intersects(g.effective_mems);
    out.lacks = lacks_of(m, g, g.own.mems - g.effective_mems, false, [&](int node) { return detail::why_no_node(w, g, node); },
                         [](const group& there, const nodemask& nodes) { return nodes.subset_of(there.effective_mems); });
    return out;
}

/// Ways to make an invalid partition valid, the mildest first.
std::vector<remedy> revivals(const model& m, const group& g) {
    const world& w = m.state();
    std::vector<std::vector<operation>> ways{detail::ask_again(w, g)};
    const auto before_asking = [&](operation op) {
        ways.push_back({std::move(op)});
        for (operation& again : detail::ask_again(w, g)) ways.back().push_back(std::move(again));
    };
    if (const cpumask offline = g.own.wanted() - w.active; offline.subset_of(w.possible)) {
        for (int cpu : offline) before_asking({.what = verb::cpu, .number = cpu, .on = true});
    }
    if (g.parent->state == partition_state::member) before_asking({.what = verb::write, .path = detail::path_of(*g.parent), .file = "cpuset.cpus.partition", .text = "root"});
    cpumask others;
    for (const group* s = detail::first_child(*g.parent); s; s = detail::next_child(const_cast<group*>(s))) {
        if (s != &g) others |= s->own.wanted();
    }
    const char* file = g.own.exclusive.empty() ? "cpuset.cpus" : "cpuset.cpus.exclusive";
    for (const cpumask& narrower : {g.own.wanted() - others, g.own.wanted() & g.parent->own.granted}) {
        if (!narrower.empty() && narrower != g.own.wanted()) before_asking({.what = verb::write, .path = detail::path_of(g), .file = file, .text = narrower.list()});
    }
    for (std::vector<operation>& way : ways) {
        auto found = tried(m, g, std::move(way), [](const group& there) { return there.valid(); });
        if (!found.empty()) return found;
    }
    return {};
}

}  // namespace

std::string_view cause_name(cause_kind k) {
    constexpr std::string_view names[] = {"impossible",      "offline",    "parent_list", "sibling_partition", "remote_partition",  "child_partition",
                                          "other_list",      "not_passed", "sibling_exclusive", "not_granted", "invalid_partition", "no_controller"};
    return names[static_cast<std::size_t>(k)];
}

bool explanation::complete() const {
    return fault.empty() && std::ranges::all_of(wishes, [](const wish& w) { return w.lacks.empty(); });
}

result<explanation> explain(const model& m, std::string_view path) {
    const world& w = m.state();
    const group* g = detail::find(w, plain(path));
    if (!g) return fail(ENOENT, "cpuset \"" + std::string(path) + "\"", "explain", "there is no cgroup of that name");
    const group& governing = detail::cpuset_of(const_cast<group&>(*g));
    explanation out{.path = detail::path_of(*g), .partition = {}, .effective_cpus = governing.effective_cpus.list(), .effective_mems = governing.effective_mems.list(),
                    .fault = {}, .remedies = {}, .wishes = {}};
    if (!g->has_cpuset) {
        out.fault.push_back({cause_kind::no_controller, detail::path_of(*g->parent),
                             "\"" + detail::path_of(*g->parent) + "\" does not hand cpuset on: the set has no files of its own and lives by those of \"" + detail::path_of(governing) + "\""});
        out.remedies = tried(m, *g, {{.what = verb::controller, .path = plain(detail::path_of(*g->parent)), .on = true}}, [](const group& there) { return there.has_cpuset; });
        return out;
    }
    if (g->is_root()) return out;
    if (!w.v1) out.partition = partition_text(g->state, g->reason, w.profile);
    if (g->invalid()) {
        out.fault.push_back(detail::told(w, {cause_kind::invalid_partition, g}, "", true));
        out.remedies = revivals(m, *g);
    }
    out.wishes.push_back(cpus_wish(m, *g));
    if (!g->own.exclusive.empty()) out.wishes.push_back(exclusive_wish(m, *g));
    out.wishes.push_back(mems_wish(m, *g));
    return out;
}

}  // namespace cohort::cpuset
