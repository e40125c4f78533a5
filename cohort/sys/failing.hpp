// SPDX-License-Identifier: Apache-2.0
/// An os whose nth call fails: to run every error path.
///
///     for (int nth = 1;; ++nth) {
///         sys::failing os(sys::real(), {.nth = nth, .code = EIO});
///         auto r = save(os, "out");
///         if (os.failures() == 0) break;                      // every call has failed once
///         EXPECT_FALSE(r);  EXPECT_FALSE(exists("out"));      // an error, and nothing half-made
///     }
///
/// Kernel: fault injection (lib/fault-inject.c).
#pragma once

#include <algorithm>
#include <map>
#include <mutex>

#include <cohort/sys/os.hpp>

namespace cohort::sys {

/// Which call fails. Names are those of the members of os: "open", "write", "rename" ...
struct failure {
    std::string call = {};  ///< empty: calls of every name count
    int nth = 1;            ///< from 1; 0: none fails
    int code = EIO;
    int times = 1;          ///< so many calls in a row; -1: that one and all that follow
};

/// Counts and fails every member that returns a result, save close (which still closes the descriptor, then fails).
/// Synchronization: any thread may call anything.
class failing final : public forwarding {
public:
    failing(os& inner, failure plan) : forwarding(inner), plan_(std::move(plan)) {}

    /// Calls so far, of one name or ("") of all.
    int calls(const std::string& name = {}) const {
        const std::lock_guard lock(mutex_);
        const auto it = count_.find(name);
        return it == count_.end() ? 0 : it->second;
    }
    int failures() const {
        const std::lock_guard lock(mutex_);
        return failures_;
    }
    /// From now on read, pread, write and pwrite move at most so many bytes a call; 0: no limit.
    void limit_io(std::size_t bytes) {
        const std::lock_guard lock(mutex_);
        limit_ = bytes;
    }

    result<int> open(const std::string& path, open_flags flags, unsigned mode) override {
        if (auto f = due("open", path)) return *f;
        return inner_.open(path, flags, mode);
    }
    result<void> close(int fd) override {
        auto f = due("close", name(fd));
        auto r = inner_.close(fd);
        if (f) return *f;
        return r;
    }
    result<std::size_t> read(int fd, std::span<std::byte> into) override {
        if (auto f = due("read", name(fd))) return *f;
        return inner_.read(fd, into.first(cut(into.size())));
    }
    result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset) override {
        if (auto f = due("pread", name(fd))) return *f;
        return inner_.pread(fd, into.first(cut(into.size())), offset);
    }
    result<std::size_t> write(int fd, std::span<const std::byte> from) override {
        if (auto f = due("write", name(fd))) return *f;
        return inner_.write(fd, from.first(cut(from.size())));
    }
    result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) override {
        if (auto f = due("pwrite", name(fd))) return *f;
        return inner_.pwrite(fd, from.first(cut(from.size())), offset);
    }
    result<file_info> fstat(int fd) override { return pass<file_info>("fstat", name(fd), [&] { return inner_.fstat(fd); }); }
    result<file_info> stat(const std::string& path) override { return pass<file_info>("stat", path, [&] { return inner_.stat(path); }); }
    result<void> fsync(int fd) override { return pass<void>("fsync", name(fd), [&] { return inner_.fsync(fd); }); }
    result<void> ftruncate(int fd, std::uint64_t size) override { return pass<void>("ftruncate", name(fd), [&] { return inner_.ftruncate(fd, size); }); }
    result<void> rename(const std::string& from, const std::string& to) override { return pass<void>("rename", from, [&] { return inner_.rename(from, to); }); }
    result<void> unlink(const std::string& path) override { return pass<void>("unlink", path, [&] { return inner_.unlink(path); }); }
    result<void> mkdir(const std::string& path, unsigned mode) override { return pass<void>("mkdir", path, [&] { return inner_.mkdir(path, mode); }); }
    result<void> rmdir(const std::string& path) override { return pass<void>("rmdir", path, [&] { return inner_.rmdir(path); }); }
    result<void> chown(const std::string& path, unsigned uid, std::int64_t gid) override { return pass<void>("chown", path, [&] { return inner_.chown(path, uid, gid); }); }
    result<std::vector<std::string>> list_dir(const std::string& path) override { return pass<std::vector<std::string>>("list_dir", path, [&] { return inner_.list_dir(path); }); }
    result<std::string> readlink(const std::string& path) override { return pass<std::string>("readlink", path, [&] { return inner_.readlink(path); }); }
    result<pipe_ends> pipe() override { return pass<pipe_ends>("pipe", "", [&] { return inner_.pipe(); }); }
    result<std::size_t> set_pipe_size(int fd, std::size_t bytes) override { return pass<std::size_t>("set_pipe_size", name(fd), [&] { return inner_.set_pipe_size(fd, bytes); }); }
    result<void> set_nonblocking(int fd, bool on) override { return pass<void>("set_nonblocking", name(fd), [&] { return inner_.set_nonblocking(fd, on); }); }
    result<int> memfd(const std::string& label) override { return pass<int>("memfd", label, [&] { return inner_.memfd(label); }); }
    result<int> poll(std::span<poll_item> items, std::optional<std::uint64_t> timeout_ns) override { return pass<int>("poll", "", [&] { return inner_.poll(items, timeout_ns); }); }
    result<int> terminal_width(int fd) override { return pass<int>("terminal_width", name(fd), [&] { return inner_.terminal_width(fd); }); }
    result<int> spawn(const spawn_request& r) override { return pass<int>("spawn", r.argv.empty() ? "" : r.argv[0], [&] { return inner_.spawn(r); }); }
    result<exit_status> wait(int pid) override { return pass<exit_status>("wait", std::to_string(pid), [&] { return inner_.wait(pid); }); }
    result<std::optional<exit_status>> try_wait(int pid) override { return pass<std::optional<exit_status>>("try_wait", std::to_string(pid), [&] { return inner_.try_wait(pid); }); }
    result<int> pidfd(int pid) override { return pass<int>("pidfd", std::to_string(pid), [&] { return inner_.pidfd(pid); }); }
    result<void> kill(int pid, int signal) override { return pass<void>("kill", std::to_string(pid), [&] { return inner_.kill(pid, signal); }); }
    result<void> exec(const std::vector<std::string>& argv) override { return pass<void>("exec", argv.empty() ? "" : argv[0], [&] { return inner_.exec(argv); }); }
    result<void> in_new_thread(const std::function<void()>& body) override { return pass<void>("in_new_thread", "thread", [&] { return inner_.in_new_thread(body); }); }
    result<std::uint64_t> sched_core(core_command c, int id, int type) override { return pass<std::uint64_t>("sched_core", "thread " + std::to_string(id), [&] { return inner_.sched_core(c, id, type); }); }
    result<cpumask> sched_getaffinity(int tid) override { return pass<cpumask>("sched_getaffinity", std::to_string(tid), [&] { return inner_.sched_getaffinity(tid); }); }
    result<void> sched_setaffinity(int tid, const cpumask& mask) override { return pass<void>("sched_setaffinity", std::to_string(tid), [&] { return inner_.sched_setaffinity(tid, mask); }); }
    result<mempolicy> get_mempolicy() override { return pass<mempolicy>("get_mempolicy", "this thread", [&] { return inner_.get_mempolicy(); }); }
    result<void> set_mempolicy(const mempolicy& p) override { return pass<void>("set_mempolicy", "this thread", [&] { return inner_.set_mempolicy(p); }); }
    result<void> mbind(void* at, std::size_t n, const mempolicy& p, bool move) override { return pass<void>("mbind", "memory", [&] { return inner_.mbind(at, n, p, move); }); }
    result<std::size_t> migrate_pages(int pid, const nodemask& from, const nodemask& to) override { return pass<std::size_t>("migrate_pages", std::to_string(pid), [&] { return inner_.migrate_pages(pid, from, to); }); }

private:
    static std::string name(int fd) { return "fd " + std::to_string(fd); }
    /// Counts the call; the error it shall answer, if any.
    std::optional<std::unexpected<error>> due(const char* call, const std::string& object) {
        const std::lock_guard lock(mutex_);
        ++count_[call];
        const int at = ++count_[""];
        const int n = plan_.call.empty() ? at : plan_.call == call ? count_[call] : 0;
        if (plan_.nth == 0 || n < plan_.nth || (plan_.times >= 0 && n >= plan_.nth + plan_.times)) return std::nullopt;
        ++failures_;
        return fail(plan_.code, object, call, errno_text(plan_.code) + " (injected)");
    }
    template <class T, class Call>
    result<T> pass(const char* call, const std::string& object, Call go_on) {
        if (auto f = due(call, object)) return *f;
        return go_on();
    }
    std::size_t cut(std::size_t size) const {
        const std::lock_guard lock(mutex_);
        return limit_ ? std::min(limit_, size) : size;
    }

    const failure plan_;                // [const after init]
    mutable std::mutex mutex_;
    std::map<std::string, int> count_;  // [guarded: mutex_] "" counts all
    int failures_ = 0;                  // [guarded: mutex_]
    std::size_t limit_ = 0;             // [guarded: mutex_]
};

}  // namespace cohort::sys
