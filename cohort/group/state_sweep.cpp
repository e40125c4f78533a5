// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <csignal>

#include <cohort/cpuset/backend.hpp>
#include <cohort/cpuset/live_apply.hpp>
#include <cohort/group/apply.hpp>
#include <cohort/group/detail/change_back.hpp>
#include <cohort/group/detail/claim.hpp>
#include <cohort/group/detail/state_lock.hpp>
#include <cohort/group/state.hpp>
#include <cohort/padata/control.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sys/boot.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::group {
namespace {

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t look_every_ns = 5'000'000;

bool is_gone(const error& e) { return e.code == ENOENT || e.code == ESRCH; }

/// Puts in order what one dead owner left.
class sweeper {
public:
    sweeper(sys::os& os, const up_state& s) : os_(os), state_(s) {}

    std::vector<error> run() {
        const auto boot = sys::boot_id(os_);
        // Before another boot of the machine there was another kernel: its processes and sets are gone.
        same_boot_ = !boot || boot->empty() || state_.who.boot.empty() || *boot == state_.who.boot;
        if (same_boot_) {
            open_sets();
            end_processes();
        }
        for (auto u = state_.undo.rbegin(); u != state_.undo.rend(); ++u) {
            if (auto done = undo(*u); !done && !is_gone(done.error())) wrong_.push_back(done.error());
        }
        return std::move(wrong_);
    }

private:
    void open_sets() {
        if (std::ranges::none_of(state_.undo, [](const undo_note& u) { return u.kind == undo_note::form::cpuset; })) return;
        const auto place = cpuset::find_mount(os_);
        auto tree = place ? cpuset::open_cgroup(os_, *place) : std::unexpected(place.error());
        if (tree) sets_ = std::move(*tree);
        else wrong_.push_back(tree.error());
    }

    /// Those that have the owner's mark in their environment, and those in its sets.
    std::vector<int> processes() {
        std::vector<int> out;
        const std::string mark = std::string(owner_variable) + "=" + state_.who.mark();
        const auto all = sys::all_processes(os_);
        for (const int pid : all ? *all : std::vector<int>{}) {
            const auto text = sys::read_file(os_, sys::paths::of_process(std::to_string(pid), "environ"));
            if (!text) continue;  // another user's, or it has ended
            // Entries end with a zero byte.
            const std::string entries = std::string(1, '\0') + *text + '\0';
            if (entries.find(std::string(1, '\0') + mark + '\0') != std::string::npos) out.push_back(pid);
        }
        for (const up_cohort& c : state_.cohorts) {
            if (!sets_ || c.set.empty()) continue;
            const auto inside = sets_->tasks(c.set);
            if (inside) out.insert(out.end(), inside->begin(), inside->end());
        }
        std::erase(out, os_.getpid());
        return out;
    }

    /// What is killed may just be starting another: they are looked for until there are none.
    void end_processes() {
        const std::uint64_t until = os_.now() + 10 * second;
        for (;;) {
            const std::vector<int> left = processes();
            if (left.empty()) return;
            for (const int pid : left) (void)os_.kill(pid, SIGKILL);
            if (os_.now() >= until) {
                wrong_.push_back({EBUSY, "process " + std::to_string(left.front()), "end", "it was killed, and is still there"});
                return;
            }
            os_.sleep_until(os_.now() + look_every_ns);
        }
    }

    result<void> undo(const undo_note& u) {
        switch (u.kind) {
            case undo_note::form::claim: return detail::remove_claim(os_, u.what, state_.who);
            case undo_note::form::file: return os_.unlink(u.what);
            case undo_note::form::directory: {
                auto gone = os_.rmdir(u.what);
                // What the jobs left in it is their result.
                return !gone && (gone.error().code == ENOTEMPTY || gone.error().code == EEXIST || gone.error().code == ENOTDIR) ? result<void>{} : gone;
            }
            case undo_note::form::cpuset: return undo_cpuset(u.what);
            case undo_note::form::pool: return same_boot_ ? undo_pool(u.what) : result<void>{};
        }
        return {};
    }

    result<void> undo_cpuset(const std::string& line) {
        if (!same_boot_ || !sets_) return {};
        const auto op = cpuset::parse_operation(line);
        if (!op) return fail(EPROTO, "operation \"" + line + "\"", "undo", op.error().why);
        return detail::change_back(os_, *sets_, *op);
    }

    /// Where the broker is gone the group is, too; one of another name is another's.
    result<void> undo_pool(const std::string& text) {
        int id = 0;
        const auto first = text.find(' '), last = text.find(' ', first + 1);
        if (first == std::string::npos || last == std::string::npos) return fail(EPROTO, "pool \"" + text + "\"", "undo", "it is not understood");
        std::from_chars(text.data(), text.data() + first, id);
        auto broker = sharepool::broker_client::connect(text.substr(last + 1));
        if (!broker) return {};
        const auto groups = broker->groups();
        if (!groups) return std::unexpected(groups.error());
        const std::string name = text.substr(first + 1, last - first - 1);
        const bool there = std::ranges::any_of(*groups, [&](const sharepool::wire::group_row& g) { return g.id == id && sharepool::wire::text_of(g.name) == name; });
        return there ? broker->destroy(id, true) : result<void>{};
    }

    sys::os& os_;
    const up_state& state_;
    bool same_boot_ = true;
    std::shared_ptr<cpuset::backend> sets_;  // null: it had none
    std::vector<error> wrong_;
};

/// What was being written or taken over when its writer was killed: NAME.state.new of a first writing, and NAME.up.PID.
void remove_halves(sys::os& os, const std::string& run_dir) {
    const auto names = os.list_dir(run_dir);
    for (const std::string& name : names ? *names : std::vector<std::string>{}) {
        const std::string path = run_dir + "/" + name;
        if (name.ends_with(".state.new") && !os.stat(path.substr(0, path.size() - 4))) (void)os.unlink(path);
        const auto at = name.rfind(".up.");
        int pid = 0;
        if (at == std::string::npos) continue;
        const char* end = name.data() + name.size();
        if (std::from_chars(name.data() + at + 4, end, pid).ptr == end && start_time(os, pid).empty()) (void)os.unlink(path);
    }
}

}  // namespace

result<detail::state_lock> detail::state_lock::take(sys::os& os, const std::string& run_dir) {
    if (auto ours = check_run_directory(os, run_dir); !ours) return std::unexpected(ours.error());
    auto fd = sys::open_file(os, run_dir, sys::open_read | sys::open_directory);
    if (!fd) return std::unexpected(fd.error());
    const std::uint64_t until = os.now() + 60 * second;
    for (;;) {
        const auto held = sys::try_hold(fd->get());
        if (held) return state_lock(std::move(*fd));
        if (held.error().code != EAGAIN) return std::unexpected(held.error());
        if (os.now() >= until) return fail(EBUSY, run_dir, "look after", "another process has been doing so for a minute");
        os.sleep_until(os.now() + look_every_ns);
    }
}

sweep_report detail::sweep_locked(sys::os& os, const std::string& run_dir) {
    sweep_report out;
    const auto there = ups(os, run_dir);
    if (!there) {
        out.not_swept.push_back(there.error());
        return out;
    }
    out.not_swept = there->unread;
    for (const up_state& s : there->all) {
        if (alive(os, s)) continue;
        std::vector<error> wrong = sweeper(os, s).run();
        const std::string path = run_dir + "/" + s.name + ".state";
        if (wrong.empty()) {
            (void)os.unlink(path + ".new");
            if (auto gone = os.unlink(path); !gone) wrong.push_back(gone.error());
        }
        if (wrong.empty()) out.swept.push_back(s.name);
        for (error& e : wrong) {
            e.object = "what \"" + s.name + "\" left: " + e.object;
            out.not_swept.push_back(std::move(e));
        }
    }
    remove_halves(os, run_dir);
    if (!out.swept.empty()) (void)padata::remove_dead_controls(os);
    return out;
}

sweep_report sweep(sys::os& os, const std::string& run_dir) {
    if (!os.stat(run_dir)) return {};
    const auto lock = detail::state_lock::take(os, run_dir);
    if (!lock) return {{}, {lock.error()}};
    return detail::sweep_locked(os, run_dir);
}

}  // namespace cohort::group
