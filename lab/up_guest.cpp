// SPDX-License-Identifier: Apache-2.0
// `cohort up` on a real kernel, as root of a guest of two nodes of two cores of two CPUs: sets with require, cookies by the kernel. One line a claim on standard output, "ok NAME" or
// "FAILED NAME: what was there instead"; exit 0 when all hold. It is also the program that the jobs run: `tell` prints what it finds itself in, `hog` computes.
//
//     lab/check --kernels 6.12                          // among others; the guest has the command as it is built, and its libraries
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include <nlohmann/json.hpp>

namespace {

int failed = 0;

void claim(const std::string& name, const std::string& got, const std::string& wanted) {
    const bool same = wanted.ends_with("...") ? got.starts_with(wanted.substr(0, wanted.size() - 3)) : got == wanted;
    std::printf(same ? "ok %s\n" : "FAILED %s: \"%s\", not \"%s\"\n", name.c_str(), got.c_str(), wanted.c_str());
    std::fflush(stdout);
    failed += !same;
}
void claim(const std::string& name, bool holds, const std::string& got) { claim(name, holds ? "so" : got, "so"); }

std::string contents(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}
bool put(const std::string& path, const std::string& text) { return static_cast<bool>(std::ofstream(path) << text << std::flush); }

std::string value_of(const std::string& text, const std::string& key) {
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with(key)) continue;
        const auto at = line.find_first_not_of(" \t:", key.size());
        return at == std::string::npos ? "" : line.substr(at);
    }
    return "?";
}

std::string own_cookie() {
    unsigned long long value = 0;
    return prctl(62, 0, 0, 0, &value) == 0 ? std::to_string(value) : "none to ask";
}

/// What a job finds itself in.
int tell() {
    std::cin.ignore(1 << 20);
    const std::string status = contents("/proc/self/status"), set = value_of(contents("/proc/self/cgroup"), "0::");
    std::cout << "cpus " << value_of(status, "Cpus_allowed_list") << " mems " << value_of(status, "Mems_allowed_list") << " set " << set << " partition "
              << value_of(contents("/sys/fs/cgroup" + set + "/cpuset.cpus.partition"), "") << " cookie " << own_cookie() << "\n";
    return 0;
}

int hog(double seconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < until) {}
    std::cout << "cookie " << own_cookie() << "\nforced " << value_of(contents("/proc/self/sched"), "core_forceidle_sum") << "\n";
    return 0;
}

struct outcome {
    int code = -1;
    std::string out, err;
    nlohmann::json report;

    std::string text(const std::string& cohort, const char* what, const char* key) const {
        if (report.contains("cohorts")) {
            for (const auto& c : report["cohorts"]) {
                if (c["name"] == cohort && c[what].is_object()) return c[what].value(key, "?");
            }
        }
        return "nothing: " + err;
    }
};

outcome up(const std::string& spec) {
    put("/tmp/spec.toml", "workdir = \"/tmp/job\"\n" + spec);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(::open("/tmp/up.out", O_CREAT | O_TRUNC | O_WRONLY, 0600), 1);
        ::dup2(::open("/tmp/up.err", O_CREAT | O_TRUNC | O_WRONLY, 0600), 2);
        ::execl("/bin/cohort", "cohort", "up", "-q", "--json", "/tmp/spec.toml", nullptr);
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    outcome o{WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status, contents("/tmp/up.out"), contents("/tmp/up.err"), {}};
    o.report = nlohmann::json::parse(o.out, nullptr, false);
    if (!o.report.is_object()) o.report = nlohmann::json::object();
    return o;
}

std::string cohort(const std::string& name, const std::string& cpus, const std::string& more) { return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + more + "\n"; }
std::string job(const std::string& of, const std::string& name, const std::string& words = "\"tell\"") {
    return "[[job]]\nname = \"" + name + "\"\ncohort = \"" + of + "\"\nkind = \"exec\"\ncommand = [\"/program\", " + words + "]\nstdout = \"" + name + "\"\n";
}
std::string told(const std::string& name) { return contents("/tmp/job/" + name); }
std::string word_after(const std::string& text, const std::string& key) {
    const auto at = text.find(key + " ");
    return at == std::string::npos ? "?" : text.substr(at + key.size() + 1, text.find_first_of(" \n", at + key.size() + 1) - at - key.size() - 1);
}
std::string sets_left() {
    struct stat there;
    for (const char* name : {"rt", "web", "a", "b"}) {
        if (::stat((std::string("/sys/fs/cgroup/cohort-") + name).c_str(), &there) == 0) return std::string("cohort-") + name + " is left";
    }
    return "none";
}

void sets() {
    const outcome o = up(cohort("rt", "2-3", "mems = \"0\"\npartition = \"isolated\"\ncpuset = \"require\"") + cohort("web", "4-5", "cpuset = \"require\"") + job("rt", "in-rt") + job("web", "in-web"));
    claim("cpuset = require: the run is well", o.code == 0, std::to_string(o.code) + " " + o.err);
    claim("it was kept by the kernel", o.text("rt", "kept_by", "text"), "set cohort-rt, cgroup v2 at /sys/fs/cgroup, partition isolated, nodes 0");
    claim("a job is in its partition", told("in-rt"), "cpus 2-3 mems 0 set /cohort-rt partition isolated cookie ...");
    claim("and another in its set", told("in-web"), "cpus 4-5 mems 0-1 set /cohort-web partition member cookie ...");
    claim("sets are gone afterwards", sets_left(), "none");
    claim("the top has its CPUs again", contents("/sys/fs/cgroup/cpuset.cpus.effective"), "0-7\n");

    const outcome whole = up(cohort("a", "0-7", "partition = \"root\"\ncpuset = \"require\"") + job("a", "in-a"));
    claim("what the kernel would refuse is refused beforehand", whole.code == 1 && whole.err.find("it would read \"root invalid") != std::string::npos, std::to_string(whole.code) + " " + whole.err);
    const outcome two = up(cohort("a", "2-3", "partition = \"root\"\ncpuset = \"require\"") + cohort("b", "3-4", "partition = \"root\"\ncpuset = \"require\"") + job("a", "in-a") + job("b", "in-b"));
    claim("two partitions cannot have one CPU", two.code == 1 && two.err.find("cohort \"b\": cpuset = \"require\": ") != std::string::npos, std::to_string(two.code) + " " + two.err);
    claim("and nothing is left of either", sets_left(), "none");
}

const std::string require = "coresched = \"require\"\n";

void without_siblings() {
    const outcome o = up(cohort("a", "0", "cookie = \"x\"\n" + require) + job("a", "in-a"));
    claim("without siblings online there is none to require", o.code == 3 && o.err.find("no core has two CPUs online") != std::string::npos, std::to_string(o.code) + " " + o.err);
}

void cookies() {
    put("/tmp/job/in", "1\n2\n3\n");
    const outcome o = up(cohort("a", "0", "cookie = \"x\"\n" + require) + cohort("b", "1", "cookie = \"y\"\n" + require) + cohort("also", "2", "cookie = \"x\"\n") + cohort("none", "3", "") + job("a", "in-a") +
                         job("b", "in-b") + job("also", "in-also") + job("none", "in-none") +
                         "[[job]]\nname = \"pipe\"\ncohort = \"a\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"through\"\ncommand = [\"/program\", \"tell\"]\n");
    claim("cookies: the run is well", o.code == 0, std::to_string(o.code) + " " + o.err);
    for (const char* name : {"a", "b", "also"}) claim(std::string("the kernel keeps that of ") + name, o.text(name, "cookie", "by"), "kernel");
    const std::string a = word_after(told("in-a"), "cookie"), b = word_after(told("in-b"), "cookie");
    claim("a job has a cookie", a.size() > 4 && a.find_first_not_of("0123456789") == std::string::npos, a);
    claim("another cohort has another", b.size() > 4 && b != a, b);
    claim("equal names share one", word_after(told("in-also"), "cookie"), a);
    claim("who asks for none has none", word_after(told("in-none"), "cookie"), "0");
    claim("what a pipe's workers start has it, too", word_after(told("through"), "cookie"), a);
    claim("none is left here", own_cookie(), "0");

    put("/proc/sys/kernel/sched_schedstats", "1");
    const std::string half = "\"hog\", \"0.5\"";
    const outcome hogs = up(cohort("a", "0", "cookie = \"x\"\n" + require) + cohort("b", "1", "") + job("a", "hog-a", half) + job("b", "hog-b", half));
    claim("two hogs on siblings: the run is well", hogs.code == 0, std::to_string(hogs.code) + " " + hogs.err);
    const double forced = std::atof(word_after(told("hog-a"), "forced").c_str()) + std::atof(word_after(told("hog-b"), "forced").c_str());
    claim("the kernel forced siblings idle for them", forced > 10, std::to_string(forced) + " ms");

    const outcome both = up(cohort("rt", "2-3", "partition = \"root\"\ncpuset = \"require\"\ncookie = \"x\"\n" + require) + job("rt", "in-rt"));
    claim("a partition and a cookie", both.code == 0 && told("in-rt").starts_with("cpus 2-3 mems 0-1 set /cohort-rt partition root cookie ") && word_after(told("in-rt"), "cookie").size() > 4, told("in-rt") + both.err);

    const outcome cores = up(cohort("a", "0-1", "cookie = \"x\"\ncoresched = \"emulate\"\n") + cohort("b", "2-3", "") + job("a", "in-a") + job("b", "in-b"));
    claim("emulate: by whole cores, although the kernel could", cores.text("a", "cookie", "by"), "whole cores");
    claim("and without a cookie", word_after(told("in-a"), "cookie"), "0");
    const outcome shared = up(cohort("a", "0", "cookie = \"x\"\ncoresched = \"emulate\"\n") + cohort("b", "1", "") + job("a", "in-a") + job("b", "in-b"));
    claim("programs on one core cannot be emulated", shared.code == 3 && shared.err.find("which no executor holds") != std::string::npos, std::to_string(shared.code) + " " + shared.err);

    put("/sys/devices/system/cpu/smt/control", "off");
    without_siblings();
    put("/sys/devices/system/cpu/smt/control", "on");
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "tell") return tell();
    if (what == "hog") return hog(std::atof(argv[2]));
    ::mkdir("/tmp", 0755);
    ::mkdir("/tmp/job", 0755);
    // Deadline servers of newer kernels hold CPUs online for reasons that are none of cpuset's.
    for (int cpu = 0; cpu < 8; ++cpu) put("/sys/kernel/debug/sched/fair_server/cpu" + std::to_string(cpu) + "/runtime", "0");
    sets();
    if (contents("/sys/devices/system/cpu/smt/active") == "1\n") cookies();
    else without_siblings();  // qemu's processors show 6.1 none
    std::printf("%d claims failed\n", failed);
    return failed ? 1 : 0;
}
