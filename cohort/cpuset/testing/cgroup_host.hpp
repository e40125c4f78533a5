// SPDX-License-Identifier: Apache-2.0
/// For tests: a machine whose cgroup files are served by the model of the kernel. What is written is performed, what is read is what that kernel would show.
///
///     testing::cgroup_host host;                          // eight CPUs, two nodes, kernel 6.12, version 2
///     host.start(100, "");                                // a process in the root
///     sys::write_file(host, "/sys/fs/cgroup/cgroup.subtree_control", "+cpuset\n");
///     host.on_write = [](auto& path) { return path.ends_with("b/cpuset.cpus") ? EIO : 0; };    // a fault, by file
#pragma once

#include <functional>
#include <map>
#include <set>

#include <cohort/cpuset/testing/script.hpp>
#include <cohort/machine/testing/host.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::cpuset::testing {

class cgroup_host final : public sys::forwarding {
public:
    explicit cgroup_host(model_options o = {}, const machine::topology& t = eight_cpus()) : sys::forwarding(disk), kernel(t, o), v1_(o.v1) {
        machine::testing::show(t, disk);
        disk.add_file("/proc/self/mountinfo", o.v1 ? "30 1 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,cpuset\n31 1 0:27 / /sys/fs/unified rw - cgroup2 cgroup2 rw\n" : "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        disk.add_file("/proc/sys/kernel/osrelease", o.profile == kernel::v6_1 ? "6.1.0-test\n" : o.profile == kernel::v6_12 ? "6.12.0-test\n" : "7.0.1-test\n");
        disk.add_file("/sys/devices/system/node/has_memory", t.node_numbers().list() + "\n");
        disk.add_dir(point);
    }

    /// A process of one thread, in a set.
    void start(int pid, const std::string& path) {
        const std::string name = std::to_string(pid);
        perform({.what = verb::attach, .path = path, .task = name});
        add_thread(pid, pid);
        disk.add_file("/proc/" + name + "/stat", name + " (a b) c) S 1 1 1 0 -1 4194304 0\n");
    }
    /// One more thread of a process; it is where the process is.
    void add_thread(int pid, int tid) {
        if (pid != tid) perform({.what = verb::fork, .task = std::to_string(pid), .child = std::to_string(tid)});
        pids_[tid] = pid;
        disk.add_dir("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid));
    }
    answer perform(const operation& op) {
        const answer a = kernel.perform(op);
        EXPECT_EQ(kernel.broken(), "") << "after: " << to_line(op);
        if (op.what == verb::controller && a.ok()) handed_[op.path] = op.on;
        return a;
    }
    std::string reads(const std::string& path, const std::string& file) { return kernel.perform({.what = verb::read, .path = path, .file = file}).value; }
    std::string home(int tid) { return kernel.perform({.what = verb::task, .task = std::to_string(tid)}).path; }

    result<int> open(const std::string& path, sys::open_flags flags, unsigned mode) override {
        auto text = content(path);
        if (!text) return text.error().code == ENOENT && !path.starts_with(point) ? disk.open(path, flags, mode) : result<int>(std::unexpected(text.error()));
        if ((flags & sys::open_write) && read_only.contains(path)) return refuse(EACCES, path, "open");
        const int fd = next_++;
        open_[fd] = {path, *text, 0};
        return fd;
    }
    result<void> close(int fd) override { return open_.erase(fd) ? result<void>{} : disk.close(fd); }
    result<std::size_t> read(int fd, std::span<std::byte> into) override {
        const auto it = open_.find(fd);
        if (it == open_.end()) return disk.read(fd, into);
        const std::string left = it->second.text.substr(it->second.at, into.size());
        std::ranges::copy(std::as_bytes(std::span(left)), into.begin());
        it->second.at += left.size();
        return left.size();
    }
    result<std::size_t> write(int fd, std::span<const std::byte> from) override {
        const auto it = open_.find(fd);
        if (it == open_.end()) return disk.write(fd, from);
        std::string text(reinterpret_cast<const char*>(from.data()), from.size());
        EXPECT_TRUE(text.ends_with('\n')) << it->second.path << ": a write without a newline may be empty, and then reaches no handler";
        text.erase(text.find_last_not_of("\n") + 1);
        writes.push_back(it->second.path.substr(point.size() + 1) + " " + text);
        if (const int code = on_write ? on_write(it->second.path) : 0) return refuse(code, it->second.path, "write");
        if (const int code = put(it->second.path, text)) return refuse(code, it->second.path, "write");
        return from.size();
    }
    result<sys::file_info> stat(const std::string& path) override {
        if (!path.starts_with(point)) return disk.stat(path);
        const auto owner = owners.find(path);
        sys::file_info info{.kind = sys::file_kind::directory, .uid = owner == owners.end() ? 0 : owner->second, .gid = 7};
        if (is_set(path)) return info;
        auto text = content(path);
        if (!text) return std::unexpected(text.error());
        info.kind = sys::file_kind::regular;
        return info;
    }
    result<void> chown(const std::string& path, unsigned uid, std::int64_t) override {
        if (auto info = stat(path); !info) return std::unexpected(info.error());
        if (read_only.contains(path)) return refuse(EPERM, path, "chown");
        owners[path] = uid;
        return {};
    }
    result<void> mkdir(const std::string& path, unsigned mode) override { return !path.starts_with(point) ? disk.mkdir(path, mode) : done(perform({.what = verb::mkdir, .path = set_of(path)}), path, "mkdir"); }
    result<void> rmdir(const std::string& path) override { return !path.starts_with(point) ? disk.rmdir(path) : done(perform({.what = verb::rmdir, .path = set_of(path)}), path, "rmdir"); }
    result<std::vector<std::string>> list_dir(const std::string& path) override {
        if (!path.starts_with(point)) return disk.list_dir(path);
        if (!is_set(path)) return refuse(ENOENT, path, "list");
        const std::string set = set_of(path);
        std::vector<std::string> out = kernel.files(set);
        for (const char* f : {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"}) {
            if (content(path + "/" + f)) out.push_back(f);
        }
        for (const std::string& p : kernel.paths()) {
            if (p != "." && (p.find('/') == p.npos ? "" : p.substr(0, p.rfind('/'))) == set) out.push_back(p.substr(p.rfind('/') + 1));
        }
        std::ranges::sort(out);
        if (on_list) on_list(path);
        return out;
    }

    inline static const std::string point = "/sys/fs/cgroup";
    sys::recorded disk;
    model kernel;
    std::vector<std::string> writes;                                 ///< "a/cpuset.cpus 2-3", those that were refused too
    std::set<std::string> read_only;                                 ///< files this user may not write, by path
    std::map<std::string, unsigned> owners;
    std::map<std::string, std::string> extra;                        ///< files that the model does not have, by path
    std::function<int(const std::string& path)> on_write, on_open;  ///< an errno, or 0
    std::function<void(const std::string& path)> on_list;           ///< what happens right after a directory was listed

private:
    struct opened {
        std::string path, text;
        std::size_t at;
    };
    static std::unexpected<error> refuse(int code, const std::string& path, const char* act) { return fail(code, path, act, errno_text(code)); }
    static result<void> done(const answer& a, const std::string& path, const char* act) { return a.ok() ? result<void>{} : result<void>(refuse(a.code, path, act)); }
    static std::string set_of(const std::string& path) { return path == point ? "" : path.substr(point.size() + 1); }
    bool is_set(const std::string& path) const {
        const auto all = kernel.paths();
        return path == point || (path.starts_with(point + "/") && std::ranges::find(all, set_of(path)) != all.end());
    }
    bool hands_on(const std::string& set) {
        const auto it = handed_.find(set);
        return it == handed_.end() ? set.empty() && !v1_ : it->second;
    }
    std::string numbers(const std::string& set, bool leaders) {
        std::string out;
        for (const std::string& t : kernel.perform({.what = verb::tasks, .path = set}).list) {
            if (!leaders || pids_[std::stoi(t)] == std::stoi(t)) out += t + "\n";
        }
        return out;
    }
    result<std::string> content(const std::string& path) {
        if (const auto it = extra.find(path); it != extra.end()) return it->second;
        if (path.starts_with("/proc/")) return proc(path);
        if (!path.starts_with(point + "/")) return refuse(ENOENT, path, "open");
        if (const int code = on_open ? on_open(path) : 0) return refuse(code, path, "open");
        const std::string dir = path.substr(0, path.rfind('/')), file = path.substr(path.rfind('/') + 1), set = set_of(dir);
        if (!is_set(dir)) return refuse(ENOENT, path, "open");
        if (file == "cgroup.procs" || (file == "tasks" && v1_) || (file == "cgroup.threads" && !v1_)) return numbers(set, file == "cgroup.procs");
        if (file == "cgroup.controllers" && !v1_) return std::string("cpuset cpu\n");
        if (file == "cgroup.subtree_control" && !v1_) return std::string(hands_on(set) ? "cpu cpuset\n" : "cpu\n");
        if (file == "cgroup.events" && !v1_ && !set.empty()) return std::string("populated 0\n");
        const auto a = kernel.perform({.what = verb::read, .path = set, .file = file});
        if (!a.ok()) return refuse(a.code, path, "open");
        return a.value + "\n";
    }
    result<std::string> proc(const std::string& path) {
        int pid = 0, tid = 0;
        char file[16] = "";
        if (std::sscanf(path.c_str(), "/proc/%d/task/%d/%15s", &pid, &tid, file) != 3 && std::sscanf(path.c_str(), "/proc/%d/%15s", &tid, file) != 2) return refuse(ENOENT, path, "open");
        const std::string what = file;
        if (what != "status" && what != "cgroup") return refuse(ENOENT, path, "open");
        const auto t = kernel.perform({.what = verb::task, .task = std::to_string(tid)});
        if (!t.ok()) return refuse(ENOENT, path, "open");
        const std::string home = t.path == "." ? "/" : "/" + t.path;
        if (what == "cgroup") return v1_ ? "3:memory:/elsewhere\n2:cpuset:" + home + "\n0::/other\n" : "0::" + home + "\n";
        return "Name:\tt" + std::to_string(tid) + "\nCpus_allowed_list:\t" + t.value + "\nMems_allowed_list:\t" + t.mems + "\n";
    }
    int put(const std::string& path, const std::string& text) {
        const std::string dir = path.substr(0, path.rfind('/')), file = path.substr(path.rfind('/') + 1), set = set_of(dir);
        if (file == "cgroup.subtree_control") {
            return perform({.what = verb::controller, .path = set, .on = text == "+cpuset"}).code;
        }
        if (file == "cgroup.procs" || file == "tasks" || file == "cgroup.threads") {
            const int pid = std::atoi(text.c_str());
            if (!pids_.contains(pid)) return ESRCH;
            for (const auto& [tid, leader] : pids_) {
                if (tid != pid && (file != "cgroup.procs" || leader != pid)) continue;
                if (const int code = perform({.what = verb::attach, .path = set, .task = std::to_string(tid)}).code) return code;
            }
            return 0;
        }
        return perform({.what = verb::write, .path = set, .file = file, .text = text}).code;
    }

    const bool v1_;
    std::map<int, opened> open_;
    std::map<int, int> pids_;               // of each thread, its process
    std::map<std::string, bool> handed_;
    int next_ = 5000;
};

}  // namespace cohort::cpuset::testing
