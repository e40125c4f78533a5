// SPDX-License-Identifier: Apache-2.0
/// What is done with the memory of groups, by openEuler's rules: the order of its checks, and its errnos.
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <cohort/sharepool/detail/areas.hpp>
#include <cohort/sharepool/detail/attachment.hpp>
#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

using wire::verb;

namespace {

constexpr std::uint64_t page = detail::page;
constexpr unsigned long device_bits = ((1ul << device_id_bits) - 1) << device_id_shift, node_bits = ((1ul << node_id_bits) - 1) << node_id_shift;
constexpr unsigned long known_bits = sp_hugepage | sp_hugepage_only | sp_dvpp | sp_spec_node_id | sp_prot_ro | sp_prot_focus | device_bits | node_bits;
constexpr std::uint64_t most_dvpp_bytes = std::uint64_t{16} << 30;

std::string at_address(const void* p) {
    char text[32];
    std::snprintf(text, sizeof text, "address %p", p);
    return text;
}
std::string group_name(int id) { return "group " + std::to_string(id); }
std::string bytes_text(std::uint64_t n) { return std::to_string(n) + " bytes"; }

/// What the flags ask for; EINVAL with the reason.
struct wish {
    area_options area;
    nodemask nodes;
    bool pages_of_a_block = false;  ///< nothing special: up to 32 KiB it may be a block of whole pages
};

result<wish> read_flags(std::size_t size, unsigned long flags, int id, const nodemask* nodes) {
    const auto wrong = [&](std::string reason) { return fail(EINVAL, group_name(id), "allocate " + bytes_text(size), std::move(reason)); };
    if (size == 0 || size > sys::machine_memory()) return wrong("sizes are 1 byte to the machine's memory, " + bytes_text(sys::machine_memory()));
    if (id < 0) return wrong("no group has a negative id");
    if (flags & ~known_bits) return wrong("flags have bits that mean nothing");
    const bool focus = (flags & sp_prot_focus) != 0;
    if (focus && (flags & (sp_prot_ro | sp_dvpp)) != sp_prot_ro) return wrong("SP_PROT_FOCUS goes with SP_PROT_RO, and not with SP_DVPP");
    const auto device = static_cast<unsigned>((flags & device_bits) >> device_id_shift);
    const int node = flags & sp_spec_node_id ? static_cast<int>((flags & node_bits) >> node_id_shift) : static_cast<int>(device);
    wish w;
    // Without a node of its own a device's memory is on the node of its number. Nothing said: where the thread's policy puts it.
    if (nodes) w.nodes = *nodes;
    else if (flags & (sp_spec_node_id | device_bits)) w.nodes.set(node);
    w.area.pages = flags & sp_hugepage_only ? page_kind::huge_only : flags & sp_hugepage ? page_kind::huge_if_possible : page_kind::small;
    w.area.in = flags & sp_dvpp ? place::device : flags & sp_prot_ro ? place::read_only : place::ordinary;
    w.area.device = device;
    // What was allocated is the group's: it stays when the process ends, until somebody frees it.
    w.area.life = lifetime::group;
    w.pages_of_a_block = w.area.pages == page_kind::small && w.area.in == place::ordinary && w.nodes.empty() && !nodes && size <= detail::largest_block;
    if (nodes && nodes->empty()) return wrong("no node is given");
    return w;
}

/// Blocks of whole pages stand at multiples of a page.
result<void*> zeroed_block(member& m, std::size_t size) {
    const std::size_t bytes = detail::round_up(size, page);
    auto p = m.try_alloc(bytes, 16, lifetime::group);
    if (p) std::memset(*p, 0, bytes);
    return p;
}

/// How the caller's own memory there is mapped.
struct mapping {
    std::uint64_t from = 0, to = 0;
    std::string rights, name;
};
std::vector<mapping> own_mappings() {
    std::vector<mapping> all;
    const auto text = sys::read_file(sys::real(), sys::paths::own_maps);
    if (!text) return all;
    for (std::size_t at = 0; at < text->size();) {
        const std::size_t end = std::min(text->find('\n', at), text->size());
        const std::string line = text->substr(at, end - at);
        at = end + 1;
        mapping m;
        unsigned long long from = 0, to = 0;
        char rights[5] = {};
        int name = 0;
        if (std::sscanf(line.c_str(), "%llx-%llx %4s %*s %*s %*s %n", &from, &to, rights, &name) < 3) continue;
        m.from = from, m.to = to, m.rights = rights, m.name = name > 0 && static_cast<std::size_t>(name) < line.size() ? line.substr(static_cast<std::size_t>(name)) : "";
        all.push_back(std::move(m));
    }
    return all;
}

}  // namespace

// ---- allocation ----

result<void*> share_pool::alloc(std::size_t size, unsigned long flags, int id) { return impl_->alloc(*this, size, flags, id, nullptr); }
result<void*> share_pool::alloc_nodemask(std::size_t size, unsigned long flags, int id, const nodemask& nodes) { return impl_->alloc(*this, size, flags, id, &nodes); }

result<std::shared_ptr<detail::joined>> share_pool::impl::writable(share_pool& self, int id, const std::string& act) {
    if (id == spg_id_default) {
        const auto local_id = self.id_of_current();
        if (!local_id) return std::unexpected(local_id.error());
        id = *local_id;
    }
    auto g = find(id);
    if (!g) return fail(ENODEV, group_name(id), act, "it does not exist, or this process is not in it");
    if (!g->writes) return fail(EPERM, group_name(id), act, "this process is in it for reading");
    return g;
}

result<void*> share_pool::impl::alloc(share_pool& self, std::size_t size, unsigned long flags, int id, const nodemask* nodes) {
    auto w = read_flags(size, flags, id, nodes);
    if (!w) return std::unexpected(w.error());
    const std::string act = "allocate " + bytes_text(size);
    if (!w->nodes.empty()) w->area.nodes = &w->nodes, w->area.only_there = nodes != nullptr;
    if (const auto r = detail::check_nodes(w->nodes, group_name(id), act); !r) return std::unexpected(r.error());
    const auto g = writable(self, id, act);
    if (!g) return std::unexpected(g.error());
    member& m = *(*g)->writes;
    if (size > m.bytes()) return fail(EOVERFLOW, group_name((*g)->id), act, "it has " + bytes_text(m.bytes()) + " of addresses");
    if (w->pages_of_a_block) return zeroed_block(m, size);
    auto p = m.alloc_area(size, w->area);
    if (p || p.error().code == ENOMEM) return p;
    // A group without such a window has no addresses for it; memory that cannot be had as it is wished for is not there.
    error e = p.error();
    e.code = e.code == ENOTSUP ? ENOMEM : e.code == EINVAL ? EOVERFLOW : e.code;
    return std::unexpected(e);
}

result<void> share_pool::free(void* p, int id) {
    const auto wrong = [&](int code, std::string reason) { return fail(code, at_address(p), "free it", std::move(reason)); };
    const auto g = impl_->at(p);
    if (!g) return is_sharepool_addr(p) ? wrong(EPERM, "it is of no group that this process is in") : wrong(EINVAL, "it is not of the pool");
    if (id != spg_id_default && id != g->id) return wrong(EINVAL, "it is of group " + std::to_string(g->id));
    if (!g->writes) return wrong(EPERM, "this process is in group " + std::to_string(g->id) + " for reading");
    if (reinterpret_cast<std::uintptr_t>(p) % page != 0) return wrong(EINVAL, "what was allocated begins at a page");
    const auto done = g->writes->try_free(p);
    if (!done) return wrong(EINVAL, done.error().reason);
    return {};
}

// ---- imports ----

result<void*> share_pool::make_share_k2u(const foreign& f, unsigned long flags, int pid, int id) {
    const std::string act = "import " + bytes_text(f.bytes) + " of descriptor " + std::to_string(f.fd);
    const auto wrong = [&](int code, std::string reason) { return fail(code, group_name(id), act, std::move(reason)); };
    if (flags & ~sp_dvpp) return wrong(EINVAL, "SP_DVPP is the only flag for it");
    const std::uint64_t before = f.offset % page, bytes = detail::round_up(f.bytes + before, page);
    if (f.bytes == 0 || bytes < f.bytes || f.offset + f.bytes < f.offset) return wrong(EINVAL, "it has no size, or ends before it begins");
    if (id < spg_id_none) return wrong(EINVAL, "no group has this id");
    const bool to_process = id == spg_id_none || id == spg_id_default;
    const int self = sys::real().getpid();
    if (to_process && pid != 0 && pid != self) return wrong(EPERM, "a process imports for itself");
    const auto g = impl_->writable(*this, to_process ? spg_id_default : id, act);
    if (!g) return std::unexpected(g.error());
    if (!to_process && pid != 0 && pid != self) {
        const auto members = group_walk(id);
        if (!members) return std::unexpected(members.error());
        bool there = false;
        for (const member_facts& m : *members) there |= m.process.pid == pid;
        if (!there) return wrong(EPERM, "process " + std::to_string(pid) + " is not in it");
    }
    member& m = *(*g)->writes;
    const auto at = m.alloc_area(bytes, {.in = flags & sp_dvpp ? place::device : place::ordinary, .addresses_only = true});
    if (!at) return at;
    const std::array one{f.fd};
    // Writable where the descriptor is; every member gets the same.
    result<broker_client::answered> said = fail(EACCES, "", "");
    for (const std::uint32_t rights : {0u, static_cast<std::uint32_t>(wire::read_only)}) {
        if (said || said.error().code != EACCES) break;
        said = impl_->ask({.what = verb::import, .id = (*g)->id, .flags = rights | (to_process ? wire::to_process : 0u), .at = reinterpret_cast<std::uint64_t>(*at), .bytes = bytes, .offset = f.offset - before}, one);
    }
    if (!said) {
        (void)m.give_back(*at);
        return std::unexpected(said.error());
    }
    return static_cast<std::byte*>(*at) + before;
}

result<void> share_pool::unshare(void* p, std::size_t size, int id) {
    const auto wrong = [&](int code, std::string reason) { return fail(code, at_address(p), "unshare " + bytes_text(size) + " there", std::move(reason)); };
    if (!is_sharepool_addr(p)) return wrong(EFAULT, "it is not of the pool");
    const auto g = impl_->at(p);
    if (!g) return wrong(EPERM, "it is of no group that this process is in");
    if (id != spg_id_default && id != spg_id_none && id != g->id) return wrong(EINVAL, "it is of group " + std::to_string(g->id));
    if (!g->writes) return wrong(EPERM, "this process is in group " + std::to_string(g->id) + " for reading");
    void* start = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(p) / page * page);
    const auto found = g->writes->internals().find(start);
    if (found.is != detail::heap::found::what::area || !found.s.reserved()) return wrong(EINVAL, "no import begins there");
    if (size > found.s.bytes()) return wrong(EINVAL, "the import has " + bytes_text(found.s.bytes()));
    const auto said = impl_->ask({.what = verb::unshare, .id = g->id, .at = reinterpret_cast<std::uint64_t>(start), .bytes = size});
    if (!said) return std::unexpected(said.error());
    return g->writes->give_back(start);
}

result<foreign> share_pool::make_share_u2k(void* p, std::size_t size) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const auto wrong = [&](int code, std::string reason) { return fail(code, at_address(p), "share " + bytes_text(size) + " there", std::move(reason)); };
    const std::uint64_t bytes = size == 0 ? page : size;  // no size: one page
    if (address + bytes < address) return wrong(EINVAL, "it ends before it begins");
    if (const auto g = impl_->at(p)) {
        if (address + bytes > g->base + g->bytes) return wrong(EFAULT, "it reaches beyond its group");
        const auto copy = sys::copy_descriptor(g->writes ? g->writes->internals().data_fd : g->data.get());
        if (!copy) return std::unexpected(copy.error());
        return foreign{.fd = *copy, .offset = address - g->base, .bytes = bytes};
    }
    const std::uint64_t from = address / page * page, to = detail::round_up(address + bytes, page);
    std::uint64_t covered = from;
    for (const mapping& m : own_mappings()) {
        if (m.to <= covered || m.from >= to) continue;
        if (m.from > covered) break;
        if (m.rights[0] != 'r') return wrong(EPERM, "a part of it may not be read");
        if (m.rights[3] != 'p' || m.rights[1] != 'w' || m.name.starts_with("[stack")) return wrong(EOPNOTSUPP, "it is a stack, shared already, or not to be written: " + m.name);
        covered = m.to;
    }
    if (covered < to) return wrong(EFAULT, "a part of it is not mapped");
    const auto fd = sys::create_shared_memory("exported", to - from);
    if (!fd) return std::unexpected(fd.error());
    auto* start = reinterpret_cast<void*>(from);
    auto done = sys::write_shared(*fd, 0, start, to - from);
    if (done) done = sys::map_foreign(*fd, 0, to - from, start, true);
    if (!done) {
        sys::close_shared_memory(*fd);
        return std::unexpected(done.error());
    }
    return foreign{.fd = *fd, .offset = address - from, .bytes = bytes};
}

// ---- addresses ----

result<void> share_pool::config_dvpp_range(std::uint64_t start, std::uint64_t size, int device, int id) {
    const std::string act = "put areas of device " + std::to_string(device) + " into " + bytes_text(size);
    if (size == 0 || size > most_dvpp_bytes || device < 0) return fail(EINVAL, group_name(id), act, "ranges have 1 byte to 16 GiB, devices are not negative");
    const auto g = impl_->writable(*this, id, act);
    if (!g) return std::unexpected(g.error());
    return (*g)->writes->narrow_device(static_cast<unsigned>(device), start, size);
}

bool share_pool::is_sharepool_addr(const void* p) const { return reinterpret_cast<std::uint64_t>(p) - window_base < window_bytes; }
int share_pool::node_id(const void* p) const { return sys::node_at(p); }

}  // namespace cohort::sharepool
