// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/map.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>

namespace cohort::group {
namespace {

using form = map_box::form;

cpumask mask_of(const std::vector<int>& cpus) {
    cpumask out;
    for (int c : cpus) out.set(c);
    return out;
}

std::string cache_name(const machine::topology::cache& c) {
    const char* letter = c.kind == machine::cache_kind::data ? "d" : c.kind == machine::cache_kind::instruction ? "i" : "";
    return fmt::format("L{}{}", c.level, letter) + (c.bytes ? " " + human_bytes(static_cast<double>(c.bytes)) : "");
}

/// Puts a box where it belongs: into the box that has all of its CPUs, as deep as possible. Boxes come largest first, so a box never
/// has to go around one that is there.
void insert(map_box& into, map_box box) {
    const int first = box.cpus.first();
    for (map_box& child : into.inside) {
        if (child.cpus.test(first) && box.cpus.subset_of(child.cpus)) return insert(child, std::move(box));
    }
    into.inside.push_back(std::move(box));
}

void sort_boxes(map_box& box) {
    std::stable_sort(box.inside.begin(), box.inside.end(), [](const map_box& a, const map_box& b) { return a.cpus.first() < b.cpus.first(); });
    for (map_box& child : box.inside) sort_boxes(child);
}

/// Caches that serve one core only are said beside the core; a box for each would hide the machine behind frames.
bool shared_by_cores(const machine::topology& t, const machine::topology::cache& c) {
    if (c.cpus.empty()) return false;
    const int core = t.cpus[static_cast<std::size_t>(c.cpus.front())].core;
    return std::any_of(c.cpus.begin(), c.cpus.end(), [&](int cpu) { return t.cpus[static_cast<std::size_t>(cpu)].core != core; });
}

std::string own_caches(const machine::topology& t, const machine::topology::core& core) {
    std::string out;
    if (core.cpus.empty()) return out;
    const auto& list = t.cpus[static_cast<std::size_t>(core.cpus.front())].caches;
    for (auto it = list.rbegin(); it != list.rend(); ++it) {
        const auto& c = t.caches[static_cast<std::size_t>(*it)];
        if (!shared_by_cores(t, c)) out += (out.empty() ? "" : ", ") + cache_name(c);
    }
    return out;
}

std::vector<map_box> all_boxes(const machine::topology& t) {
    std::vector<map_box> out;
    const auto add = [&](form kind, std::string label, std::string detail, const cpumask& cpus) {
        if (!cpus.empty()) out.push_back({kind, std::move(label), std::move(detail), cpus, {}});
    };
    for (std::size_t i = 0; i < t.packages.size(); ++i) add(form::package, fmt::format("package {}", i), "", t.packages[i].cpus);
    for (const auto& n : t.nodes) add(form::node, fmt::format("node {}", n.number), n.memory_bytes ? human_bytes(static_cast<double>(n.memory_bytes)) : "", n.cpus);
    for (const auto& c : t.caches) {
        if (c.level >= 2 && shared_by_cores(t, c)) add(form::cache, cache_name(c), "", mask_of(c.cpus));
    }
    for (std::size_t i = 0; i < t.cores.size(); ++i) add(form::core, fmt::format("core {}", i), own_caches(t, t.cores[i]), mask_of(t.cores[i].cpus));
    for (int cpu : t.online) add(form::cpu, std::to_string(cpu), "", {cpu});
    // Largest first; of equal ones the outer kind.
    std::vector<std::pair<int, std::size_t>> order;
    for (std::size_t i = 0; i < out.size(); ++i) order.emplace_back(-out[i].cpus.weight() * 8 + static_cast<int>(out[i].kind), i);
    std::stable_sort(order.begin(), order.end());
    std::vector<map_box> sorted;
    sorted.reserve(out.size());
    for (const auto& [key, i] : order) sorted.push_back(std::move(out[i]));
    return sorted;
}

nlohmann::json flat(const machine::topology& t) {
    nlohmann::json out;
    for (const char* key : {"packages", "nodes", "cores", "caches"}) out[key] = nlohmann::json::array();
    for (const auto& p : t.packages) out["packages"].push_back({{"cpus", p.cpus.list()}});
    for (const auto& n : t.nodes) out["nodes"].push_back({{"number", n.number}, {"cpus", n.cpus.list()}, {"memory_bytes", n.memory_bytes}});
    for (const auto& c : t.cores) out["cores"].push_back({{"package", c.package}, {"cpus", c.cpus}});
    for (const auto& c : t.caches) {
        static constexpr const char* kinds[] = {"unified", "data", "instruction"};
        out["caches"].push_back({{"level", c.level}, {"kind", kinds[static_cast<int>(c.kind)]}, {"bytes", c.bytes}, {"line_bytes", c.line_bytes}, {"cpus", c.cpus}});
    }
    out["possible"] = t.possible.list();
    out["online"] = t.online.list();
    return out;
}

/// What differs between two boxes besides their numbers: boxes of one shape may share a line.
std::string shape(const map_box& b) {
    std::string out = fmt::format("{}[{}", static_cast<int>(b.kind), b.detail);
    for (const map_box& c : b.inside) out += shape(c);
    return out + "]";
}

struct writer {
    const machine_map& m;
    bool brief;
    std::string out;

    std::string cpu_note(const cpumask& cpus) const {
        const cpumask bad = cpus - m.view.usable;
        return bad.empty() ? "" : bad == cpus ? "  (not usable)" : "  (not usable: " + bad.list() + ")";
    }
    std::string line(const map_box& b) const {
        std::string text = b.kind == form::cpu ? "CPU " + b.label : b.label;
        if (b.kind == form::core) text += ": " + cpus_text(b.cpus);
        if (!b.detail.empty()) text += "  " + b.detail;
        if (b.kind == form::core || b.kind == form::cpu) return text + cpu_note(b.cpus);
        return text + ": " + cpus_text(b.cpus);
    }
    void tree(const map_box& b, const std::string& indent) {
        for (std::size_t i = 0; i < b.inside.size();) {
            std::size_t end = i + 1;
            const map_box& first = b.inside[i];
            const bool leaf = first.kind == form::core || first.kind == form::cpu;
            if (brief && leaf) {
                const std::string like = shape(first);
                while (end < b.inside.size() && b.inside[end].kind == first.kind && shape(b.inside[end]) == like) ++end;
            }
            const bool last = end == b.inside.size();
            out += indent + (last ? "└─ " : "├─ ");
            if (end - i > 1) {
                cpumask all;
                for (std::size_t k = i; k < end; ++k) all |= b.inside[k].cpus;
                out += fmt::format("{} {}, {} {} each: {}", end - i, first.kind == form::core ? "cores" : "CPUs", first.cpus.weight(), first.cpus.weight() == 1 ? "CPU" : "CPUs", cpus_text(all));
                if (!first.detail.empty()) out += "  " + first.detail;
                out += cpu_note(all) + "\n";
            } else {
                out += line(first) + "\n";
                if (!leaf) tree(first, indent + (last ? "   " : "│  "));
            }
            i = end;
        }
    }
};

}  // namespace

machine_map map_of(const machine::topology& t, const machine_view& view) {
    machine_map m{view, {form::machine, "machine " + view.name, "", t.possible, {}}, {}, flat(t).dump()};
    for (map_box& box : all_boxes(t)) insert(m.top, std::move(box));
    for (int cpu : t.possible - t.online) m.top.inside.push_back({form::cpu, std::to_string(cpu), "", {cpu}, {}});
    sort_boxes(m.top);
    for (const auto& n : t.nodes) {
        if (n.cpus.empty()) m.memory_only.push_back(fmt::format("node {}: {} of memory, no CPU", n.number, human_bytes(static_cast<double>(n.memory_bytes))));
    }
    return m;
}

std::string map_text(const machine_map& m) {
    writer w{m, m.top.cpus.weight() > 32, {}};
    w.out = fmt::format("{}: {}, {} usable\n", m.top.label, cpus_text(m.top.cpus), m.view.usable.weight());
    w.tree(m.top, "");
    for (const std::string& line : m.memory_only) w.out += line + "\n";
    for (const unusable& u : m.view.not_usable) w.out += fmt::format("not usable: {}: {}\n", cpus_text(u.cpus), u.reason);
    if (m.view.cpu_limit) w.out += fmt::format("time: at most {:.2f} CPUs' worth: {}\n", *m.view.cpu_limit, m.view.cpu_limit_reason);
    return w.out;
}

std::string map_json(const machine_map& m) {
    nlohmann::json out = nlohmann::json::parse(m.topology_json);
    out["schema_version"] = 1;
    out["kind"] = "topology";
    out["name"] = m.view.name;
    out["usable"] = m.view.usable.list();
    out["not_usable"] = nlohmann::json::array();
    for (const unusable& u : m.view.not_usable) out["not_usable"].push_back({{"cpus", u.cpus.list()}, {"reason", u.reason}});
    if (m.view.cpu_limit) out["cpu_limit"] = *m.view.cpu_limit;
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cohort::group
