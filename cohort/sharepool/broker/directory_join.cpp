// SPDX-License-Identifier: Apache-2.0
/// directory: joining and leaving. The order of the checks is the contract: who reads begin_add reads the kernel's join.
#include <algorithm>

#include <cohort/sharepool/broker/detail/directory_state.hpp>

namespace cohort::sharepool {

using namespace detail;

namespace {

constexpr std::uint64_t most_group_bytes = std::uint64_t{128} << 30;
constexpr std::size_t most_name_bytes = 31;

std::string process_name(int pid) { return "process " + std::to_string(pid); }
std::string words(access prot) { return prot == access::read ? "reading" : "reading and writing"; }
std::string out_of(std::size_t n, int most) { return std::to_string(n) + " of " + std::to_string(most); }

bool printable(const std::string& name) {
    return std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/'; });
}

const char* kind_of(int id) {
    if (id == spg_id_auto) return "a new one";
    if (id == spg_id_dvpp) return "a new pass-through one";
    return id >= spg_id_auto_min ? "given out" : "manual";
}

std::string octal(unsigned mode) {
    std::string digits;
    for (const int shift : {9, 6, 3, 0}) digits += static_cast<char>('0' + (mode >> shift & 7));
    return digits;
}

}  // namespace

// ---- parts of a join ----

result<int> directory::impl::new_id(int kind, checks& c) {
    const int from = kind == spg_id_dvpp ? spg_id_dvpp_min : kind == spg_id_local ? spg_id_local_min : spg_id_auto_min;
    const int to = kind == spg_id_dvpp ? spg_id_dvpp_max : kind == spg_id_local ? spg_id_local_max : spg_id_auto_max;
    const auto id = ids.alloc_range(from, to);
    if (!id) return c.stop(ENOSPC, "new id", "all ids of " + std::to_string(from) + "-" + std::to_string(to) + " are taken");
    c.pass("new id", std::to_string(*id));
    return *id;
}

/// The process that a request names, by any of its threads: is it there, can it be told to map, may the caller ask for it?
result<directory::impl::asked_process> directory::impl::check_process(const caller& who, int pid, bool for_itself, checks& c) {
    const process_facts f = facts(pid);
    if (!f.exists) return c.stop(ESRCH, "process", "there is no such process");
    if (f.exiting) return c.stop(ESRCH, "process", "it is ending");
    if (f.kernel_thread) return c.stop(for_itself ? EINVAL : ESRCH, "process", "it is a kernel thread, and has no memory of its own");
    c.pass("process", f.leader.pid == pid ? "lives" : "lives, a thread of process " + std::to_string(f.leader.pid));
    if (f.shares_memory) return c.stop(EINVAL, "memory of its own", "its memory is another process's (vfork or CLONE_VM)");
    c.pass("memory of its own", "yes");
    process* p = f.attached ? attached(f.leader) : nullptr;
    if (!p) return c.stop(EOPNOTSUPP, "attached", "it is not attached to the broker, and cannot be told to map: start it by `cohort pool exec`, or let it call share_pool::attach");
    c.pass("attached", "yes");
    if (f.dumping) return c.stop(EBUSY, "core dump", "it is writing a core file");
    c.pass("core dump", "none");
    if (who.uid != 0 && who.uid != f.uid && who.pid != f.leader.pid) {
        return c.stop(EPERM, "right to add it", "uid " + std::to_string(who.uid) + " may not add a process of uid " + std::to_string(f.uid));
    }
    c.pass("right to add it", who.pid == f.leader.pid ? "itself" : who.uid == 0 ? "root" : "the same uid");
    return asked_process{p, f};
}

/// A new group, whose id is reserved. Nothing of it is left when this fails.
result<directory::impl::group*> directory::impl::make(const caller& who, int id, const group_request& r, bool kept, bool local, checks& c) {
    const std::uint64_t wanted = r.bytes == 0 ? (local ? settings.local_bytes : settings.group_bytes) : r.bytes;
    if (wanted > most_group_bytes || wanted > addresses.whole().bytes) return c.stop(EINVAL, "size", std::to_string(wanted) + " bytes are more than the 128 GiB of the largest group, or than the window has");
    if (r.limit > wanted) return c.stop(EINVAL, "limit", "a limit of " + std::to_string(r.limit) + " bytes is more than the group's " + std::to_string(wanted));
    if (r.name.size() > most_name_bytes || !printable(r.name)) return c.stop(EINVAL, "name", "a name has at most 31 bytes, without '/' and control characters");
    if (r.mode > 0777) return c.stop(EINVAL, "mode", "0" + octal(r.mode) + " is no mode of a file");
    const int shared = sums.groups + sums.dead;
    if (!local && shared >= settings.most_groups) return c.stop(ENOSPC, "groups of the machine", out_of(static_cast<std::size_t>(shared), settings.most_groups) + " are there");
    const auto base = addresses.take(wanted);
    if (!base) return c.stop(EOVERFLOW, "addresses", std::to_string(wanted) + " bytes of addresses are not free in one piece; the largest has " + std::to_string(addresses.largest()));
    constexpr std::uint64_t g = address_ranges::granule;
    c.pass("group", "made anew");
    return &insert({.id = id, .name = r.name, .range = {*base, (wanted + g - 1) / g * g}, .owner_uid = who.uid, .owner_gid = who.gid, .mode = r.mode, .limit = r.limit, .flags = r.flags, .kept = kept, .local = local});
}

result<directory::impl::group*> directory::impl::find_or_make(const caller& who, int id, access prot, checks& c) {
    group* g = any(id);
    if (!g) return make(who, id, {.id = id}, false, false, c);
    if (g->facts.dead) return c.stop(ENODEV, "group", "it is dead");
    if (settings.only_owner_adds && who.uid != 0 && who.uid != g->facts.owner_uid) return c.stop(EPERM, "owner", "only its owner, uid " + std::to_string(g->facts.owner_uid) + ", adds to it");
    if (!may_join(who, g->facts.owner_uid, g->facts.owner_gid, g->facts.mode, prot)) {
        return c.stop(EACCES, "mode", "uid " + std::to_string(who.uid) + ", gid " + std::to_string(who.gid) + " may not join it for " + words(prot) + ": its mode is " + octal(g->facts.mode) + ", its owner " +
                                          std::to_string(g->facts.owner_uid) + ":" + std::to_string(g->facts.owner_gid));
    }
    c.pass("group", "lives, mode " + octal(g->facts.mode));
    return g;
}

directory::ticket directory::impl::give_ticket(group& g, process& p, const member_facts& m) {
    const std::uint64_t number = ++last_ticket;
    tickets.emplace(number, pending{g.facts.id, m});
    ++g.tickets, ++g.facts.references;
    if (g.facts.local) p.local_ticket = number;
    else p.asked.emplace(g.facts.id, number);
    return {number, g.facts.id, g.facts, m, !g.recorded};
}

// ---- joining ----

result<directory::ticket> directory::begin_add(const caller& who, const add_request& r, trace* seen) {
    impl& d = *impl_;
    const int wanted = d.settings.default_group != 0 ? d.settings.default_group : r.id;
    checks c(seen, group_name(wanted), "add " + process_name(r.pid));
    if (r.prot != access::read && r.prot != access::read_write) return c.stop(EINVAL, "protection", "it is neither for reading, nor for reading and writing");
    c.pass("protection", words(r.prot));
    c.pass("default group", wanted == r.id ? "does not matter" : std::to_string(wanted) + " instead of " + std::to_string(r.id));

    if ((wanted < spg_id_min || wanted > spg_id_auto) && wanted != spg_id_dvpp) return c.stop(EINVAL, "id in range", "ids to join are 1-199999, and 200000 and 900000 for a new group");
    c.pass("id in range", std::to_string(wanted) + ", " + kind_of(wanted));
    const bool new_group = wanted == spg_id_auto || wanted == spg_id_dvpp;
    if (wanted >= spg_id_auto_min && wanted <= spg_id_auto_max && !d.living(wanted)) return c.stop(EINVAL, "id was given out", "ids of 100000-199999 are given out, and no group has this one");
    result<int> id = wanted;
    if (new_group) id = d.new_id(wanted, c);
    if (!id) return std::unexpected(id.error());
    impl::reserved_id undo(d.ids, new_group ? *id : 0);

    const auto asked = d.check_process(who, r.pid, false, c);
    if (!asked) return std::unexpected(asked.error());
    impl::process& p = *asked->known;
    if (r.single && !p.groups.empty()) return c.stop(EEXIST, "membership", "it is in group " + std::to_string(p.groups.begin()->first) + ", and asks for one group only");
    if (r.single && !p.asked.empty()) return c.stop(EEXIST, "membership", "it is being added to group " + std::to_string(p.asked.begin()->first) + ", and asks for one group only");
    if (p.groups.contains(*id)) return c.stop(EEXIST, "membership", "it is in it already");
    if (p.asked.contains(*id)) return c.stop(EEXIST, "membership", "it is being added to it");
    c.pass("membership", "none");
    const std::size_t of_process = p.groups.size() + p.asked.size();
    if (of_process >= static_cast<std::size_t>(d.settings.most_groups_of_process)) return c.stop(ENOSPC, "groups of the process", "it is in " + out_of(of_process, d.settings.most_groups_of_process) + " groups");
    c.pass("groups of the process", out_of(of_process, d.settings.most_groups_of_process));

    const auto g = d.find_or_make(who, *id, r.prot, c);
    if (!g) return std::unexpected(g.error());
    undo.keep();
    const std::size_t members = (*g)->facts.members.size() + static_cast<std::size_t>((*g)->tickets);
    if (members >= static_cast<std::size_t>(d.settings.most_members)) {
        d.settle(*id);  // a new one, where groups of no member are allowed
        return c.stop(ENOSPC, "members", "it has " + out_of(members, d.settings.most_members) + " members");
    }
    c.pass("members", out_of(members, d.settings.most_members));
    return d.give_ticket(**g, p, {p.who, r.prot, r.populate});
}

result<directory::ticket> directory::begin_local(const caller& who, int pid) {
    impl& d = *impl_;
    checks c(nullptr, process_name(pid), "make its local group");
    const auto asked = d.check_process(who, pid, true, c);
    if (!asked) return std::unexpected(asked.error());
    impl::process& p = *asked->known;
    if (p.local != 0 || p.local_ticket != 0) return c.stop(EEXIST, "membership", p.local != 0 ? "it has group " + std::to_string(p.local) : "it is being made");
    const auto id = d.new_id(spg_id_local, c);
    if (!id) return std::unexpected(id.error());
    impl::reserved_id undo(d.ids, *id);
    const auto g = d.make({p.who.pid, asked->facts.uid, who.gid}, *id, {.id = *id, .mode = 0600}, false, true, c);
    if (!g) return std::unexpected(g.error());
    undo.keep();
    return d.give_ticket(**g, p, {p.who, access::read_write, false});
}

result<int> directory::commit_add(const ticket& t) {
    impl& d = *impl_;
    const auto found = d.tickets.find(t.number);
    checks c(nullptr, group_name(t.id), "add " + process_name(t.joiner.process.pid));
    if (found == d.tickets.end()) return c.stop(EINVAL, "ticket", "nobody is being added by ticket " + std::to_string(t.number));
    const impl::pending waiting = found->second;
    const auto put_back = [&](int code, const char* what, const char* reason) {
        abort_add(t);
        return c.stop(code, what, reason);
    };
    const process_facts f = d.facts(waiting.joiner.process.pid);
    if (!f.exists || f.exiting || !same_process(f.leader, waiting.joiner.process)) return put_back(ESRCH, "process", "the process has ended meanwhile");
    if (waiting.gone || !f.attached) return put_back(ESRCH, "attached", "the process has lost its connection to the broker meanwhile");
    if (f.dumping) return put_back(EBUSY, "core dump", "the process is writing a core file");
    impl::group& g = d.groups.at(waiting.id);
    if (g.facts.dead) return put_back(ENODEV, "group", "it has died meanwhile");

    record told{.what = g.recorded ? record::kind::joined : record::kind::created, .group = {.id = waiting.id}, .member = waiting.joiner};
    if (!g.recorded) told.group = impl::bare(g);
    impl::process& p = *d.attached(waiting.joiner.process);
    d.enter(g, p, waiting.joiner);
    g.recorded = true;
    abort_add(t);  // ends the ticket; the group stays, for it has a member
    d.tell(told);
    return waiting.id;
}

void directory::abort_add(const ticket& t) {
    impl& d = *impl_;
    const auto found = d.tickets.find(t.number);
    if (found == d.tickets.end()) return;
    const impl::pending waiting = found->second;
    d.tickets.erase(found);
    if (!waiting.gone) {
        impl::process& p = d.processes.at(waiting.joiner.process.pid);
        if (p.local_ticket == t.number) p.local_ticket = 0;
        else p.asked.erase(waiting.id);
    }
    impl::group& g = d.groups.at(waiting.id);
    --g.tickets, --g.facts.references;
    d.settle(waiting.id);
}

// ---- leaving ----

result<bool> directory::remove(const caller& who, int pid, int id, bool in_use) {
    impl& d = *impl_;
    checks c(nullptr, group_name(id), "remove " + process_name(pid));
    const impl::group* g = d.living(id);
    if (!g || g->facts.local) return c.stop(EINVAL, "group", g ? "it is a process's own" : d.any(id) ? "it is dead" : "there is no such group");
    if (in_use || !g->facts.imports.empty()) return c.stop(EINVAL, "use", in_use ? "memory is allocated in it" : std::to_string(g->facts.imports.size()) + " areas are imported into it");
    const process_facts f = d.facts(pid);
    if (!f.exists || f.exiting) return c.stop(ESRCH, "process", f.exists ? "it is ending" : "there is no such process");
    impl::process* p = d.attached(f.leader);
    if (!p || !p->groups.contains(id)) return c.stop(ESRCH, "membership", "the process is not in it");
    if (who.uid != 0 && who.uid != f.uid && who.pid != f.leader.pid) return c.stop(EPERM, "right to remove it", "uid " + std::to_string(who.uid) + " may not remove a process of uid " + std::to_string(f.uid));
    const bool died = d.leave(id, *p);
    d.tell({.what = record::kind::left, .group = {.id = id}, .member = {.process = p->who}});
    return died;
}

result<void> directory::attach(const sys::process_identity& p) {
    const auto wrong = [&](int code, const char* reason) { return fail(code, process_name(p.pid), "attach", reason); };
    if (p.pid <= 0) return wrong(EINVAL, "that is no process");
    const auto known = impl_->processes.find(p.pid);
    if (known != impl_->processes.end()) return same_process(known->second.who, p) ? result<void>{} : wrong(EEXIST, "an earlier process of this number has not left yet");
    impl_->processes[p.pid].who = p;
    impl_->tell({.what = record::kind::attached, .member = {.process = p}});
    return {};
}

std::vector<int> directory::exit(const sys::process_identity& gone) {
    impl& d = *impl_;
    impl::process* p = d.attached(gone);
    if (!p) return {};
    const sys::process_identity who = p->who;
    for (const auto& [id, number] : p->asked) d.tickets.at(number).gone = true;
    if (p->local_ticket != 0) d.tickets.at(p->local_ticket).gone = true;
    std::vector<int> died;
    const auto leave = [&](int id) {
        if (d.leave(id, *p)) died.push_back(id);
    };
    while (!p->groups.empty()) leave(p->groups.begin()->first);
    if (p->local != 0) leave(p->local);
    std::sort(died.begin(), died.end());
    d.processes.erase(who.pid);
    d.tell({.what = record::kind::detached, .member = {.process = who}});
    return died;
}

}  // namespace cohort::sharepool
