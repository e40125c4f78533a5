// SPDX-License-Identifier: Apache-2.0
// What 100 cohorts with sets cost on a real kernel, beside the bare calls that make and remove the same sets with the same values: in turn, round by round, medians. In this program, part by part as
// `cohort up` goes through them, and the whole command. One line a claim, "ok NAME" or "FAILED NAME: ..."; figures are indented.
//
//     lab/check --kernels 6.12                          // among others
//     /program [ROUNDS (9)]
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <cohort/group/apply.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/state.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace {

using namespace cohort;

constexpr int cohorts = 100;
constexpr double most = 3;  // times the bare calls
constexpr const char* run_dir = "/tmp/run";
constexpr const char* spec_file = "/tmp/hundred.toml";

int failed = 0;
void claim(const std::string& name, bool holds, const std::string& got) {
    if (holds) std::printf("ok %s\n", name.c_str());
    else std::printf("FAILED %s: %s\n", name.c_str(), got.c_str());
    std::fflush(stdout);
    failed += !holds;
}

/// Two neighbours of eight: members overlap.
std::string cpus_of(int i) { return std::to_string(i % 7) + "-" + std::to_string(i % 7 + 1); }
std::string set_of(int i) { return "/sys/fs/cgroup/cohort-n" + std::to_string(i); }
std::string spec_text() {
    std::string out;
    for (int i = 0; i < cohorts; ++i) out += "[[cohort]]\nname = \"n" + std::to_string(i) + "\"\ncpus = \"" + cpus_of(i) + "\"\ncpuset = \"require\"\n";
    return out;
}

bool write_once(const std::string& path, const std::string& text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return good;
}

/// The same sets and values by nothing but the calls.
bool bare() {
    bool good = write_once("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset\n");
    for (int i = 0; i < cohorts; ++i) good = good && ::mkdir(set_of(i).c_str(), 0755) == 0 && write_once(set_of(i) + "/cpuset.cpus", cpus_of(i) + "\n");
    for (int i = cohorts; i-- > 0;) good = ::rmdir(set_of(i).c_str()) == 0 && good;
    return write_once("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset\n") && good;
}

bool whole_command() {
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(::open("/tmp/said", O_CREAT | O_TRUNC | O_WRONLY, 0600), 1);
        ::execl("/bin/cohort", "cohort", "up", "-q", spec_file, nullptr);
        ::_exit(127);
    }
    int status = 0;
    return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Seconds of each part of each round.
class times {
public:
    template <class Act>
    auto of(const std::string& part, Act act) {
        const auto start = std::chrono::steady_clock::now();
        auto out = act();
        all_[part].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        return out;
    }
    double median(const std::string& part) const {
        auto v = all_.at(part);
        std::ranges::sort(v);
        return v[v.size() / 2];
    }

private:
    std::map<std::string, std::vector<double>> all_;
};

/// What `cohort up` does from a plan on, and what comes before it. False: something of it failed, and was told.
bool in_here(times& t) {
    sys::os& os = sys::real();
    const auto plan = t.of("plan", [&] {
        const auto read = group::read_spec(spec_file, spec_text(), [](std::string_view) { return std::optional<std::string>(); });
        group::machine_view m = group::view_machine("live", os).value();
        m.cpusets = group::view_cpusets("live", "", os).value();
        return group::make_plan(read.value, m, "/tmp");
    });
    if (!plan.holds()) return claim("the plan holds", false, plan.refusals.front().line()), false;
    auto state = t.of("state file", [&] { return group::state_file::create(os, run_dir, group::state_of(plan, os, run_dir, "hundred", spec_file)); });
    if (!state) return claim("its state is written", false, state.error().line()), false;
    auto up = t.of("up", [&] { return group::applied::apply(plan, os, run_dir); });
    if (!up) return claim("all is applied", false, up.error().front().line()), false;
    const auto wrong = t.of("down", [&] { return up->undo(); });
    if (!wrong.empty()) return claim("all is undone", false, wrong.front().line()), false;
    return (*state)->remove().has_value();
}

void measure(int rounds) {
    std::ofstream(spec_file) << spec_text();
    times t;
    bool good = true;
    for (int round = 0; round < rounds && good; ++round) {
        good = t.of("bare", bare) && in_here(t) && t.of("command", whole_command);
        good = good && t.of("bare again", bare);
    }
    claim("100 cohorts come up and go", good, "see above, or /bin/cohort did not end with 0");
    if (!good) return;
    const double by_hand = (t.median("bare") + t.median("bare again")) / 2, ours = t.median("state file") + t.median("up") + t.median("down");
    for (const char* part : {"bare", "plan", "state file", "up", "down", "command", "bare again"}) std::printf("    %-10s %8.2f ms, %.2f times the bare calls\n", part, 1e3 * t.median(part), t.median(part) / by_hand);
    std::printf("    up + down, with what is written down first: %.2f times the bare calls; the whole command, with its start and its plan: %.2f times\n", ours / by_hand, t.median("command") / by_hand);
    claim("up and down of 100 cohorts take at most 3 times the bare calls", ours <= most * by_hand, std::to_string(ours / by_hand));
    struct stat there;
    claim("nothing is left of them", ::stat(set_of(0).c_str(), &there) != 0 && ::stat((std::string(run_dir) + "/n0.up").c_str(), &there) != 0, "a set, or a claim");
}

}  // namespace

int main(int argc, char** argv) {
    ::mkdir("/tmp", 0755);
    ::setenv("COHORT_RUN_DIR", run_dir, 1);
    measure(argc > 1 ? std::atoi(argv[1]) : 9);
    std::printf("%d claims failed\n", failed);
    return failed ? 1 : 0;
}
