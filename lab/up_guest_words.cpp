// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "up_guest.hpp"

namespace up_guest {
namespace {

int failed = 0;

std::string output_of(pid_t pid, const char* which) { return "/tmp/command." + std::to_string(pid) + which; }

/// Numbers of processes that are no threads of the kernel's.
std::vector<pid_t> processes() {
    std::vector<pid_t> out;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") == std::string::npos && !contents("/proc/" + name + "/cmdline").empty()) out.push_back(std::stoi(name));
    }
    return out;
}

}  // namespace

void claim(const std::string& name, const std::string& got, const std::string& wanted) {
    const bool same = wanted.ends_with("...") ? got.starts_with(wanted.substr(0, wanted.size() - 3)) : got == wanted;
    if (same) std::printf("ok %s\n", name.c_str());
    else std::printf("FAILED %s: \"%s\", not \"%s\"\n", name.c_str(), got.c_str(), wanted.c_str());
    std::fflush(stdout);
    failed += !same;
}
void claim(const std::string& name, bool holds, const std::string& got) { claim(name, holds ? "so" : got, "so"); }
int failures() { return failed; }

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
std::string word_after(const std::string& text, const std::string& key) {
    const auto at = text.find(key + " ");
    return at == std::string::npos ? "?" : text.substr(at + key.size() + 1, text.find_first_of(" \n", at + key.size() + 1) - at - key.size() - 1);
}
bool is_there(const std::string& path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
}
double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
void pause_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

bool comes_true(const std::function<bool()>& so) {
    constexpr double patience = 120;
    for (const double until = seconds_now() + patience; seconds_now() < until; pause_for(0.02)) {
        if (so()) return true;
    }
    return false;
}

std::string cookie_of(pid_t pid) {
    unsigned long long value = 0;
    return prctl(62, 0, pid, 0, &value) == 0 ? std::to_string(value) : "none to ask";
}
bool is_cookie(const std::string& text) { return text.size() > 4 && text.find_first_not_of("0123456789") == std::string::npos; }

std::string outcome::text(const std::string& cohort, const char* what, const char* key) const {
    if (report.contains("cohorts")) {
        for (const auto& c : report["cohorts"]) {
            if (c["name"] == cohort && c[what].is_object()) return c[what].value(key, "?");
        }
    }
    return "nothing: " + err;
}

pid_t begin(const std::vector<std::string>& words, const char* program) {
    std::vector<char*> args{const_cast<char*>(program)};
    for (const std::string& w : words) args.push_back(const_cast<char*>(w.c_str()));
    args.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    for (const auto& [to, which] : {std::pair(1, ".out"), std::pair(2, ".err")}) ::dup2(::open(output_of(::getpid(), which).c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600), to);
    ::execv(program, args.data());
    ::_exit(127);
}

outcome finish(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    const std::string out = output_of(pid, ".out"), err = output_of(pid, ".err");
    outcome o{WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status, contents(out), contents(err), {}};
    ::unlink(out.c_str()), ::unlink(err.c_str());
    o.report = nlohmann::json::parse(o.out, nullptr, false);
    if (!o.report.is_object()) o.report = nlohmann::json::object();
    return o;
}
outcome command(const std::vector<std::string>& words) { return finish(begin(words)); }

std::string write_spec(const std::string& spec) {
    put("/tmp/spec.toml", "workdir = \"/tmp/job\"\n" + spec);
    return "/tmp/spec.toml";
}
outcome up(const std::string& spec) { return command({"up", "-q", "--json", write_spec(spec)}); }

std::string cohort(const std::string& name, const std::string& cpus, const std::string& more) { return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + more + "\n"; }
std::string job(const std::string& of, const std::string& name, const std::string& words) {
    return "[[job]]\nname = \"" + name + "\"\ncohort = \"" + of + "\"\nkind = \"exec\"\ncommand = [\"/program\", " + words + "]\nstdout = \"" + name + "\"\n";
}
std::string told(const std::string& name) { return contents("/tmp/job/" + name); }

std::string left() {
    namespace fs = std::filesystem;
    for (const auto& entry : fs::directory_iterator("/sys/fs/cgroup")) {
        if (entry.is_directory()) return "set " + entry.path().filename().string();
    }
    for (const auto& [file, wanted] : {std::pair("cpuset.cpus.effective", "0-7\n"), std::pair("cgroup.subtree_control", "\n")}) {
        const std::string got = contents(std::string("/sys/fs/cgroup/") + file);
        if (got != wanted && !(got.empty() && std::string(wanted) == "\n")) return std::string("the top's ") + file + " is " + got;
    }
    for (const pid_t pid : processes()) {
        if (const std::string line = contents("/proc/" + std::to_string(pid) + "/cmdline"); line.starts_with("/program") && pid != ::getpid()) return "process " + std::to_string(pid) + ": " + line;
        if (const std::string cookie = cookie_of(pid); cookie != "0" && !cookie.starts_with("none")) return "cookie " + cookie + " of process " + std::to_string(pid);
    }
    if (!fs::exists("/tmp/run")) return "nothing";
    for (const auto& entry : fs::directory_iterator("/tmp/run")) {
        // The folder of pipes' masks stays once there was a pipe.
        if (entry.path().filename() != "padata" || !fs::is_empty(entry.path())) return "file " + entry.path().filename().string();
    }
    return "nothing";
}

}  // namespace up_guest
