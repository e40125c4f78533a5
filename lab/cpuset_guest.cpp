// SPDX-License-Identifier: Apache-2.0
// Runs a script of cpuset operations against the kernel that it runs on, as root of a guest: one JSON answer a line.
//
//     printf 'mkdir a\nwrite a cpuset.cpus 2-3\nread a cpuset.cpus.effective\n' | lab/run -- build/lab/cpuset_guest [--v1] [--state]
//
// The grammar and the answers are those of `cohort cpuset simulate --json`; beside them:
//     reset                        tasks end, cgroups go, processors and nodes come back: the machine as at the start
//     state off|on                 no snapshot is taken from here on, or one is again (--state)
//     --state                      each answer also has "state": what of the cpuset files, tasks and domains differs from the answer before
// An operation that this cannot do on a kernel (suspend, pressure) is answered by ENOSYS with "skipped": true.
#include "cpuset_guest.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>

namespace lab {
namespace {

std::string v2_top = "/sys/fs/cgroup", v1_top = "/dev/cpuset-v1";

const char* name_of(int e) {
    const char* name = strerrorname_np(e);
    return name ? name : "E?";
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) < ' ') {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", c);
            out += code;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string list_text(const std::vector<std::string>& items) {
    std::string out = "[";
    for (const std::string& i : items) out += (out.size() > 1 ? "," : "") + quoted(i);
    return out + "]";
}

}  // namespace

int put(const std::string& path, std::string_view text) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int e = ::write(fd, text.data(), text.size()) < 0 ? errno : 0;
    close(fd);
    return e;
}

int get(const std::string& path, std::string& text) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    text.clear();
    char block[4096];
    ssize_t n;
    while ((n = ::read(fd, block, sizeof block)) > 0) text.append(block, static_cast<std::size_t>(n));
    const int e = n < 0 ? errno : 0;
    close(fd);
    while (text.ends_with('\n')) text.pop_back();
    return e;
}

std::vector<std::string> words_of(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> out;
    for (std::string w; in >> w;) out.push_back(w);
    return out;
}

std::vector<int> numbers_of(const std::string& list) {
    std::vector<int> out;
    for (std::size_t at = 0; at < list.size();) {
        const std::size_t end = std::min(list.find(',', at), list.size());
        const std::string piece = list.substr(at, end - at);
        if (!piece.empty()) {
            const std::size_t dash = piece.find('-');
            const int first = std::atoi(piece.c_str()), last = dash == std::string::npos ? first : std::atoi(piece.c_str() + dash + 1);
            for (int n = first; n <= last; ++n) out.push_back(n);
        }
        at = end + 1;
    }
    return out;
}

// --- the tree

std::string tree::directory(const std::string& path) const {
    const std::string& top = v1_ ? v1_top : v2_top;
    return path == "." ? top : top + "/" + path;
}

void tree::mount_v1() {
    put(v2_top + "/cgroup.subtree_control", "-cpuset");
    mkdir(v1_top.c_str(), 0755);
    // The version 2 hierarchy lets go of a controller a moment after its last set is gone.
    for (int i = 0; i < 200 && mount("cpuset", v1_top.c_str(), "cgroup", 0, "cpuset") != 0; ++i) usleep(10000);
    v1_ = true;
}

void tree::mount_v2() {
    if (v1_) umount(v1_top.c_str());
    v1_ = false;
    for (int i = 0; i < 200 && put(v2_top + "/cgroup.subtree_control", "+cpuset") != 0; ++i) usleep(10000);
}

namespace {

void walk(const std::string& top, const std::string& path, std::vector<std::string>& out) {
    DIR* d = opendir((top + "/" + path).c_str());
    if (!d) return;
    while (dirent* e = readdir(d)) {
        if (e->d_type == DT_DIR && e->d_name[0] != '.') walk(top, path.empty() ? e->d_name : path + "/" + e->d_name, out);
    }
    closedir(d);
    if (!path.empty()) out.push_back(path);
}

}  // namespace

std::vector<std::string> tree::below() const {
    std::vector<std::string> out;
    walk(directory("."), "", out);
    return out;
}

std::vector<std::string> tree::files(const std::string& path) const {
    std::vector<std::string> out;
    DIR* d = opendir(directory(path).c_str());
    if (!d) return out;
    while (dirent* e = readdir(d)) {
        if (std::string_view(e->d_name).starts_with("cpuset.")) out.push_back(e->d_name);
    }
    closedir(d);
    return out;
}

// --- the state

/// What the kernel shows of sets, tasks and domains now, as {key: JSON value}.
std::map<std::string, std::string> session::snapshot() {
    std::map<std::string, std::string> out;
    std::string text;
    watch_.each([&](const std::string& key, const watched_file& f) {
        const int e = f.read(text);
        out[key] = quoted(e ? name_of(e) : text);
    });
    for (const std::string& name : tasks_.names()) {
        const task_view v = tasks_.view(name, tree_.is_v1());
        out["task " + name] = "[" + quoted(v.cpus) + "," + quoted(v.mems) + "," + quoted(v.path) + "]";
    }
    out["domains"] = list_text(domains());
    return out;
}

std::string session::changes() {
    std::map<std::string, std::string> now = snapshot();
    std::string out = "{";
    const auto add = [&](const std::string& key, const std::string& value) { out += (out.size() > 1 ? "," : "") + quoted(key) + ":" + value; };
    for (const auto& [key, value] : now) {
        const auto it = before_.find(key);
        if (it == before_.end() || it->second != value) add(key, value);
    }
    for (const auto& [key, value] : before_) {
        if (!now.contains(key)) add(key, "null");
    }
    before_ = std::move(now);
    return out + "}";
}

/// Spans of the topmost sched domains; a processor on its own has none.
std::vector<std::string> session::domains() {
    std::string text;
    schedstat_.read(text);
    std::istringstream in(text);
    std::vector<std::string> spans;
    std::string top;
    const auto take = [&] {
        if (!top.empty() && std::ranges::find(spans, top) == spans.end()) spans.push_back(top);
        top.clear();
    };
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("cpu")) take();
        if (!line.starts_with("domain")) continue;
        for (const std::string& w : words_of(line)) {
            if (w.find_first_not_of("0123456789abcdef,") == std::string::npos) {
                top = list_of_mask(w);
                break;
            }
        }
    }
    take();
    std::ranges::sort(spans, {}, [](const std::string& s) { return std::atoi(s.c_str()); });
    return spans;
}

std::string list_of_mask(const std::string& hex) {
    std::vector<int> bits;
    int at = 0;
    for (auto c = hex.rbegin(); c != hex.rend(); ++c) {
        if (*c == ',') continue;
        const int digit = *c <= '9' ? *c - '0' : *c - 'a' + 10;
        for (int b = 0; b < 4; ++b) {
            if (digit >> b & 1) bits.push_back(at + b);
        }
        at += 4;
    }
    std::string out;
    for (std::size_t i = 0; i < bits.size();) {
        std::size_t j = i;
        while (j + 1 < bits.size() && bits[j + 1] == bits[j] + 1) ++j;
        out += (out.empty() ? "" : ",") + std::to_string(bits[i]) + (j > i ? "-" + std::to_string(bits[j]) : "");
        i = j + 1;
    }
    return out;
}

// --- operations

namespace {

/// What the calls of one command are made as: the user that a cgroup is delegated to.
class acting {
public:
    explicit acting(bool user) : user_(user) {
        if (user_ && seteuid(user_id) != 0) std::abort();
    }
    ~acting() {
        if (user_ && seteuid(0) != 0) std::abort();
    }

private:
    bool user_;
};

int set_online(const std::string& path, bool on) { return put(path, on ? "1" : "0"); }

/// Every block of the node's memory, in the order that suits the direction.
int set_node(int node, bool on) {
    const std::string top = "/sys/devices/system/node/node" + std::to_string(node);
    DIR* d = opendir(top.c_str());
    if (!d) return ENOENT;
    std::vector<std::string> blocks;
    while (dirent* e = readdir(d)) {
        if (std::string_view(e->d_name).starts_with("memory") && std::isdigit(e->d_name[6])) blocks.push_back(top + "/" + e->d_name + "/state");
    }
    closedir(d);
    // Blocks of an offline node hang on no node; they are found by what went offline.
    static std::map<int, std::vector<std::string>> gone;
    if (on) blocks = gone[node];
    std::string text;
    std::vector<std::string> done;
    for (const std::string& b : blocks) {
        if (get(b, text) != 0 || (text == "online") == on) continue;
        int e = 0;
        for (int i = 0; i < 20 && (e = put(b, on ? "online_movable" : "offline")) != 0; ++i) usleep(5000);
        if (e) {
            for (const std::string& u : done) put(u, on ? "offline" : "online_movable");
            return e;
        }
        done.push_back("/sys/devices/system/memory" + b.substr(b.rfind("/memory")));
        done.back() = b;
        if (!on) done.back() = "/sys/devices/system/memory" + b.substr(top.size());
    }
    if (!on && !done.empty()) gone[node] = done;
    return 0;
}

/// The kernel carries out some of a hotplug in work items of its own: waits until the root shows the same for a while.
void settle(const tree& t) {
    std::string last, now;
    for (int same = 0, i = 0; same < 3 && i < 200; ++i) {
        usleep(3000);
        now.clear();
        for (const char* f : {"cpuset.cpus.effective", "cpuset.mems.effective", "cpuset.effective_cpus", "cpuset.effective_mems"}) {
            std::string text;
            if (get(t.directory(".") + "/" + f, text) == 0) now += text + ";";
        }
        same = now == last ? same + 1 : 0;
        last = now;
    }
}

/// A version 1 set that has lost all its processors or nodes: its tasks are moved by a work item.
void wait_for_rescue(const tree& t) {
    if (!t.is_v1()) return;
    const auto waits = [&](const std::string& path) {
        std::string cpus, mems, tasks;
        get(t.directory(path) + "/cpuset.cpus", cpus);
        get(t.directory(path) + "/cpuset.mems", mems);
        get(t.directory(path) + "/cgroup.procs", tasks);
        return (cpus.empty() || mems.empty()) && !tasks.empty();
    };
    for (int i = 0; i < 2000 && std::ranges::any_of(t.below(), waits); ++i) usleep(5000);
}

/// A version 2 cgroup that was removed: what its set had goes back in a work item (6.1).
void wait_for_dying(const tree& t) {
    std::string text;
    for (int i = 0; i < 2000 && !t.is_v1(); ++i) {
        if (get(t.directory(".") + "/cgroup.stat", text) != 0 || text.find("nr_dying_descendants 0") != std::string::npos) return;
        usleep(1000);
    }
}

}  // namespace

void session::reset() {
    user_ = {};
    for (const std::string& name : tasks_.names()) tasks_.exit(name);
    for (int round = 0; round < 100; ++round) {
        const std::vector<std::string> left = tree_.below();
        if (left.empty()) break;
        for (const std::string& p : left) rmdir(tree_.directory(p).c_str());
        if (round) usleep(10000);
    }
    for (int cpu = 1; cpu < static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)); ++cpu) {
        const std::string path = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/online";
        std::string text;
        if (get(path, text) == 0 && text == "0") set_online(path, true);
    }
    for (int node : numbers_of(offline_nodes_)) set_node(node, true);
    offline_nodes_.clear();
    if (started_v1_ != tree_.is_v1()) started_v1_ ? tree_.mount_v1() : tree_.mount_v2();
    if (!tree_.is_v1()) put(tree_.directory(".") + "/cgroup.subtree_control", "+cpuset");
    // The root's own flags as the kernel starts with them.
    for (const auto& [file, value] : {std::pair{"cpuset.cpu_exclusive", "1"}, {"cpuset.mem_exclusive", "1"}, {"cpuset.mem_hardwall", "0"}, {"cpuset.sched_load_balance", "1"},
                                      {"cpuset.sched_relax_domain_level", "-1"}, {"cpuset.memory_migrate", "0"}, {"cpuset.memory_spread_page", "0"},
                                      {"cpuset.memory_spread_slab", "0"}, {"cpuset.memory_pressure_enabled", "0"}, {"cgroup.clone_children", "0"}}) {
        if (tree_.is_v1()) put(tree_.directory(".") + "/" + file, value);
    }
    settle(tree_);
    rebuild_domains();
}

/// Partitions of all processors that come and go: the kernel builds its sched domains anew, and forgets the CPUs that it has lost to partitions that are no more.
void session::rebuild_domains() {
    const std::string at = tree_.directory("rebuild");
    mkdir(at.c_str(), 0755);
    if (tree_.is_v1()) {
        for (const char* value : {"0", "1"}) put(tree_.directory(".") + "/cpuset.sched_load_balance", value);
    } else {
        for (const std::string& cpus : {std::string("0"), "1-" + std::to_string(sysconf(_SC_NPROCESSORS_CONF) - 1)}) {
            put(at + "/cpuset.cpus", cpus);
            put(at + "/cpuset.cpus.partition", "isolated");
            put(at + "/cpuset.cpus.partition", "member");
        }
    }
    rmdir(at.c_str());
}

answer session::attach(const std::string& path, const std::string& name) {
    struct stat st;
    if (stat(tree_.directory(path).c_str(), &st) != 0) return {errno};
    if (!tasks_.has(name)) {
        if (const int e = tasks_.start(name)) return {e};
        if (!user_.empty()) {
            // It begins where its user is at home.
            put(tree_.directory(user_) + "/cgroup.procs", std::to_string(tasks_.pid(name)));
            tasks_.become_user(name);
        }
    }
    const std::string pid = std::to_string(tasks_.pid(name));
    acting as(!user_.empty());
    return {put(tree_.directory(path) + "/cgroup.procs", pid)};
}

answer session::delegate(const std::string& path) {
    const std::string at = tree_.directory(path);
    if (path == ".") return {EINVAL};
    struct stat st;
    if (stat(at.c_str(), &st) != 0) return {errno};
    for (const char* f : {"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"}) {
        if (chown((at + f).c_str(), user_id, user_id) != 0 && errno != ENOENT) return {errno};
    }
    user_ = path;
    return {};
}

answer session::on_tree(const std::vector<std::string>& w, const std::string& line) {
    const std::string at = tree_.directory(w[1]);
    const bool user = !user_.empty();
    if (w[0] == "tasks") {
        std::string text;
        answer a{get(at + "/cgroup.procs", text)};
        a.list = tasks_.names_of(words_of(text));
        a.shape = answer::list_value;
        return a;
    }
    acting as(user);
    if (w[0] == "mkdir") return {mkdir(at.c_str(), 0755) ? errno : 0};
    if (w[0] == "rmdir") return {rmdir(at.c_str()) ? errno : 0};
    if (w[0] == "controller") return {put(at + "/cgroup.subtree_control", w[2])};
    if (w[0] == "read") {
        answer a;
        a.code = get(at + "/" + w[2], a.value);
        a.shape = answer::text_value;
        return a;
    }
    // The value is what follows the file's name, to the end of the line without the white space around it.
    std::size_t from = line.find(w[2], line.find(w[1], line.find(w[0]) + w[0].size()) + w[1].size()) + w[2].size();
    from = std::min(line.find_first_not_of(" \t\r", from), line.size());
    const std::size_t end = line.find_last_not_of(" \t\r") + 1;
    return {put(at + "/" + w[2], line.substr(from, end > from ? end - from : 0) + "\n")};
}

answer session::on_machine(const std::vector<std::string>& w) {
    const bool on = w[2] == "online";
    answer a;
    if (w[0] == "cpu") {
        acting as(!user_.empty());
        a.code = set_online("/sys/devices/system/cpu/cpu" + w[1] + "/online", on);
    } else {
        a.code = set_node(std::atoi(w[1].c_str()), on);
        if (a.code == 0 && !on) offline_nodes_ += (offline_nodes_.empty() ? "" : ",") + w[1];
    }
    settle(tree_);
    wait_for_rescue(tree_);
    return a;
}

answer session::perform(const std::string& line) {
    const std::vector<std::string> w = words_of(line);
    answer a = carry_out(w, line);
    if (w[0] == "rmdir" && a.code == 0) wait_for_dying(tree_);
    if (w[0] == "controller" && a.code == 0 && w[2] == "-cpuset") settle(tree_);
    watch_.follow(tree_, w, a.code == 0);
    return a;
}

answer session::carry_out(const std::vector<std::string>& w, const std::string& line) {
    const std::string& verb = w[0];
    static const std::map<std::string, std::size_t> least{{"mkdir", 2},  {"rmdir", 2},   {"write", 3},      {"read", 3},  {"attach", 3}, {"fork", 3},  {"exit", 2},
                                                          {"affinity", 3}, {"mempolicy", 3}, {"mbind", 3},    {"controller", 3}, {"cpu", 3}, {"node", 3}, {"bind", 2},
                                                          {"advance", 2}, {"as", 2},      {"tasks", 2},      {"task", 2},  {"domains", 1}, {"reset", 1},
                                                          {"state", 2}};
    const auto it = least.find(verb);
    if (it == least.end()) return {.code = ENOSYS, .skipped = true};
    if (w.size() < it->second) return {.code = EINVAL, .skipped = true};
    if (verb == "attach") return attach(w[1], w[2]);
    if (verb == "cpu" || verb == "node") return on_machine(w);
    if (verb == "as" && w[1] == "delegate" && w.size() > 2) return delegate(w[2]);
    if (verb == "as") return user_.clear(), answer{};
    if (verb == "fork") return {tasks_.fork(w[1], w[2])};
    if (verb == "exit") return {tasks_.exit(w[1])};
    if (verb == "affinity") {
        acting as(!user_.empty());
        return {tasks_.affinity(w[1], w[2])};
    }
    if (verb == "mempolicy" || verb == "mbind") return {tasks_.policy(w[1], verb == "mbind", w[2], w.size() > 3 ? w[3] : "")};
    if (verb == "advance") {
        sleep(static_cast<unsigned>(std::min(std::atoi(w[1].c_str()), 30)));
        return {};
    }
    if (verb == "bind") return w[1] == "v1" ? tree_.mount_v1() : tree_.mount_v2(), settle(tree_), answer{};
    if (verb == "reset") return reset(), answer{};
    if (verb == "state") return quiet_ = w[1] == "off", answer{};
    if (verb == "domains") return {.list = domains(), .shape = answer::list_value};
    if (verb == "task") {
        if (!tasks_.has(w[1])) return {ESRCH};
        const task_view v = tasks_.view(w[1], tree_.is_v1());
        return {.value = v.cpus, .mems = v.mems, .path = v.path, .shape = answer::task_value};
    }
    return on_tree(w, line);
}

std::string session::json(std::size_t number, const answer& a) {
    std::string out = "{\"schema_version\":1,\"line\":" + std::to_string(number) + ",\"ok\":" + (a.code ? "false" : "true");
    if (a.code) out += ",\"errno\":\"" + std::string(name_of(a.code)) + "\",\"why\":" + quoted(std::string("the kernel: ") + strerror(a.code));
    if (a.skipped) out += ",\"skipped\":true";
    if (!a.code && a.shape == answer::list_value) out += ",\"value\":" + list_text(a.list);
    if (!a.code && (a.shape == answer::text_value || a.shape == answer::task_value)) out += ",\"value\":" + quoted(a.value);
    if (!a.code && a.shape == answer::task_value) out += ",\"mems\":" + quoted(a.mems) + ",\"path\":" + quoted(a.path);
    if (with_state_ && !quiet_) out += ",\"state\":" + changes();
    return out + "}\n";
}

session::session(bool v1, bool with_state) : started_v1_(v1), with_state_(with_state) {
    // The deadline server's share would refuse to let the last processor of a root domain go offline (EBUSY), whatever its cpusets.
    for (int cpu = 0; put("/sys/kernel/debug/sched/fair_server/cpu" + std::to_string(cpu) + "/runtime", "0") == 0;) ++cpu;
    v1 ? tree_.mount_v1() : tree_.mount_v2();
    watch_.follow(tree_, {"reset"}, true);
}

}  // namespace lab

int main(int argc, char** argv) {
    bool v1 = false, state = false;
    for (int i = 1; i < argc; ++i) {
        v1 |= !std::strcmp(argv[i], "--v1");
        state |= !std::strcmp(argv[i], "--state");
    }
    if (getpid() == 1 || access("/run.args", F_OK) != 0) {
        std::fprintf(stderr, "cpuset_guest: it changes the machine that it runs on: run it by lab/run\n");
        return 3;
    }
    lab::session s(v1, state);
    std::string text;
    for (std::size_t line = 1; std::getline(std::cin, text); ++line) {
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        const std::string out = s.json(line, s.perform(text));
        std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);  // whoever looks at a guest that hangs sees how far it came
    }
    return 0;
}
