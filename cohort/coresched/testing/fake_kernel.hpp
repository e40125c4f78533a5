// SPDX-License-Identifier: Apache-2.0
/// A system with core scheduling that is not there: a table of processes behind sys::os, as /proc, a cgroup hierarchy and prctl show it.
///
///     testing::fake_kernel host;                              // one process, `host.self()`, whose first thread calls everything
///     int web = host.tasks().start({.name = "web"});
///     host.cgroup("/web", {web});                             // /sys/fs/cgroup/web, with the threads of process web
///     host.before_call(5, [&] { host.tasks().fork(web); });   // before the fifth prctl from now
///     control(host).create(web, scope::process);
///
/// Files of /proc/PID are made when they are asked for; everything else is sys::recorded's.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include <cohort/coresched/process_table.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::coresched::testing {

class fake_kernel final : public sys::recorded {
public:
    fake_kernel() : tasks_(cookies_), self_(tasks_.start({.name = "self"})), current_(self_) {
        add_file("/proc/sys/kernel/osrelease", "6.12.0-test\n");
        add_file("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        add_file("/sys/fs/cgroup/cgroup.procs", "");
        add_file("/sys/fs/cgroup/cgroup.threads", "");
    }

    process_table& tasks() { return tasks_; }
    cookie_table& cookies() { return cookies_; }
    int self() const { return self_; }
    cookie of(int tid) const { return tasks_.cookie_of(tid); }
    /// The processes that belong to a cgroup; what they fork while a call is on belongs to it, too.
    void cgroup(const std::string& path, std::set<int> of) {
        add_file("/sys/fs/cgroup" + path + "/cgroup.procs", "");
        groups_[path] = std::move(of);
    }
    void fork_in_cgroup(const std::string& path, int by) { groups_[path].insert(tasks_.fork(by)); }
    /// Runs it before the nth prctl call from now.
    void before_call(int nth, std::function<void()> what) { at_[calls_ + nth] = std::move(what); }
    /// Runs it before every prctl call.
    std::function<void()> always = {};
    int calls() const { return calls_; }

    int getpid() override { return tasks_.threads().at(self_).process; }
    int gettid() override { return current_; }
    result<void> in_new_thread(const std::function<void()>& body) override {
        const int before = current_;
        current_ = tasks_.clone(before);
        body();
        tasks_.exit(current_);
        tasks_.reap(current_);
        current_ = before;
        return {};
    }
    result<std::uint64_t> sched_core(sys::core_command command, int id, int type) override {
        ++calls_;
        if (always) always();
        if (const auto it = at_.find(calls_); it != at_.end()) it->second();
        return tasks_.call(current_, static_cast<int>(command), id, type, command == sys::core_command::get ? 8 : 0);
    }
    result<std::vector<std::string>> list_dir(const std::string& path) override {
        std::vector<std::string> out;
        if (path == "/proc") {
            for (const auto& [tid, t] : tasks_.threads()) {
                if (t.process == tid) out.push_back(std::to_string(tid));
            }
            return out;
        }
        if (path.starts_with("/proc/") && path.ends_with("/task")) {
            const int process = std::atoi(path.c_str() + 6);
            for (int tid : tasks_.threads_of(process)) out.push_back(std::to_string(tid));
            if (out.empty()) return fail(ENOENT, path, "list_dir", "No such file or directory");
            return out;
        }
        return recorded::list_dir(path);
    }
    result<int> open(const std::string& path, sys::open_flags flags, unsigned mode) override {
        if (path.starts_with("/sys/fs/cgroup") && path.ends_with("/cgroup.threads")) show_cgroup(path.substr(14, path.size() - 29));
        else if (path.starts_with("/proc/")) show_task(std::atoi(path.c_str() + 6));
        return recorded::open(path, flags, mode);
    }

private:
    void show_cgroup(const std::string& group) {
        std::string text;
        for (int p : groups_[group]) {
            for (int tid : tasks_.threads_of(p)) text += std::to_string(tid) + "\n";
        }
        if (content("/sys/fs/cgroup" + group + "/cgroup.procs")) add_file("/sys/fs/cgroup" + group + "/cgroup.threads", text);
    }
    void show_task(int tid) {
        if (tid <= 0) return;
        const std::string dir = "/proc/" + std::to_string(tid);
        if (!tasks_.there(tid)) {
            if (content(dir + "/stat")) (void)unlink(dir + "/stat");
            return;
        }
        const auto& t = tasks_.threads().at(tid);
        add_file(dir + "/stat", std::to_string(tid) + " (" + t.name + ") S 1 " + std::to_string(t.group) + " 0\n");
        add_file(dir + "/status", "Name:\t" + t.name + "\nTgid:\t" + std::to_string(t.process) + "\n");
    }

    cookie_table cookies_;
    process_table tasks_;
    int self_, current_;
    std::map<std::string, std::set<int>> groups_;
    std::map<int, std::function<void()>> at_;
    int calls_ = 0;
};

}  // namespace cohort::coresched::testing
