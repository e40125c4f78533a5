// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/detail/refusal.hpp>

#include <vector>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::cpuset::detail {
namespace {

bool exists(sys::os& os, const std::string& path) { return os.stat(path).has_value(); }
std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "" : path.substr(0, slash);
}
std::string shown(const std::string& path) { return "\"" + (path.empty() ? "/" : path) + "\""; }
std::string quoted(const std::string& text) { return "\"" + text + "\""; }
std::string line_of(sys::os& os, const std::string& path) { return sys::read_line(os, path).value_or("?"); }

std::vector<std::string> sets_below(sys::os& os, const live_mount& m, const std::string& path) {
    std::vector<std::string> out;
    for (const std::string& name : os.list_dir(m.directory(path)).value_or(std::vector<std::string>{})) {
        const auto info = os.stat(m.directory(path) + "/" + name);
        if (info && info->kind == sys::file_kind::directory) out.push_back(name);
    }
    return out;
}

std::size_t processes_in(sys::os& os, const live_mount& m, const std::string& path) {
    std::size_t n = 0;
    for (char c : sys::read_file(os, m.directory(path) + "/cgroup.procs").value_or("")) n += c == '\n';
    return n;
}

std::string needs_permission(sys::os& os, const std::string& path, int code) {
    const auto info = os.stat(path);
    return errno_text(code) + (info ? " (" + path + " belongs to user " + std::to_string(info->uid) + "; see `cohort cpuset delegate`)" : "");
}

std::string is_gone(const std::string& path) { return "there is no set " + shown(path) + " (it was never made, or has been removed meanwhile)"; }

/// Version 2: a set without the file because its parent does not hand cpuset on.
std::string not_handed_on(sys::os& os, const live_mount& m, const std::string& path) {
    if (path.empty()) return "the topmost set has no such file";
    const std::string parent = parent_of(path);
    const std::string has = line_of(os, m.directory(parent) + "/cgroup.subtree_control");
    return "set " + shown(parent) + " does not hand cpuset on (its cgroup.subtree_control has " + quoted(has) + "; `cohort cpuset create` does so)";
}

std::string list_beside(sys::os& os, const live_mount& m, const std::string& path, const std::string& file) { return shown(path) + " has " + quoted(line_of(os, m.file(path, file))); }

/// A child that holds more than the new list would give it; version 1.
std::string child_in_the_way(sys::os& os, const live_mount& m, const std::string& path, const std::string& file, const std::string& text) {
    const auto wanted = cpumask::parse_list(text);
    for (const std::string& name : sets_below(os, m, path)) {
        const std::string child = path.empty() ? name : path + "/" + name;
        const auto has = cpumask::parse_list(line_of(os, m.file(child, file)));
        if (wanted && has && !has->subset_of(*wanted)) return "the set below it " + shown(child) + " has " + quoted(has->list());
    }
    return {};
}

std::string sibling_in_the_way(sys::os& os, const live_mount& m, const std::string& path, const std::string& file, const std::string& text) {
    const auto wanted = cpumask::parse_list(text);
    const std::string parent = parent_of(path);
    if (path.empty() || !wanted) return {};
    for (const std::string& name : sets_below(os, m, parent)) {
        const std::string sibling = parent.empty() ? name : parent + "/" + name;
        const auto has = cpumask::parse_list(line_of(os, m.file(sibling, file)));
        if (sibling != path && has && has->intersects(*wanted)) return "its sibling " + shown(sibling) + " has " + quoted(has->list()) + ", and one of the two is exclusive";
    }
    return {};
}

/// "; CPUs 2-3 are offline".
std::string offline_note(sys::os& os, const std::string& file, const std::string& text) {
    if (file.find("cpus") == file.npos) return {};
    const auto wanted = cpumask::parse_list(text), online = cpumask::parse_list(line_of(os, sys::paths::cpu + "/online"));
    if (!wanted || !online || wanted->subset_of(*online)) return {};
    return " (CPUs " + (*wanted - *online).list() + " are not online)";
}

}  // namespace

std::string why_not_created(sys::os& os, const live_mount& m, const std::string& path, int code) {
    const std::string parent = parent_of(path);
    switch (code) {
        case EEXIST: return "it is there";
        case ENOENT: return is_gone(parent);
        case EACCES: case EPERM: case EROFS: return needs_permission(os, m.directory(parent), code);
        case EAGAIN: return "a limit of sets is reached: cgroup.max.descendants or cgroup.max.depth above it";
        default: return errno_text(code);
    }
}

std::string why_not_removed(sys::os& os, const live_mount& m, const std::string& path, int code) {
    switch (code) {
        case ENOENT: return is_gone(path);
        case EACCES: case EPERM: case EROFS: return needs_permission(os, m.directory(parent_of(path)), code);
        case EBUSY: case ENOTEMPTY: {
            std::string below;
            for (const std::string& name : sets_below(os, m, path)) below += (below.empty() ? "" : " ") + name;
            const std::size_t n = processes_in(os, m, path);
            if (!below.empty()) return "there are sets below it: " + below;
            return n ? "it has " + std::to_string(n) + (n == 1 ? " process" : " processes") : errno_text(code);
        }
        default: return errno_text(code);
    }
}

std::string why_not_written(sys::os& os, const live_mount& m, const std::string& path, const std::string& file, const std::string& text, int code, stage at) {
    const std::string parent = parent_of(path);
    const bool list = file == "cpuset.cpus" || file == "cpuset.mems" || file == "cpuset.cpus.exclusive";
    if (!exists(os, m.directory(path)) || code == ENODEV) return is_gone(path);
    if (at == stage::open) {
        if (code == ENOENT && !m.v1() && exists(os, m.directory(parent) + "/cgroup.subtree_control") && !exists(os, m.directory(path) + "/cpuset.cpus.effective")) return not_handed_on(os, m, path);
        if (code == ENOENT) return m.v1() ? "this version 1 hierarchy has no such file" : path.empty() ? "the topmost set has no such file" : "this kernel has no such file";
        if (code == EACCES || code == EPERM || code == EROFS) return needs_permission(os, m.file(path, file), code);
        return errno_text(code);
    }
    std::string why;
    if (code == EACCES && m.v1()) why = path.empty() ? "the lists of the root cannot be written" : "its parent " + list_beside(os, m, parent, file) + offline_note(os, file, text);
    else if (code == EBUSY && list) why = child_in_the_way(os, m, path, file, text);
    else if (code == ENOSPC) why = std::to_string(processes_in(os, m, path)) + " processes in it (or below) would be left without " + (file == "cpuset.mems" ? "memory nodes" : "CPUs");
    else if (code == ERANGE) why = "a number is larger than this machine can have";
    else if (code == EINVAL && list) {
        why = cpumask::parse_list(text) ? sibling_in_the_way(os, m, path, m.v1() ? file : "cpuset.cpus.exclusive", text) + offline_note(os, file, text) : "it is no list such as 0-3,8";
    } else if (code == EINVAL && file == "cpuset.cpus.partition") why = "there are member, root and isolated";
    return why.empty() ? errno_text(code) : why;
}

std::string why_not_attached(sys::os& os, const live_mount& m, const std::string& path, int pid, int code, stage at) {
    const std::string type = sys::read_line(os, m.directory(path) + "/cgroup.type").value_or("");
    if (!exists(os, m.directory(path)) || code == ENODEV) return is_gone(path);
    switch (code) {
        case ESRCH: return "there is no process " + std::to_string(pid);
        case ENOSPC:
            return m.v1() ? "it has cpus " + quoted(line_of(os, m.file(path, "cpuset.cpus"))) + " and mems " + quoted(line_of(os, m.file(path, "cpuset.mems"))) + "; both are needed first" : "it has no effective CPUs";
        case EINVAL: return "process " + std::to_string(pid) + " is bound to its CPU (a kernel thread) or may not leave its set";
        case EOPNOTSUPP: return "the set takes no processes: its cgroup.type is " + quoted(type);
        case EBUSY: return "it hands controllers on (" + quoted(line_of(os, m.directory(path) + "/cgroup.subtree_control")) + "): processes live in sets below it only";
        case EACCES: case EPERM:
            return at == stage::open ? needs_permission(os, m.directory(path) + "/cgroup.procs", code) : errno_text(code) + " (the process is another user's, or cgroup.procs of a set above both cannot be written)";
        default: return errno_text(code);
    }
}

std::string why_not_handed_on(sys::os& os, const live_mount& m, const std::string& path, bool on, int code, stage at) {
    const std::string file = m.directory(path) + "/cgroup.subtree_control";
    if (!exists(os, m.directory(path)) || code == ENODEV) return is_gone(path);
    if (m.v1() || (at == stage::open && code == ENOENT)) return "version 1 sets always hand it on";
    switch (code) {
        case EACCES: case EPERM: case EROFS: return needs_permission(os, file, code);
        case ENOENT: return "it has no cpuset itself: " + not_handed_on(os, m, path);
        case EBUSY: return on ? "processes live in it: move them to a set below first" : "a set below it hands cpuset on";
        case EOPNOTSUPP: return "its cgroup.type is " + quoted(line_of(os, m.directory(path) + "/cgroup.type"));
        default: return errno_text(code);
    }
}

}  // namespace cohort::cpuset::detail
