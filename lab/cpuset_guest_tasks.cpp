// SPDX-License-Identifier: Apache-2.0
// Tasks of the guest program: processes that wait for orders on a pipe.
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <sstream>

#include "cpuset_guest.hpp"

namespace lab {

struct tasks::order {
    enum whats { fork, exit, policy, vma_policy, become_user } what;
    int slot;  // fork: where the child listens
    int mode;
    bool with_nodes;
    unsigned long nodes;
};

namespace {

constexpr std::size_t vma_bytes = 1 << 16;

struct mode_word {
    const char* name;
    int mode;
};
constexpr mode_word modes[] = {{"default", MPOL_DEFAULT}, {"preferred", MPOL_PREFERRED}, {"bind", MPOL_BIND}, {"interleave", MPOL_INTERLEAVE},
                               {"local", MPOL_LOCAL}, {"preferred-many", 5}, {"weighted-interleave", 6}};

}  // namespace

tasks::tasks() {
    for (int i = 0; i < slots; ++i) {
        if (pipe2(orders_[i], O_CLOEXEC) != 0 || pipe2(replies_[i], O_CLOEXEC) != 0) std::abort();
    }
}

std::vector<std::string> tasks::names() const {
    std::vector<std::string> out;
    for (const auto& [name, e] : all_) out.push_back(name);
    return out;
}

std::vector<std::string> tasks::names_of(const std::vector<std::string>& pids) const {
    std::vector<std::string> out;
    for (const auto& [name, e] : all_) {
        if (std::ranges::find(pids, std::to_string(e.pid)) != pids.end()) out.push_back(name);
    }
    return out;
}

int tasks::free_slot() const {
    for (int i = 0; i < slots; ++i) {
        if (std::ranges::none_of(all_, [&](const auto& t) { return t.second.slot == i; })) return i;
    }
    return -1;
}

void tasks::obey(int slot) {
    static void* vma = nullptr;
    if (!vma) vma = mmap(nullptr, vma_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (order o; ::read(orders_[slot][0], &o, sizeof o) == sizeof o;) {
        int reply = 0;
        const unsigned long* nodes = o.with_nodes ? &o.nodes : nullptr;
        const unsigned long count = o.with_nodes ? 8 * sizeof o.nodes + 1 : 0;
        switch (o.what) {
            case order::exit: _exit(0);
            case order::fork: {
                const long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
                if (pid == 0) {
                    slot = o.slot;
                    continue;
                }
                reply = static_cast<int>(pid < 0 ? -errno : pid);
                break;
            }
            case order::policy: reply = syscall(SYS_set_mempolicy, o.mode, nodes, count) ? errno : 0; break;
            case order::vma_policy: reply = syscall(SYS_mbind, vma, vma_bytes, o.mode, nodes, count, 0) ? errno : 0; break;
            case order::become_user: reply = setresuid(user_id, user_id, user_id) ? errno : 0; break;
        }
        if (::write(replies_[slot][1], &reply, sizeof reply) != sizeof reply) _exit(1);
    }
    _exit(1);
}

int tasks::ask(int slot, const order& o) {
    int reply = EIO;
    if (::write(orders_[slot][1], &o, sizeof o) != sizeof o) return EIO;
    if (::read(replies_[slot][0], &reply, sizeof reply) != sizeof reply) return EIO;
    return reply;
}

int tasks::start(const std::string& name) {
    const int slot = free_slot();
    if (slot < 0) return EAGAIN;
    const pid_t pid = ::fork();
    if (pid < 0) return errno;
    if (pid == 0) obey(slot);
    all_[name] = {pid, slot};
    return 0;
}

int tasks::fork(const std::string& name, const std::string& child) {
    if (!has(name)) return ESRCH;
    if (has(child)) return EEXIST;
    const int slot = free_slot();
    if (slot < 0) return EAGAIN;
    const int pid = ask(all_[name].slot, {order::fork, slot, 0, false, 0});
    if (pid < 0) return -pid;
    all_[child] = {pid, slot};
    return 0;
}

int tasks::exit(const std::string& name) {
    if (!has(name)) return ESRCH;
    const entry e = all_[name];
    const order o{order::exit, 0, 0, false, 0};
    if (::write(orders_[e.slot][1], &o, sizeof o) != sizeof o) return EIO;
    while (waitpid(e.pid, nullptr, 0) < 0 && errno == EINTR) {}
    all_.erase(name);
    return 0;
}

int tasks::affinity(const std::string& name, const std::string& cpus) {
    if (!has(name)) return ESRCH;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int n : numbers_of(cpus)) {
        if (n >= 0 && n < CPU_SETSIZE) CPU_SET(n, &set);
    }
    return sched_setaffinity(all_[name].pid, sizeof set, &set) ? errno : 0;
}

int tasks::policy(const std::string& name, bool vma, const std::string& text, const std::string& nodes) {
    if (!has(name)) return ESRCH;
    order o{vma ? order::vma_policy : order::policy, 0, -1, !nodes.empty(), 0};
    std::istringstream words(text);
    std::string word;
    std::getline(words, word, '+');
    for (const mode_word& m : modes) {
        if (word == m.name) o.mode = m.mode;
    }
    if (o.mode < 0) return EINVAL;
    while (std::getline(words, word, '+')) o.mode |= word == "static" ? MPOL_F_STATIC_NODES : MPOL_F_RELATIVE_NODES;
    for (int n : numbers_of(nodes)) {
        if (n < 0 || n >= 64) return EINVAL;
        o.nodes |= 1UL << n;
    }
    return ask(all_[name].slot, o);
}

int tasks::become_user(const std::string& name) { return has(name) ? ask(all_[name].slot, {order::become_user, 0, 0, false, 0}) : ESRCH; }

task_view tasks::view(const std::string& name, bool v1) const {
    task_view v;
    const std::string top = "/proc/" + std::to_string(pid(name));
    std::string text, line;
    get(top + "/status", text);
    for (std::istringstream in(text); std::getline(in, line);) {
        if (line.starts_with("Cpus_allowed_list:\t")) v.cpus = line.substr(19);
        if (line.starts_with("Mems_allowed_list:\t")) v.mems = line.substr(19);
    }
    get(top + "/cgroup", text);
    for (std::istringstream in(text); std::getline(in, line);) {
        const std::size_t from = line.find(v1 ? ":cpuset:/" : "0::/");
        if (from != std::string::npos && (v1 || from == 0)) v.path = line.substr(line.find('/') + 1);
    }
    if (v.path.empty()) v.path = ".";
    return v;
}

}  // namespace lab
