// SPDX-License-Identifier: Apache-2.0
/// How a broker begins: what the journal says, what members bring back, what is gone.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <cohort/sharepool/broker/detail/serving.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

using wire::packet;

void broker::impl::write_down(const record& r) {
    if (!log) return;
    if (auto done = log->append(r); !done) say(done.error().line());
}
void broker::impl::tend_journal() {
    if (!log) return;
    if (auto done = log->tend(*groups); !done) say(done.error().line());
}

result<void> broker::impl::read_journal() {
    if (options.journal.empty()) return {};
    auto read = journal::open(sys::real(), options.journal);
    if (!read) return std::unexpected(read.error());
    if (read->cut() != 0) say(options.journal + ": its last record was cut short, and is left out");
    for (const record& r : read->take_records()) {
        if (auto done = groups->apply(r); !done) return fail(EINVAL, options.journal, "read the journal", done.error().line());
    }
    log = std::make_unique<journal>(std::move(*read));
    if (auto done = log->rewrite(*groups); !done) return done;
    begins = true;
    processes_of_before();
    begins = waits_for_members;
    return {};
}

/// Those that have ended are taken out; the others may come back as long as they live.
void broker::impl::processes_of_before() {
    std::vector<int> ended;
    for (const sys::process_identity& who : groups->processes()) {
        process& p = processes[who.pid];
        p.identity = who;
        p.in_directory = true;
        if (const auto fd = sys::real().pidfd(who.pid)) p.ends = sys::owned_fd(sys::real(), *fd);
        if (!p.ends || sys::has_ended(who)) {
            ended.push_back(who.pid);
        } else {
            peers->watch(who.pid, p.ends.get());
        }
    }
    for (const int pid : ended) {
        process& p = processes.at(pid);
        p.ends = {};
        process_ended(pid);
    }
    if (processes.empty()) return;
    waits_for_members = true;
    peers->at(sys::real().now() + static_cast<std::uint64_t>(std::chrono::nanoseconds(options.patience).count()), [this] { end_of_waiting(); });
}

/// A process that lives and did not come back in time: it has become another program, or has not been let run. The one is told from the other by what it maps.
void broker::impl::end_of_waiting() {
    std::vector<int> gone;
    for (const auto& [pid, p] : processes) {
        if (p.connection != 0 || !p.in_directory) continue;
        const std::vector<int> ids = groups->ids_of(p.identity);
        const bool holds_one = ids.empty() || std::ranges::any_of(ids, [&](int id) {
            const group_inodes inodes = groups->look_at(id)->files;
            return sys::maps_file(pid, inodes.metadata_device, inodes.metadata) != false;
        });
        if (!holds_one) gone.push_back(pid);
    }
    for (const int pid : gone) {
        process& p = processes.at(pid);
        say("process " + std::to_string(pid) + ": taken out: it has become another program");
        leave_directory(p);
        for (const int id : p.left) recover_in(id, p.identity);
    }
    waits_for_members = begins = false;
    // Who had been told to map, or to leave, when the broker ended, may have died since without having been anybody the broker knew of.
    for (const int id : groups->groups()) {
        if (store.find(id)) recover_in(id, {});
    }
    for (auto& [key, p] : std::exchange(waiting, {})) {
        if (connection* c = peers->find(key)) serve(*c, std::move(p), {});
    }
}

void broker::impl::holds(connection& c, const packet& p, descriptors fds) {
    const auto taken = take_up(c, p, fds);
    if (!taken) ++figures.refused;
    // It may have the group though nobody knows of it.
    if (!taken && c.attached && groups->look_at(p.id)) {
        std::vector<int>& left = processes.at(c.peer.process.pid).left;
        if (!std::ranges::count(left, p.id)) left.push_back(p.id);
    }
    peers->send(c, taken ? wire::answer(p) : wire::answer(p, taken.error()));
    if (!taken) return;
    recover_what_waits(p.id);
    // Who waits for this group's memory goes on.
    for (auto& [key, request] : std::exchange(waiting, {})) {
        if (connection* asker = peers->find(key)) serve(*asker, std::move(request), {});
    }
}

result<void> broker::impl::take_up(connection& c, const packet& p, const descriptors& fds) {
    const auto no = [&](int code, std::string reason) { return fail(code, object_of(p.id), "take it up again with process " + std::to_string(c.peer.process.pid), std::move(reason)); };
    if (!c.attached) return no(EOPNOTSUPP, "the process is not attached");
    const auto g = groups->look_at(p.id);
    if (!g || g->dead) return no(ENODEV, "there is no such group any more");
    if (p.at != 0) {
        const auto f = std::ranges::find_if(g->imports, [&](const import_facts& i) { return i.at == p.at; });
        const auto file = fds.size() == 1 ? sys::real().fstat(fds[0].get()) : no(EINVAL, "an import is shown by one descriptor");
        if (!file) return std::unexpected(file.error());
        if (f == g->imports.end() || f->device != file->device || f->inode != file->inode) return no(EPERM, "that is not what was imported there");
        const auto again = sys::copy_descriptor(fds[0].get());
        if (!again) return std::unexpected(again.error());
        import_files.try_emplace({p.id, p.at}, std::make_shared<const sys::owned_fd>(sys::real(), *again));
        return {};
    }
    if (fds.size() != 2) return no(EINVAL, "a group is shown by two descriptors");
    const bool is_member = std::ranges::any_of(g->members, [&](const member_facts& m) { return m.process == c.peer.process; }), known = store.find(p.id) != nullptr;
    // An inode's number comes again once nobody has the file: only who was in the group may say that somebody has.
    if (g->files.made() && !known && !is_member && waits_for_members && !g->members.empty()) return no(EAGAIN, "its members have to come back first");
    if (!g->files.made() || (!known && !is_member)) return no(EPERM, "the process was not in it");
    if (auto r = store.take(p.id, g->files, fds[0], fds[1]); !r) return std::unexpected(r.error());
    if (!known) ++figures.groups_again;
    if (is_member) return {};
    // It has lost its connection for a while, and its place with it.
    const auto t = groups->begin_add(c.who(), {.pid = c.peer.process.pid, .id = p.id, .prot = p.flags & wire::read_only ? access::read : access::read_write}, nullptr);
    if (!t) return std::unexpected(t.error());
    if (t->id != p.id || t->new_group) {
        groups->abort_add(*t);
        return no(ENODEV, "joins are sent to another group");
    }
    if (auto r = groups->commit_add(*t); !r) return std::unexpected(r.error());
    return {};
}

}  // namespace cohort::sharepool
