// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_snapshot.hpp>

#include <algorithm>

#include <nlohmann/json.hpp>

namespace cohort::group {
namespace {

using nlohmann::json;
using machine::topology;

constexpr int version = 1;
constexpr std::string_view kind = "cpuset_snapshot";

std::string list_of(const std::vector<int>& cpus) {
    cpumask m;
    for (int c : cpus) m.set(c);
    return m.list();
}

nlohmann::ordered_json machine_json(const topology& t) {
    nlohmann::ordered_json out{{"source", t.source}, {"possible", t.possible.list()}, {"cores", json::array()}, {"packages", json::array()}, {"nodes", json::array()}};
    for (const auto& c : t.cores) out["cores"].push_back(list_of(c.cpus));
    for (const auto& p : t.packages) out["packages"].push_back(p.cpus.list());
    for (const auto& n : t.nodes) out["nodes"].push_back(nlohmann::ordered_json{{"number", n.number}, {"cpus", n.cpus.list()}, {"memory_bytes", n.memory_bytes}});
    return out;
}

/// Walks a JSON value by keys; keeps the first fault, with its place. After a fault every answer is empty.
class reader {
public:
    explicit reader(std::string file) : file_(std::move(file)) {}

    bool failed() const { return fault_.has_value(); }
    error take_fault() { return std::move(*fault_); }
    void fault(int code, const std::string& place, std::string reason) {
        if (!fault_) fault_ = error{code, file_, "read " + place, std::move(reason)};
    }

    /// The value at a key; null and a fault when it is missing and needed.
    const json* at(const json& in, const std::string& where, const char* key, bool needed = true) {
        const auto it = in.find(key);
        if (it != in.end() && !it->is_null()) return &*it;
        if (needed) fault(EINVAL, where + key, "the key is missing");
        return nullptr;
    }
    std::string text(const json& in, const std::string& where, const char* key, bool needed = true) {
        const json* v = at(in, where, key, needed);
        if (v && !v->is_string()) fault(EINVAL, where + key, "it must be a string");
        return v && v->is_string() ? v->get<std::string>() : std::string();
    }
    std::int64_t number(const json& in, const std::string& where, const char* key, std::int64_t low, std::int64_t high) {
        const json* v = at(in, where, key);
        if (!v) return low;
        const bool fits = v->is_number_unsigned() ? v->get<std::uint64_t>() <= static_cast<std::uint64_t>(high) : v->is_number_integer();
        if (fits && v->get<std::int64_t>() >= low && v->get<std::int64_t>() <= high) return v->get<std::int64_t>();
        fault(EINVAL, where + key, "it must be a whole number in " + std::to_string(low) + ".." + std::to_string(high));
        return low;
    }
    template <class Mask>
    Mask list(const json& in, const std::string& where, const char* key, bool needed = true) {
        return parsed<Mask>(text(in, where, key, needed), where + key);
    }
    template <class Mask>
    Mask parsed(const std::string& text, const std::string& place) {
        auto m = Mask::parse_list(text);
        if (m) return *m;
        fault(m.error().code, place, m.error().object + ": " + m.error().reason);
        return {};
    }
    /// Each element of an array, with its place ("sets[3].").
    template <class Each>
    void each(const json& in, const std::string& where, const char* key, bool needed, Each visit) {
        const json* v = at(in, where, key, needed);
        if (!v) return;
        if (!v->is_array()) return fault(EINVAL, where + key, "it must be a list");
        std::size_t n = 0;
        for (const json& item : *v) {
            if (failed()) return;
            visit(item, where + key + "[" + std::to_string(n++) + "]");
        }
    }
    bool object(const json& v, const std::string& place) {
        if (!v.is_object()) fault(EINVAL, place, "it must be an object");
        return v.is_object();
    }

private:
    std::string file_;
    std::optional<error> fault_;
};

/// CPUs of a part of the machine: possible, and in no other part of its sort.
cpumask share(reader& in, const json& item, const std::string& place, const cpumask& possible, cpumask& taken) {
    if (!item.is_string()) {
        in.fault(EINVAL, place, "it must be a list of CPUs, as a string");
        return {};
    }
    const cpumask cpus = in.parsed<cpumask>(item.get<std::string>(), place);
    if (!cpus.subset_of(possible)) in.fault(EINVAL, place, "CPUs " + (cpus - possible).list() + " are not possible");
    if (cpus.intersects(taken)) in.fault(EINVAL, place, "CPUs " + (cpus & taken).list() + " stand in another one, too");
    taken |= cpus;
    return cpus & possible;  // after a fault, too, the numbers index what is there
}

void read_nodes(reader& in, const json& m, topology& t) {
    cpumask taken;
    in.each(m, "machine.", "nodes", true, [&](const json& item, const std::string& place) {
        if (!in.object(item, place)) return;
        topology::node n{.number = static_cast<int>(in.number(item, place + ".", "number", 0, max_nodes - 1)), .cpus = {}, .memory_bytes = 0};
        n.memory_bytes = static_cast<std::uint64_t>(in.number(item, place + ".", "memory_bytes", 0, INT64_MAX));
        if (const json* cpus = in.at(item, place + ".", "cpus")) n.cpus = share(in, *cpus, place + ".cpus", t.possible, taken);
        if (!t.nodes.empty() && t.nodes.back().number >= n.number) in.fault(EINVAL, place + ".number", "the numbers of nodes ascend");
        for (int cpu : n.cpus) t.cpus[static_cast<std::size_t>(cpu)].node = static_cast<int>(t.nodes.size());
        t.nodes.push_back(n);
    });
}

topology read_machine(reader& in, const json& m) {
    topology t;
    if (m.is_string()) {
        const std::string spec = m.get<std::string>();
        auto made = spec.starts_with("synthetic:") ? machine::load(spec, sys::real()) : result<topology>(fail(EINVAL, "", "", "a machine in words begins with synthetic:"));
        if (made) return *made;
        in.fault(made.error().code, "machine", made.error().reason);
        return t;
    }
    if (!in.object(m, "machine")) return t;
    t.source = in.text(m, "machine.", "source", false);
    t.possible = t.online = in.list<cpumask>(m, "machine.", "possible");
    if (t.possible.empty()) in.fault(EINVAL, "machine.possible", "a machine has a CPU");
    t.cpus.resize(static_cast<std::size_t>(t.possible.last() + 1));
    cpumask in_cores, in_packages;
    in.each(m, "machine.", "packages", true, [&](const json& item, const std::string& place) {
        const cpumask cpus = share(in, item, place, t.possible, in_packages);
        for (int c : cpus) t.cpus[static_cast<std::size_t>(c)].package = static_cast<int>(t.packages.size());
        t.packages.push_back({cpus});
    });
    in.each(m, "machine.", "cores", true, [&](const json& item, const std::string& place) {
        const cpumask cpus = share(in, item, place, t.possible, in_cores);
        if (cpus.empty()) return in.fault(EINVAL, place, "a core has a CPU");
        for (int c : cpus) t.cpus[static_cast<std::size_t>(c)].core = static_cast<int>(t.cores.size());
        t.cores.push_back({t.cpus[static_cast<std::size_t>(cpus.first())].package, {cpus.begin(), cpus.end()}});
    });
    read_nodes(in, m, t);
    if (t.nodes.empty()) in.fault(EINVAL, "machine.nodes", "a machine has a node");
    return t;
}

cpuset::set_snapshot read_set(reader& in, const json& item, const std::string& place) {
    cpuset::set_snapshot set;
    if (!in.object(item, place)) return set;
    set.path = in.text(item, place + ".", "path");
    if (const json* on = in.at(item, place + ".", "subtree_control", false)) {
        if (!on->is_boolean()) in.fault(EINVAL, place + ".subtree_control", "it must be true or false");
        else set.hands_on = on->get<bool>();
    }
    const json* files = in.at(item, place + ".", "files", false);
    if (!files || !in.object(*files, place + ".files")) return set;
    for (const auto& [file, value] : files->items()) {
        if (!value.is_string()) in.fault(EINVAL, place + ".files." + file, "it must be a string");
        else set.files[file] = value.get<std::string>();
    }
    return set;
}

cpuset::task_snapshot read_task(reader& in, const json& item, const std::string& place) {
    cpuset::task_snapshot t;
    if (!in.object(item, place)) return t;
    const std::string where = place + ".";
    t.id = in.text(item, where, "id");
    t.name = in.text(item, where, "name", false);
    t.path = in.text(item, where, "path");
    t.cpus = in.list<cpumask>(item, where, "cpus", false);
    t.mems = in.list<nodemask>(item, where, "mems", false);
    if (in.at(item, where, "asked", false)) t.asked = in.list<cpumask>(item, where, "asked");
    return t;
}

void read_head(reader& in, const json& j, cpuset::snapshot& s) {
    if (in.text(j, "", "kind") != kind) in.fault(EINVAL, "kind", "it is not \"" + std::string(kind) + "\"");
    auto k = cpuset::parse_kernel(in.text(j, "", "kernel"));
    if (k) s.profile = *k;
    else in.fault(k.error().code, "kernel", k.error().object + ": " + k.error().reason);
    s.release = in.text(j, "", "release", false);
    const std::string mount = in.text(j, "", "mount");
    if (mount != "v1" && mount != "v2") in.fault(EINVAL, "mount", "it is none of v1, v2");
    s.v1 = mount == "v1";
}

/// Line and column of a byte, both from 1.
std::string place_of(std::string_view text, std::size_t byte) {
    const std::string_view before = text.substr(0, std::min(byte > 0 ? byte - 1 : 0, text.size()));
    const std::size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    return std::to_string(std::ranges::count(before, '\n') + 1) + ":" + std::to_string(before.size() - line_start + 1);
}

}  // namespace

std::string cpuset_snapshot_json(const cpuset::snapshot& s) {
    nlohmann::ordered_json j{{"schema_version", version}, {"kind", kind}, {"kernel", cpuset::kernel_name(s.profile)}, {"release", s.release}, {"mount", s.v1 ? "v1" : "v2"},
                             {"machine", machine_json(s.machine)}, {"online", s.online.list()}, {"memory_nodes", s.memory.list()}, {"boot_isolated", s.boot_isolated.list()},
                             {"sets", json::array()}, {"tasks", json::array()}};
    for (const auto& set : s.sets) j["sets"].push_back(nlohmann::ordered_json{{"path", set.path}, {"subtree_control", set.hands_on}, {"files", set.files}});
    for (const auto& t : s.tasks) {
        nlohmann::ordered_json one{{"id", t.id}, {"name", t.name}, {"path", t.path}, {"cpus", t.cpus.list()}, {"mems", t.mems.list()}, {"asked", nullptr}};
        if (t.asked) one["asked"] = t.asked->list();
        j["tasks"].push_back(std::move(one));
    }
    return j.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

result<cpuset::snapshot> read_cpuset_snapshot(const std::string& name, std::string_view text) {
    json j;
    try {
        j = json::parse(text);
    } catch (const json::exception& e) {
        const auto* at = dynamic_cast<const json::parse_error*>(&e);
        return fail(EINVAL, name + (at ? ":" + place_of(text, at->byte) : ""), "read", "it is no JSON here");
    }
    reader in(name);
    cpuset::snapshot s;
    if (!in.object(j, "the snapshot")) return std::unexpected(in.take_fault());
    if (const auto v = in.number(j, "", "schema_version", 0, INT64_MAX); !in.failed() && v != version) {
        in.fault(EOPNOTSUPP, "schema_version", std::to_string(v) + " is not known, only " + std::to_string(version));
    }
    if (!in.failed()) read_head(in, j, s);
    const json* m = in.failed() ? nullptr : in.at(j, "", "machine");
    if (m) s.machine = read_machine(in, *m);
    s.online = in.list<cpumask>(j, "", "online", false);
    if (s.online.empty()) s.online = s.machine.possible;
    s.memory = in.list<nodemask>(j, "", "memory_nodes", false);
    if (s.memory.empty()) {
        for (const auto& n : s.machine.nodes) {
            if (n.memory_bytes) s.memory.set(n.number);
        }
    }
    if (s.memory.empty()) s.memory = s.machine.node_numbers();
    s.boot_isolated = in.list<cpumask>(j, "", "boot_isolated", false);
    in.each(j, "", "sets", true, [&](const json& item, const std::string& place) { s.sets.push_back(read_set(in, item, place)); });
    in.each(j, "", "tasks", false, [&](const json& item, const std::string& place) { s.tasks.push_back(read_task(in, item, place)); });
    if (in.failed()) return std::unexpected(in.take_fault());
    return s;
}

}  // namespace cohort::group
