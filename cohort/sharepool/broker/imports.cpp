// SPDX-License-Identifier: Apache-2.0
/// The broker's part in imports: foreign files at addresses of a group, in every member or in one.
#include <cerrno>
#include <utility>

#include <cohort/sharepool/broker/detail/serving.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

using detail::shared_fd;
using wire::packet;
using wire::verb;

broker::impl::connection* broker::impl::connection_of(const sys::process_identity& p) {
    const auto known = processes.find(p.pid);
    return known == processes.end() || known->second.identity != p ? nullptr : peers->find(known->second.connection);
}

/// Whom an import is told: every member, or the one process that it is for.
std::vector<broker::impl::connection*> broker::impl::holders_of(int id, const import_facts& f) {
    std::vector<connection*> all;
    const auto g = groups->look_at(id);
    for (const member_facts& m : g ? g->members : std::vector<member_facts>{}) {
        if (f.to_process && m.process.pid != f.pid) continue;
        if (connection* c = connection_of(m.process)) all.push_back(c);
    }
    return all;
}

void broker::impl::import(connection& c, const packet& p, descriptors fds) {
    const auto no = [&](error e) {
        ++figures.refused;
        peers->send(c, wire::answer(p, e));
    };
    if (fds.size() != 1) return no({EINVAL, object_of(p.id), "import", "it takes one descriptor, " + std::to_string(fds.size()) + " came"});
    const auto file = sys::real().fstat(fds[0].get());
    if (!file) return no(file.error());
    // Beyond a file's end there is nothing to touch. Devices and dma-bufs have no size here.
    if (file->kind == sys::file_kind::regular && (p.bytes > file->size || p.offset > file->size - p.bytes)) return no({EINVAL, object_of(p.id), "import", "the file has " + std::to_string(file->size) + " bytes"});
    const import_facts f{.at = p.at, .bytes = p.bytes, .offset = p.offset, .device = file->device, .inode = file->inode, .pid = c.peer.process.pid, .to_process = (p.flags & wire::to_process) != 0};
    if (auto r = groups->import(c.who(), p.id, f); !r) return no(r.error());
    const auto shared = std::make_shared<const sys::owned_fd>(std::move(fds[0]));
    import_files[{p.id, f.at}] = shared;

    auto failed = std::make_shared<std::optional<error>>();
    task& work = begin_task(&c, p, options.patience);
    work.each = [failed](task&, connection* from, std::uint64_t, const error* e) {
        if (e && (from || e->code == ETIMEDOUT)) *failed = *e;
    };
    work.all = [this, failed, f, who = c.who()](task& done) {
        if (*failed || !peers->find(done.requester)) {
            // Nobody has it if not everybody has.
            (void)groups->unshare(who, done.request.id, f.at, f.bytes);
            import_files.erase({done.request.id, f.at});
            for (connection* holder : holders_of(done.request.id, f)) peers->send(*holder, {.what = verb::unmap_import, .id = done.request.id, .at = f.at, .bytes = f.bytes});
        }
        answer_task(done, *failed ? result<int>(std::unexpected(**failed)) : result<int>(done.request.id));
    };
    for (connection* holder : holders_of(p.id, f)) {
        ask(work, *holder, {.what = verb::map_import, .id = p.id, .flags = p.flags & (wire::read_only | wire::to_process), .at = f.at, .bytes = f.bytes, .offset = f.offset}, {shared});
    }
    finish_if_answered(work.key);
}

void broker::impl::unshare(connection& c, const packet& p) {
    // Who is told is looked up before, for a process's own import the one it was for.
    const auto f = groups->unshare(c.who(), p.id, p.at, p.bytes);
    if (!f) {
        ++figures.refused;
        return peers->send(c, wire::answer(p, f.error()));
    }
    import_files.erase({p.id, f->at});
    task& work = begin_task(&c, p, options.patience);
    work.each = [](task&, connection*, std::uint64_t, const error*) {};
    work.all = [this](task& done) { answer_task(done, done.request.id); };
    for (connection* holder : holders_of(p.id, *f)) ask(work, *holder, {.what = verb::unmap_import, .id = p.id, .at = f->at, .bytes = f->bytes});
    finish_if_answered(work.key);
}

}  // namespace cohort::sharepool
