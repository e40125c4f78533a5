// SPDX-License-Identifier: Apache-2.0
// `cohort up` on a real kernel, as root of a guest of two nodes of two cores of two CPUs: sets with require, cookies by the kernel. One line a claim on standard output, "ok NAME" or
// "FAILED NAME: what was there instead"; exit 0 when all hold. It is also the program that the jobs run: `tell` prints what it finds itself in, `hog` computes, `stay` does nothing.
//
//     lab/check --kernels 6.12                          // among others; the guest has the command as it is built, and its libraries
//     /program [--rounds N (20)] [sets | cookies | inside | lives | daemon]...       nothing named: all of them
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>

#include "up_guest.hpp"

namespace up_guest {
namespace {

/// What a job finds itself in.
int tell() {
    std::cin.ignore(1 << 20);
    const std::string status = contents("/proc/self/status"), set = value_of(contents("/proc/self/cgroup"), "0::");
    std::cout << "cpus " << value_of(status, "Cpus_allowed_list") << " mems " << value_of(status, "Mems_allowed_list") << " set " << set << " partition "
              << value_of(contents("/sys/fs/cgroup" + set + "/cpuset.cpus.partition"), "") << " cookie " << cookie_of() << std::endl;
    return 0;
}

int hog(double seconds) {
    const double until = seconds_now() + seconds;
    while (seconds_now() < until) {}
    std::cout << "cookie " << cookie_of() << "\nforced " << value_of(contents("/proc/self/sched"), "core_forceidle_sum") << "\n";
    return 0;
}

void sets() {
    const outcome o = up(cohort("rt", "2-3", "mems = \"0\"\npartition = \"isolated\"\n" + require_set) + cohort("web", "4-5", require_set) + job("rt", "in-rt") + job("web", "in-web"));
    claim("cpuset = require: the run is well", o.code == 0, o.said());
    claim("it was kept by the kernel", o.text("rt", "kept_by", "text"), "set cohort-rt, cgroup v2 at /sys/fs/cgroup, partition isolated, nodes 0");
    claim("a job is in its partition", told("in-rt"), "cpus 2-3 mems 0 set /cohort-rt partition isolated cookie ...");
    claim("and another in its set", told("in-web"), "cpus 4-5 mems 0-1 set /cohort-web partition member cookie ...");
    claim("sets are gone afterwards", left(), "nothing");

    const outcome whole = up(cohort("a", "0-7", "partition = \"root\"\n" + require_set) + job("a", "in-a"));
    claim("what the kernel would refuse is refused beforehand", whole.code == 1 && whole.err.find("it would read \"root invalid") != std::string::npos, whole.said());
    const outcome two = up(cohort("a", "2-3", "partition = \"root\"\n" + require_set) + cohort("b", "3-4", "partition = \"root\"\n" + require_set) + job("a", "in-a") + job("b", "in-b"));
    claim("two partitions cannot have one CPU", two.code == 2 && two.err.find("CPU 3 is wanted twice") != std::string::npos, two.said());
    claim("and nothing is left of either", left(), "nothing");
}

void without_siblings() {
    const outcome o = up(cohort("a", "0", "cookie = \"x\"\n" + require_cookie) + job("a", "in-a"));
    claim("without siblings online there is none to require", o.code == 3 && o.err.find("no core has two CPUs online") != std::string::npos, o.said());
}

void cookies() {
    put("/tmp/job/in", "1\n2\n3\n");
    const outcome o = up(cohort("a", "0", "cookie = \"x\"\n" + require_cookie) + cohort("b", "1", "cookie = \"y\"\n" + require_cookie) + cohort("also", "2", "cookie = \"x\"\n") + cohort("none", "3") +
                         job("a", "in-a") + job("b", "in-b") + job("also", "in-also") + job("none", "in-none") +
                         "[[job]]\nname = \"pipe\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"through\"\ncommand = [\"/program\", \"tell\"]\n");
    claim("cookies: the run is well", o.code == 0, o.said());
    for (const char* name : {"a", "b", "also"}) claim(std::string("the kernel keeps that of ") + name, o.text(name, "cookie", "by"), "kernel");
    const std::string a = word_after(told("in-a"), "cookie"), b = word_after(told("in-b"), "cookie");
    claim("a job has a cookie", is_cookie(a), a);
    claim("another cohort has another", is_cookie(b) && b != a, b);
    claim("equal names share one", word_after(told("in-also"), "cookie"), a);
    claim("who asks for none has none", word_after(told("in-none"), "cookie"), "0");
    claim("what a pipe's workers start has it, too", word_after(told("through"), "cookie"), a);
    claim("none is left here", cookie_of(), "0");

    put("/proc/sys/kernel/sched_schedstats", "1");
    const std::string half = "\"hog\", \"0.5\"";
    const outcome hogs = up(cohort("a", "0", "cookie = \"x\"\n" + require_cookie) + cohort("b", "1") + job("a", "hog-a", half) + job("b", "hog-b", half));
    claim("two hogs on siblings: the run is well", hogs.code == 0, hogs.said());
    const double forced = std::atof(word_after(told("hog-a"), "forced").c_str()) + std::atof(word_after(told("hog-b"), "forced").c_str());
    claim("the kernel forced siblings idle for them", forced > 10, std::to_string(forced) + " ms");

    const outcome both = up(cohort("rt", "2-3", "partition = \"root\"\ncookie = \"x\"\n" + require_set + require_cookie) + job("rt", "in-rt"));
    claim("a partition and a cookie", both.code == 0 && told("in-rt").starts_with("cpus 2-3 mems 0-1 set /cohort-rt partition root cookie ") && is_cookie(word_after(told("in-rt"), "cookie")), told("in-rt") + both.err);

    const outcome cores = up(cohort("a", "0-1", "cookie = \"x\"\ncoresched = \"emulate\"\n") + cohort("b", "2-3") + job("a", "in-a") + job("b", "in-b"));
    claim("emulate: by whole cores, although the kernel could", cores.text("a", "cookie", "by"), "whole cores");
    claim("and without a cookie", word_after(told("in-a"), "cookie"), "0");
    const outcome shared = up(cohort("a", "0", "cookie = \"x\"\ncoresched = \"emulate\"\n") + cohort("b", "1") + job("a", "in-a") + job("b", "in-b"));
    claim("programs on one core cannot be emulated", shared.code == 3 && shared.err.find("which no executor holds") != std::string::npos, shared.said());

    put("/sys/devices/system/cpu/smt/control", "off");
    without_siblings();
    put("/sys/devices/system/cpu/smt/control", "on");
}

}  // namespace
}  // namespace up_guest

int main(int argc, char** argv) {
    using namespace up_guest;
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "tell") return tell();
    if (what == "hog") return hog(std::atof(argv[2]));
    if (what == "end") return std::atoi(argv[2]);
    if (what == "stay") {
        (void)tell();
        for (;;) ::pause();
    }
    int rounds = 20;
    std::set<std::string> parts;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--rounds" && i + 1 < argc) rounds = std::atoi(argv[++i]);
        else parts.insert(word);
    }
    const auto wanted = [&](const char* part) { return parts.empty() || parts.contains(part); };
    ::mkdir("/tmp", 0755);
    ::mkdir("/tmp/job", 0755);
    ::setenv("COHORT_RUN_DIR", "/tmp/run", 1);
    // Deadline servers of newer kernels hold CPUs online for reasons that are none of cpuset's.
    for (int cpu = 0; cpu < 8; ++cpu) put("/sys/kernel/debug/sched/fair_server/cpu" + std::to_string(cpu) + "/runtime", "0");
    const bool siblings = contents("/sys/devices/system/cpu/smt/active") == "1\n";
    if (wanted("sets")) sets();
    if (wanted("cookies")) siblings ? cookies() : without_siblings();  // qemu's processors show 6.1 none
    if (wanted("inside") && siblings) inside();
    if (wanted("lives") && siblings) lives(rounds);
    if (wanted("daemon") && siblings) daemon();
    std::printf("%d claims failed\n", failures());
    return failures() ? 1 : 0;
}
