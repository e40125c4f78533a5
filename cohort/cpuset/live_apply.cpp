// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live_apply.hpp>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>

#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset {
namespace {

using detail::first_word;
using detail::partition_file;
using detail::reads_invalid;

/// Files that a set keeps, in the order in which a new set takes them.
constexpr std::string_view kept_v2[] = {"cpuset.mems", "cpuset.cpus", "cpuset.cpus.exclusive", "cpuset.cpus.partition"};
constexpr std::string_view kept_v1[] = {"cgroup.clone_children", "cpuset.mems", "cpuset.cpus", "cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.mem_hardwall", "cpuset.memory_migrate",
                                        "cpuset.memory_spread_page", "cpuset.memory_spread_slab", "cpuset.sched_load_balance", "cpuset.sched_relax_domain_level"};

struct member {
    int id = 0;
    whom who = whom::process;
};

result<member> parse_task(const operation& op) {
    member out;
    std::string_view text = op.task;
    if (text.starts_with("thread:")) {
        out.who = whom::thread;
        text.remove_prefix(7);
    }
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), out.id);
    if (bad != std::errc() || end != text.data() + text.size() || out.id <= 0) return fail(EINVAL, set_name(op.path), "attach " + op.task, "the number of a process, or thread:NUMBER, was expected");
    return out;
}

struct saved_set {
    std::string path;
    bool hands_on = false;
    std::vector<std::pair<std::string, std::string>> files;
};

class transaction {
public:
    transaction(backend& tree, apply_options o) : tree_(tree), options_(o) {}

    result<void> begin() {
        if (!tree_.v1()) return walk("", before_);
        return {};
    }
    result<void> perform(const operation& op, apply_report::step& told) {
        switch (op.what) {
            case verb::mkdir: return make(op.path);
            case verb::rmdir: return remove(op.path);
            case verb::write: return write(op, told);
            case verb::attach: return attach(op);
            case verb::controller: return hand_on(op.path, op.on);
            default: return fail(EINVAL, set_name(op.path), to_line(op), "a live tree has mkdir, rmdir, write, attach and controller");
        }
    }
    /// Partitions elsewhere that are invalid now and were not.
    result<void> check() {
        if (tree_.v1() || !options_.partitions_must_hold) return {};
        std::map<std::string, std::string> now;
        if (auto r = walk("", now); !r) return r;
        for (const auto& [path, partition] : made_) {
            if (auto text = partition ? tree_.read(path, std::string(partition_file)) : result<std::string>(std::unexpect)) now[path] = *text;
        }
        for (const auto& [path, text] : now) {
            const auto was = before_.find(path);
            if (reads_invalid(text) && (was == before_.end() || !reads_invalid(was->second))) return fail(EINVAL, set_name(path), "keep its partition", "it reads \"" + text + "\"");
        }
        return {};
    }
    void undo(apply_report& report) {
        for (; !undo_.empty(); undo_.pop_back()) {
            if (auto r = undo_.back()(); !r) report.not_undone.push_back(r.error());
            else ++report.undone;
        }
        std::map<std::string, std::string> now;
        if (tree_.v1() || !walk("", now)) return;
        for (const auto& [path, was] : before_) {
            const auto it = now.find(path);
            if (it == now.end() || it->second == was || reads_invalid(was)) continue;
            if (auto r = put_partition(path, first_word(was)); !r) report.not_undone.push_back(r.error());
        }
    }

private:
    /// What each set's partition reads; sets that vanish meanwhile are left out, and those that these steps have made.
    result<void> walk(const std::string& path, std::map<std::string, std::string>& out) {
        if (auto text = tree_.read(path, std::string(partition_file))) out[path] = *text;
        auto below = tree_.children(path);
        if (!below) return path.empty() ? result<void>(std::unexpected(below.error())) : result<void>{};
        for (const std::string& name : *below) {
            const std::string child = path.empty() ? name : path + "/" + name;
            if (!made_.contains(child)) (void)walk(child, out);
        }
        return {};
    }
    /// What cannot be read could not be brought back.
    result<saved_set> save(const std::string& path) {
        const auto handed = tree_.hands_on(path);
        if (!handed) return std::unexpected(handed.error());
        saved_set out{.path = path, .hands_on = *handed, .files = {}};
        for (std::string_view file : tree_.v1() ? std::span<const std::string_view>(kept_v1) : std::span<const std::string_view>(kept_v2)) {
            auto text = tree_.read(path, std::string(file));
            if (text) out.files.emplace_back(file, *text);
            else if (text.error().code != ENOENT) return std::unexpected(text.error());
        }
        return out;
    }
    result<void> restore(const saved_set& s) {
        for (const auto& [file, text] : s.files) {
            const auto now = tree_.read(s.path, file);
            if (now && *now == text) continue;
            auto r = file == partition_file ? put_partition(s.path, first_word(text)) : tree_.write(s.path, file, text);
            if (!r && !(file == partition_file && reads_invalid(text))) return r;
        }
        if (!tree_.v1() && s.hands_on) return tree_.controller(s.path, true);
        return {};
    }
    /// Old kernels do not look again at a partition that is invalid: it becomes a member first.
    result<void> put_partition(const std::string& path, const std::string& word) {
        const std::string file(partition_file);
        auto now = tree_.read(path, file);
        if (!now) return std::unexpected(now.error());
        if (*now == word) return {};
        if (reads_invalid(*now)) (void)tree_.write(path, file, "member");
        if (auto r = tree_.write(path, file, word); !r) return r;
        now = tree_.read(path, file);
        if (now && *now != word) return fail(EINVAL, set_name(path), "write " + file + " \"" + word + "\"", "it reads \"" + *now + "\"");
        return {};
    }

    result<void> make(const std::string& path) {
        if (auto r = tree_.create(path); !r) return r;
        made_[path] = false;
        undo_.push_back([this, path] { return tree_.remove(path); });
        return {};
    }
    result<void> remove(const std::string& path) {
        if (path.empty()) return tree_.remove(path);
        const auto was = save(path);
        if (!was) return std::unexpected(error{was.error().code, was.error().object, "remove", was.error().reason});
        // A partition that is removed gives its CPUs back some time later on old kernels, and then those of a set that took them meanwhile: it becomes a member first.
        if (!tree_.v1() && tree_.read(path, std::string(partition_file)).value_or("member") != "member") {
            apply_report::step ignored;
            if (auto r = write({.what = verb::write, .path = path, .file = std::string(partition_file), .text = "member"}, ignored); !r) return r;
        }
        if (auto r = tree_.remove(path); !r) return r;
        made_.erase(path);
        undo_.push_back([this, saved = *was]() -> result<void> {
            if (auto r = tree_.create(saved.path); !r) return r;
            return restore(saved);
        });
        return {};
    }
    result<void> write(const operation& op, apply_report::step& told) {
        const bool partition = op.file == partition_file;
        // One that these steps have made is a member, and goes with what was written to it.
        const auto made = made_.find(op.path);
        const bool plain = made != made_.end() && !made->second && !partition;
        if (plain) {
            if (auto r = tree_.write(op.path, op.file, op.text); !r) return r;
            return read_back(op, "member", told);
        }
        if (made != made_.end()) made->second = true;
        const auto was = tree_.read(op.path, op.file);
        if (!was) return std::unexpected(error{was.error().code, was.error().object, "write " + op.file + " \"" + op.text + "\"", was.error().reason});
        const std::string own = tree_.read(op.path, std::string(partition_file)).value_or("member");
        if (auto r = tree_.write(op.path, op.file, op.text); !r) return r;
        undo_.push_back([this, path = op.path, file = op.file, text = *was, partition]() -> result<void> {
            if (!partition) return tree_.write(path, file, text);
            auto r = put_partition(path, first_word(text));
            return reads_invalid(text) ? result<void>{} : r;
        });
        return read_back(op, own, told);
    }
    result<void> read_back(const operation& op, const std::string& own_before, apply_report::step& told) {
        const std::string act = "write " + op.file + " \"" + op.text + "\"";
        const auto text = tree_.read(op.path, op.file);
        if (!text) return std::unexpected(text.error());
        if (op.file == partition_file) told.reads = *text;
        const auto made = made_.find(op.path);
        const std::string own = made != made_.end() && !made->second ? own_before : tree_.read(op.path, std::string(partition_file)).value_or("member");
        const bool broke = reads_invalid(own) && (op.file == partition_file ? first_word(own) == op.text : !reads_invalid(own_before));
        if (broke && options_.partitions_must_hold) return fail(EINVAL, set_name(op.path), act, (op.file == partition_file ? "it reads \"" : "its partition reads \"") + own + "\"");
        const bool list = op.file == "cpuset.cpus" || op.file == "cpuset.mems" || op.file == "cpuset.cpus.exclusive";
        const auto wanted = cpumask::parse_list(op.text), got = cpumask::parse_list(*text);
        const bool plain = op.text.find_first_not_of("0123456789,- \t\n") == op.text.npos;  // "all" and "N" are the kernel's to know
        if (list && plain && wanted && got && *wanted != *got) return fail(ESTALE, set_name(op.path), act, "it reads \"" + *text + "\": somebody else writes it too");
        return {};
    }
    result<void> attach(const operation& op) {
        const auto who = parse_task(op);
        if (!who) return std::unexpected(who.error());
        // Threads of one process may be in different sets.
        std::vector<std::pair<int, std::string>> homes;
        if (who->who == whom::process) {
            for (int tid : tree_.threads_of(who->id).value_or(std::vector<int>{})) {
                if (auto home = tree_.home(tid)) homes.emplace_back(tid, *home);
            }
        }
        const auto first = tree_.home(who->id);
        if (auto r = tree_.attach(op.path, who->id, who->who); !r) return r;
        if (!first) return {};  // it was outside of what we see: there is no way back
        undo_.push_back([this, who = *who, home = *first, homes]() -> result<void> {
            const auto gone = [](const result<void>& r) { return !r && r.error().code == ESRCH; };
            auto r = tree_.attach(home, who.id, who.who);
            if (gone(r)) return {};
            for (const auto& [tid, place] : homes) {
                if (!r || place == home) continue;
                if (r = tree_.attach(place, tid, whom::thread); gone(r)) r = {};
            }
            return r;
        });
        return {};
    }
    result<void> hand_on(const std::string& path, bool on) {
        const auto was = tree_.hands_on(path);
        if (!was) return std::unexpected(was.error());
        std::vector<saved_set> lost;
        if (*was && !on) {
            const auto below = tree_.children(path);
            if (!below) return std::unexpected(below.error());
            for (const std::string& name : *below) {
                auto child = save(path.empty() ? name : path + "/" + name);
                if (!child) return std::unexpected(child.error());
                lost.push_back(std::move(*child));
            }
        }
        if (auto r = tree_.controller(path, on); !r) return r;
        if (*was == on) return {};
        undo_.push_back([this, path, on, lost]() -> result<void> {
            if (auto r = tree_.controller(path, !on); !r) return r;
            for (const saved_set& s : lost) {
                if (auto r = restore(s); !r) return r;
            }
            return {};
        });
        return {};
    }

    backend& tree_;
    const apply_options options_;
    std::map<std::string, std::string> before_;
    std::map<std::string, bool> made_;  // sets of these steps, and whether their partition was written
    std::vector<std::function<result<void>()>> undo_;
};

result<void> check_form(const operation& op) {
    if (op.what == verb::attach) {
        if (auto who = parse_task(op); !who) return std::unexpected(who.error());
    }
    if (op.what == verb::mkdir || op.what == verb::rmdir || op.what == verb::write || op.what == verb::attach || op.what == verb::controller) return {};
    return fail(EINVAL, "step \"" + to_line(op) + "\"", "apply", "a live tree has mkdir, rmdir, write, attach and controller");
}

/// Asked before anything is undone: version 1 answers EACCES where the parent has not what is asked for.
bool is_rule(backend& tree, const operation& op, int code) {
    switch (code) {
        case EINVAL: case EBUSY: case ENOSPC: case ERANGE: case EOVERFLOW: case E2BIG: case EEXIST: case ENOTEMPTY: case ESTALE: return true;
        case EOPNOTSUPP: return !tree.v1() || op.what != verb::controller;
        case EACCES: return op.what == verb::write && tree.may_write(op.path, op.file);
        default: return false;
    }
}

}  // namespace

apply_report apply_steps(backend& tree, std::span<const operation> steps, apply_options o) {
    apply_report out;
    const auto failed = [&](const result<void>& r) {
        if (!r) out.failure = r.error();
        return !r;
    };
    for (const operation& op : steps) {
        if (failed(check_form(op))) {
            out.by_rules = true;
            return out;
        }
    }
    transaction t(tree, o);
    if (failed(t.begin())) return out;
    for (const operation& op : steps) {
        apply_report::step& told = out.steps.emplace_back(apply_report::step{.text = to_line(op), .done = false, .reads = {}});
        if (failed(t.perform(op, told))) {
            out.by_rules = is_rule(tree, op, out.failure->code);
            break;
        }
        told.done = true;
    }
    if (out.ok() && failed(t.check())) out.by_rules = out.failure->code == EINVAL;
    if (!out.ok()) t.undo(out);
    return out;
}

result<void> put_back(backend& tree, const operation& op) {
    if (auto good = check_form(op); !good) return good;
    switch (op.what) {
        case verb::mkdir: return tree.create(op.path);
        case verb::rmdir: return tree.remove(op.path);
        case verb::write: return tree.write(op.path, op.file, op.text);
        case verb::controller: return tree.controller(op.path, op.on);
        default: {
            const auto who = parse_task(op);
            return tree.attach(op.path, who->id, who->who);
        }
    }
}

result<std::vector<operation>> hand_on_above(backend& tree, const std::string& path) {
    std::vector<operation> out;
    if (tree.v1()) return out;
    for (std::size_t at = 0; at != path.npos && !path.empty(); at = path.find('/', at + 1)) {
        const std::string above = path.substr(0, at);
        const auto has = tree.hands_on(above);
        if (!has) return std::unexpected(has.error());
        if (!*has) out.push_back({.what = verb::controller, .path = above, .on = true});
    }
    return out;
}

}  // namespace cohort::cpuset
