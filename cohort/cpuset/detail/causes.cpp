// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/detail/causes.hpp>

#include <algorithm>

#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset::detail {
namespace {

constexpr const char* cpus_file = "cpuset.cpus";
constexpr const char* exclusive_file = "cpuset.cpus.exclusive";
constexpr const char* mems_file = "cpuset.mems";

std::string quoted(const group& g) { return "\"" + path_of(g) + "\""; }

operation put(const group& g, const char* file, std::string text) { return {.what = verb::write, .path = plain(path_of(g)), .file = file, .text = std::move(text)}; }

/// The partition below `parent` that holds the CPU; null: none.
const group* holder_below(const group& parent, int cpu) {
    for (const group* c = first_child(parent); c; c = next_child(const_cast<group*>(c))) {
        if (c->local() && c->own.granted.test(cpu)) return c;
    }
    return nullptr;
}

const group* remote_holder(const world& w, int cpu) {
    group* top = w.root.get();
    for (group* at = next_cpuset(top, top); at; at = next_cpuset(at, top)) {
        if (at->valid() && at->remote && at->own.granted.test(cpu)) return at;
    }
    return nullptr;
}

/// True: the machine itself does not have it, and the chain is complete.
bool machine_lacks(const world& w, int cpu, std::vector<blame>& out) {
    if (w.possible.test(cpu) && w.active.test(cpu)) return false;
    out.push_back({w.possible.test(cpu) ? cause_kind::offline : cause_kind::impossible, nullptr});
    return true;
}

/// Why the exclusive CPUs that g may have do not hold cpu.
void grant_chain(const world& w, const group& g, int cpu, std::vector<blame>& out) {
    for (const group* at = &g; !at->is_root(); at = at->parent) {
        if (!w.kernel_rules().overlap_invalidates) {
            for (const group* s = first_child(*at->parent); s; s = next_child(const_cast<group*>(s))) {
                const cpumask& claimed = s->own.exclusive.empty() ? s->own.granted : s->own.exclusive;
                if (s != at && claimed.test(cpu)) return out.push_back({cause_kind::sibling_exclusive, s});
            }
        }
        const group* p = at->parent;
        if (const group* holder = remote_holder(w, cpu); p->is_root() && holder && holder != &g) return out.push_back({cause_kind::remote_partition, holder});
        if (p->own.granted.test(cpu)) {
            if (out.empty()) out.push_back({cause_kind::not_granted, at});
            return;
        }
        const bool listed = p->own.wanted().test(cpu) && (p->valid() || !p->own.exclusive.empty());
        if (!listed) out.push_back({p->valid() ? cause_kind::parent_list : cause_kind::not_passed, p});
    }
}

void partition_chain(const world& w, const group& g, int cpu, std::vector<blame>& out) {
    if (g.own.granted.test(cpu)) {
        if (const group* below = holder_below(g, cpu)) out.push_back({cause_kind::child_partition, below});
        return;
    }
    if (!g.own.wanted().test(cpu)) return out.push_back({cause_kind::other_list, &g});
    grant_chain(w, g, cpu, out);
}

}  // namespace

std::vector<blame> why_no_cpu(const world& w, const group& g, int cpu) {
    std::vector<blame> out;
    if (machine_lacks(w, cpu, out)) return out;
    if (g.invalid()) out.push_back({cause_kind::invalid_partition, &g});
    const group* at = &g;
    while (true) {
        const bool partition = at->valid() && (at->remote || (!at->is_root() && at->parent->valid()));
        if (partition) {
            partition_chain(w, *at, cpu, out);
            return out;
        }
        if (at != &g && !at->is_root() && !at->own.cpus.empty() && !at->own.cpus.test(cpu)) out.push_back({cause_kind::parent_list, at});
        if (at->is_root()) break;
        const group* p = at->parent;
        if (p->effective_cpus.test(cpu)) return out;
        if (const group* holder = p->valid() ? holder_below(*p, cpu) : nullptr; holder && holder != at) {
            out.push_back({cause_kind::sibling_partition, holder});
            return out;
        }
        at = p;
    }
    if (const group* holder = remote_holder(w, cpu)) out.push_back({cause_kind::remote_partition, holder});
    return out;
}

std::vector<blame> why_not_exclusive(const world& w, const group& g, int cpu) {
    std::vector<blame> out;
    if (!w.possible.test(cpu)) return {{cause_kind::impossible, nullptr}};
    grant_chain(w, g, cpu, out);
    return out;
}

std::vector<blame> why_no_node(const world& w, const group& g, int node) {
    if (!w.memory_nodes.test(node)) return {{w.possible_nodes.test(node) ? cause_kind::offline : cause_kind::impossible, nullptr}};
    std::vector<blame> out;
    for (const group* at = g.parent; at && !at->is_root(); at = at->parent) {
        if (!at->own.mems.empty() && !at->own.mems.test(node)) out.push_back({cause_kind::parent_list, at});
    }
    return out;
}

cause told(const world& w, const blame& b, const std::string& list, bool cpus) {
    const std::string what = (cpus ? "CPUs " : "nodes ") + list;
    const auto say = [&](std::string text) { return cause{b.kind, b.at ? path_of(*b.at) : "", std::move(text)}; };
    switch (b.kind) {
        case cause_kind::impossible: return say("the machine has no " + what);
        case cause_kind::offline: return say(what + (cpus ? " are offline" : " have no memory online"));
        case cause_kind::parent_list: return say(quoted(*b.at) + " above asks for " + (cpus ? b.at->own.wanted().list() : b.at->own.mems.list()) + " only, not for " + what);
        case cause_kind::sibling_partition: return say(quoted(*b.at) + " is a partition and has taken " + what);
        case cause_kind::remote_partition: return say(quoted(*b.at) + " is a remote partition and has taken " + what + " from the root");
        case cause_kind::child_partition: return say("the partition " + quoted(*b.at) + " below has got " + what);
        case cause_kind::other_list: return say(quoted(*b.at) + " is a partition of " + b.at->own.exclusive.list() + " by its cpuset.cpus.exclusive; what cpuset.cpus says does not count");
        case cause_kind::not_passed: return say(quoted(*b.at) + " above does not pass " + what + " on in its cpuset.cpus.exclusive");
        case cause_kind::sibling_exclusive: return say(quoted(*b.at) + " claims " + what + " for itself");
        case cause_kind::not_granted: return say(quoted(*b.at) + " was granted its CPUs without " + what + ", and a grant does not grow by itself");
        case cause_kind::invalid_partition: return say(quoted(*b.at) + " is no valid partition (" + partition_text(b.at->state, b.at->reason, w.profile) + ") and has only what its parent leaves it");
        case cause_kind::no_controller: return say(quoted(*b.at) + " does not hand cpuset on");
    }
    return {};
}

std::vector<operation> ask_again(const world& w, const group& g) {
    const bool isolated = g.state == partition_state::isolated || g.state == partition_state::isolated_invalid;
    std::vector<operation> out;
    if (w.kernel_rules().hands_down) out.push_back(put(g, partition_file, "member"));
    out.push_back(put(g, partition_file, isolated ? "isolated" : "root"));
    return out;
}

std::vector<operation> against(const world& w, const blame& b, const cpumask& cpus) {
    std::vector<operation> out;
    const auto give_up = [&] {
        const cpumask rest = b.at->own.wanted() - cpus;
        if (rest.empty()) out.push_back(put(*b.at, partition_file, "member"));
        else out.push_back(put(*b.at, b.at->own.exclusive.empty() ? cpus_file : exclusive_file, rest.list()));
    };
    switch (b.kind) {
        case cause_kind::offline:
            for (int cpu : cpus) out.push_back({.what = verb::cpu, .number = cpu, .on = true});
            break;
        case cause_kind::parent_list: out.push_back(put(*b.at, b.at->valid() && !b.at->own.exclusive.empty() ? exclusive_file : cpus_file, (b.at->own.wanted() | cpus).list())); break;
        case cause_kind::not_passed:
            if (w.kernel_rules().exclusive_files) out.push_back(put(*b.at, exclusive_file, (b.at->own.exclusive | cpus).list()));
            break;
        case cause_kind::sibling_partition:
        case cause_kind::remote_partition:
        case cause_kind::child_partition: give_up(); break;
        case cause_kind::sibling_exclusive: out.push_back(put(*b.at, b.at->own.exclusive.empty() ? cpus_file : exclusive_file, (b.at->own.wanted() - cpus).list())); break;
        case cause_kind::other_list: out.push_back(put(*b.at, exclusive_file, (b.at->own.exclusive | cpus).list())); break;
        case cause_kind::not_granted:
            out.push_back(put(*b.at, partition_file, "member"));
            [[fallthrough]];
        case cause_kind::invalid_partition:
            for (operation& op : ask_again(w, *b.at)) out.push_back(std::move(op));
            break;
        case cause_kind::impossible:
        case cause_kind::no_controller: break;
    }
    return out;
}

std::vector<operation> against(const world&, const blame& b, const nodemask& nodes) {
    std::vector<operation> out;
    if (b.kind == cause_kind::parent_list) out.push_back(put(*b.at, mems_file, (b.at->own.mems | nodes).list()));
    if (b.kind == cause_kind::offline) {
        for (int n : nodes) out.push_back({.what = verb::node, .number = n, .on = true});
    }
    return out;
}

}  // namespace cohort::cpuset::detail
