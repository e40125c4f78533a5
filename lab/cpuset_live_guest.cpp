// SPDX-License-Identifier: Apache-2.0
// The cpuset backends on a real kernel, as root of a guest of 8 CPUs and two nodes: version 2, version 1, and none. One line a claim on standard output, "ok NAME" or
// "FAILED NAME: what was there instead"; exit 0 when all hold.
//
//     lab/run --kernel 6.12 -- ~/.cache/cohort/lab/cpuset_live_guest 6.12
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <sstream>
#include <thread>

#include <cohort/cpuset/live.hpp>
#include <cohort/cpuset/live_affinity.hpp>
#include <cohort/cpuset/live_apply.hpp>
#include <cohort/cpuset/live_delegate.hpp>
#include <cohort/machine/detail/builder.hpp>
#include <cohort/sys/fd.hpp>

// A guest looks at its own machine only: no hwloc.
namespace cohort::machine::detail {
result<topology> load_synthetic(const std::string& what) { return fail(ENOSYS, what, "load", "not in a guest"); }
result<topology> load_xml(const std::string& what, sys::os&) { return fail(ENOSYS, what, "load", "not in a guest"); }
}  // namespace cohort::machine::detail

namespace {

using namespace cohort;
using namespace cohort::cpuset;

int failed = 0;
bool keeps_affinity = true;  // 6.1 forgets what a thread had when its set changes

void claim(const std::string& name, const std::string& got, const std::string& wanted) {
    const bool same = wanted.ends_with("...") ? got.starts_with(wanted.substr(0, wanted.size() - 3)) : got == wanted;
    std::printf(same ? "ok %s\n" : "FAILED %s: \"%s\", not \"%s\"\n", name.c_str(), got.c_str(), wanted.c_str());
    std::fflush(stdout);
    failed += !same;
}

sys::os& os() { return sys::real(); }

/// 6.1 lets hotplug reach the sets a moment later.
void claim_soon(const std::string& name, const std::function<std::string()>& get, const std::string& wanted) {
    for (int i = 0; i < 3000 && get() != wanted; ++i) ::usleep(10000);
    claim(name, get(), wanted);
}
void put(const std::string& path, const std::string& text) {
    if (auto fd = sys::open_file(os(), path, sys::open_write)) (void)sys::write_all(os(), fd->get(), text + "\n");
}

std::vector<operation> steps_of(const std::string& lines) {
    std::vector<operation> out;
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line, ';');) out.push_back(*parse_operation(line));
    return out;
}

/// "ok", or the failure's line.
std::string done(backend& tree, const std::string& lines) {
    const apply_report r = apply_steps(tree, steps_of(lines));
    std::string out = r.ok() ? "ok" : r.failure->line();
    for (const error& e : r.not_undone) out += "; not undone: " + e.line();
    return out;
}

/// Everything that can be seen, for "nothing has changed".
std::string state() {
    auto r = read_live(os());
    if (!r) return r.error().line();
    std::string out;
    for (const auto& s : r->what.sets) {
        out += s.path + (s.hands_on ? "+" : "");
        for (const auto& [file, text] : s.files) out += " " + file + "=" + text;
        out += "\n";
    }
    for (const auto& t : r->what.tasks) out += t.id + " " + t.path + (t.path != "." || keeps_affinity ? " " + t.cpus.list() : "") + " " + t.mems.list() + "\n";
    return out;
}
void claim_unchanged(backend& tree, const std::string& name, const std::string& lines, const std::string& why) {
    const std::string before = state();
    claim(name, done(tree, lines), why);
    const std::string after = state();
    claim(name + ", and all is as before", after == before ? "as before" : after, "as before");
}

std::string task(int tid) {
    auto r = read_live(os());
    for (const auto& t : r ? r->what.tasks : std::vector<task_snapshot>{}) {
        if (t.id == std::to_string(tid)) return t.path + " " + t.cpus.list() + " " + t.mems.list();
    }
    return "no such task";
}

/// A process that sleeps until it is killed.
class sleeper {
public:
    sleeper() : pid_(::fork()) {
        if (pid_ == 0) {
            for (;;) ::pause();
        }
    }
    ~sleeper() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    std::string text() const { return std::to_string(pid_); }
    int pid() const { return pid_; }

private:
    pid_t pid_;
};

std::unique_ptr<backend> tree_here() { return open_cgroup(os(), find_mount(os()).value()).value(); }

/// What `act` prints, done by user 1000.
std::string as_user(const std::function<std::string()>& act) {
    int ends[2];
    if (::pipe(ends) != 0) return "pipe";
    const pid_t pid = ::fork();
    if (pid == 0) {
        const std::string text = ::setgid(1000) == 0 && ::setuid(1000) == 0 ? act() : "setuid";
        (void)!::write(ends[1], text.data(), text.size());
        ::_exit(0);
    }
    ::close(ends[1]);
    const std::string out = sys::read_rest(os(), ends[0]).value_or("");
    ::close(ends[0]);
    ::waitpid(pid, nullptr, 0);
    return out;
}

void version_2(const std::string& kernel) {
    const live_mount place = find_mount(os()).value();
    claim("v2 is found", place.about + (place.whole ? ", whole" : ""), "cgroup v2 at /sys/fs/cgroup, whole");
    auto tree = tree_here();
    claim("v2 set by set: hand on, make", done(*tree, "controller . +cpuset;mkdir web;write web cpuset.mems 0;write web cpuset.cpus 2-3;write web cpuset.cpus.partition isolated"), "ok");
    claim("the profile is told by files", std::string(kernel_name(probe_profile(os(), place).profile)), kernel);
    claim("an isolated partition takes its CPUs", tree->read("", "cpuset.cpus.effective").value_or("?") + " " + tree->read("web", "cpuset.cpus.partition").value_or("?"), "0-1,4-7 isolated");
    const sleeper a, b;
    claim("attach", done(*tree, "attach web " + a.text()), "ok");
    claim("a process is where it was moved to, and has what the set has", task(a.pid()), "web 2-3 0");
    claim("tasks", tree->tasks("web").value_or(std::vector<int>{}) == std::vector{a.pid()} ? "one" : "others", "one");

    claim_unchanged(*tree, "a write that is refused half-way", "mkdir n;write n cpuset.cpus 4-5;attach n " + b.text() + ";write n cpuset.cpus.partition root;write n cpuset.cpus 99", "cpuset \"n\": write cpuset.cpus \"99\": ERANGE: ...");
    claim_unchanged(*tree, "a partition that comes out invalid", "mkdir x;write x cpuset.cpus.partition root", "cpuset \"x\": write cpuset.cpus.partition \"root\": EINVAL: it reads \"root invalid (...");
    claim_unchanged(*tree, "a set that is taken away and comes back", "attach . " + a.text() + ";rmdir web;mkdir web/below/it", "cpuset \"web/below/it\": create: ENOENT: there is no set \"web/below\"...");
    claim_unchanged(*tree, "a list that a populated partition needs", "write web cpuset.mems 1;write web cpuset.cpus.partition member;write web cpuset.cpus 0-", "cpuset \"web\": write cpuset.cpus \"0-\": EINVAL: it is no list such as 0-3,8");
    claim_unchanged(*tree, "a controller that is taken away and comes back", "mkdir d;controller d +cpuset;mkdir d/e;write d/e cpuset.cpus 4;controller d -cpuset;rmdir nothing", "cpuset \"nothing\": remove: ENOENT: ...");
    claim_unchanged(*tree, "a set with processes", "write web cpuset.cpus 2;rmdir web", "cpuset \"web\": remove: EBUSY: it has 1 process");
    claim_unchanged(*tree, "a set whose parent does not hand cpuset on", "mkdir p;mkdir p/q;write p/q cpuset.cpus 1", "cpuset \"p/q\": write cpuset.cpus \"1\": ENOENT: set \"p\" does not hand cpuset on...");
    claim_unchanged(*tree, "a process that is not there", "mkdir p;attach p 999999", "cpuset \"p\": attach process 999999: ESRCH: ...");

    claim("a set is handed to a user", done(*tree, "mkdir user;controller user +cpuset"), "ok");
    claim("delegate", delegate(os(), place, "user", 1000, 1000) ? "ok" : "refused", "ok");
    claim("the user makes sets below", as_user([&] { return done(*tree, "mkdir user/own;write user/own cpuset.cpus 6"); }), "ok");
    claim("the set's own lists stay the parent's", as_user([&] { return done(*tree, "write user cpuset.cpus 6"); }), "cpuset \"user\": write cpuset.cpus \"6\": EACCES: Permission denied (/sys/fs/cgroup/user/cpuset.cpus belongs to user 0...");
    claim("the user takes nobody else's process", as_user([&] { return done(*tree, "attach user/own " + b.text()); }), "cpuset \"user/own\": attach process " + b.text() + ": EACCES: ...");
    claim("the user's sets go", done(*tree, "rmdir user/own;rmdir user"), "ok");

    put("/sys/devices/system/cpu/cpu3/online", "0");
    claim_soon("a CPU goes offline", [&] { return tree->read("web", "cpuset.cpus.effective").value_or("?") + " " + read_live(os())->what.online.list(); }, "2 0-2,4-7");
    put("/sys/devices/system/cpu/cpu3/online", "1");
    claim_soon("and comes back", [&] { return tree->read("web", "cpuset.cpus.effective").value_or("?"); }, "2-3");
    claim("all goes", done(*tree, "attach . " + a.text() + ";rmdir web"), "ok");
    claim_soon("the root has all again", [&] { return tree->read("", "cpuset.cpus.effective").value_or("?"); }, "0-7");
}

void without_privilege() {
    const sleeper child;
    const auto machine = machine::load("live", os()).value();
    {
        auto tree = affinity_backend::create(os(), machine).value();
        claim("a tree of affinities", done(*tree, "mkdir a;write a cpuset.cpus 4-6;write a cpuset.mems 1;attach a " + std::to_string(::getpid())), "ok");
        claim("this process is held to it", os().sched_getaffinity(0)->list() + " " + os().get_mempolicy()->nodes.list(), "4-6 1");
        std::string inherited;
        std::thread([&] { inherited = os().sched_getaffinity(0)->list(); }).join();
        claim("a thread started later, too", inherited, "4-6");
    }
    claim("and gets back what it had", os().sched_getaffinity(0)->list() + " " + std::to_string(os().get_mempolicy()->mode), "0-7 0");
    auto other = affinity_backend::create(os(), machine, {.pid = child.pid()}).value();
    claim("another process's tree", done(*other, "mkdir a;write a cpuset.cpus 1-2;write a cpuset.mems 0;attach a " + child.text()), "ok");
    claim("holds that process", os().sched_getaffinity(child.pid())->list(), "1-2");
}

void version_1() {
    put("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset");
    ::mkdir("/dev/cpuset-v1", 0755);
    // Version 2 lets go of the controller a moment after its last set is gone.
    for (int i = 0; i < 1000 && ::mount("cpuset", "/dev/cpuset-v1", "cgroup", 0, "cpuset") != 0; ++i) ::usleep(10000);
    const live_mount place = find_mount(os()).value();
    claim("v1 is found beside v2", place.about + (place.hybrid ? ", hybrid" : "") + (place.whole ? ", whole" : ""), "cgroup v1 at /dev/cpuset-v1, hybrid, whole");
    auto tree = tree_here();
    const sleeper a, b;
    claim("v1 set by set", done(*tree, "mkdir web;write web cpuset.mems 0;write web cpuset.cpus 2-3;write web cpuset.cpu_exclusive 1;attach web " + a.text()), "ok");
    claim("v1: a process has what the set has", task(a.pid()), "web 2-3 0");
    claim_unchanged(*tree, "v1: a list that the parent has not", "mkdir web/in;write web/in cpuset.cpus 2-4", "cpuset \"web/in\": write cpuset.cpus \"2-4\": EACCES: its parent \"web\" has \"2-3\"");
    claim_unchanged(*tree, "v1: a sibling's exclusive list", "mkdir n;write n cpuset.mems 0;write n cpuset.cpus 3-4", "cpuset \"n\": write cpuset.cpus \"3-4\": EINVAL: its sibling \"web\" has \"2-3\", and one of the two is exclusive");
    claim_unchanged(*tree, "v1: a set without nodes", "mkdir n;write n cpuset.cpus 5;attach n " + b.text(), "cpuset \"n\": attach process " + b.text() + ": ENOSPC: it has cpus \"5\" and mems \"\"; both are needed first");
    claim_unchanged(*tree, "v1: a set that is taken away and comes back", "attach . " + a.text() + ";rmdir web;rmdir nothing", "cpuset \"nothing\": remove: ENOENT: ...");
    put("/sys/devices/system/cpu/cpu3/online", "0");
    put("/sys/devices/system/cpu/cpu3/online", "1");
    claim_soon("v1: a hotplug shrinks a set for good", [&] { return tree->read("web", "cpuset.cpus").value_or("?"); }, "2");
    claim("v1: all goes", done(*tree, "attach . " + a.text() + ";rmdir web"), "ok");
    ::umount("/dev/cpuset-v1");
}

}  // namespace

int main(int argc, char** argv) {
    // Deadline servers of newer kernels hold CPUs online for reasons that are none of cpuset's.
    for (int cpu = 0; cpu < 8; ++cpu) put("/sys/kernel/debug/sched/fair_server/cpu" + std::to_string(cpu) + "/runtime", "0");
    const std::string kernel = argc > 1 ? argv[1] : "6.12";
    keeps_affinity = kernel != "6.1";
    version_2(kernel);
    without_privilege();
    version_1();
    std::printf("%d claims failed\n", failed);
    return failed ? 1 : 0;
}
