// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>

#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace {

/// The 22nd field of /proc/PID/stat: when the process was started; together with the pid it names one process for ever. Empty when
/// there is no such process.
std::string start_time(sys::os& os, const std::string& pid) {
    const auto text = sys::read_line(os, "/proc/" + pid + "/stat");
    if (!text) return {};
    // The second field is the program's name in parentheses and may hold anything: counting starts behind the last one.
    std::size_t at = text->rfind(')');
    for (int field = 2; at != std::string::npos && field < 22; ++field) at = text->find(' ', at + 1);
    if (at == std::string::npos) return {};
    return text->substr(at + 1, text->find(' ', at + 1) - at - 1);
}

std::string who_am_i(sys::os& os) {
    const std::string pid = std::to_string(os.getpid());
    return pid + " " + start_time(os, pid) + "\n";
}

/// Whether the process that wrote `claim` ("PID START\n") still runs.
bool holder_lives(sys::os& os, const std::string& claim) {
    const auto space = claim.find(' ');
    const auto end = claim.find('\n');
    if (space == std::string::npos || end == std::string::npos) return false;
    const std::string now = start_time(os, claim.substr(0, space));
    return !now.empty() && now == claim.substr(space + 1, end - space - 1);
}

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

result<void> check_output(sys::os& os, const std::string& path) {
    if (auto info = os.stat(path)) {
        if (info->kind == sys::file_kind::directory) return fail(EISDIR, path, "write", "it is a directory");
        if (info->kind != sys::file_kind::regular) {
            if (info->kind == sys::file_kind::pipe) return {};
            auto fd = sys::open_file(os, path, sys::open_write);
            return fd ? result<void>{} : std::unexpected(fd.error());
        }
    }
    auto trial = sys::temp_file::create(os, path);
    if (!trial) return std::unexpected(trial.error());
    trial->discard();
    return {};
}

result<void> change_back(sys::os& os, cpuset::backend& sets, const cpuset::operation& op) {
    const std::uint64_t until = os.now() + 3'000'000'000;
    for (;;) {
        const cpuset::apply_report done = cpuset::apply_steps(sets, {&op, 1}, {.partitions_must_hold = false});
        if (done.ok()) return {};
        // A killed process leaves its set a moment after it has been killed.
        if (op.what != cpuset::verb::rmdir || done.failure->code != EBUSY || os.now() >= until) return std::unexpected(*done.failure);
        os.sleep_until(os.now() + 10'000'000);
    }
}

}  // namespace

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

std::expected<applied, std::vector<error>> applied::apply(const plan& p, sys::os& os, const std::string& run_dir) {
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
            case step::form::check_output: done = check_output(os, s.target); break;
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
        for (const cpuset::operation& op : s.undo) undo_.push_back([os = os_, sets = sets_, op] { return change_back(*os, *sets, op); });
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

/// The claim is a file that only one process can create. One whose writer has died is moved aside first, by a rename that only one of
/// several rivals wins.
result<void> applied::claim(const step& s, const std::string& run_dir) {
    sys::os& os = *os_;
    if (auto made = os.mkdir(run_dir, 0700); !made && made.error().code != EEXIST) return std::unexpected(made.error());
    const std::string path = run_dir + "/" + s.target + ".up";
    for (int round = 0; round < 50; ++round) {
        auto fd = sys::open_file(os, path, sys::open_write | sys::open_create | sys::open_exclusive, 0600);
        if (fd) {
            undo_.push_back([&os, path] { return os.unlink(path); });
            return sys::write_all(os, fd->get(), who_am_i(os));
        }
        if (fd.error().code != EEXIST) return std::unexpected(fd.error());
        const auto claim = sys::read_file(os, path, 4096);
        if (!claim) {
            if (claim.error().code == ENOENT) continue;  // given back between the two calls
            return std::unexpected(claim.error());
        }
        if (holder_lives(os, *claim)) {
            return fail(EBUSY, path, "take the name", "it is up already, in process " + claim->substr(0, claim->find(' ')));
        }
        if (claim->empty() && round < 20) {  // its owner is about to write it
            os.sleep_until(os.now() + 5'000'000);
            continue;
        }
        const std::string aside = path + "." + std::to_string(os.getpid());
        if (auto moved = os.rename(path, aside); !moved) {
            if (moved.error().code != ENOENT) return std::unexpected(moved.error());
            continue;  // a rival was quicker
        }
        // Between the reading and the rename a rival may have taken the name over: then it was his claim that was moved.
        const auto taken = sys::read_file(os, aside, 4096);
        if (taken && *taken != *claim) (void)os.rename(aside, path);
        else (void)os.unlink(aside);
    }
    return fail(EBUSY, path, "take the name", "others take and give it back all the time");
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
