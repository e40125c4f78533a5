// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/group.hpp>

#include <algorithm>
#include <cerrno>
#include <new>

#include <cohort/percpu/ops.hpp>
#include <cohort/sharepool/detail/layout.hpp>
#include <cohort/sharepool/detail/ranges.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

namespace {

using namespace detail;

std::unexpected<error> cannot_create(const group_options& o, int code, std::string reason) {
    return fail(code, "group \"" + o.name + '"', "create it with " + std::to_string(o.bytes) + " bytes", std::move(reason));
}

/// Bytes of its addresses.
result<std::uint64_t> check_options(const group_options& o) {
    if (o.bytes == 0 || o.bytes > most_units << unit_shift) return cannot_create(o, EINVAL, "a group has 1 byte to 128 GiB of addresses");
    const std::uint64_t read_only = round_up(o.read_only_bytes, granule), device = round_up(o.device_bytes, granule), bytes = round_up(o.bytes, granule);
    if (o.devices > most_devices || (o.devices != 0) != (device != 0)) return cannot_create(o, EINVAL, "up to 8 devices have windows, each of some bytes");
    if (read_only >= bytes || device >= bytes || read_only + device * o.devices >= bytes) return cannot_create(o, EINVAL, "the windows in it leave no room for anything else");
    if (o.mode == group_options::magazines::sequences && !sys::sequences_work()) return cannot_create(o, ENOTSUP, "this process has no restartable sequences");
    return bytes;
}

/// bytes and base are good.
result<group_files> make_files(const group_options& o, std::uint64_t bytes, std::uint64_t base) {
    group_facts facts{.magic_word = magic, .version = layout_version, .cpus = percpu::possible_cpus(), .base = base, .units = bytes >> unit_shift,
                      .by_sequences = sys::sequences_work() && o.mode != group_options::magazines::compare_and_swap, .unmaps = o.unmap_freed,
                      .devices = o.devices, .read_only = round_up(o.read_only_bytes, granule) >> unit_shift, .device = round_up(o.device_bytes, granule) >> unit_shift};
    std::string why_not_huge;
    const layout where{.units = facts.units, .cpus = facts.cpus};
    result<int> data = -1;
    if (o.pages != page_kind::small) {
        data = sys::create_huge_shared_memory(o.name, bytes);
        if (!data && o.pages == page_kind::huge_only) return std::unexpected(data.error());
        if (!data) why_not_huge = data.error().line();
    }
    facts.huge = o.pages != page_kind::small && data;
    if (!facts.huge) data = sys::create_shared_memory(o.name, bytes);
    if (!data) return std::unexpected(data.error());
    const auto metadata = sys::create_shared_memory(o.name + " metadata", where.bytes());
    if (!metadata) {
        sys::close_shared_memory(*data);
        return std::unexpected(metadata.error());
    }
    const auto give_up = [&](error e) {
        sys::close_shared_memory(*data);
        sys::close_shared_memory(*metadata);
        return std::unexpected(std::move(e));
    };
    // What everybody reads at any time has its pages from the beginning.
    if (const int e = sys::allocate_file_pages(*metadata, 0, states_at + page); e != 0) {
        return give_up({e, "group \"" + o.name + '"', "get " + std::to_string(states_at / 1024 + 4) + " KiB of memory for it", errno_text(e)});
    }
    const auto at = sys::map_shared(*metadata, states_at);
    if (!at) return give_up(at.error());
    auto* head = new (*at) header{};
    head->facts = facts;
    head->used.limit = o.limit == 0 ? no_limit : std::min(o.limit, no_limit);
    sys::unmap_shared(*at, states_at);
    return group_files{*data, *metadata, std::move(why_not_huge)};
}

}  // namespace

result<group_files> make_group_files(const group_options& o) {
    const auto bytes = check_options(o);
    if (!bytes) return std::unexpected(bytes.error());
    if (o.at % granule != 0 || o.at < window_base || o.at > window_base + window_bytes - *bytes) return cannot_create(o, EINVAL, "its address is not inside the window, at a multiple of 2 MiB");
    return make_files(o, *bytes, o.at);
}

result<group> group::create(const group_options& o) {
    const auto bytes = check_options(o);
    if (!bytes) return std::unexpected(bytes.error());
    const auto base = take_range(o.at, *bytes);
    if (!base) return std::unexpected(base.error());
    auto made = make_files(o, *bytes, *base);
    if (!made) {
        give_range(*base);
        return std::unexpected(made.error());
    }
    group g(made->data, made->metadata, *base, *bytes);
    g.why_not_huge_ = std::move(made->why_not_huge);
    return g;
}

group::~group() {
    if (data_ < 0) return;
    sys::close_shared_memory(data_);
    sys::close_shared_memory(metadata_);
    give_range(base_);
}

}  // namespace cohort::sharepool
