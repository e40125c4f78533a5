// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/detail/errands.hpp>

#include <algorithm>
#include <set>

#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset::detail {
namespace {


operation put(const std::string& path, std::string file, std::string text) { return {.what = verb::write, .path = path, .file = std::move(file), .text = std::move(text)}; }
std::string quoted(const std::string& path) { return "\"" + path + "\""; }
std::ptrdiff_t depth(const std::string& path) { return path.empty() ? 0 : 1 + std::ranges::count(path, '/'); }

/// "a", "a/b", "a/b/c" of "a/b/c".
std::vector<std::string> prefixes(const std::string& path) {
    std::vector<std::string> out;
    for (std::size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) out.push_back(path.substr(0, at));
    out.push_back(path);
    return out;
}

bool is_path(const std::string& path) {
    const auto op = parse_operation("mkdir " + path);
    return op && op->path == path && !path.empty();
}

bool exclusive_flag(std::string_view file) { return file == "cpuset.cpu_exclusive" || file == "cpuset.mem_exclusive"; }

class builder {
public:
    builder(const world& w, const target& t) : w_(w), t_(t) {}

    errands build() {
        for (const target_set& s : t_.sets) check(s);
        if (!out_.refusals.empty()) return std::move(out_);
        for (const target_set& s : t_.sets) name(s);
        if (t_.prune) prune();
        sort(out_.list);
        return std::move(out_);
    }

private:
    void refuse(const target_set& s, const std::string& why) { out_.refusals.push_back("set " + quoted(s.path) + ": " + why); }

    void check(const target_set& s) {
        if (!is_path(s.path)) return refuse(s, "it is no path from the root, such as a/b");
        if (!named_.insert(s.path).second) return refuse(s, "it is named twice");
        if (s.cpus && !s.cpus->subset_of(w_.root->own.cpus)) refuse(s, "cpus: the machine has no CPUs " + (*s.cpus - w_.root->own.cpus).list() + (w_.v1 ? " online" : ""));
        if (s.mems && !s.mems->subset_of(w_.root->own.mems)) refuse(s, "mems: the machine has no nodes " + (*s.mems - w_.root->own.mems).list() + (w_.v1 ? " online" : ""));
        if (w_.v1 && (s.exclusive || s.partition)) refuse(s, "version 1 has no partitions and no exclusive lists; flags has cpuset.cpu_exclusive");
        if (!w_.v1 && !s.flags.empty()) refuse(s, "version 2 has no file " + s.flags.begin()->first);
        if (s.exclusive && !w_.kernel_rules().exclusive_files) refuse(s, "kernel " + std::string(kernel_name(w_.profile)) + " has no cpuset.cpus.exclusive");
        if (s.exclusive && !s.exclusive->subset_of(w_.possible)) refuse(s, "exclusive: the machine has no CPUs " + (*s.exclusive - w_.possible).list());
        if (s.partition && *s.partition != "member" && *s.partition != "root" && *s.partition != "isolated") refuse(s, "partition: " + quoted(*s.partition) + " is none of member, root, isolated");
        for (const std::string& t : s.tasks) {
            if (!w_.tasks.contains(t)) refuse(s, "there is no task " + t);
            else if (!placed_.insert(t).second) refuse(s, "task " + t + " is to be in two places");
        }
    }

    void add(rank when, operation op, bool on_the_way = false, std::string note = {}) { out_.list.push_back({when, std::move(op), on_the_way, std::move(note)}); }

    void name(const target_set& s) {
        const std::vector<std::string> chain = prefixes(s.path);
        for (const std::string& p : chain) {
            if (!find(w_, p) && made_.insert(p).second) add(rank::make, {.what = verb::mkdir, .path = p});
        }
        const bool files = s.cpus || s.mems || s.exclusive || s.partition;
        for (std::size_t i = 0; i < chain.size() && files && !w_.v1; ++i) {
            const std::string above = i == 0 ? "" : chain[i - 1];
            const group* g = find(w_, above);
            if ((!g || !g->hands_on) && handed_.insert(above).second) add(rank::controller, {.what = verb::controller, .path = above, .on = true});
        }
        const group* g = find(w_, s.path);
        const group& now = g && g->has_cpuset ? *g : nothing_;
        partition(s, now);
        if (s.cpus) list(s.path, "cpuset.cpus", now.own.cpus, *s.cpus, now, holds_cpus(s, now));
        if (s.mems) list(s.path, "cpuset.mems", now.own.mems, *s.mems, now, w_.v1 && now.own.mem_exclusive);
        if (s.exclusive) exclusive(s.path, now.own.exclusive, *s.exclusive);
        for (const auto& [file, text] : s.flags) add(exclusive_flag(file) ? (text == "0" ? rank::give_up : rank::take) : rank::widen, put(s.path, file, text));
        for (const std::string& t : s.tasks) attach(s.path, t);
    }

    /// Growing takes from others: first give, then take.
    bool holds_cpus(const target_set& s, const group& now) const { return w_.v1 ? now.own.cpu_exclusive : now.valid() && s.partition.value_or("root") != "member"; }

    void partition(const target_set& s, const group& now) {
        if (!s.partition) return;
        const std::string reads = partition_text(now.state, now.reason, w_.profile);
        if (reads == *s.partition) return;
        if (now.invalid()) add(rank::give_up, put(s.path, partition_file, "member"), *s.partition != "member", "it is invalid and asks anew");
        if (*s.partition != "member") add(rank::take, put(s.path, partition_file, *s.partition));
        else if (now.valid()) add(rank::give_up, put(s.path, partition_file, "member"));
    }

    template <class Mask>
    void list(const std::string& path, const char* file, const Mask& old, const Mask& now, const group& g, bool held) {
        if (old == now) return;
        const operation last = put(path, file, now.list());
        const Mask both = old & now;
        if (held) {
            if (now.subset_of(old) && !now.empty()) return add(rank::shrink, last);
            if (!both.empty() && both != old) add(rank::shrink, put(path, file, both.list()), true, "gives before it takes");
            return add(rank::grow, last);
        }
        const bool inherits = old.empty() && !w_.v1;
        // Without tasks there is nothing to keep; and a list that is there before the tasks come can be taken back after they have gone.
        if (&g == &nothing_ || (!w_.v1 && g.tasks_below == 0)) return add(rank::widen, last);
        if (!inherits && (old.subset_of(now) || (now.empty() && !w_.v1))) return add(rank::widen, last);
        if (!inherits && !now.subset_of(old)) add(rank::widen, put(path, file, (old | now).list()), true, "both lists, so that nothing below or within is left without");
        add(rank::narrow, last);
    }

    void exclusive(const std::string& path, const cpumask& old, const cpumask& now) {
        constexpr const char* file = "cpuset.cpus.exclusive";
        if (old == now) return;
        const cpumask both = old & now;
        if (now.subset_of(old)) return add(rank::shrink, put(path, file, now.list()));
        if (!both.empty() && both != old) add(rank::shrink, put(path, file, both.list()), true, "gives before it takes");
        add(rank::exclusive, put(path, file, now.list()));
    }

    /// A set whose parent still has tasks gets its own before the parent hands the controller on: afterwards processes are refused below.
    void attach(const std::string& path, const std::string& task) {
        if (path_of(*w_.tasks.find(task)->second.at) == path) return;
        const std::size_t slash = path.rfind('/');
        const group* parent = slash == std::string::npos ? nullptr : find(w_, path.substr(0, slash));
        const bool early = !w_.v1 && parent && !parent->hands_on && !parent->tasks.empty();
        add(early ? rank::early_attach : rank::attach, {.what = verb::attach, .path = path, .task = task});
    }

    void prune() {
        std::set<std::string> kept;
        for (const std::string& n : named_) {
            for (std::string& p : prefixes(n)) kept.insert(std::move(p));
        }
        const auto visit = [&](const auto& self, const group& g) -> void {
            for (const group* c = g.first; c; c = c->next) {
                self(self, *c);
                if (const std::string path = path_of(*c); !kept.contains(path)) add(rank::give_up, {.what = verb::rmdir, .path = path});
            }
        };
        visit(visit, *w_.root);
    }

    const world& w_;
    const target& t_;
    const group nothing_{};
    std::set<std::string> named_, placed_, made_, handed_;
    errands out_;
};

class detour_finder {
public:
    explicit detour_finder(const world& w) : w_(w) {}

    /// What the set holds exclusively, given up and asked for again.
    void give_up(const target_set& s, detour& d) const {
        const group* g = find(w_, s.path);
        if (!g || !g->has_cpuset) return;
        if (g->valid()) {
            const std::string type = g->state == partition_state::root ? "root" : "isolated";
            swap(d, s.path, partition_file, "member", s.partition.value_or(type), rank::take);
        }
        if (!g->own.exclusive.empty()) swap(d, s.path, "cpuset.cpus.exclusive", "", s.exclusive.value_or(g->own.exclusive).list(), rank::exclusive);
        if (w_.v1 && g->own.cpu_exclusive) swap(d, s.path, "cpuset.cpu_exclusive", "0", flag(s, "cpuset.cpu_exclusive"), rank::take);
        if (w_.v1 && g->own.mem_exclusive) swap(d, s.path, "cpuset.mem_exclusive", "0", flag(s, "cpuset.mem_exclusive"), rank::take);
    }
    /// The list that waits is for a time its parent's.
    void inherit(const errand& e, detour& d) const {
        const group* g = find(w_, e.op.path);
        if (!g || g->is_root() || e.op.what != verb::write) return;
        if (e.op.file == "cpuset.cpus" && g->own.cpus != g->parent->effective_cpus) d.give_up.push_back(put(e.op.path, e.op.file, g->parent->effective_cpus.list()));
        if (e.op.file == "cpuset.mems" && g->own.mems != g->parent->effective_mems) d.give_up.push_back(put(e.op.path, e.op.file, g->parent->effective_mems.list()));
    }

private:
    static std::string flag(const target_set& s, const std::string& file) {
        const auto it = s.flags.find(file);
        return it == s.flags.end() ? "1" : it->second;
    }
    static void swap(detour& d, const std::string& path, const std::string& file, const std::string& for_now, const std::string& later, rank when) {
        d.give_up.push_back(put(path, file, for_now));
        d.bring_back.push_back({when, put(path, file, later)});
    }
    const world& w_;
};

}  // namespace

errands errands_of(const world& w, const target& t) { return builder(w, t).build(); }

void sort(std::vector<errand>& list) {
    std::ranges::stable_sort(list, [](const errand& a, const errand& b) {
        if (a.when != b.when) return a.when < b.when;
        const auto da = depth(a.op.path), db = depth(b.op.path);
        return deep_first(a.when) ? da > db : da < db;
    });
}

std::vector<detour> detours_of(const world& w, const target& t, const std::vector<errand>& pending, std::size_t most) {
    const detour_finder finder(w);
    std::vector<detour> out;
    const auto keep = [&](detour d) {
        if (!d.give_up.empty() && out.size() + 1 < most) out.push_back(std::move(d));
    };
    std::vector<const target_set*> sets;
    for (const target_set& s : t.sets) sets.push_back(&s);
    // Those that wait come first; below comes before above, as partitions are given up.
    std::ranges::stable_sort(sets, std::greater<>(), [](const target_set* s) { return depth(s->path); });
    std::ranges::stable_partition(sets, [&](const target_set* s) { return std::ranges::any_of(pending, [&](const errand& e) { return e.op.path == s->path; }); });
    detour all;
    for (const target_set* s : sets) {
        detour one;
        finder.give_up(*s, one);
        keep(std::move(one));
    }
    std::ranges::stable_sort(sets, std::greater<>(), [](const target_set* s) { return depth(s->path); });
    for (const target_set* s : sets) finder.give_up(*s, all);
    for (const errand& e : pending) {
        detour one;
        finder.inherit(e, one);
        keep(std::move(one));
    }
    if (!all.give_up.empty()) out.push_back(std::move(all));
    return out;
}

}  // namespace cohort::cpuset::detail
