// SPDX-License-Identifier: Apache-2.0
// Which files a set has, what they read, and who takes a write of them.
#include <algorithm>
#include <iterator>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

using read_handler = std::string (*)(world&, group&);
using write_handler = verdict (*)(world&, group&, std::string_view file, std::string_view text);

enum class where : unsigned char { everywhere, not_on_root, only_on_root };

struct file_type {
    std::string_view name;
    bool v1 = false;
    where on = where::everywhere;
    bool needs_exclusive = false;  // a kernel that has cpuset.cpus.exclusive
    read_handler read = nullptr;
    write_handler write = nullptr;
};

std::string bit(bool b) { return b ? "1" : "0"; }

constexpr write_handler cpus = [](world& w, group& g, std::string_view, std::string_view text) { return write_cpus(w, g, text); };
constexpr write_handler mems = [](world& w, group& g, std::string_view, std::string_view text) { return write_mems(w, g, text); };
constexpr write_handler exclusive = [](world& w, group& g, std::string_view, std::string_view text) { return write_exclusive(w, g, text); };
constexpr write_handler partition = [](world& w, group& g, std::string_view, std::string_view text) { return write_partition(w, g, text); };
constexpr write_handler relax = [](world& w, group& g, std::string_view, std::string_view text) { return write_relax(w, g, text); };

constexpr read_handler show_cpus = [](world&, group& g) { return g.own.cpus.list(); };
constexpr read_handler show_mems = [](world&, group& g) { return g.own.mems.list(); };
constexpr read_handler show_effective_cpus = [](world&, group& g) { return g.effective_cpus.list(); };
constexpr read_handler show_effective_mems = [](world&, group& g) { return g.effective_mems.list(); };

const file_type types[] = {
    {"cpuset.cpus", false, where::not_on_root, false, show_cpus, cpus},
    {"cpuset.cpus.effective", false, where::everywhere, false, show_effective_cpus},
    {"cpuset.cpus.exclusive", false, where::not_on_root, true, [](world&, group& g) { return g.own.exclusive.list(); }, exclusive},
    {"cpuset.cpus.exclusive.effective", false, where::not_on_root, true, [](world&, group& g) { return g.own.granted.list(); }},
    {"cpuset.cpus.isolated", false, where::only_on_root, true, [](world& w, group&) { return w.isolated.list(); }},
    {"cpuset.cpus.partition", false, where::not_on_root, false, [](world& w, group& g) { return partition_text(g.state, g.reason, w.profile); }, partition},
    {"cpuset.mems", false, where::not_on_root, false, show_mems, mems},
    {"cpuset.mems.effective", false, where::everywhere, false, show_effective_mems},

    {"cgroup.clone_children", true, where::everywhere, false, [](world&, group& g) { return bit(g.clone_children); }, write_flag},
    {"cpuset.cpu_exclusive", true, where::everywhere, false, [](world&, group& g) { return bit(g.own.cpu_exclusive); }, write_flag},
    {"cpuset.cpus", true, where::everywhere, false, show_cpus, cpus},
    {"cpuset.effective_cpus", true, where::everywhere, false, show_effective_cpus},
    {"cpuset.effective_mems", true, where::everywhere, false, show_effective_mems},
    {"cpuset.mem_exclusive", true, where::everywhere, false, [](world&, group& g) { return bit(g.own.mem_exclusive); }, write_flag},
    {"cpuset.mem_hardwall", true, where::everywhere, false, [](world&, group& g) { return bit(g.hardwall); }, write_flag},
    {"cpuset.memory_migrate", true, where::everywhere, false, [](world&, group& g) { return bit(g.migrate); }, write_flag},
    {"cpuset.memory_pressure", true, where::everywhere, false, [](world& w, group& g) { return std::to_string(g.pressure.read(w.now)); }},
    {"cpuset.memory_pressure_enabled", true, where::only_on_root, false, [](world& w, group&) { return bit(w.pressure_on); }, write_flag},
    {"cpuset.memory_spread_page", true, where::everywhere, false, [](world&, group& g) { return bit(g.spread_page); }, write_flag},
    {"cpuset.memory_spread_slab", true, where::everywhere, false, [](world&, group& g) { return bit(g.spread_slab); }, write_flag},
    {"cpuset.mems", true, where::everywhere, false, show_mems, mems},
    {"cpuset.sched_load_balance", true, where::everywhere, false, [](world&, group& g) { return bit(g.balance); }, write_flag},
    {"cpuset.sched_relax_domain_level", true, where::everywhere, false, [](world&, group& g) { return std::to_string(g.relax); }, relax},
};

bool is_there(const world& w, const group& g, const file_type& f) {
    if (f.v1 != w.v1 || !g.has_cpuset) return false;
    if (f.on != where::everywhere && (f.on == where::only_on_root) != g.is_root()) return false;
    return !f.needs_exclusive || w.kernel_rules().exclusive_files;
}

const file_type* find_type(const world& w, const group& g, std::string_view name) {
    const auto it = std::ranges::find_if(types, [&](const file_type& f) { return f.name == name && is_there(w, g, f); });
    return it == std::end(types) ? nullptr : it;
}

verdict no_such_file(const world& w, const group& g, std::string_view file) {
    std::string why = "\"" + path_of(g) + "\" has no file " + std::string(file);
    if (file.starts_with("cpuset.") && !g.has_cpuset) why += ": its parent does not hand cpuset on";
    else if (g.is_root() && !w.v1) why += " (the root has no lists of its own)";
    return {ENOENT, why};
}

}  // namespace

std::vector<std::string> files_of(const world& w, const group& g) {
    std::vector<std::string> out;
    for (const file_type& f : types) {
        if (is_there(w, g, f)) out.emplace_back(f.name);
    }
    return out;
}

answer read_file(world& w, std::string_view path, std::string_view file) {
    group* g = find(w, path);
    if (!g) {
        const verdict v = no_such_group(path);
        return {.code = v.code, .why = v.why};
    }
    const file_type* f = find_type(w, *g, file);
    if (f) return {.value = f->read(w, *g)};
    const verdict v = no_such_file(w, *g, file);
    return {.code = v.code, .why = v.why};
}

verdict write_file(world& w, std::string_view path, std::string_view file, std::string_view text) {
    constexpr std::size_t longest = 100 + 6 * max_cpus;
    group* g = find(w, path);
    if (!g) return no_such_group(path);
    const file_type* f = find_type(w, *g, file);
    if (!f) return no_such_file(w, *g, file);
    if (verdict v = may_write(w, *g); v.refused()) return v;
    if (!f->write) return {w.admin() ? EINVAL : EACCES, std::string(file) + " is for reading only"};
    if (text.size() > longest) return {E2BIG, "the text has " + std::to_string(text.size()) + " characters, more than " + std::to_string(longest)};
    return f->write(w, *g, file, text);
}

}  // namespace cohort::cpuset::detail
