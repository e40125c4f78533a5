// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/detail/group_file_store.hpp>

#include <cerrno>

#include <cohort/sharepool/group.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool::detail {

namespace {

constexpr std::uint64_t least_with_windows = std::uint64_t{64} << 20;

shared_fd share(int fd) { return std::make_shared<const sys::owned_fd>(sys::real(), fd); }

group_options options_of(const spg& g) {
    group_options o{.name = g.name.empty() ? "pool:" + std::to_string(g.id) : g.name, .bytes = g.range.bytes, .at = g.range.base};
    o.limit = g.limit;
    // SP_PROT_RO and SP_DVPP have addresses of their own in groups that are large enough for it.
    if (g.range.bytes >= least_with_windows) o.read_only_bytes = g.range.bytes / 16, o.device_bytes = g.range.bytes / 64, o.devices = 8;
    if (g.flags & wire::compare_and_swap) o.mode = group_options::magazines::compare_and_swap;
    if (g.flags & wire::huge_if_possible) o.pages = page_kind::huge_if_possible;
    if (g.flags & wire::huge_only) o.pages = page_kind::huge_only;
    o.unmap_freed = (g.flags & wire::unmap_freed) != 0;
    return o;
}

}  // namespace

result<group_inodes> inodes_of(const sys::owned_fd& data, const sys::owned_fd& metadata) {
    const auto d = sys::real().fstat(data.get()), m = sys::real().fstat(metadata.get());
    if (!d) return std::unexpected(d.error());
    if (!m) return std::unexpected(m.error());
    return group_inodes{.device = d->device, .data = d->inode, .metadata = m->inode, .metadata_device = m->device};
}

const group_file_store::files* group_file_store::find(int id) const {
    const auto it = all_.find(id);
    return it == all_.end() ? nullptr : &it->second;
}

result<const group_file_store::files*> group_file_store::make(const spg& g) {
    const auto made = make_group_files(options_of(g));
    if (!made) return std::unexpected(made.error());
    files f{.data = share(made->data), .metadata = share(made->metadata), .inodes = {}};
    for (const shared_fd& fd : {f.data, f.metadata}) {
        if (auto r = sys::forbid_opening(fd->get()); !r) return std::unexpected(r.error());
    }
    const auto inodes = inodes_of(*f.data, *f.metadata);
    if (!inodes) return std::unexpected(inodes.error());
    f.inodes = *inodes;
    return &(all_[g.id] = std::move(f));
}

result<const group_file_store::files*> group_file_store::take(int id, const group_inodes& expected, const sys::owned_fd& data, const sys::owned_fd& metadata) {
    const auto shown = inodes_of(data, metadata);
    if (!shown) return std::unexpected(shown.error());
    if (*shown != expected) return fail(EPERM, "group " + std::to_string(id), "take it up again", "the descriptors are of other files");
    if (const files* known = find(id)) return known;
    files f{.data = nullptr, .metadata = nullptr, .inodes = expected};
    for (auto [from, to] : {std::pair{&data, &f.data}, std::pair{&metadata, &f.metadata}}) {
        const auto again = sys::open_again(from->get(), true);
        if (!again) return std::unexpected(again.error());
        *to = share(*again);
    }
    return &(all_[id] = std::move(f));
}

result<std::vector<shared_fd>> group_file_store::for_reading(const files& f) {
    std::vector<shared_fd> both;
    for (const shared_fd& fd : {f.data, f.metadata}) {
        const auto again = sys::open_again(fd->get(), false);
        if (!again) return std::unexpected(again.error());
        both.push_back(share(*again));
    }
    return both;
}

}  // namespace cohort::sharepool::detail
