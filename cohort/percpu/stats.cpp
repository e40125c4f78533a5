// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/stats.hpp>

#include <algorithm>
#include <cstdio>
#include <utility>

#include <cohort/percpu/detail/core.hpp>
#include <cohort/percpu/variable.hpp>

namespace cohort::percpu {

namespace {

chunk_stats describe(const chunk_node& node, const chunk& c) {
    const detail::area_map& map = *node.map;
    const detail::area_figures f = map.figures();
    const char* label = node.kind == detail::chunk_kind::first         ? "<- First Chunk"
                        : node.kind == detail::chunk_kind::reserved    ? "<- Reserved Chunk"
                        : node.slot == detail::to_depopulate_slot      ? "(to_depopulate)"
                        : node.slot == detail::sidelined_slot          ? "(sidelined)"
                                                                       : "";
    return {.label = label,
            .shard = c.shard,
            .flat = c.kind_of == layout::flat,
            .nr_alloc = f.nr_alloc,
            .max_alloc_size = f.max_alloc_size,
            .empty_pop_pages = map.nr_empty_pop_pages(),
            .first_bit = f.first_bit,
            .free_bytes = f.free_bytes,
            .contig_bytes = f.contig_bytes,
            .sum_frag = f.sum_frag,
            .max_frag = f.max_frag,
            .cur_min_alloc = f.cur_min_alloc,
            .cur_med_alloc = f.cur_med_alloc,
            .cur_max_alloc = f.cur_max_alloc,
            .nr_pages = map.nr_pages(),
            .nr_populated = map.nr_populated()};
}

using field = std::pair<const char*, std::int64_t>;

std::vector<field> fields(const chunk_stats& c) {
    return {{"nr_alloc", c.nr_alloc},         {"max_alloc_size", c.max_alloc_size}, {"empty_pop_pages", c.empty_pop_pages}, {"first_bit", c.first_bit},
            {"free_bytes", c.free_bytes},     {"contig_bytes", c.contig_bytes},     {"sum_frag", c.sum_frag},               {"max_frag", c.max_frag},
            {"cur_min_alloc", c.cur_min_alloc}, {"cur_med_alloc", c.cur_med_alloc}, {"cur_max_alloc", c.cur_max_alloc}};
}

std::vector<field> allocation_fields(const allocator_stats& s) {
    const auto n = [](auto v) { return static_cast<std::int64_t>(v); };
    return {{"unit_size", n(s.unit_size)}, {"static_size", n(s.static_size)}, {"reserved_size", n(s.reserved_size)},
            {"dyn_size", n(s.dyn_size)},   {"atom_size", n(s.atom_size)},     {"alloc_size", n(s.alloc_size)}};
}

std::vector<field> global_fields(const allocator_stats& s) {
    const auto n = [](auto v) { return static_cast<std::int64_t>(v); };
    return {{"nr_alloc", s.nr_alloc},
            {"nr_dealloc", s.nr_dealloc},
            {"nr_cur_alloc", s.nr_cur_alloc},
            {"nr_max_alloc", s.nr_max_alloc},
            {"nr_chunks", s.nr_chunks},
            {"nr_max_chunks", s.nr_max_chunks},
            {"min_alloc_size", n(s.min_alloc_size)},
            {"max_alloc_size", n(s.max_alloc_size)},
            {"empty_pop_pages", s.empty_pop_pages}};
}

std::vector<field> own_fields(const allocator_stats& s) {
    const auto n = [](auto v) { return static_cast<std::int64_t>(v); };
    return {{"possible_cpus", n(s.possible_cpus)},
            {"present_cpus", n(s.present_cpus)},
            {"shards", n(s.shards)},
            {"cached", s.cached},
            {"live_bytes", n(s.live_bytes)},
            {"populated_bytes", n(s.populated_bytes)},
            {"unit_resident_bytes", n(s.unit_resident_bytes)},
            {"resident_bytes", n(s.resident_bytes)},
            {"failures", n(s.failures)}};
}

void append(std::string& out, const char* heading, const std::vector<field>& list) {
    char line[96];
    out += heading;
    out += "\n----------------------------------------\n";
    for (const auto& [name, value] : list) {
        std::snprintf(line, sizeof line, "  %-20s: %12lld\n", name, static_cast<long long>(value));
        out += line;
    }
    out += '\n';
}

void append_json(std::string& out, const std::vector<field>& list) {
    for (const auto& [name, value] : list) out += ", \"" + std::string(name) + "\": " + std::to_string(value);
}

}  // namespace

void allocator::core::fill(allocator_stats& out) {
    out.name = options.name;
    out.by_cid = options.index == by::cid;
    out.sequences = detail::current_mode() == detail::mode::sequences;
    out.possible_cpus = possible_cpus();
    out.present_cpus = detail::present_count(options.index);
    out.unit_size = detail::unit_bytes;
    out.reserved_size = options.reserved_bytes;
    if (magazines_ == &detail::default_magazines[0]) out.static_size = detail::variable_record::bytes();
    out.dyn_size = detail::unit_bytes - options.reserved_bytes;
    out.atom_size = sys::page_bytes();
    out.alloc_size = detail::space::units_bytes();
    out.failures = failures_.load(std::memory_order_relaxed);
    growth_.lock();
    out.shards = active_shards_.load(std::memory_order_relaxed);
    std::uint64_t cached_bytes = 0, map_bytes = 0;
    std::int64_t taken = 0;
    std::vector<std::uintptr_t> addresses;
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        const std::uintptr_t block = made_[cpu].load(std::memory_order_acquire);
        for (int cls = 0; block && cls < detail::classes; ++cls) {
            const auto i = static_cast<std::size_t>(cls);
            const std::uint64_t word = __atomic_load_n(reinterpret_cast<std::uint64_t*>(block + detail::stack_places[i]), __ATOMIC_RELAXED);
            out.cached += static_cast<std::int64_t>(word & 0xff);
            cached_bytes += (word & 0xff) * detail::class_bytes[i];
            taken += static_cast<std::int64_t>(word >> 8);
        }
    }
    for (shard& s : shards_) {
        s.lock.lock();
        for (auto& index : s.index) {
            const auto& f = index.figures();
            out.nr_alloc += f.nr_alloc;
            out.nr_dealloc += f.nr_dealloc;
            out.nr_cur_alloc += f.nr_cur_alloc;
            out.nr_max_alloc += f.nr_max_alloc;
            out.nr_chunks += f.nr_chunks;
            out.nr_max_chunks += f.nr_max_chunks;
            out.empty_pop_pages += index.nr_empty_pop_pages();
            const auto low = static_cast<std::uint64_t>(f.min_alloc_size);
            if (low && (!out.min_alloc_size || low < out.min_alloc_size)) out.min_alloc_size = low;
            out.max_alloc_size = std::max(out.max_alloc_size, static_cast<std::uint64_t>(f.max_alloc_size));
            index.for_each_chunk([&](chunk_node& node) {
                chunk& c = chunk::of(node);
                out.chunks.push_back(describe(node, c));
                map_bytes += static_cast<std::uint64_t>(node.map->end() - node.map->start() - node.map->free_bits()) * detail::min_alloc_bytes;
                out.populated_bytes += static_cast<std::uint64_t>(node.map->nr_populated()) * detail::block_bytes;
                if (node.kind != detail::chunk_kind::reserved) addresses.push_back(c.address());
            });
        }
        unlock(s);
    }
    for (const std::uintptr_t at : addresses) {  // growth_ keeps chunks from going
        out.unit_resident_bytes += memory_.resident(reinterpret_cast<void*>(at + detail::units_at), detail::space::units_bytes()).value_or(0);
        out.resident_bytes += memory_.resident(reinterpret_cast<void*>(at), detail::page_up(detail::metadata_bytes)).value_or(0);
    }
    out.resident_bytes += out.unit_resident_bytes;
    growth_.unlock();
    // An object from a magazine was one area that the maps gave once: what was taken counts, and what only moved does not.
    const auto moved_in = static_cast<std::int64_t>(refilled_.load(std::memory_order_relaxed)), moved_out = static_cast<std::int64_t>(flushed_.load(std::memory_order_relaxed));
    out.nr_cur_alloc -= out.cached;
    out.nr_alloc += taken - moved_in - moved_out;
    out.nr_dealloc = out.nr_alloc - out.nr_cur_alloc;
    out.live_bytes = map_bytes > cached_bytes ? map_bytes - cached_bytes : 0;
}

std::string allocator_stats::text() const {
    std::string out = "Percpu Memory Statistics, allocator \"" + name + "\", by " + (by_cid ? "mm_cid" : "cpu_id") + ", " +
                      (sequences ? "restartable sequences" : "atomics") + "\n";
    append(out, "Allocation Info:", allocation_fields(*this));
    append(out, "Global Stats:", global_fields(*this));
    append(out, "Beyond the kernel's:", own_fields(*this));
    out += "Per Chunk Stats:\n----------------------------------------\n";
    for (const chunk_stats& c : chunks) append(out, ("Chunk: " + std::string(c.flat ? "flat " : "") + c.label).c_str(), fields(c));
    return out;
}

std::string allocator_stats::json() const {
    std::string out = "{\"schema_version\": 1, \"name\": \"" + name + "\", \"index\": \"" + (by_cid ? "mm_cid" : "cpu_id") + "\", \"sequences\": " + (sequences ? "true" : "false");
    for (const auto& list : {allocation_fields(*this), global_fields(*this), own_fields(*this)}) append_json(out, list);
    out += ", \"chunks\": [";
    for (const chunk_stats& c : chunks) {
        out += (&c == chunks.data() ? "" : ", ") + ("{\"label\": \"" + c.label + "\", \"shard\": ") + std::to_string(c.shard) + ", \"flat\": " + (c.flat ? "true" : "false");
        append_json(out, fields(c));
        append_json(out, {{"nr_pages", c.nr_pages}, {"nr_populated", c.nr_populated}});
        out += "}";
    }
    return out + "]}";
}

}  // namespace cohort::percpu
