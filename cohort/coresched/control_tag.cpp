// SPDX-License-Identifier: Apache-2.0
// Many threads at once: looked at, changed, and looked at again until none is new.
#include <algorithm>
#include <map>
#include <set>

#include <cohort/coresched/control.hpp>
#include <cohort/machine/cgroup.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::coresched {
namespace {

constexpr int quiet_rounds = 2;  // looks that find nothing to do: what a thread without the cookie has started meanwhile shows in the second

/// cgroup.threads of version 2, tasks of version 1; and those of the groups below.
result<void> add_cgroup(sys::os& os, const std::string& directory, std::set<int>& out) {
    auto text = sys::read_file(os, directory + "/cgroup.threads");
    if (!text) text = sys::read_file(os, directory + "/tasks");
    if (!text) return fail(ENOENT, "cgroup \"" + directory + "\"", "list its threads", text.error().code == ENOENT ? "there is no such cgroup" : text.error().reason);
    out.merge(sys::ids_in(*text));
    const auto names = os.list_dir(directory);
    if (!names) return std::unexpected(names.error());
    for (const std::string& n : *names) {
        const auto what = os.stat(directory + "/" + n);
        if (!what || what->kind != sys::file_kind::directory) continue;
        // A group that goes meanwhile has no threads.
        if (auto r = add_cgroup(os, directory + "/" + n, out); !r && r.error().code != ENOENT) return r;
    }
    return {};
}

result<void> add_process(sys::os& os, int pid, std::set<int>& out) {
    const auto threads = sys::threads_of_process(os, pid);
    if (!threads) return std::unexpected(threads.error());
    out.insert(threads->begin(), threads->end());
    return {};
}

/// What an id stands for, now. Errors: ESRCH.
result<void> add_id(sys::os& os, int id, scope whom, std::set<int>& out) {
    const auto entry = sys::task_at(os, id);
    if (!entry) return std::unexpected(entry.error());
    if (whom == scope::thread) {
        out.insert(id);
        return {};
    }
    if (whom == scope::process) return add_process(os, entry->pid, out);
    const auto all = sys::all_processes(os);
    if (!all) return std::unexpected(all.error());
    for (int pid : *all) {
        if (const auto one = sys::task_at(os, pid); one && one->group == entry->group) (void)add_process(os, pid, out);
    }
    return {};
}

class tagging {
public:
    tagging(sys::os& os, const source& from, const targets& whom, const tag_options& o) : os_(os), kernel_(os), from_(from), whom_(whom), o_(o) {}

    tag_report run() {
        const availability here = facility(os_);
        if (!here.there()) return refuse({here.code, "core scheduling", "tag", here.why});
        if (!here.safe() && !o_.even_if_unsafe) return refuse({EOPNOTSUPP, "core scheduling", "tag", "not safe here: " + here.dangers.front()});
        std::set<int> found;
        if (!look_before(found)) return report();
        if (o_.dry_run) return plan(found);
        // A thread of its own holds the cookie while it is shared out; the caller's stays as it is.
        const int caller = os_.gettid();
        if (auto ran = os_.in_new_thread([&] { change(caller); }); !ran) failed(ran.error(), 0);
        return report();
    }

private:
    tag_report refuse(error e) {
        out_.unsupported = true;
        failed(std::move(e), 0);
        return std::move(out_);
    }
    void failed(error e, int id) {
        if (out_.failure) return;
        out_.failed_id = id;
        out_.failure = std::move(e);
    }

    /// All threads that the targets stand for, now. A target that was there once may be gone later.
    bool expand(std::set<int>& out, bool first) {
        for (int id : whom_.ids) {
            if (auto r = add_id(os_, id, whom_.whom, out); !r && (first || r.error().code != ESRCH)) return failed(r.error(), id), false;
        }
        for (const std::string& c : whom_.cgroups) {
            if (auto r = add_cgroup(os_, c, out); !r && (first || r.error().code != ENOENT)) return failed(r.error(), 0), false;
        }
        return true;
    }
    bool look_before(std::set<int>& found) {
        if (!expand(found, true)) return false;
        for (int id : found) {
            if (!seen(id)) return false;
        }
        // The source must be there, too, before anything is changed.
        if (from_.what != origin::of) return true;
        if (auto r = kernel_.get(from_.id); !r) return failed(r.error(), from_.id), false;
        return true;
    }
    /// Notes a thread's cookie the first time. False: it may not be looked at. One that has ended is noted as gone.
    bool seen(int id) {
        if (known_.contains(id) || gone_.contains(id)) return true;
        const auto value = kernel_.get(id);
        if (!value && value.error().code == ESRCH) return gone_.insert(id), true;
        if (!value) return failed(value.error(), id), false;
        const auto entry = sys::task_at(os_, id);
        known_[id] = {.id = id, .pid = entry ? entry->pid : 0, .name = entry ? entry->name : "", .before = *value, .after = *value};
        return true;
    }

    tag_report plan(const std::set<int>& found) {
        const auto wanted = from_.what == origin::of ? kernel_.get(from_.id) : result<cookie>(no_cookie);
        if (!wanted) failed(wanted.error(), from_.id);
        for (int id : found) {
            if (!known_.contains(id)) continue;
            const bool has = from_.what != origin::fresh && wanted && known_[id].before == *wanted;
            (has ? out_.already : out_.changed).push_back(known_[id]);
        }
        out_.gone.assign(gone_.begin(), gone_.end());
        return std::move(out_);
    }

    /// In the thread that shares it out.
    void change(int caller) {
        helper_ = os_.gettid();
        tag_options safe = o_;
        safe.even_if_unsafe = true;  // asked before
        source from = from_;
        if (from.what == origin::of && from.id == 0) from.id = caller;
        const auto value = take(os_, from, safe);
        if (!value) return failed(value.error(), from.id);
        out_.value = *value;
        if (!share_by_scope()) return;
        for (int quiet = 0; quiet < quiet_rounds; ++out_.rounds) {
            if (out_.rounds == o_.most_rounds) {
                return failed({EAGAIN, "threads", "tag all of them", "after " + std::to_string(out_.rounds) + " rounds new ones still come without the cookie"}, 0);
            }
            std::set<int> now;
            bool changed = false;
            if (!expand(now, false) || !round(now, changed)) return;
            quiet = changed ? 0 : quiet + 1;
        }
    }
    /// Whole processes and groups first, by the kernel's own scope: of one, all or none.
    bool share_by_scope() {
        if (whom_.whom == scope::thread) return true;
        for (int id : whom_.ids) {
            if (auto r = kernel_.share_to(id, whom_.whom); !r && r.error().code != ESRCH) return failed(r.error(), id), false;
        }
        return true;
    }
    /// One that was listed and has ended may have left a child without the cookie: a round with such a one is not quiet.
    bool round(const std::set<int>& now, bool& changed) {
        for (int id : now) {
            const bool fresh = !known_.contains(id);
            if (!seen(id)) return false;
            const auto has = fresh && known_.contains(id) ? result<cookie>(known_[id].before) : kernel_.get(id);
            if (has && *has == out_.value) continue;
            changed = true;
            if (auto r = has ? kernel_.share_to(id, scope::thread) : result<void>(std::unexpected(has.error())); !r) {
                if (r.error().code != ESRCH) return failed(r.error(), id), false;
                gone_.insert(id);
            }
        }
        return true;
    }

    /// As it is now, asked again: what the report says of a failure half-way is what is so.
    tag_report report() {
        known_.erase(helper_);
        gone_.erase(helper_);
        for (auto& [id, t] : known_) {
            if (const auto has = kernel_.get(id)) t.after = *has;
            else if (has.error().code == ESRCH) gone_.insert(id);
            if (gone_.contains(id)) continue;
            if (t.after != t.before) out_.changed.push_back(t);
            else if (out_.ok()) out_.already.push_back(t);
        }
        out_.gone.assign(gone_.begin(), gone_.end());
        return std::move(out_);
    }

    sys::os& os_;
    control kernel_;
    const source from_;
    const targets& whom_;
    const tag_options o_;
    std::map<int, tagged> known_;
    std::set<int> gone_;
    int helper_ = -1;  // the thread that shares out: it may be one of the targets' process
    tag_report out_;
};

}  // namespace

tag_report tag(sys::os& os, const source& from, const targets& whom, const tag_options& o) { return tagging(os, from, whom, o).run(); }

result<holder_list> list(sys::os& os, const std::vector<std::string>& cgroups) {
    const availability here = facility(os);
    if (!here.there()) return fail(here.code, "core scheduling", "list cookies", here.why);
    std::set<int> ids;
    for (const std::string& c : cgroups) {
        if (auto r = add_cgroup(os, c, ids); !r) return std::unexpected(r.error());
    }
    if (cgroups.empty()) {
        const auto all = sys::all_processes(os);
        if (!all) return std::unexpected(all.error());
        for (int pid : *all) (void)add_process(os, pid, ids);  // one that has ended meanwhile has no threads
    }
    control kernel(os);
    holder_list out;
    for (int id : ids) {
        const auto value = kernel.get(id);
        if (!value) {
            out.hidden += value.error().code != ESRCH;
        } else if (*value == no_cookie) {
            ++out.untagged;
        } else {
            const auto entry = sys::task_at(os, id);
            out.threads.push_back({.id = id, .pid = entry ? entry->pid : 0, .name = entry ? entry->name : "", .before = *value, .after = *value});
        }
    }
    std::ranges::sort(out.threads, {}, [](const tagged& t) { return std::pair(t.after, t.id); });
    return out;
}

result<std::string> cgroup_directory(sys::os& os, const std::string& text) {
    const auto is_one = [&](const std::string& d) { return os.stat(d + "/cgroup.procs").has_value(); };
    if (text.starts_with("/") && is_one(text)) return text;
    const auto mounts = sys::read_file(os, sys::paths::self_mountinfo);
    if (!mounts) return std::unexpected(mounts.error());
    const std::string below = text.empty() || text == "/" ? "" : text.starts_with("/") ? text : "/" + text;
    for (const machine::cgroup_mount& m : machine::cgroup_mounts(*mounts)) {
        if (is_one(m.point + below)) return m.point + below;
    }
    return fail(ENOENT, "cgroup \"" + text + "\"", "find it", "no mounted hierarchy has it");
}

}  // namespace cohort::coresched
