// SPDX-License-Identifier: Apache-2.0
/// The broker's work that takes answers of processes: joins, removals, imports; and the ends of processes.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <cohort/sharepool/broker/detail/serving.hpp>
#include <cohort/sys/process_state.hpp>

namespace cohort::sharepool {

using detail::shared_fd;
using wire::packet;
using wire::verb;

namespace {

/// Populating takes as long as the machine needs for the pages.
std::chrono::nanoseconds patience_for(const packet& p, std::uint64_t bytes, std::chrono::nanoseconds patience) {
    return p.flags & wire::populate ? patience * (1 + static_cast<std::int64_t>(bytes >> 30)) : patience;
}

}  // namespace

// ---- tasks ----

broker::impl::task& broker::impl::begin_task(connection* requester, const packet& request, std::chrono::nanoseconds patience) {
    auto t = std::make_unique<task>();
    t->key = ++task_keys;
    t->request = request;
    if (requester) {
        t->requester = requester->key;
        requester->tasks.insert(t->key);
    }
    peers->at(sys::real().now() + static_cast<std::uint64_t>(patience.count()), [this, key = t->key] {
        const auto late = tasks.find(key);
        if (late == tasks.end()) return;
        const error e{ETIMEDOUT, "process", "wait for its answer", "it does not answer"};
        std::vector<std::uint64_t> missing;
        for (const auto& [number, target] : late->second->awaited) missing.push_back(number);
        for (const std::uint64_t number : missing) settle(number, nullptr, &e);
    });
    return *(tasks[t->key] = std::move(t));
}

std::uint64_t broker::impl::ask(task& t, connection& target, packet p, std::vector<shared_fd> fds) {
    p.number = ++numbers;
    t.awaited.emplace(p.number, target.key);
    task_of_number.emplace(p.number, t.key);
    target.awaited.insert(p.number);
    peers->send(target, p, std::move(fds));
    return p.number;
}

void broker::impl::settle(std::uint64_t number, connection* from, const error* e) {
    const auto which = task_of_number.find(number);
    if (which == task_of_number.end()) return;
    task& t = *tasks.at(which->second);
    task_of_number.erase(which);
    if (connection* target = peers->find(t.awaited.at(number))) target->awaited.erase(number);
    t.awaited.erase(number);
    t.each(t, from, number, e);
    finish_if_answered(t.key);
}

void broker::impl::finish_if_answered(std::uint64_t key) {
    const auto it = tasks.find(key);
    if (it == tasks.end() || !it->second->awaited.empty()) return;
    const std::unique_ptr<task> t = std::move(it->second);
    tasks.erase(it);
    t->all(*t);
    if (connection* c = peers->find(t->requester)) c->tasks.erase(key);
}

void broker::impl::answered(connection& from, const packet& p) {
    // An answer that comes too late is none; one to what somebody else was asked counts for nothing, either.
    if (!from.awaited.contains(p.number)) return;
    if (p.code == 0) return settle(p.number, &from, nullptr);
    const error e = wire::error_of(p);
    settle(p.number, &from, &e);
}

void broker::impl::answer_task(const task& t, const result<int>& what, const std::string& warnings, const trace& seen) {
    connection* c = peers->find(t.requester);
    if (!what) ++figures.refused;
    if (!c) return;
    packet a = what ? wire::answer(t.request) : wire::answer(t.request, what.error());
    if (what) a.id = *what, a.text = warnings;
    if (t.request.flags & wire::with_trace) wire::add_trace(a, seen);
    peers->send(*c, a);
}

// ---- joining ----

void broker::impl::add(connection& c, packet p) {
    trace seen;
    const add_request r{.pid = p.pid, .id = p.id, .prot = p.flags & wire::read_only ? access::read : access::read_write, .single = (p.flags & wire::single) != 0, .populate = (p.flags & wire::populate) != 0};
    const auto t = groups->begin_add(c.who(), r, p.flags & wire::with_trace ? &seen : nullptr);
    if (t) return begin_join(c, p, *t, std::move(seen));
    ++figures.failed_joins;
    task none;
    none.requester = c.key, none.request = p;
    answer_task(none, std::unexpected(t.error()), {}, seen);
}

void broker::impl::add_local(connection& c, const packet& p) {
    task none;
    none.requester = c.key, none.request = p;
    if (const auto known = groups->local_of(c.peer.process.pid); known && c.attached) return answer_task(none, *known);
    const auto t = groups->begin_local(c.who(), c.peer.process.pid);
    if (t) return begin_join(c, p, *t, {});
    ++figures.failed_joins;
    answer_task(none, std::unexpected(t.error()));
}

result<const detail::group_file_store::files*> broker::impl::files_for(const spg& g) {
    if (const auto* known = store.find(g.id)) return known;
    if (g.files.made() && !g.members.empty()) return fail(EAGAIN, object_of(g.id), "hand out its memory", "its members have not come back since the broker was started again");
    const bool again = g.files.made();
    const auto made = store.make(g);
    if (!made) return made;
    if (auto r = groups->set_files(g.id, (*made)->inodes); !r) return std::unexpected(r.error());
    if (again) ++figures.groups_again;
    return made;
}

void broker::impl::begin_join(connection& c, const packet& p, const directory::ticket& t, trace seen) {
    const auto give_up = [&](const error& e) {
        groups->abort_add(t);
        ++figures.failed_joins;
        task none;
        none.requester = c.key, none.request = p;
        answer_task(none, std::unexpected(e), {}, seen);
    };
    if (t.new_group && !t.group.local && options.may_create && !options.may_create(c.peer.uid, c.peer.gid)) {
        return give_up({EPERM, object_of(t.id), "create it", "the broker lets user " + std::to_string(c.peer.uid) + " create none"});
    }
    if (waits_for_members && t.group.files.made() && !store.find(t.id) && !t.group.members.empty()) {
        groups->abort_add(t);
        waiting.push_back({c.key, p});
        return;
    }
    connection* target = connection_of(t.joiner.process);
    if (!target) return give_up({ESRCH, "process " + std::to_string(t.joiner.process.pid), "add it to group " + std::to_string(t.id), "it has ended"});
    const auto files = files_for(t.group);
    if (!files) return give_up(files.error());
    const bool reads = t.joiner.prot == access::read;
    auto fds = reads ? detail::group_file_store::for_reading(**files) : result<std::vector<shared_fd>>(std::vector<shared_fd>{(*files)->data, (*files)->metadata});
    if (!fds) return give_up(fds.error());

    struct progress {
        std::uint64_t map = 0;
        std::optional<error> failed;
        bool has_it = true;  // what the process said; if it said nothing, it may have mapped it
        std::string warnings;
        std::map<std::uint64_t, std::uint64_t> imports;  // number -> address
    };
    auto all = std::make_shared<progress>();
    task& work = begin_task(&c, p, patience_for(p, t.group.range.bytes, options.patience));
    work.each = [this, all, id = t.id](task&, connection* from, std::uint64_t number, const error* e) {
        if (!e) return;
        if (number == all->map) {
            all->failed = *e;
            all->has_it = from == nullptr;
        } else {
            all->warnings += (all->warnings.empty() ? "" : "; ") + ("import at " + std::to_string(all->imports[number])) + ": " + e->line();
            say(object_of(id) + ": a process that joins could not map an import: " + e->line());
        }
    };
    work.all = [this, all, t, seen = std::move(seen)](task& done) {
        result<int> end = 0;
        if (all->failed) end = std::unexpected(*all->failed);
        else if (!peers->find(done.requester)) end = fail(ECONNRESET, object_of(t.id), "join it", "who asked has gone");
        if (end) end = groups->commit_add(t);
        else groups->abort_add(t);
        if (end) {
            ++figures.joins;
            recover_what_waits(t.id);
        } else {
            ++figures.failed_joins;
            if (all->has_it) tell_unmap(t.joiner.process, t.id);
            if (!groups->look_at(t.id)) store.drop(t.id);
        }
        answer_task(done, end, all->warnings, seen);
    };
    const std::uint32_t flags = (reads ? wire::read_only : 0u) | (t.joiner.populate ? wire::populate : 0u);
    all->map = ask(work, *target, {.what = verb::map, .id = t.id, .flags = flags, .at = t.group.range.base, .bytes = t.group.range.bytes, .offset = t.group.limit}, std::move(*fds));
    for (const import_facts& f : t.group.imports) {
        if (f.to_process) continue;
        const auto file = import_files.find({t.id, f.at});
        if (file == import_files.end()) {
            all->warnings += (all->warnings.empty() ? "" : "; ") + ("import at " + std::to_string(f.at)) + ": its file was lost when the broker was started again";
            continue;
        }
        const std::uint64_t number = ask(work, *target, {.what = verb::map_import, .id = t.id, .flags = flags, .at = f.at, .bytes = f.bytes, .offset = f.offset}, {file->second});
        all->imports[number] = f.at;
    }
}

// ---- leaving ----

void broker::impl::tell_unmap(const sys::process_identity& p, int id) {
    if (connection* c = connection_of(p)) peers->send(*c, {.what = verb::unmap, .id = id});
}

void broker::impl::remove(connection& c, const packet& p) {
    const auto g = groups->look_at(p.id);
    const int leader = sys::state_of_process(p.pid).leader;
    const bool is_member = g && !g->dead && std::ranges::any_of(g->members, [&](const member_facts& m) { return m.process.pid == leader; });
    const auto known = processes.find(leader);
    connection* target = known == processes.end() ? nullptr : peers->find(known->second.connection);
    task& work = begin_task(&c, p, options.patience);
    auto said = std::make_shared<std::optional<error>>();
    work.each = [said](task&, connection* from, std::uint64_t, const error* e) {
        // Who has ended uses nothing.
        if (e && (from || e->code == ETIMEDOUT)) *said = *e;
    };
    work.all = [this, said, leader, who = c.who()](task& done) {
        if (*said && (*said)->code != EBUSY) return answer_task(done, std::unexpected(**said));
        const auto left = groups->remove(who, done.request.pid, done.request.id, said->has_value());
        if (!left) return answer_task(done, std::unexpected(left.error()));
        if (const auto it = processes.find(leader); it != processes.end()) {
            tell_unmap(it->second.identity, done.request.id);
            if (!*left) it->second.left.push_back(done.request.id);
        }
        if (*left) group_died(done.request.id);
        answer_task(done, 0);
    };
    if (is_member && target) ask(work, *target, {.what = verb::ask_use, .id = p.id});
    finish_if_answered(work.key);
}

void broker::impl::group_died(int id) {
    if (begins) ++figures.groups_lost;
    store.drop(id);
    unrecovered.erase(id);
    import_files.erase(import_files.lower_bound({id, 0}), import_files.lower_bound({id + 1, 0}));
    peers->each([&](connection& c) {
        if (c.follows) peers->send(c, {.what = verb::group_died, .id = id});
    });
}

/// One of the living members puts in order what `gone` left; if it dies with it, another.
void broker::impl::recover_in(int id, const sys::process_identity& gone) {
    const auto g = groups->look_at(id);
    if (!g || g->dead) return;
    std::vector<connection*> can;
    for (const member_facts& m : g->members) {
        if (m.prot != access::read_write || m.process == gone) continue;
        if (connection* c = connection_of(m.process)) can.push_back(c);
    }
    if (can.empty()) {
        unrecovered[id].push_back(gone);
        return;
    }
    ++figures.recoveries_asked;
    // Who has least to do already: many may end at once.
    connection* chosen = *std::min_element(can.begin(), can.end(), [](const connection* a, const connection* b) { return a->awaited.size() < b->awaited.size(); });
    task& work = begin_task(nullptr, {}, std::chrono::minutes(1));
    work.each = [this, id, gone](task&, connection* from, std::uint64_t, const error* e) {
        if (e && !from) recover_in(id, gone);
    };
    work.all = [](task&) {};
    ask(work, *chosen, {.what = verb::recover, .pid = gone.pid, .id = id, .mark = gone.mark});
}

/// Somebody has come who can.
void broker::impl::recover_what_waits(int id) {
    if (const auto left = unrecovered.extract(id)) {
        for (const sys::process_identity& gone : left.mapped()) recover_in(id, gone);
    }
}

void broker::impl::connection_ended(connection& c) {
    for (const std::uint64_t key : std::exchange(c.tasks, {})) {
        if (const auto t = tasks.find(key); t != tasks.end()) t->second->requester = 0;
    }
    const error e{ESRCH, "process " + std::to_string(c.peer.process.pid), "wait for its answer", "it has ended or closed its connection"};
    for (const std::uint64_t number : std::exchange(c.awaited, {})) settle(number, nullptr, &e);
    if (!std::exchange(c.attached, false)) return;
    process& p = processes.at(c.peer.process.pid);
    p.connection = 0;
    leave_directory(p);
    if (!p.ends || sys::has_ended(p.identity)) return process_ended(p.identity.pid);
    // One that lives has become another program, or only closed its connection: who recovers looks whether it has the memory still. At its end it is done again.
    for (const int id : p.left) recover_in(id, p.identity);
}

void broker::impl::leave_directory(process& p) {
    if (!std::exchange(p.in_directory, false)) return;
    std::vector<int> was_in = groups->ids_of(p.identity);
    for (const int id : groups->exit(p.identity)) {
        group_died(id);
        std::erase(was_in, id);
    }
    p.left.insert(p.left.end(), was_in.begin(), was_in.end());
}

void broker::impl::process_ended(int pid) {
    const auto it = processes.find(pid);
    if (it == processes.end()) return;
    process& p = it->second;
    // Without pidfds the end of its connection has to do. An event may also be of an earlier process of this number.
    const bool nothing_tells = p.connection == 0 && !p.ends;
    if (!nothing_tells && !sys::has_ended(p.identity)) return;
    ++figures.deaths;
    if (connection* c = peers->find(p.connection)) {
        // A child that it forked may hold the connection open.
        peers->end(*c);
        connection_ended(*c);
        return;  // which came here again
    }
    leave_directory(p);
    for (const int id : p.left) recover_in(id, p.identity);
    if (p.ends) peers->unwatch(p.ends.get());
    processes.erase(it);
}

}  // namespace cohort::sharepool
