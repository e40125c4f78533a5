// SPDX-License-Identifier: Apache-2.0
// What 100 cohorts cost beside the calls that make their sets by hand.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "up_guest.hpp"

namespace up_guest {
namespace {

constexpr int cohorts = 100;

std::string name_of(int i) { return "n" + std::to_string(i); }
/// Two neighbours of eight: members overlap.
std::string cpus_of(int i) { return std::to_string(i % 7) + "-" + std::to_string(i % 7 + 1); }
std::string set_of(int i) { return "/sys/fs/cgroup/cohort-" + name_of(i); }

bool write_once(const std::string& path, const std::string& text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return good;
}

/// The same sets and values, one after the other, by nothing but the calls.
bool bare() {
    bool good = write_once("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset\n");
    for (int i = 0; i < cohorts; ++i) good = good && ::mkdir(set_of(i).c_str(), 0755) == 0 && write_once(set_of(i) + "/cpuset.cpus", cpus_of(i) + "\n");
    for (int i = cohorts; i-- > 0;) good = ::rmdir(set_of(i).c_str()) == 0 && good;
    return write_once("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset\n") && good;
}

double median(std::vector<double> all) {
    std::ranges::sort(all);
    return all.empty() ? 0 : all[all.size() / 2];
}

}  // namespace

void cost(int rounds) {
    std::string spec;
    for (int i = 0; i < cohorts; ++i) spec += cohort(name_of(i), cpus_of(i), require_set);
    const std::string path = write_spec(spec);
    std::vector<double> ours, theirs;
    for (int round = 0; round < rounds; ++round) {
        double at = seconds_now();
        const bool good = bare();
        theirs.push_back(seconds_now() - at);
        at = seconds_now();
        const outcome o = command({"up", "-q", "--json", path});
        ours.push_back(seconds_now() - at);
        if (!good || o.code != 0) return claim("100 cohorts come up and go", false, (good ? "" : "bare calls fail; ") + o.said());
    }
    std::printf("    up + down of %d cohorts: %.3f s, bare calls %.3f s: %.2f\n", cohorts, median(ours), median(theirs), median(ours) / median(theirs));
    claim("100 cohorts: nothing is left", left(), "nothing");
}

}  // namespace up_guest
