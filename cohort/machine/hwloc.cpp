// SPDX-License-Identifier: Apache-2.0
// Machines that are not there, from hwloc's synthetic descriptions and XML files. The only file that knows hwloc.
#include <hwloc.h>

#include <limits>
#include <memory>

#include <cohort/machine/detail/builder.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::machine::detail {
namespace {

struct destroy {
    void operator()(hwloc_topology_t t) const { hwloc_topology_destroy(t); }
};
using handle = std::unique_ptr<hwloc_topology, destroy>;

handle make() {
    hwloc_topology_t t = nullptr;
    if (hwloc_topology_init(&t) < 0) return nullptr;
    // What the file's machine forbade to the process that wrote it is still part of the machine.
    hwloc_topology_set_flags(t, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    return handle(t);
}

std::unexpected<error> too_large(const std::string& object, const char* what, unsigned number, int limit) {
    return fail(ERANGE, object, "load", std::string(what) + " " + std::to_string(number) + " is beyond the last, " + std::to_string(limit - 1));
}

result<cpumask> to_mask(hwloc_const_bitmap_t from, const std::string& object) {
    cpumask out;
    if (!from || hwloc_bitmap_last(from) < 0) return out;
    if (const int last = hwloc_bitmap_last(from); last >= max_cpus) return too_large(object, "cpu", static_cast<unsigned>(last), max_cpus);
    for (int i = hwloc_bitmap_first(from); i >= 0; i = hwloc_bitmap_next(from, i)) out.set(i);
    return out;
}

/// The identity of the object of this kind above `at`; of `at` itself where the machine has no such level.
std::uint64_t key_above(hwloc_topology_t t, hwloc_obj_t at, hwloc_obj_type_t type, std::uint64_t none) {
    const auto* above = hwloc_get_ancestor_obj_by_type(t, type, at);
    return above ? above->logical_index : none;
}

void add_caches(hwloc_obj_t cpu, const std::string& object, builder& out) {
    for (hwloc_obj_t o = cpu->parent; o; o = o->parent) {
        if (!hwloc_obj_type_is_cache(o->type)) continue;
        const auto& c = o->attr->cache;
        const cache_kind kind = c.type == HWLOC_OBJ_CACHE_DATA          ? cache_kind::data
                                : c.type == HWLOC_OBJ_CACHE_INSTRUCTION ? cache_kind::instruction
                                                                        : cache_kind::unified;
        // Once per cache: told by its lowest CPU.
        if (hwloc_bitmap_first(o->cpuset) != static_cast<int>(cpu->os_index)) continue;
        if (auto cpus = to_mask(o->cpuset, object)) {
            out.cache(static_cast<int>(c.depth), kind, c.size, static_cast<int>(c.linesize), {cpus->begin(), cpus->end()});
        }
    }
}

result<topology> convert(hwloc_topology_t t, const std::string& object, const std::string& source) {
    builder out(source);
    auto possible = to_mask(hwloc_topology_get_complete_cpuset(t), object);
    if (!possible) return std::unexpected(possible.error());
    out.possible(*possible);
    int cpus = 0;
    for (hwloc_obj_t pu = nullptr; (pu = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PU, pu)) != nullptr; ++cpus) {
        if (pu->os_index >= static_cast<unsigned>(max_cpus)) return too_large(object, "cpu", pu->os_index, max_cpus);
        out.cpu(static_cast<int>(pu->os_index), key_above(t, pu, HWLOC_OBJ_CORE, (1ULL << 32) + pu->os_index), key_above(t, pu, HWLOC_OBJ_PACKAGE, 0));
        add_caches(pu, object, out);
    }
    if (cpus == 0) return fail(EINVAL, object, "load", "it has no CPU");
    for (hwloc_obj_t n = nullptr; (n = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, n)) != nullptr;) {
        if (n->os_index >= static_cast<unsigned>(max_nodes)) return too_large(object, "node", n->os_index, max_nodes);
        auto near = to_mask(n->cpuset, object);
        if (!near) return std::unexpected(near.error());
        out.node(static_cast<int>(n->os_index), *near, n->attr->numanode.local_memory);
    }
    return out.finish();
}

/// hwloc would build a machine of any size for minutes: the product of the counts is the number of CPUs.
std::uint64_t cpus_of(const std::string& description) {
    std::uint64_t product = 1;
    int depth = 0;  // inside (attributes) or [memory]
    for (std::size_t i = 0; i < description.size(); ++i) {
        const char c = description[i];
        if (c == '(' || c == '[') ++depth;
        if (c == ')' || c == ']') --depth;
        const bool starts = c >= '0' && c <= '9' && (i == 0 || description[i - 1] == ':' || description[i - 1] == ' ');
        if (depth != 0 || !starts) continue;
        std::uint64_t n = 0;
        for (; i < description.size() && description[i] >= '0' && description[i] <= '9'; ++i) n = std::min<std::uint64_t>(n * 10 + static_cast<unsigned>(description[i] - '0'), 1u << 31);
        --i;
        product = std::min<std::uint64_t>(product * n, 1u << 31);
    }
    return product;
}

}  // namespace

result<topology> load_synthetic(const std::string& description) {
    const std::string object = "machine \"synthetic:" + description + "\"";
    if (const auto cpus = cpus_of(description); cpus > static_cast<std::uint64_t>(max_cpus)) {
        return fail(ERANGE, object, "load", "it has " + std::string(cpus >> 31 ? "over 2^31" : std::to_string(cpus)) + " CPUs; " + std::to_string(max_cpus) + " are supported");
    }
    const handle t = make();
    if (!t) return fail(ENOMEM, object, "load", "hwloc could not start");
    if (hwloc_topology_set_synthetic(t.get(), description.c_str()) < 0) {
        return fail(EINVAL, object, "load", "hwloc does not understand the description; see hwloc(7), \"Synthetic topologies\"");
    }
    if (hwloc_topology_load(t.get()) < 0) return fail(EINVAL, object, "load", "hwloc could not build the machine");
    return convert(t.get(), object, "synthetic:" + description);
}

result<topology> load_xml(const std::string& path, sys::os& os) {
    const std::string object = "machine \"" + path + "\"";
    constexpr std::size_t limit = 64 << 20;
    const auto text = sys::read_file(os, path, limit);
    if (!text) return std::unexpected(text.error());
    const handle t = make();
    if (!t) return fail(ENOMEM, object, "load", "hwloc could not start");
    // The length counts the terminating zero.
    if (hwloc_topology_set_xmlbuffer(t.get(), text->c_str(), static_cast<int>(text->size() + 1)) < 0 || hwloc_topology_load(t.get()) < 0) {
        return fail(EINVAL, object, "load", "it is not a topology that hwloc wrote (lstopo FILE.xml)");
    }
    return convert(t.get(), object, path);
}

}  // namespace cohort::machine::detail
