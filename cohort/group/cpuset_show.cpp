// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_show.hpp>

#include <algorithm>
#include <map>

#include <cohort/group/table.hpp>

namespace cohort::group {
namespace {

using cpuset::set_snapshot;
using cpuset::snapshot;

template <class Mask>
Mask list_in(const set_snapshot& set, std::initializer_list<const char*> files) {
    for (const char* name : files) {
        const auto it = set.files.find(name);
        if (it != set.files.end()) return Mask::parse_list(it->second).value_or(Mask{});
    }
    return {};
}

/// A column of the picture: one CPU, or one core.
struct cell {
    cpumask cpus;
    bool new_core = false, new_node = false;
};

std::vector<cell> cells_of(const snapshot& s, bool by_core) {
    std::vector<cell> out;
    const auto place = [&](int cpu) {
        const auto& c = s.machine.cpus[static_cast<std::size_t>(cpu)];
        return std::tuple(c.node < 0 ? s.machine.nodes.size() : static_cast<std::size_t>(c.node), c.core < 0 ? cpu + max_cpus : c.core, cpu);
    };
    std::vector<int> order;
    for (int cpu : s.machine.possible) order.push_back(cpu);
    std::ranges::sort(order, {}, place);
    for (std::size_t i = 0; i < order.size(); ++i) {
        const auto here = place(order[i]);
        const bool node = i > 0 && std::get<0>(place(order[i - 1])) != std::get<0>(here), core = i > 0 && (node || std::get<1>(place(order[i - 1])) != std::get<1>(here));
        if (by_core && i > 0 && !core) out.back().cpus.set(order[i]);
        else out.push_back({cpumask{order[i]}, core && !by_core, node});
    }
    // Cores of one CPU each need no blanks between them.
    const bool threads = std::ranges::any_of(s.machine.cores, [](const auto& c) { return c.cpus.size() > 1; });
    for (cell& c : out) c.new_core = c.new_core && threads;
    return out;
}

/// CPUs that valid partitions below have taken.
cpumask taken_below(const snapshot& s, const set_snapshot& set, const set_view& own) {
    cpumask out;
    const std::string prefix = set.path == "." ? "" : set.path + "/";
    for (const set_snapshot& other : s.sets) {
        if (&other == &set || other.path == "." || !other.path.starts_with(prefix)) continue;
        const set_view v = view_of(other);
        if (v.partition == "root" || v.partition == "isolated") out |= v.granted.empty() ? v.effective_cpus : v.granted;
    }
    return out - own.effective_cpus;
}

char mark_of(const cell& c, const cpumask& online, const cpumask& may, const cpumask& asked, const cpumask& taken) {
    const int n = (c.cpus & may).weight();
    if (n > 0) return n == c.cpus.weight() ? '#' : '+';
    if (!c.cpus.intersects(online)) return '-';
    if (c.cpus.intersects(taken)) return 'p';
    return c.cpus.intersects(asked) ? 'o' : '.';
}

template <class Mark>
std::string picture(const std::vector<cell>& cells, Mark mark) {
    std::string out;
    for (const cell& c : cells) {
        if (c.new_node) out += " |";
        else if (c.new_core) out += ' ';
        out += mark(c);
    }
    return out;
}

/// The number of a CPU above the first of each core or node, where there is room for it.
std::string ruler(const std::vector<cell>& cells) {
    std::string out;
    std::size_t at = 0;
    for (const cell& c : cells) {
        if (c.new_node) at += 2;
        else if (c.new_core) ++at;
        const bool first = &c == &cells.front();
        if (c.new_node && out.size() < at) out += std::string(at - 1 - out.size(), ' ') + "|";
        if ((first || c.new_node || c.new_core || at % 8 == 0) && (out.size() < at || first || c.new_node)) {
            if (out.size() < at) out += std::string(at - out.size(), ' ');
            out += std::to_string(c.cpus.first());
        }
        ++at;
    }
    return out;
}

}  // namespace

set_view view_of(const set_snapshot& set) {
    set_view out;
    out.cpus = list_in<cpumask>(set, {"cpuset.cpus"});
    out.effective_cpus = list_in<cpumask>(set, {"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"});
    out.exclusive = list_in<cpumask>(set, {"cpuset.cpus.exclusive"});
    out.granted = list_in<cpumask>(set, {"cpuset.cpus.exclusive.effective"});
    out.mems = list_in<nodemask>(set, {"cpuset.mems"});
    out.effective_mems = list_in<nodemask>(set, {"cpuset.mems.effective", "cpuset.effective_mems", "cpuset.mems"});
    if (const auto it = set.files.find("cpuset.cpus.partition"); it != set.files.end()) out.partition = it->second;
    return out;
}

std::string cpuset_tree_text(const snapshot& s, std::size_t width) {
    std::map<std::string, std::size_t> threads;
    for (const auto& t : s.tasks) ++threads[t.path];
    std::vector<cell> cells = cells_of(s, false);
    const auto wide = [&] { return picture(cells, [](const cell&) { return '#'; }).size() + 60 > width; };
    bool by_core = false;
    if (wide()) {
        cells = cells_of(s, true);
        by_core = true;
    }
    const bool draw = !wide();
    using enum align;
    text_table t({"set", draw ? ruler(cells) : "", "cpus", "mems", "partition", "threads"}, {left, left, left, left, left, right});
    for (const set_snapshot& set : s.sets) {
        const auto depth = set.path == "." ? 0 : 1 + std::ranges::count(set.path, '/');
        const std::string name = std::string(2 * static_cast<std::size_t>(depth), ' ') + (set.path == "." ? "/" : set.path.substr(set.path.rfind('/') + 1));
        const std::size_t n = threads.contains(set.path) ? threads[set.path] : 0;
        if (!set.has_cpuset()) {
            t.row({name, "", "no cpuset of its own", "", "", n ? std::to_string(n) : ""});
            continue;
        }
        const set_view v = view_of(set);
        const cpumask taken = taken_below(s, set, v);
        const auto mark = [&](const cell& c) { return mark_of(c, s.online, v.effective_cpus, v.cpus | v.exclusive, taken); };
        const std::string asked = v.cpus.empty() || v.cpus == v.effective_cpus ? "" : " (of " + v.cpus.list() + ")";
        t.row({name, draw ? picture(cells, mark) : "", (v.effective_cpus.empty() ? "none" : v.effective_cpus.list()) + asked, v.effective_mems.empty() ? "none" : v.effective_mems.list(),
               v.partition == "member" ? "" : v.partition, n ? std::to_string(n) : ""});
    }
    std::string out = t.text("");
    if (draw) out += std::string("one mark a ") + (by_core ? "core" : "CPU") + ": # may run there   " + (by_core ? "+ on some of its CPUs   " : "") + "o asked for, not given   p a partition's below   - offline   . not its own\n";
    return out;
}

}  // namespace cohort::group
