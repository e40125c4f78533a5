// SPDX-License-Identifier: Apache-2.0
/// Random operations on a small tree, for model tests, the fuzzer and the comparison with a kernel.
///
///     random_ops next([&](unsigned n) { return rng() % n; }, {.v1 = false});
///     operation op = next(m);            // the model's tree tells which paths there are
///     std::string state = dump(m);       // all files of all sets, and all tasks
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <cohort/cpuset/model.hpp>

namespace cohort::cpuset::testing {

struct random_options {
    bool v1 = false;
    int cpus = 8, nodes = 2, depth = 4, sets = 12;
    bool hotplug = true, delegates = true, suspends = true;
};

class random_ops {
public:
    /// below(n) chooses one of 0 .. n-1.
    random_ops(std::function<unsigned(unsigned)> below, random_options o) : below_(std::move(below)), o_(o) {}

    operation operator()(const model& m) {
        paths_ = m.paths();
        const unsigned which = below_(100);
        if (which < 10) return make();
        if (which < 13) return {.what = verb::rmdir, .path = some_path()};
        if (which < 60) return write(m);
        if (which < 70) return {.what = verb::attach, .path = some_path(), .task = some_task()};
        if (which < 72) return {.what = verb::fork, .task = some_task(), .child = some_task()};
        if (which < 75) return {.what = verb::exit, .task = some_task()};
        if (which < 79) return {.what = verb::affinity, .task = some_task(), .cpus = some_cpus()};
        if (which < 82) return {.what = below_(2) ? verb::mempolicy : verb::mbind, .task = some_task(), .policy = some_policy()};
        if (which < 87) return {.what = verb::controller, .path = some_path(), .on = below_(4) != 0};
        if (which < 96) return o_.hotplug ? hotplug() : write(m);
        if (which < 97) return {.what = verb::advance, .number = below_(20)};
        if (which < 98) return {.what = verb::pressure, .task = some_task(), .number = below_(1000)};
        if (which < 99 && o_.suspends) return {.what = below_(3) ? verb::resume : verb::suspend};
        if (!o_.delegates || below_(2)) return {.what = verb::as_root};
        return {.what = verb::as_delegate, .path = some_path()};
    }

private:
    static std::string plain(std::string path) { return path == "." ? "" : path; }
    std::string some_path() { return plain(paths_[below_(static_cast<unsigned>(paths_.size()))]); }
    std::string some_task() { return "t" + std::to_string(below_(5)); }

    cpumask some_cpus() {
        const int first = static_cast<int>(below_(static_cast<unsigned>(o_.cpus)));
        cpumask out = cpumask::range(first, std::min(o_.cpus - 1, first + static_cast<int>(below_(4))));
        if (below_(5) == 0) out.set(static_cast<int>(below_(static_cast<unsigned>(o_.cpus))));
        return out;
    }
    nodemask some_nodes() {
        nodemask out;
        for (int n = 0; n < o_.nodes; ++n) {
            if (below_(2)) out.set(n);
        }
        return out;
    }
    memory_policy some_policy() {
        memory_policy p{.mode = static_cast<policy_mode>(below_(7))};
        p.nodes = some_nodes();
        p.static_nodes = below_(4) == 0;
        p.relative_nodes = below_(4) == 0;
        return p;
    }
    operation make() {
        std::string path = some_path();
        const int depth = path.empty() ? 0 : 1 + static_cast<int>(std::count(path.begin(), path.end(), '/'));
        if (depth >= o_.depth || static_cast<int>(paths_.size()) > o_.sets) return {.what = verb::domains};
        if (!path.empty()) path += "/";
        return {.what = verb::mkdir, .path = path + static_cast<char>('a' + below_(3))};
    }
    operation hotplug() {
        if (below_(6) == 0) return {.what = verb::node, .number = below_(static_cast<unsigned>(o_.nodes)), .on = below_(2) != 0};
        return {.what = verb::cpu, .number = below_(static_cast<unsigned>(o_.cpus)), .on = below_(2) != 0};
    }
    operation write(const model& m) {
        operation op{.what = verb::write, .path = some_path()};
        const std::vector<std::string> files = m.files(op.path.empty() ? "." : op.path);
        if (files.empty()) return {.what = verb::controller, .path = op.path, .on = true};
        op.file = files[below_(static_cast<unsigned>(files.size()))];
        op.text = value_for(op.file);
        return op;
    }
    std::string value_for(const std::string& file) {
        static constexpr std::array states{"member", "root", "isolated", "neither"};
        if (file == "cpuset.cpus.partition") return states[below_(16) == 0 ? 3 : below_(3)];
        const unsigned odd = below_(24);
        if (odd == 0) return "";
        if (odd == 1) return "3-1";
        if (odd == 2) return "99";
        if (file.find("mems") != std::string::npos) return some_nodes().list();
        if (file == "cpuset.cpus" || file.starts_with("cpuset.cpus.") || file == "cpuset.effective_cpus") return some_cpus().list();
        return std::to_string(static_cast<int>(below_(4)) - 1);
    }

    std::function<unsigned(unsigned)> below_;
    random_options o_;
    std::vector<std::string> paths_;
};

/// One line for each file of each set, and for each task that random_ops may have made.
inline std::string dump(model& m) {
    std::string out;
    for (const std::string& path : m.paths()) {
        const std::string plain = path == "." ? "" : path;
        for (const std::string& file : m.files(path)) out += path + " " + file + " " + m.perform({.what = verb::read, .path = plain, .file = file}).value + "\n";
        for (const std::string& t : m.perform({.what = verb::tasks, .path = plain}).list) {
            const answer a = m.perform({.what = verb::task, .task = t});
            out += t + " in " + a.path + " cpus " + a.value + " mems " + a.mems + " policy " + a.policy + " " + a.vma_policy + "\n";
        }
    }
    for (const std::string& d : m.perform({.what = verb::domains}).list) out += "domain " + d + "\n";
    return out;
}

}  // namespace cohort::cpuset::testing
