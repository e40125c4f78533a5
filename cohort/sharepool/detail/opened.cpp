// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/detail/opened.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <cohort/sharepool/detail/ranges.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool::detail {

namespace {

/// The group's facts, read once and held against the sizes of the files: nothing of them is read from shared memory again.
result<group_facts> read_facts(int data_fd, int metadata_fd) {
    const auto wrong = [&](int code, std::string reason) {
        return fail(code, "descriptors " + std::to_string(data_fd) + " and " + std::to_string(metadata_fd), "join the group of them", std::move(reason));
    };
    const auto metadata_bytes = sys::shared_memory_bytes(metadata_fd);
    if (!metadata_bytes) return std::unexpected(metadata_bytes.error());
    if (*metadata_bytes < states_at) return wrong(EINVAL, "the second is too small for a group's metadata");
    group_facts f;
    if (auto r = sys::read_shared(metadata_fd, 0, &f, sizeof f); !r) return std::unexpected(r.error());
    const auto data_bytes = sys::shared_memory_bytes(data_fd, f.magic_word != magic || f.huge == 0);
    if (!data_bytes) return std::unexpected(data_bytes.error());
    if (f.magic_word != magic) return wrong(EINVAL, "the second is no metadata of a group");
    if (f.version != layout_version) return wrong(EINVAL, "the group's layout has version " + std::to_string(f.version) + ", this library's has " + std::to_string(layout_version));
    const bool sizes = f.units != 0 && f.units <= most_units && f.cpus != 0 && f.cpus <= max_cpus && f.units << unit_shift == *data_bytes &&
                       layout{.units = f.units, .cpus = f.cpus}.bytes() == *metadata_bytes && f.devices <= most_devices && f.read_only < f.units && f.device < f.units &&
                       f.read_only + f.device * f.devices < f.units;
    if (!sizes || f.base % granule != 0 || f.base < window_base || f.base + *data_bytes > window_base + window_bytes) return wrong(EINVAL, "the metadata contradicts the files' sizes");
    if (f.by_sequences && !sys::sequences_work()) {
        return wrong(ENOTSUP, "the group uses restartable sequences and this process has none (valgrind, gVisor, glibc before 2.35, or glibc.pthread.rseq=0); create it for compare-and-swap");
    }
    return f;
}

}  // namespace

result<std::unique_ptr<heap>> open_group(int data_fd, int metadata_fd, access a) {
    const auto facts = read_facts(data_fd, metadata_fd);
    if (!facts) return std::unexpected(facts.error());
    auto h = std::make_unique<heap>();
    h->where = {.units = facts->units, .cpus = facts->cpus, .read_only = facts->read_only, .device = facts->device, .devices = facts->devices};
    h->by_sequences = facts->by_sequences != 0;
    h->unmaps = facts->unmaps != 0;
    if (h->unmaps) h->area_from = 0;
    h->end = static_cast<item>(std::min<std::uint64_t>(facts->units << number_bits, ~item{0}));
    h->base = reinterpret_cast<std::byte*>(facts->base);
    const std::uint64_t bytes = facts->units << unit_shift;
    if (auto r = attach(facts->base, bytes, h.get(), a == access::read_write); !r) return std::unexpected(r.error());
    const auto map = a == access::read ? sys::map_shared_for_reading : sys::map_shared;
    const auto give_up = [&](error e) {
        if (h->meta) sys::unmap_shared(h->meta, h->where.bytes());
        sys::unmap_to_reserved(h->base, bytes);
        for (const int fd : {h->data_fd, h->meta_fd}) {
            if (fd >= 0) sys::close_shared_memory(fd);
        }
        detach(facts->base);
        return std::unexpected(std::move(e));
    };
    for (auto [from, to] : {std::pair{data_fd, &h->data_fd}, std::pair{metadata_fd, &h->meta_fd}}) {
        const auto copy = sys::copy_descriptor(from);
        if (!copy) return give_up(copy.error());
        *to = *copy;
    }
    const auto meta = map(h->meta_fd, h->where.bytes(), nullptr);
    if (!meta) return give_up(meta.error());
    h->meta = static_cast<std::byte*>(*meta);
    h->tags = h->meta + h->where.cards_at() + tags_at;
    if (const auto data = map(h->data_fd, bytes, h->base); !data) return give_up(data.error());
    if (const unit_range r = h->where.zone(read_only_zone); a == access::read_write && r.first != r.end) {
        (void)sys::allow_reading(h->base + (r.first << unit_shift), (r.end - r.first) << unit_shift);
    }
    return h;
}

void close_group(heap& h) noexcept {
    if (h.meta) {
        sys::unmap_shared(h.meta, h.where.bytes());
        sys::unmap_to_reserved(h.base, h.where.units << unit_shift);
        detach(reinterpret_cast<std::uint64_t>(h.base));
    }
    sys::close_shared_memory(h.data_fd);
    sys::close_shared_memory(h.meta_fd);
}

std::string name_of(const heap& h) {
    char text[48];
    std::snprintf(text, sizeof text, "group at %p", static_cast<void*>(h.base));
    return text;
}

std::string description(const heap& h, const void* p) {
    char text[160];
    const heap::found f = h.find(p);
    const auto whose = [&](tag t) {
        if (owner_of(t) == nobody) return std::string(t & shared_bit ? " handed over by a process that is gone" : "");
        const member_word w{h.member_at(slot_of(t) % most_members).word.load(std::memory_order_acquire)};
        const bool same = w.what() == phase::present && make_tag(slot_of(t), w.generation()) == owner_of(t);
        return (t & free_bit ? " freed by " : " of ") + (same ? "process " + std::to_string(w.pid()) : std::string("a process that has left"));
    };
    switch (f.is) {
        using enum heap::found::what;
        case outside: std::snprintf(text, sizeof text, "pointer %p, outside of the group's %p+%llu", p, static_cast<void*>(h.base), static_cast<unsigned long long>(h.where.units << unit_shift)); return text;
        case nothing: std::snprintf(text, sizeof text, "pointer %p, where no object is", p); return text;
        case inside: std::snprintf(text, sizeof text, "pointer %p, inside of an object", p); return text;
        case area: std::snprintf(text, sizeof text, f.s.reserved() ? "addresses %p, %llu bytes, reserved" : "area %p of %llu bytes", p, static_cast<unsigned long long>(f.s.bytes())); return text + whose(f.s.by());
        case block: break;
    }
    const tag t = h.tag_of(f.block).load(std::memory_order_acquire);
    std::snprintf(text, sizeof text, "%sblock %p of %u bytes", t & free_bit ? "free " : "", p, class_table[f.c].size);
    return text + whose(t);
}

result<std::size_t> size_at(const heap& h, const void* p) {
    const heap::found f = h.find(p);
    if (f.is == heap::found::what::block) return class_table[f.c].size;
    if (f.is == heap::found::what::area) return f.s.bytes();
    return fail(EINVAL, description(h, p), "tell its size", "it is not the start of an object of this group");
}

std::string who_refused(const heap& h, std::uint64_t bytes) {
    const account::counter &mine = h.member_at(slot_of(h.me)).used, &all = h.head().used;
    const auto used = [](const account::counter& c) { return static_cast<std::uint64_t>(std::max<std::int64_t>(c.usage(), 0)); };
    const bool own = used(mine) + bytes > mine.limit;
    const account::counter& c = own ? mine : all;
    return std::string(own ? "this process" : "the group") + " is at its limit, " + std::to_string(used(c)) + " of " + std::to_string(c.limit.load());
}

std::vector<int> present_in(const heap& h) {
    std::vector<int> all;
    for (std::uint32_t slot = 1; slot < most_members; ++slot) {
        const member_word w{h.member_at(slot).word.load(std::memory_order_acquire)};
        if (w.what() == phase::present) all.push_back(static_cast<int>(w.pid()));
    }
    return all;
}

}  // namespace cohort::sharepool::detail
