// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/lint.hpp>

#include <algorithm>
#include <map>
#include <tuple>

#include <cohort/cpuset/detail/safety.hpp>

namespace cohort::cpuset {
namespace {

using detail::asks_cpus_in_vain;
using detail::asks_nodes_in_vain;
using detail::each_set;
using detail::governs_tasks;
using detail::group;
using detail::world;

namespace rule {
constexpr std::string_view cpu_invalidates = "cpu-offline-invalidates", cpu_fallback = "cpu-offline-fallback", cpu_shrinks = "cpu-offline-shrinks", node_fallback = "node-offline-fallback",
                           node_shrinks = "node-offline-shrinks", split_core = "split-core", remote_memory = "remote-memory", isolated_several = "isolated-several",
                           invalid_partition = "invalid-partition", unmet_request = "unmet-request", unmet_exclusive = "unmet-exclusive", empty_request = "empty-request", overlap = "overlap", empty_domain = "empty-domain";
}

std::string quoted(const group& g) { return "\"" + detail::path_of(g) + "\""; }
template <class Mask>
std::string plural(const char* what, const Mask& m) { return std::string(what) + (m.weight() == 1 ? " " : "s ") + m.list(); }

class linter {
public:
    linter(const model& m, const machine::topology& t) : w_(m.state()), t_(t) {
        each_set(w_, [&](const group& g) { any_invalid_ = any_invalid_ || g.invalid(); });
        for (const auto& core : t_.cores) {
            cpumask threads;
            for (int cpu : core.cpus) threads.set(cpu);
            cores_.push_back(threads & w_.active);
        }
    }

    std::vector<finding> run() {
        each_set(w_, [&](const group& g) { look(g); });
        if (w_.hollow_domain) {
            add(rule::empty_domain, severity::error, *w_.root, "the CPUs left to it, " + w_.root->effective_cpus.list() + ", are all isolated since boot: the next write that makes sched domains anew crashes the kernel (6.1 and 6.12), even one that gives CPUs back",
                "change no partition and take no CPU off- or online until the next boot");
        }
        if (w_.active.weight() > 1) {
            for (int cpu : w_.active) without_cpu(cpu);
        }
        if (w_.memory_nodes.weight() > 1) {
            for (int node : w_.memory_nodes) without_node(node);
        }
        tell_hotplug();
        std::ranges::stable_sort(out_, [](const finding& a, const finding& b) { return std::tuple(-static_cast<int>(a.level), a.path) < std::tuple(-static_cast<int>(b.level), b.path); });
        return std::move(out_);
    }

private:
    void add(std::string_view name, severity level, const group& g, std::string reason, std::string remedy) {
        out_.push_back({name, level, detail::path_of(g), std::move(reason), std::move(remedy)});
    }

    void look(const group& g) {
        if (g.invalid()) {
            add(rule::invalid_partition, severity::error, g, "it reads \"" + partition_text(g.state, g.reason, w_.profile) + "\"", "ask `cohort cpuset explain` for the write that makes it valid, or write member");
        }
        if (g.state == partition_state::isolated && g.effective_cpus.weight() > 1) {
            add(rule::isolated_several, severity::warning, g, "it is isolated with " + std::to_string(g.effective_cpus.weight()) + " CPUs: nothing moves its tasks from one to another",
                "bind each task to a CPU of its own, or make it a root partition");
        }
        requests(g);
        cores(g);
        memory(g);
    }

    void requests(const group& g) {
        const bool tasks = governs_tasks(w_, g);
        if (w_.v1 && (g.own.cpus.empty() || g.own.mems.empty())) {
            add(rule::empty_request, severity::warning, g, std::string("its list of ") + (g.own.cpus.empty() ? "CPUs" : "nodes") + " is empty: no task can be attached", "write cpuset.cpus and cpuset.mems");
        }
        if (asks_cpus_in_vain(g)) {
            add(rule::unmet_request, tasks ? severity::error : severity::warning, g, "it has none of the CPUs " + g.own.cpus.list() + " that it asks for, and runs on its parent's", "ask `cohort cpuset explain` who has them");
        }
        if (asks_nodes_in_vain(g) && !w_.v1) {
            add(rule::unmet_request, tasks ? severity::error : severity::warning, g, "it has none of the nodes " + g.own.mems.list() + " that it asks for, and uses its parent's", "ask `cohort cpuset explain` who has them");
        }
        if (const cpumask unmet = g.own.exclusive - g.own.granted; !unmet.empty()) {
            add(rule::unmet_exclusive, g.own.granted.empty() ? severity::error : severity::warning, g, "its exclusive claim to " + plural("CPU", unmet) + " does not hold",
                "every set above must pass them on in cpuset.cpus.exclusive, and no sibling may claim them");
        }
        overlaps(g);
    }

    /// What a sibling holds for itself is asked for in vain.
    void overlaps(const group& g) {
        if (w_.v1 || g.valid()) return;
        for (const group* s = detail::first_child(*g.parent); s; s = detail::next_child(const_cast<group*>(s))) {
            const cpumask& held = s->valid() ? s->own.granted : s->own.exclusive;
            const cpumask both = g.own.wanted() & held;
            if (s == &g || both.empty()) continue;
            add(rule::overlap, severity::warning, g, "it asks for " + plural("CPU", both) + ", which " + quoted(*s) + (s->valid() ? " has as a partition" : " claims for itself"), "leave them out of one of the two lists");
        }
    }

    /// The threads of a core share its units: who has one of them shares with whoever has the other.
    void cores(const group& g) {
        const bool alone = w_.v1 ? g.own.cpu_exclusive && !g.own.cpus.empty() : g.valid();
        if (!alone) return;
        const cpumask has = w_.v1 ? g.own.cpus : g.own.granted;
        cpumask split;
        for (const cpumask& threads : cores_) {
            if (has.intersects(threads) && !threads.subset_of(has)) split |= threads - has;
        }
        if (!split.empty()) {
            add(rule::split_core, severity::warning, g, "it has cores by halves: " + plural("CPU", split) + " on the same cores " + (split.weight() == 1 ? "belongs" : "belong") + " to others",
                "give it whole cores: write " + (has | split).list());
        }
    }

    nodemask local_nodes(const cpumask& cpus) const {
        nodemask out;
        for (const auto& n : t_.nodes) {
            if (n.cpus.intersects(cpus)) out.set(n.number);
        }
        return out & w_.memory_nodes;
    }

    void memory(const group& g) {
        if (w_.v1 ? g.own.cpus.empty() || g.own.mems.empty() : g.own.cpus.empty() && g.own.mems.empty()) return;
        const nodemask local = local_nodes(g.effective_cpus);
        if (local.empty()) return;
        const nodemask missing = local - g.effective_mems, far = g.own.mems.empty() ? nodemask{} : g.effective_mems - local;
        if (!missing.empty()) {
            add(rule::remote_memory, severity::warning, g, "it has CPUs of " + plural("node", missing) + " and not the memory there, only that of " + plural("node", g.effective_mems), "write cpuset.mems " + local.list());
        } else if (!far.empty()) {
            add(rule::remote_memory, severity::info, g, "it may use the memory of " + plural("node", far) + ", where it has no CPU", "write cpuset.mems " + local.list());
        }
    }

    /// A set that a hotplug would hurt; equal ones are told once, with all the CPUs (nodes) that it hangs on.
    struct harm {
        severity level;
        cpumask cpus;
        nodemask nodes;
        std::string what;
    };
    harm& note(std::string_view name, const group& was, severity level, std::string what) {
        return harms_.try_emplace({name, detail::path_of(was)}, harm{level, {}, {}, std::move(what)}).first->second;
    }

    /// Whether the set, or one below it, has something to do with these.
    template <class Touches>
    static bool anywhere(const group& top, Touches touches) {
        group* first = const_cast<group*>(&top);
        if (touches(top)) return true;
        for (group* at = first; (at = detail::next_cpuset(at, first));) {
            if (touches(*at)) return true;
        }
        return false;
    }
    /// Every set before and after, side by side: hotplug makes and removes none. Only sets that have something to do with what goes are tried, unless a partition is invalid (such a
    /// one asks anew at every hotplug, and then it may be anybody's CPUs), or `whole`.
    template <class Touches, class Act, class Visit>
    void each_pair(bool whole, Touches touches, Act act, Visit visit) {
        const auto keep = [&](const group& top) { return whole || any_invalid_ || anywhere(top, touches); };
        const auto trial = detail::copy_part(w_, keep);
        if (act(*trial).refused()) return;
        for (const group *was = w_.root->first, *is = trial->root->first; was && is; was = was->next) {
            if (was->name != is->name) continue;  // left out
            group *old_at = const_cast<group*>(was), *new_at = const_cast<group*>(is);
            group *old_top = old_at, *new_top = new_at;
            do {
                if (old_at->has_cpuset) visit(*old_at, *new_at);
                old_at = detail::next_cpuset(old_at, old_top);
                new_at = detail::next_cpuset(new_at, new_top);
            } while (old_at && new_at);
            is = is->next;
        }
    }

    void without_cpu(int cpu) {
        const auto touches = [&](const group& g) { return g.effective_cpus.test(cpu) || g.own.cpus.test(cpu) || g.own.exclusive.test(cpu) || g.own.granted.test(cpu); };
        // When the last CPU of the root's own goes, all partitions lose theirs to it. On 6.1 partitions of one root know of each other by what it has handed down.
        const bool last = (w_.active - cpumask{cpu}).subset_of(w_.sub_cpus) || w_.root->effective_cpus.subset_of(cpumask{cpu});
        each_pair(last || w_.kernel_rules().hands_down, touches, [&](world& w) { return detail::set_cpu_online(w, cpu, false); }, [&](const group& was, const group& is) {
            const bool tasks = governs_tasks(w_, was);
            const severity level = was.tasks_below ? severity::error : severity::warning;
            if (was.valid() && is.invalid()) {
                note(rule::cpu_invalidates, was, level, "it becomes \"" + partition_text(is.state, is.reason, w_.profile) + "\"").cpus.set(cpu);
            } else if (w_.v1 && was.own.cpus != is.own.cpus && tasks) {
                const bool gone = is.own.cpus.empty();
                note(rule::cpu_shrinks, was, gone ? severity::error : severity::info,
                     gone ? "its list becomes empty and its tasks are moved to the nearest set above that has CPUs" : "its list loses it for good: version 1 does not bring it back with the CPU").cpus.set(cpu);
            } else if (!w_.v1 && tasks && !asks_cpus_in_vain(was) && asks_cpus_in_vain(is)) {
                note(rule::cpu_fallback, was, severity::warning, "its tasks run on its parent's CPUs " + is.effective_cpus.list()).cpus.set(cpu);
            }
        });
    }
    void without_node(int node) {
        const auto touches = [&](const group& g) { return g.effective_mems.test(node) || g.own.mems.test(node); };
        each_pair(false, touches, [&](world& w) { return detail::set_node_online(w, node, false); }, [&](const group& was, const group& is) {
            if (!governs_tasks(w_, was)) return;
            if (w_.v1 && was.own.mems != is.own.mems) {
                const bool gone = is.own.mems.empty();
                note(rule::node_shrinks, was, gone ? severity::error : severity::info,
                     gone ? "its list becomes empty and its tasks are moved to the nearest set above that has nodes" : "its list loses it for good: version 1 does not bring it back with the node").nodes.set(node);
            } else if (!w_.v1 && !asks_nodes_in_vain(was) && asks_nodes_in_vain(is)) {
                note(rule::node_fallback, was, severity::warning, "its tasks use its parent's nodes " + is.effective_mems.list()).nodes.set(node);
            }
        });
    }
    void tell_hotplug() {
        for (const auto& [key, h] : harms_) {
            const bool cpus = !h.cpus.empty();
            const int many = cpus ? h.cpus.weight() : h.nodes.weight();
            const std::string when = many == 1 ? "when " + (cpus ? plural("CPU", h.cpus) : plural("node", h.nodes)) + " goes offline, " : "when any one of " + (cpus ? plural("CPU", h.cpus) : plural("node", h.nodes)) + " goes offline, ";
            const bool v1 = key.first == rule::cpu_shrinks || key.first == rule::node_shrinks;
            out_.push_back({key.first, h.level, key.second, when + h.what, v1 ? "write the list again when it is back" : cpus ? "give it another CPU" : "give it another node"});
        }
    }

    const world& w_;
    const machine::topology& t_;
    bool any_invalid_ = false;
    std::vector<cpumask> cores_;  // the threads of each core that are active
    std::vector<finding> out_;
    std::map<std::pair<std::string_view, std::string>, harm> harms_;
};

}  // namespace

std::string_view severity_name(severity s) { return s == severity::error ? "error" : s == severity::warning ? "warning" : "info"; }

std::string finding::line() const { return std::string(severity_name(level)) + ": " + std::string(rule) + ": \"" + path + "\": " + reason + "; " + remedy; }

const std::vector<lint_rule>& lint_rules() {
    static const std::vector<lint_rule> all{
        {rule::cpu_invalidates, "one CPU goes offline, and a partition becomes invalid (error with tasks, else warning)"},
        {rule::cpu_fallback, "one CPU goes offline, and a set with tasks runs on its parent's CPUs"},
        {rule::cpu_shrinks, "version 1: one CPU goes offline, and a list loses it for good (error: it becomes empty, the tasks are moved)"},
        {rule::node_fallback, "one node goes offline, and a set with tasks uses its parent's nodes"},
        {rule::node_shrinks, "version 1: one node goes offline, and a list loses it for good (error: it becomes empty, the tasks are moved)"},
        {rule::split_core, "the SMT threads of a core belong to a partition and to others"},
        {rule::remote_memory, "CPUs of a node without its memory (warning), or memory of a node without its CPUs (info)"},
        {rule::isolated_several, "an isolated partition with several CPUs: no load balancing within"},
        {rule::invalid_partition, "a partition is invalid"},
        {rule::unmet_request, "nothing of what is asked for can be had (error with tasks)"},
        {rule::unmet_exclusive, "an exclusive claim does not hold (error: nothing of it)"},
        {rule::empty_request, "version 1: a list is empty, and no task can be attached"},
        {rule::overlap, "CPUs are asked for that a sibling holds for itself"},
        {rule::empty_domain, "the root is left with CPUs that are isolated since boot: kernels crash when sched domains are made so"},
    };
    return all;
}

std::vector<finding> lint(const model& m, const machine::topology& machine) { return linter(m, machine).run(); }

}  // namespace cohort::cpuset
