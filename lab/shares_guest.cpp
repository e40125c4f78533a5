// SPDX-License-Identifier: Apache-2.0
// Hogs with cookies on a real kernel: who ran how long, and how long a sibling idled for it. A static program for a guest of the lab; reads scenarios, a line each word list:
//
//     begin ID MS                            a scenario that lasts so long
//     group PATH WEIGHT                      a control group below the last one's parent, with this cpu.weight
//     task NAME CPUS NICE COOKIE GROUP       a hog; tasks with the same COOKIE (0: none) share one; GROUP - is the root; NICE rt50: real time (first in, first out), 50 of 89
//     go                                     all begin at once, in their order; answers a line of JSON
//
// Each task goes to sleep while nobody else runs, so that nobody is owed anything at the start; cookies are set by processes of their own. What a task ran and was charged is read
// by a real-time process that sleeps meanwhile.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr int sched_core = 62, get = 0, create = 1, share_to = 2, thread_scope = 0;
const std::string cgroups = "/sys/fs/cgroup";

struct task {
    std::string name, cpus, group;
    int nice = 0, real_time = 0;
    unsigned long cookie = 0;
    pid_t pid = -1;
    clockid_t clock = 0;
    std::uint64_t ran_before = 0, charged_before = 0;
};

[[noreturn]] void end(const std::string& what) {
    std::fprintf(stderr, "shares_guest: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

void write_file(const std::string& path, const std::string& text) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) end("write " + text + " to " + path);
    close(fd);
}

std::uint64_t clock_ns(clockid_t which) {
    timespec t{};
    if (clock_gettime(which, &t) != 0) end("clock_gettime");
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

void sleep_ms(long ms) {
    timespec t{ms / 1000, ms % 1000 * 1'000'000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {}
}

/// The number after `key` in a file; 0 where there is none. `scale`: what a unit of it is in ns.
double value_in(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.rfind(key, 0) != 0) continue;
        const auto digits = line.find_first_of("0123456789", key.size());
        return digits == std::string::npos ? 0 : std::strtod(line.c_str() + digits, nullptr);
    }
    return 0;
}

std::uint64_t charged_ns(pid_t pid) { return static_cast<std::uint64_t>(value_in("/proc/" + std::to_string(pid) + "/sched", "core_forceidle_sum") * 1e6); }

/// "0-1,3" as sched_setaffinity takes it.
cpu_set_t mask_of(const std::string& list) {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::istringstream in(list);
    for (std::string part; std::getline(in, part, ',');) {
        const auto dash = part.find('-');
        const int from = std::atoi(part.c_str()), to = dash == std::string::npos ? from : std::atoi(part.c_str() + dash + 1);
        for (int c = from; c <= to; ++c) CPU_SET(static_cast<unsigned>(c), &set);
    }
    return set;
}

void wait_until_asleep(pid_t pid) {
    for (int i = 0; i < 20'000; ++i) {
        std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
        std::string text;
        std::getline(file, text);
        const auto at = text.rfind(')');
        if (at != std::string::npos && text.size() > at + 2 && text[at + 2] == 'S') return;
        sleep_ms(1);
    }
    errno = ETIMEDOUT;
    end("wait for a task to sleep");
}

void start(task& t, int gate, int gate_writer) {
    t.pid = fork();
    if (t.pid < 0) end("fork");
    if (t.pid == 0) {
        close(gate_writer);
        const cpu_set_t set = mask_of(t.cpus);
        const sched_param how{.sched_priority = t.real_time};
        if (t.group != "-") write_file(cgroups + "/" + t.group + "/cgroup.procs", "0");
        if (sched_setaffinity(0, sizeof set, &set) != 0) end("set the affinity of " + t.name + " to " + t.cpus);
        if (sched_setscheduler(0, t.real_time ? SCHED_FIFO : SCHED_OTHER, &how) != 0 || setpriority(PRIO_PROCESS, 0, t.nice) != 0) end("set the priority of " + t.name);
        char c;
        if (read(gate, &c, 1) != 0) end("wait at the gate");
        for (;;) {
            for (int i = 0; i < 300; ++i) asm volatile("");
            asm volatile("pause");  // with --icount the processors of a guest run in turn: here the next one has its turn
        }
    }
    wait_until_asleep(t.pid);
    if (clock_getcpuclockid(t.pid, &t.clock) != 0) end("find the clock of " + t.name);
}

unsigned long cookie_of(pid_t pid) {
    unsigned long value = 0;
    if (prctl(sched_core, get, pid, thread_scope, &value) != 0) end("PR_SCHED_CORE_GET");
    return value;
}

/// A process takes a new cookie, gives it to all that are to have it, and ends.
void tag(const std::vector<task>& tasks) {
    std::map<unsigned long, unsigned long> real;
    for (const task& first : tasks) {
        if (first.cookie == 0 || real.count(first.cookie)) continue;
        const pid_t tagger = fork();
        if (tagger == 0) {
            if (prctl(sched_core, create, 0, thread_scope, 0) != 0) end("PR_SCHED_CORE_CREATE");
            for (const task& t : tasks) {
                if (t.cookie == first.cookie && prctl(sched_core, share_to, t.pid, thread_scope, 0) != 0) end("PR_SCHED_CORE_SHARE_TO");
            }
            _exit(0);
        }
        int status = 0;
        if (tagger < 0 || waitpid(tagger, &status, 0) != tagger || status != 0) end("tag");
        real[first.cookie] = cookie_of(first.pid);
    }
    real[0] = 0;
    for (const task& t : tasks) {
        errno = EINVAL;
        if (cookie_of(t.pid) != real[t.cookie] || (t.cookie != 0 && real[t.cookie] == 0)) end("cookie of " + t.name);
    }
}

void perform(const std::string& id, long ms, std::vector<task>& tasks) {
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) != 0) end("pipe");
    for (task& t : tasks) start(t, gate[0], gate[1]);
    tag(tasks);
    const std::string stat = cgroups + "/cpu.stat";
    const double forced_before = value_in(stat, "core_sched.force_idle_usec");
    for (task& t : tasks) {
        t.ran_before = clock_ns(t.clock);
        t.charged_before = charged_ns(t.pid);
    }
    const std::uint64_t began = clock_ns(CLOCK_MONOTONIC);
    close(gate[1]);
    sleep_ms(ms);
    std::vector<std::uint64_t> ran, charged;
    for (const task& t : tasks) ran.push_back(clock_ns(t.clock) - t.ran_before);
    const std::uint64_t ended = clock_ns(CLOCK_MONOTONIC);
    const double forced = value_in(stat, "core_sched.force_idle_usec") - forced_before;
    for (const task& t : tasks) charged.push_back(charged_ns(t.pid) - t.charged_before);
    std::string out = "{\"id\": \"" + id + "\", \"wall_ns\": " + std::to_string(ended - began) + ", \"forced_ns\": " + std::to_string(static_cast<std::uint64_t>(forced * 1000)) + ", \"tasks\": [";
    for (std::size_t i = 0; i < tasks.size(); ++i) out += (i ? ", [" : "[") + std::to_string(ran[i]) + ", " + std::to_string(charged[i]) + "]";
    std::printf("%s]}\n", out.c_str());
    std::fflush(stdout);
    for (const task& t : tasks) kill(t.pid, SIGKILL);
    for (const task& t : tasks) waitpid(t.pid, nullptr, 0);
    close(gate[0]);
}

void make_group(const std::string& path, int weight) {
    const auto slash = path.rfind('/');
    write_file(cgroups + "/" + (slash == std::string::npos ? "" : path.substr(0, slash)) + "/cgroup.subtree_control", "+cpu");
    if (mkdir((cgroups + "/" + path).c_str(), 0755) != 0) end("mkdir " + path);
    write_file(cgroups + "/" + path + "/cpu.weight", std::to_string(weight));
}

/// CPUs that the kernel has left offline (maxcpus=1). It waits for each by calling its scheduler: with counted instructions that CPU would never have a turn, if nobody paused.
void bring_up() {
    const pid_t pauses = fork();
    if (pauses == 0) {
        for (;;) asm volatile("pause");
    }
    if (pauses < 0) end("fork");
    for (long cpu = 1; cpu < sysconf(_SC_NPROCESSORS_CONF); ++cpu) {
        const std::string file = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/online";
        if (value_in(file, "") == 0) write_file(file, "1");
    }
    kill(pauses, SIGKILL);
    waitpid(pauses, nullptr, 0);
}

}  // namespace

int main() {
    bring_up();
    write_file("/proc/sys/kernel/sched_schedstats", "1");
    const sched_param high{.sched_priority = 90};
    if (sched_setscheduler(0, SCHED_FIFO, &high) != 0) end("become a real-time process");
    std::string id;
    long ms = 0;
    std::vector<std::string> groups;
    std::vector<task> tasks;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::string word, path;
        in >> word;
        if (word == "begin") {
            in >> id >> ms;
            tasks.clear();
        } else if (word == "slice") {
            in >> path;
            write_file("/sys/kernel/debug/sched/base_slice_ns", path);
        } else if (word == "group") {
            int weight = 0;
            in >> path >> weight;
            make_group(path, weight);
            groups.push_back(path);
        } else if (word == "task") {
            task t;
            std::string nice;
            in >> t.name >> t.cpus >> nice >> t.cookie >> t.group;
            (nice.rfind("rt", 0) == 0 ? t.real_time : t.nice) = std::atoi(nice.c_str() + (nice.rfind("rt", 0) == 0 ? 2 : 0));
            tasks.push_back(t);
        } else if (word == "go") {
            perform(id, ms, tasks);
            for (; !groups.empty(); groups.pop_back()) {
                if (rmdir((cgroups + "/" + groups.back()).c_str()) != 0) end("rmdir " + groups.back());
            }
        }
    }
    return 0;
}
