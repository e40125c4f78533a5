// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>

#include <filesystem>

#include <fmt/format.h>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/detail/change_back.hpp>
#include <cohort/group/detail/claim.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>

namespace cohort::group {
namespace {

error in_object(error e, const std::string& object) {
    e.object = object + ": " + e.object;
    return e;
}

result<void> check_input(sys::os& os, const std::string& path) {
    auto info = os.stat(path);
    if (!info) return std::unexpected(info.error());
    if (info->kind == sys::file_kind::directory) return fail(EISDIR, path, "read", "it is a directory");
    if (info->kind == sys::file_kind::pipe) return {};  // opening would wait for a writer
    auto fd = sys::open_file(os, path, sys::open_read);
    if (!fd) return std::unexpected(fd.error());
    return {};
}

result<void> check_output(sys::os& os, const std::string& path, const about_to_make& about_to) {
    if (auto info = os.stat(path)) {
        if (info->kind == sys::file_kind::directory) return fail(EISDIR, path, "write", "it is a directory");
        if (info->kind != sys::file_kind::regular) {
            if (info->kind == sys::file_kind::pipe) return {};
            auto fd = sys::open_file(os, path, sys::open_write);
            return fd ? result<void>{} : std::unexpected(fd.error());
        }
    }
    auto trial = sys::temp_file::create(os, path, 0666, about_to);
    if (!trial) return std::unexpected(trial.error());
    trial->discard();
    return {};
}

}  // namespace

result<void> detail::change_back(sys::os& os, cpuset::backend& sets, const cpuset::operation& op) {
    const std::uint64_t until = os.now() + 3'000'000'000;
    for (;;) {
        auto done = cpuset::put_back(sets, op);
        // A killed process leaves its set a moment after it has been killed.
        if (done || op.what != cpuset::verb::rmdir || done.error().code != EBUSY || os.now() >= until) return done;
        os.sleep_until(os.now() + 10'000'000);
    }
}

std::string run_directory(sys::os& os) {
    if (auto dir = os.getenv("COHORT_RUN_DIR"); dir && !dir->empty()) return *dir;
    if (auto dir = os.getenv("XDG_RUNTIME_DIR"); dir && !dir->empty()) return *dir + "/cohort";
    const auto user = os.getenv("USER");
    const bool plain = user && !user->empty() && user->find('/') == std::string::npos;
    return "/tmp/cohort-" + (plain ? *user : std::string("user"));
}

result<void> make_run_directory(sys::os& os, const std::string& dir) {
    auto made = os.mkdir(dir, 0700);
    return made || made.error().code != EEXIST ? made : check_run_directory(os, dir);
}

result<void> check_run_directory(sys::os& os, const std::string& dir) {
    const auto there = os.stat(dir);
    if (!there) return std::unexpected(there.error());
    if (there->uid != 0 && there->uid != sys::effective_uid()) return fail(EACCES, dir, "use", "it is user " + std::to_string(there->uid) + "'s; COHORT_RUN_DIR names another");
    if (there->mode & 0002) return fail(EACCES, dir, "use", "anybody may write there; COHORT_RUN_DIR names another");
    return {};
}

result<std::string> find_command(sys::os& os, const std::string& word) {
    const auto check = [&](const std::string& path) -> result<std::string> {
        auto info = os.stat(path);
        if (!info) return std::unexpected(info.error());
        if (info->kind == sys::file_kind::directory) return fail(EISDIR, path, "run", "it is a directory");
        if ((info->mode & 0111) == 0) return fail(EACCES, path, "run", "it is not a program (no execute permission)");
        return path;
    };
    if (word.find('/') != std::string::npos) return check(word);
    const std::string path = os.getenv("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
    result<std::string> last = fail(ENOENT, "command \"" + word + "\"", "find", "not in PATH (" + path + ")");
    for (std::size_t at = 0; at <= path.size();) {
        const std::size_t end = std::min(path.find(':', at), path.size());
        const std::string dir = path.substr(at, end - at);
        auto found = check((dir.empty() ? std::string(".") : dir) + "/" + word);
        if (found) return found;
        if (found.error().code == EACCES) last = found;
        at = end + 1;
    }
    return last;
}

std::vector<error> applied::check(const std::vector<step>& steps, sys::os& os, const about_to_make& about_to) {
    // An output in a directory that one of the steps makes cannot be tried.
    const auto to_come = [&](const std::string& path) {
        return std::ranges::any_of(steps, [&](const step& s) { return s.kind == step::form::make_directory && path.starts_with(s.target + "/") && !os.stat(s.target); });
    };
    std::vector<error> wrong;
    for (const step& s : steps) {
        result<void> good;
        if (s.kind == step::form::check_output && to_come(s.target)) continue;
        if (s.kind == step::form::check_command) {
            if (const auto found = find_command(os, s.target); !found) good = std::unexpected(found.error());
        }
        if (s.kind == step::form::check_input) good = check_input(os, s.target);
        if (s.kind == step::form::check_output) good = check_output(os, s.target, about_to);
        if (!good) wrong.push_back(in_object(good.error(), s.object));
    }
    return wrong;
}

std::expected<applied, std::vector<error>> applied::apply(const plan& p, sys::os& os, const std::string& run_dir, const about_to_make& about_to) {
    applied up(os);
    // Names and directories come first: who is up already is told so, and not what is in the way of a second one; outputs may be in a directory that is made here.
    const auto first_check = std::ranges::find_if(p.steps, [](const step& s) { return s.kind != step::form::claim_name && s.kind != step::form::make_directory; });
    const std::vector<step> before(p.steps.begin(), first_check), rest(first_check, p.steps.end());
    std::vector<error> wrong = up.perform(before, p, run_dir);
    if (wrong.empty()) wrong = check(rest, os, about_to);
    if (wrong.empty()) wrong = up.perform(rest, p, run_dir);
    if (wrong.empty()) return up;
    for (error& e : up.undo()) wrong.push_back(std::move(e));
    return std::unexpected(std::move(wrong));
}

std::vector<error> applied::perform(const std::vector<step>& steps, const plan& p, const std::string& run_dir) {
    const std::size_t first = done_.size();
    std::vector<error> wrong;
    for (const step& s : steps) {
        if (s.kind != step::form::claim_name && s.kind != step::form::make_directory) continue;
        auto undo = s.kind == step::form::claim_name ? claim(s, run_dir) : make_directory(s);
        if (undo) {
            done_.push_back({s, std::move(*undo)});
            continue;
        }
        wrong.push_back(in_object(undo.error(), s.object));
        break;
    }
    if (wrong.empty()) wrong = change_cpusets(steps, p);
    if (wrong.empty()) return wrong;
    for (error& e : undo_from(first)) wrong.push_back(std::move(e));
    return wrong;
}

result<void> applied::change(const difference& to, const plan& next, const std::string& run_dir) {
    std::vector<error> wrong;
    std::vector<step> undone;  // the last that was done first
    for (const step& s : to.undo) {
        const auto it = std::ranges::find(done_, s, &deed::what);
        if (it == done_.end()) continue;
        for (auto undo = it->undo.rbegin(); undo != it->undo.rend() && wrong.empty(); ++undo) {
            if (auto r = (*undo)(); !r) wrong.push_back(in_object(r.error(), s.object));
        }
        undone.push_back(s);
        done_.erase(it);
        if (!wrong.empty()) break;
    }
    if (wrong.empty()) wrong = perform(to.steps, next, run_dir);
    if (wrong.empty()) return {};
    std::ranges::reverse(undone);
    const auto back = perform(undone, next, run_dir);
    error first = wrong.front();
    for (const error& e : back) first.reason += "; and it is not as before: " + e.line();
    return std::unexpected(std::move(first));
}

applied::~applied() { undo(); }

std::vector<error> applied::undo() { return undo_from(0); }

std::vector<error> applied::undo_from(std::size_t first) {
    std::vector<error> wrong;
    while (done_.size() > first) {
        deed last = std::move(done_.back());
        done_.pop_back();
        std::ranges::reverse(last.undo);
        for (const auto& undo : last.undo) {
            if (auto r = undo(); !r) wrong.push_back(r.error());
        }
    }
    return wrong;
}

std::vector<error> applied::change_cpusets(const std::vector<step>& steps, const plan& p) {
    std::vector<cpuset::operation> changes;
    for (const step& s : steps) {
        if (s.kind == step::form::change_cpuset) changes.push_back(s.change);
    }
    if (changes.empty()) return {};
    if (!sets_) {
        auto tree = cpuset::open_cgroup(*os_, p.machine.cpusets->place);
        if (!tree) return {tree.error()};
        sets_ = std::move(*tree);
    }
    cpuset::apply_report done = cpuset::apply_steps(*sets_, changes);
    if (!done.ok()) {
        std::vector<error> wrong{*done.failure};
        wrong.insert(wrong.end(), done.not_undone.begin(), done.not_undone.end());
        return wrong;
    }
    for (const step& s : steps) {
        if (s.kind != step::form::change_cpuset) continue;
        deed& d = done_.emplace_back(s);
        for (const cpuset::operation& op : s.undo) d.undo.push_back([os = os_, sets = sets_, op] { return detail::change_back(*os, *sets, op); });
    }
    return {};
}

std::vector<error> applied::broken_partitions(const plan& p) const {
    std::vector<error> out;
    for (const cohort_plan& c : p.cohorts) {
        if (!sets_ || c.keep.by != keeping::form::kernel || c.keep.partition.empty()) continue;
        const auto reads = sets_->read(c.keep.set, "cpuset.cpus.partition");
        if (!reads) out.push_back(reads.error());
        else if (*reads != c.keep.partition) out.push_back({EINVAL, "cohort \"" + c.name + "\"", "keep its partition", "it reads \"" + *reads + "\" now"});
    }
    return out;
}

result<applied::undo_list> applied::claim(const step& s, const std::string& run_dir) {
    sys::os& os = *os_;
    if (!me_) {
        if (auto made = make_run_directory(os, run_dir); !made) return std::unexpected(made.error());
        me_ = this_owner(os);
    }
    const std::string path = run_dir + "/" + s.target + ".up";
    if (auto taken = detail::take_claim(os, path, *me_); !taken) return std::unexpected(taken.error());
    return undo_list{[&os, path] { return os.unlink(path); }};
}

result<applied::undo_list> applied::make_directory(const step& s) {
    namespace fs = std::filesystem;
    undo_list undo;
    const auto refused = [&](error e) {
        while (!undo.empty()) (void)undo.back()(), undo.pop_back();
        return std::unexpected(std::move(e));
    };
    fs::path path;
    for (const fs::path& part : fs::path(s.target)) {
        path /= part;
        const std::string name = path.string();
        if (auto info = os_->stat(name)) {
            if (info->kind != sys::file_kind::directory) return refused({ENOTDIR, name, "make directory", "something else has that name"});
            continue;
        }
        auto made = os_->mkdir(name);
        if (!made && made.error().code != EEXIST) return refused(made.error());
        if (!made) continue;
        undo.push_back([os = os_, name]() -> result<void> {
            auto gone = os->rmdir(name);
            // What the jobs left in it is their result.
            if (!gone && (gone.error().code == ENOTEMPTY || gone.error().code == EEXIST || gone.error().code == ENOENT)) return {};
            return gone;
        });
    }
    return undo;
}

}  // namespace cohort::group
