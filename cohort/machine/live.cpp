// SPDX-License-Identifier: Apache-2.0
// The running machine from sysfs, through sys::os, so that a recorded machine is read by the same code.
#include <charconv>
#include <optional>

#include <cohort/machine/detail/builder.hpp>
#include <cohort/machine/detail/masks.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::machine::detail {
namespace {

std::optional<std::uint64_t> read_number(sys::os& os, const std::string& path) {
    const auto text = sys::read_line(os, path);
    std::uint64_t out = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), out).ec != std::errc()) return std::nullopt;
    return out;
}

/// "32K", "8M", "36608K".
std::uint64_t read_size(sys::os& os, const std::string& path) {
    const auto text = sys::read_line(os, path);
    std::uint64_t out = 0;
    if (!text) return 0;
    const auto [end, bad] = std::from_chars(text->data(), text->data() + text->size(), out);
    if (bad != std::errc()) return 0;
    switch (end == text->data() + text->size() ? ' ' : *end) {
        case 'K': return out << 10;
        case 'M': return out << 20;
        case 'G': return out << 30;
        default: return out;
    }
}

/// The kB of the line with this label; 0 when it is not there.
std::uint64_t memory_total(sys::os& os, const std::string& path, std::string_view label) {
    const auto text = sys::read_file(os, path);
    if (!text) return 0;
    std::size_t at = text->find(label);
    if (at == std::string::npos) return 0;
    at = text->find_first_of("0123456789", at + label.size());
    std::uint64_t kib = 0;
    if (at != std::string::npos) std::from_chars(text->data() + at, text->data() + text->size(), kib);
    return kib << 10;
}

void add_caches(sys::os& os, const std::string& dir, builder& out) {
    const auto names = os.list_dir(dir).value_or(std::vector<std::string>{});
    for (const std::string& name : names) {
        if (!name.starts_with("index")) continue;
        const std::string at = dir + "/" + name;
        const auto level = read_number(os, at + "/level");
        const auto type = sys::read_line(os, at + "/type");
        const auto shared = read_mask<cpumask>(os, at + "/shared_cpu_list");
        if (!level || !type || !shared) continue;
        const cache_kind kind = *type == "Data" ? cache_kind::data : *type == "Instruction" ? cache_kind::instruction : cache_kind::unified;
        out.cache(static_cast<int>(*level), kind, read_size(os, at + "/size"),
                  static_cast<int>(read_number(os, at + "/coherency_line_size").value_or(0)), {shared->begin(), shared->end()});
    }
}

void add_nodes(sys::os& os, const cpumask& online, builder& out) {
    const auto nodes = read_mask<nodemask>(os, sys::paths::node + "/online");
    if (!nodes || nodes->empty()) {
        out.node(0, online, memory_total(os, sys::paths::meminfo, "MemTotal:"));
        return;
    }
    cpumask seen;
    for (int n : *nodes) {
        const std::string dir = sys::paths::node + "/node" + std::to_string(n);
        const cpumask cpus = read_mask<cpumask>(os, dir + "/cpulist").value_or(cpumask{}) - seen;
        seen |= cpus;
        out.node(n, cpus, memory_total(os, dir + "/meminfo", "MemTotal:"));
    }
}

}  // namespace

result<topology> load_live(sys::os& os) {
    builder out("live");
    auto online = read_mask<cpumask>(os, sys::paths::cpu + "/online");
    if (!online && online.error().code == ENOENT) online = os.sched_getaffinity(0);  // no sysfs: what we may run on is surely online
    if (!online) return std::unexpected(online.error());
    if (online->empty()) return fail(EINVAL, sys::paths::cpu + "/online", "read", "no CPU is online");
    // A machine with a possible CPU beyond the capacity is refused by its number; one without the file has what is online.
    auto possible = read_mask<cpumask>(os, sys::paths::cpu + "/possible");
    if (!possible && possible.error().code != ENOENT) return std::unexpected(possible.error());
    out.possible(possible.value_or(*online));
    for (int c : *online) {
        const std::string dir = sys::paths::cpu + "/cpu" + std::to_string(c);
        // The lowest sibling names the core; core_cpus_list is thread_siblings_list before Linux 5.3.
        auto siblings = read_mask<cpumask>(os, dir + "/topology/core_cpus_list");
        if (!siblings) siblings = read_mask<cpumask>(os, dir + "/topology/thread_siblings_list");
        const int core = siblings && siblings->test(c) ? siblings->first() : c;
        out.cpu(c, static_cast<std::uint64_t>(core), read_number(os, dir + "/topology/physical_package_id").value_or(0));
        add_caches(os, dir + "/cache", out);
    }
    add_nodes(os, *online, out);
    return out.finish();
}

}  // namespace cohort::machine::detail
