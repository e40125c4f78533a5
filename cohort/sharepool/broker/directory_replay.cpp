// SPDX-License-Identifier: Apache-2.0
/// directory: what was recorded becomes a directory again, and a directory records.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <cohort/sharepool/broker/detail/directory_state.hpp>

namespace cohort::sharepool {

using namespace detail;

namespace {

const char* const kinds[] = {"created", "destroyed", "joined", "left", "imported", "unshared", "limited", "attached", "detached", "filed"};

bool has_number_of_its_kind(const spg& g) {
    const int id = g.id;
    if (g.local) return id >= spg_id_local_min && id <= spg_id_local_max;
    return (id >= spg_id_min && id <= spg_id_auto_max) || (id >= spg_id_dvpp_min && id <= spg_id_dvpp_max);
}

}  // namespace

/// Why the record cannot follow what came before; empty: it can.
std::string directory::impl::refused(const record& r) {
    using kind = record::kind;
    const int id = r.group.id;
    if (r.what > kind::filed) return "it is of no known kind";
    process* p = attached(r.member.process);
    if (r.what == kind::attached) return r.member.process.pid <= 0 ? "that is no process" : processes.contains(r.member.process.pid) ? "the process is attached" : "";
    if (r.what == kind::detached) return p ? "" : "the process is not attached";
    if (r.what == kind::created) {
        if (any(id)) return "the group is there";
        if (!has_number_of_its_kind(r.group)) return "no group has this id";
        const bool alone = r.member.process.pid == 0;
        if (r.group.dead || r.group.references != 0 || !r.group.members.empty() || !r.group.imports.empty() || (alone && !r.group.kept)) return "no group begins like this";
        if (!alone && !p) return "its first member is not attached";
        if (!alone && r.group.local && p->local != 0) return "its process has a local group";
        return addresses.take_at(r.group.range) ? "" : "its addresses are outside of the window or another group's";
    }
    group* g = living(id);
    if (!g) return "there is no such group";
    switch (r.what) {
        case kind::joined: return !p ? "the process is not attached" : is_member(p->who.pid, id) || g->facts.local ? "the process is in it" : "";
        case kind::left: return p && is_member(p->who.pid, id) ? "" : "the process is not in it";
        case kind::imported: return fits(*g, r.import) ? "" : "what is imported does not fit";
        case kind::unshared: return std::any_of(g->facts.imports.begin(), g->facts.imports.end(), [&](const import_facts& i) { return i.at == r.import.at; }) ? "" : "nothing is imported there";
        default: return "";
    }
}

result<void> directory::apply(const record& r) {
    using kind = record::kind;
    impl& d = *impl_;
    if (std::string why = d.refused(r); !why.empty()) {
        const bool of_process = r.what == kind::attached || r.what == kind::detached;
        return fail(EINVAL, of_process ? "process " + std::to_string(r.member.process.pid) : group_name(r.group.id), r.what > kind::filed ? "apply a record" : std::string("apply the record \"") + kinds[static_cast<int>(r.what)] + '"',
                    std::move(why));
    }
    switch (r.what) {
        case kind::attached: d.processes[r.member.process.pid].who = r.member.process; break;
        case kind::detached: {
            const auto quiet = std::exchange(d.changed, {});
            (void)exit(r.member.process);
            d.changed = quiet;
            break;
        }
        case kind::created: {
            if (is_given_out(r.group.id)) (void)d.ids.alloc_range(r.group.id, r.group.id);
            impl::group& g = d.insert(r.group);
            g.recorded = true;
            if (r.member.process.pid != 0) d.enter(g, *d.attached(r.member.process), r.member);
            break;
        }
        case kind::destroyed: {
            impl::group& g = d.groups.at(r.group.id);
            d.expel_all(g);
            d.die(g);
            d.settle(r.group.id);
            break;
        }
        case kind::joined: d.enter(d.groups.at(r.group.id), *d.attached(r.member.process), r.member); break;
        case kind::left: (void)d.leave(r.group.id, *d.attached(r.member.process)); break;
        case kind::imported: d.put(d.groups.at(r.group.id), r.import); break;
        case kind::unshared: {
            impl::group& g = d.groups.at(r.group.id);
            d.take_out(g, std::find_if(g.facts.imports.begin(), g.facts.imports.end(), [&](const import_facts& i) { return i.at == r.import.at; }));
            break;
        }
        case kind::limited: d.groups.at(r.group.id).facts.limit = r.group.limit; break;
        case kind::filed: d.groups.at(r.group.id).facts.files = r.group.files; break;
    }
    return {};
}

/// Processes; groups that need no member; then joinings in their order, a group's first one with the group, if it has no life of its own; then imports.
std::vector<record> directory::snapshot() const {
    const impl& d = *impl_;
    std::vector<record> all;
    for (const sys::process_identity& p : processes()) all.push_back({.what = record::kind::attached, .member = {.process = p}});
    std::vector<std::tuple<std::uint64_t, const impl::group*, std::size_t>> joinings;
    for (const auto& [id, g] : d.groups) {
        if (g.facts.dead || !g.recorded) continue;
        if (g.facts.kept) all.push_back({.what = record::kind::created, .group = impl::bare(g)});
        for (std::size_t i = 0; i < g.since.size(); ++i) joinings.emplace_back(g.since[i], &g, i);
    }
    std::sort(joinings.begin(), joinings.end());
    for (const auto& [number, g, i] : joinings) {
        const bool first = i == 0 && !g->facts.kept;
        record r{.what = first ? record::kind::created : record::kind::joined, .group = {.id = g->facts.id}, .member = g->facts.members[i]};
        if (first) r.group = impl::bare(*g);
        all.push_back(std::move(r));
    }
    for (const auto& [id, g] : d.groups) {
        if (g.facts.dead || !g.recorded) continue;
        for (const import_facts& i : g.facts.imports) all.push_back({.what = record::kind::imported, .group = {.id = id}, .member = {}, .import = i});
    }
    return all;
}

std::string directory::fault() const {
    impl& d = *impl_;
    totals t;
    t.processes = static_cast<int>(d.processes.size());
    std::map<int, int> tickets_of;
    std::size_t of_processes = 0;
    for (const auto& [number, p] : d.tickets) {
        ++tickets_of[p.id];
        if (p.gone) continue;
        const impl::process* who = d.attached(p.joiner.process);
        if (!who || (who->local_ticket != number && (!who->asked.contains(p.id) || who->asked.at(p.id) != number))) return "ticket " + std::to_string(number) + ": its process knows nothing of it";
        ++of_processes;
    }
    for (const auto& [pid, p] : d.processes) of_processes -= p.asked.size() + (p.local_ticket != 0);
    if (of_processes != 0) return "a process has a ticket that is none";
    std::uint64_t last_end = 0;
    std::map<std::uint64_t, std::uint64_t> ranges;
    std::size_t memberships = 0, local_memberships = 0;
    for (const auto& [id, g] : d.groups) {
        const std::string name = group_name(id) + ": ";
        const spg& f = g.facts;
        if (f.id != id) return name + "has another id";
        if (g.tickets != tickets_of[id] || f.references != g.tickets + g.finders || g.finders < 0) return name + "its references are not its tickets and finders";
        if (f.dead && (f.references == 0 || !f.members.empty() || !f.imports.empty())) return name + "is dead, and has members, imports, or nobody who refers to it";
        if (!f.dead && !f.kept && f.members.empty() && g.recorded) return name + "lives without members";
        if (!f.dead && !g.recorded && g.tickets == 0) return name + "nobody can join it any more";
        if (is_given_out(id) != d.ids.taken(id)) return name + "its id is not reserved";
        if (g.since.size() != f.members.size() || !std::is_sorted(g.since.begin(), g.since.end())) return name + "its members' numbers do not rise";
        for (std::size_t i = 0; i < f.members.size(); ++i) {
            const impl::process* p = d.attached(f.members[i].process);
            if (!p) return name + "a member is not attached";
            if (f.local ? p->local != id || p->local_since != g.since[i] : !p->groups.contains(id) || p->groups.at(id) != g.since[i]) return name + "a member knows nothing of it";
        }
        (f.local ? local_memberships : memberships) += f.members.size();
        for (std::size_t i = 0; i < f.imports.size(); ++i) {
            if (f.imports[i].at < f.range.base || f.imports[i].at + f.imports[i].bytes > f.range.end() || (i > 0 && f.imports[i - 1].at + f.imports[i - 1].bytes > f.imports[i].at)) return name + "imports overlap or are outside";
            if (f.imports[i].to_process && !d.is_member(f.imports[i].pid, id)) return name + "an import is for a process that is not in it";
        }
        if (g.private_imports != std::count_if(f.imports.begin(), f.imports.end(), [](const import_facts& i) { return i.to_process; })) return name + "miscounts imports for a process";
        ranges[f.range.base] = f.range.bytes;
        t.addresses += f.range.bytes;
        ++(f.local ? t.local : f.dead ? t.dead : t.groups);
        if (!f.local) t.members += static_cast<int>(f.members.size());
        t.imports += static_cast<int>(f.imports.size());
    }
    for (const auto& [pid, p] : d.processes) memberships -= p.groups.size(), local_memberships -= p.local != 0;
    if (memberships != 0 || local_memberships != 0) return "a process is in a group that does not have it";
    for (const auto& [base, bytes] : ranges) {
        if (base < last_end) return "two groups overlap";
        last_end = base + bytes;
    }
    if (t.addresses + d.addresses.free_bytes() != d.addresses.whole().bytes) return "addresses are lost";
    if (t != count()) return "totals are wrong";
    return d.addresses.fault();
}

}  // namespace cohort::sharepool
