// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>

#include <filesystem>

#include <fmt/format.h>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/detail/change_back.hpp>
#include <cohort/group/detail/claim.hpp>
#include <cohort/sys/fd.hpp>

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

std::expected<applied, std::vector<error>> applied::apply(const plan& p, sys::os& os, const std::string& run_dir, const about_to_make& about_to) {
    applied up(os);
    std::vector<error> wrong;
    for (const step& s : p.steps) {
        result<void> done;
        bool changes = false;
        switch (s.kind) {
            case step::form::claim_name:
                changes = true;
                done = up.claim(s, run_dir);
                break;
            case step::form::make_directory:
                changes = true;
                done = up.make_directory(s);
                break;
            case step::form::check_command:
                if (auto found = find_command(os, s.target); !found) done = std::unexpected(found.error());
                break;
            case step::form::check_input: done = check_input(os, s.target); break;
            case step::form::check_output: done = check_output(os, s.target, about_to); break;
            case step::form::change_cpuset: break;  // below, together
            case step::form::make_pool:             // run.hpp, with the jobs that use it
            case step::form::run_job: break;
        }
        if (done) continue;
        wrong.push_back(in_object(done.error(), s.object));
        if (changes) break;
    }
    if (wrong.empty()) wrong = up.change_cpusets(p);
    if (wrong.empty()) return up;
    for (error& e : up.undo()) wrong.push_back(std::move(e));
    return std::unexpected(std::move(wrong));
}

applied::~applied() { undo(); }

std::vector<error> applied::undo() {
    std::vector<error> wrong;
    while (!undo_.empty()) {
        const auto last = std::move(undo_.back());
        undo_.pop_back();
        if (auto r = last(); !r) wrong.push_back(r.error());
    }
    return wrong;
}

std::vector<error> applied::change_cpusets(const plan& p) {
    std::vector<cpuset::operation> changes;
    for (const step& s : p.steps) {
        if (s.kind == step::form::change_cpuset) changes.push_back(s.change);
    }
    if (changes.empty()) return {};
    auto tree = cpuset::open_cgroup(*os_, p.machine.cpusets->place);
    if (!tree) return {tree.error()};
    sets_ = std::move(*tree);
    cpuset::apply_report done = cpuset::apply_steps(*sets_, changes);
    if (!done.ok()) {
        std::vector<error> wrong{*done.failure};
        wrong.insert(wrong.end(), done.not_undone.begin(), done.not_undone.end());
        return wrong;
    }
    for (const step& s : p.steps) {
        for (const cpuset::operation& op : s.undo) undo_.push_back([os = os_, sets = sets_, op] { return detail::change_back(*os, *sets, op); });
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

result<void> applied::claim(const step& s, const std::string& run_dir) {
    sys::os& os = *os_;
    if (!me_) {
        if (auto made = os.mkdir(run_dir, 0700); !made && made.error().code != EEXIST) return std::unexpected(made.error());
        me_ = this_owner(os);
    }
    const std::string path = run_dir + "/" + s.target + ".up";
    auto taken = detail::take_claim(os, path, *me_);
    if (taken) undo_.push_back([&os, path] { return os.unlink(path); });
    return taken;
}

result<void> applied::make_directory(const step& s) {
    namespace fs = std::filesystem;
    fs::path path;
    for (const fs::path& part : fs::path(s.target)) {
        path /= part;
        const std::string name = path.string();
        if (auto info = os_->stat(name)) {
            if (info->kind != sys::file_kind::directory) return fail(ENOTDIR, name, "make directory", "something else has that name");
            continue;
        }
        auto made = os_->mkdir(name);
        if (!made && made.error().code != EEXIST) return made;
        if (!made) continue;
        undo_.push_back([os = os_, name]() -> result<void> {
            auto gone = os->rmdir(name);
            // What the jobs left in it is their result.
            if (!gone && (gone.error().code == ENOTEMPTY || gone.error().code == EEXIST || gone.error().code == ENOENT)) return {};
            return gone;
        });
    }
    return {};
}

}  // namespace cohort::group
