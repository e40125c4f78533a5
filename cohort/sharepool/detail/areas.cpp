// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/detail/areas.hpp>

#include <algorithm>
#include <cerrno>

#include <cohort/sharepool/detail/opened.hpp>
#include <cohort/sharepool/detail/ranges.hpp>
#include <cohort/sharepool/member.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool::detail {

namespace {

constexpr int prefer_one = 1;  // MPOL_PREFERRED

unsigned zone_for(const area_options& o) { return o.in == place::device ? first_device_zone + o.device : o.in == place::read_only ? read_only_zone : 0; }

/// 0, or why the run cannot have the pages that are wished for.
int make_huge(heap& h, std::uint64_t first, std::uint64_t units, std::uint64_t& bytes) noexcept {
    std::byte* at = h.base + (first << unit_shift);
    bytes = units << unit_shift;
    if (sys::collapse_to_huge_pages(at, bytes) == 0) return 0;
    return ENOTSUP;
}

nodemask online_nodes() {
    const auto text = sys::read_line(sys::real(), sys::paths::node + "/online");
    // A kernel without NUMA has one node and no such file.
    return text ? nodemask::parse_list(*text).value_or(nodemask{0}) : nodemask{0};
}

/// The area that reserves addresses at exactly `at`.
result<state> reserved_at(const heap& h, const void* at, const char* act) {
    const heap::found f = h.find(at);
    if (f.is != heap::found::what::area || !f.s.reserved()) return fail(EINVAL, description(h, at), act, "no addresses are reserved there");
    return f.s;
}

}  // namespace

namespace {
std::expected<void*, int> make_area_once(heap& h, std::size_t bytes, const area_options& o, std::uint64_t alignment) noexcept {
    if (h.unmaps) h.forbid_what_is_gone();
    const bool huge = o.pages != page_kind::small && !o.addresses_only;
    std::uint64_t exact = round_up(std::max<std::size_t>(bytes, 1), page);
    const std::uint64_t units = round_up(exact, huge ? granule : unit_bytes) >> unit_shift;
    if (const auto part = h.where.zone(zone_for(o)); zone_for(o) >= h.where.zones() || units > part.end - part.first) return std::unexpected(EINVAL);
    sys::mempolicy policy;
    if (o.nodes) policy = {.mode = o.only_there ? sys::mempolicy_bind : prefer_one, .nodes = *o.nodes};
    const std::uint64_t made = o.addresses_only ? 0 : huge ? units << unit_shift : exact;
    const heap::account_change change(h);
    if (h.charge(h.me, made) != 0) return std::unexpected(EDQUOT);
    const auto first = h.claim(units, huge ? std::max<std::uint64_t>(alignment, granule >> unit_shift) : alignment, made, zone_for(o), o.nodes ? &policy : nullptr);
    if (!first) {
        h.uncharge(h.me, made);
        return std::unexpected(first.error());
    }
    std::byte* at = h.base + (*first << unit_shift);
    int e = huge ? make_huge(h, *first, units, exact) : 0;
    if (e == 0 && o.in == place::read_only && !o.addresses_only) e = sys::allow_access(at, exact);
    if (e != 0) {
        h.retire(*first, units);
        h.uncharge(h.me, made);
        return std::unexpected(e);
    }
    const bool kept = o.life == lifetime::group || o.addresses_only;
    h.publish(*first, state::of(kind::area, h.me | (kept ? shared_bit : 0), area_count(units, exact, o.addresses_only)));
    return at;
}
}  // namespace

std::expected<void*, int> make_area(heap& h, std::size_t bytes, const area_options& o, std::uint64_t alignment) noexcept {
    auto p = make_area_once(h, bytes, o, alignment);
    if (!p && p.error() == EDQUOT && h.settle_if_needed()) p = make_area_once(h, bytes, o, alignment);
    // No huge pages: small ones then, and no more of them than was asked for.
    if (!p && p.error() == ENOTSUP && o.pages == page_kind::huge_if_possible) {
        area_options small = o;
        small.pages = page_kind::small;
        return make_area(h, bytes, small, alignment);
    }
    return p;
}

result<void> check_nodes(const nodemask& nodes, const std::string& object, const std::string& act) {
    if (nodes.empty()) return {};
    const auto online = online_nodes();
    if (nodes.subset_of(online)) return {};
    return fail(EINVAL, object, act, "nodes " + nodes.list() + " are not all online (" + online.list() + " are)");
}

result<void> map_import(heap& h, void* at, std::size_t bytes, int fd, std::uint64_t offset, access a) {
    const auto s = reserved_at(h, at, "map an import there");
    if (!s) return std::unexpected(s.error());
    if (bytes == 0 || bytes % page != 0 || offset % page != 0 || bytes > s->bytes()) return fail(EINVAL, description(h, at), "map an import of " + std::to_string(bytes) + " bytes there", "imports are whole pages, and no more than is reserved");
    return sys::map_foreign(fd, offset, bytes, at, a == access::read_write);
}

result<void> unmap_import(heap& h, void* at, access own) {
    const auto s = reserved_at(h, at, "unmap an import there");
    if (!s) return std::unexpected(s.error());
    const auto distance = static_cast<std::uint64_t>(static_cast<std::byte*>(at) - h.base);
    const bool writable = own == access::read_write && !h.where.zone(read_only_zone).holds(distance >> unit_shift);
    return sys::map_foreign(h.data_fd, distance, s->units() << unit_shift, at, writable);
}

result<std::uint64_t> populate(const heap& h, access own) {
    std::uint64_t from = 0, to = 0, sum = 0;  // a stretch of pages that exist, as long as it gets
    int bad = 0;
    const auto do_it = [&] {
        if (to == from || bad != 0) return;
        const bool writable = own == access::read_write && !h.where.zone(read_only_zone).holds(from >> unit_shift);
        bad = sys::populate(h.base + from, to - from, writable);
        sum += to - from;
    };
    h.each_unit([&](std::uint64_t unit) {
        const state s = h.state_of(unit);
        const std::uint64_t bytes = s.what() == kind::small && s.count() < classes ? std::uint64_t{class_table[s.count()].units} << unit_shift : s.what() == kind::area && !s.reserved() ? s.bytes() : 0;
        const std::uint64_t at = unit << unit_shift;
        if (bytes == 0 || bytes > (h.where.units << unit_shift) - at) return;
        if (at != to || h.where.zone_of(unit) != h.where.zone_of(from >> unit_shift)) {
            do_it();
            from = at;
        }
        to = at + bytes;
    });
    do_it();
    if (bad != 0) return fail(bad == EINVAL ? ENOTSUP : bad, name_of(h), "map the pages that it has", bad == EINVAL ? "the kernel has no MADV_POPULATE_READ (5.14)" : errno_text(bad));
    return sum;
}

}  // namespace cohort::sharepool::detail

namespace cohort::sharepool {

using namespace detail;

void* member::area_or_null(heap& h, std::size_t bytes, lifetime l) noexcept {
    if (bytes > h.where.units << unit_shift) return nullptr;
    return make_area(h, bytes, {.life = l}, 1).value_or(nullptr);
}

result<void*> member::alloc_area(std::size_t bytes, area_options o) {
    const auto wrong = [&](int code, std::string reason) { return fail(code, "pool", "allocate an area of " + std::to_string(bytes) + " bytes", std::move(reason)); };
    if (bytes == 0 || bytes > this->bytes()) return wrong(EINVAL, "the group has " + std::to_string(this->bytes()));
    if (o.in == place::device && o.device >= heap_->where.devices) return wrong(EINVAL, "the group has windows for " + std::to_string(heap_->where.devices) + " devices");
    if (const auto z = heap_->where.zone(zone_for(o)); bytes > (z.end - z.first) << unit_shift) return wrong(EINVAL, "the window has " + std::to_string((z.end - z.first) << unit_shift));
    if (o.nodes && o.nodes->empty()) return wrong(EINVAL, "no node is given");
    if (o.nodes) {
        if (auto r = check_nodes(*o.nodes, "pool", "allocate an area of " + std::to_string(bytes) + " bytes"); !r) return std::unexpected(r.error());
    }
    const auto p = make_area(*heap_, bytes, o, 1);
    if (p) return *p;
    switch (p.error()) {
        case EOVERFLOW: return wrong(EOVERFLOW, "no such run of its addresses is free");
        case ENOTSUP: return wrong(ENOTSUP, "the kernel made no huge pages of it (MADV_COLLAPSE, 6.1 or newer)");
        case EDQUOT: return wrong(ENOMEM, who_refused(*heap_, bytes));
        case ENOMEM:
        case ENOSPC: return wrong(ENOMEM, "the machine has no memory");
        default: return wrong(p.error(), errno_text(p.error()));
    }
}

result<void> member::narrow_device(unsigned device, std::uint64_t start, std::uint64_t bytes) {
    const heap& h = *heap_;
    const auto wrong = [&](int code, const char* reason) { return fail(code, name_of(h), "put areas of device " + std::to_string(device) + " into " + std::to_string(bytes) + " bytes of its window", reason); };
    if (device >= h.where.devices) return wrong(EINVAL, "it has no window for that device");
    const unit_range all = h.where.zone(first_device_zone + device);
    const std::uint64_t from = start - reinterpret_cast<std::uint64_t>(h.base), unit = from >> unit_shift, units = bytes >> unit_shift;
    if (start % unit_bytes != 0 || bytes % unit_bytes != 0 || units == 0 || !all.holds(unit) || units > all.end - unit) return wrong(EINVAL, "that is not inside the device's window, at multiples of 64 KiB");
    std::uint64_t none = 0;
    if (!h.head().zones[first_device_zone + device].narrowed.compare_exchange_strong(none, unit | units << 32)) return wrong(EEXIST, "that was said before");
    return {};
}

result<void> member::map_import(void* at, std::size_t bytes, int fd, std::uint64_t offset, access a) { return detail::map_import(*heap_, at, bytes, fd, offset, a); }
result<void> member::unmap_import(void* at) { return detail::unmap_import(*heap_, at, access::read_write); }
result<void> member::give_back(void* at) {
    const auto s = reserved_at(*heap_, at, "give them back");
    if (!s) return std::unexpected(s.error());
    const heap::found f = heap_->find(at);
    if (f.s != *s || heap_->retire_area(f.unit, *s) != 0) return fail(EALREADY, description(*heap_, at), "give them back", "another member did");
    return {};
}
result<std::uint64_t> member::populate() { return detail::populate(*heap_, access::read_write); }

}  // namespace cohort::sharepool
