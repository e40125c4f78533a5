// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/usage.hpp>

#include <algorithm>
#include <charconv>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::group::detail {
namespace {

/// Of the time, a look takes one part in so many.
constexpr std::uint64_t share = 50, memory_share = 100;
constexpr std::uint64_t memory_at_least_ns = 500'000'000;

/// "N3=12" -> 3, 12. Nothing: it is another word.
std::optional<std::pair<int, std::uint64_t>> pages_of(std::string_view word) {
    std::pair<int, std::uint64_t> out;
    if (!word.starts_with("N")) return std::nullopt;
    const auto [eq, wrong] = std::from_chars(word.data() + 1, word.data() + word.size(), out.first);
    if (wrong != std::errc() || eq == word.data() + word.size() || *eq != '=') return std::nullopt;
    return std::from_chars(eq + 1, word.data() + word.size(), out.second).ec == std::errc() ? std::optional(out) : std::nullopt;
}

bool shared_memory(std::string_view file) { return file.starts_with("/memfd:") || file.starts_with("/dev/shm/") || file.starts_with("/SYSV"); }

}  // namespace

std::uint64_t bytes_outside(std::string_view text, const nodemask& home) {
    std::uint64_t sum = 0;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        std::uint64_t pages = 0, kib = 4;
        bool counts = true;
        while (!line.empty()) {
            const std::string_view word = line.substr(0, line.find(' '));
            line.remove_prefix(std::min(word.size() + 1, line.size()));
            if (word.starts_with("file=")) counts = shared_memory(word.substr(5));
            else if (word.starts_with("kernelpagesize_kB=")) std::from_chars(word.data() + 18, word.data() + word.size(), kib);
            else if (const auto n = pages_of(word); n && n->first < max_nodes && !home.test(n->first)) pages += n->second;
        }
        if (counts) sum += pages * kib * 1024;
    }
    return sum;
}

usage::own own_of(const machine_view& machine, const plan& p, const job_plan& job) {
    usage::own out{.cpus = job.cpus, .home = {}};
    const auto nodes_of = [&](const cpumask& cpus) {
        nodemask nodes;
        for (const int cpu : cpus) {
            if (const int n = machine.node_of(cpu); n >= 0) nodes.set(n);
        }
        return nodes;
    };
    if (nodes_of(machine.possible).weight() < 2) return out;
    const auto cohort = std::ranges::find(p.cohorts, job.spec.cohort, &cohort_plan::name);
    if (cohort != p.cohorts.end()) out.home = cohort->keep.mems;
    if (out.home.empty()) out.home = nodes_of(job.cpus);
    return out;
}

std::size_t usage::add(const own& what) {
    const lock_guard guard(mutex_);
    jobs_[++last_] = {.what = what};
    return last_;
}

void usage::forget(std::size_t job) {
    const lock_guard guard(mutex_);
    jobs_.erase(job);
}

void usage::take(std::size_t job, int pid) {
    const lock_guard guard(mutex_);
    const auto stat = sys::stat_of(os_, pid);
    jobs_.at(job).processes[pid] = {.start = stat ? stat->start : "", .first = true};
    next_family_ = 0;
}

void usage::drop(std::size_t job, int pid) {
    const lock_guard guard(mutex_);
    watched& w = jobs_.at(job);
    const auto it = w.processes.find(pid);
    if (it == w.processes.end()) return;
    // The process has ended and is not reaped: its own file still has the time of all its threads.
    if (const auto stat = sys::stat_of(os_, pid); stat && stat->start == it->second.start && stat->cpu >= 0) {
        add(w, stat->cpu_ns - std::min(it->second.cpu_ns, stat->cpu_ns), stat->cpu);
    }
    w.processes.erase(it);
}

void usage::take_pipe(std::size_t job, int thread, const stream::pipe_look& run) {
    const lock_guard guard(mutex_);
    jobs_.at(job).reader = thread, jobs_.at(job).run = &run;
}

void usage::drop_pipe(std::size_t job) {
    const lock_guard guard(mutex_);
    look_at_pipe(jobs_.at(job));
    jobs_.at(job).reader = 0, jobs_.at(job).run = nullptr;
    jobs_.at(job).threads.clear(), jobs_.at(job).seen.threads.clear();
}

void usage::add(watched& w, std::uint64_t ns, int cpu) {
    if (!w.seen.cpu) w.seen.cpu.emplace();
    const bool inside = cpu >= 0 && cpu < max_cpus && w.what.cpus.test(cpu);
    (inside ? w.seen.cpu->inside : w.seen.cpu->outside) += static_cast<double>(ns) / 1e9;
}

/// One that has ended meanwhile is forgotten with the others of its process that were not found.
void usage::look_at_thread(watched& w, std::map<int, counted>& known, const std::string& of, int tid, std::uint64_t* sum) {
    const auto stat = sys::stat_of(os_, of + "/task/" + std::to_string(tid));
    if (!stat || stat->cpu < 0) return;
    counted& c = known[tid];
    if (c.start != stat->start) c = {stat->start, 0};
    const std::uint64_t more = stat->cpu_ns - std::min(c.cpu_ns, stat->cpu_ns);
    add(w, more, stat->cpu);
    c.cpu_ns += more;
    if (sum) *sum += more;
}

void usage::look_at(watched& w, int pid, process_seen& p) {
    const auto threads = sys::threads_of_process(os_, pid);
    if (!threads) return;
    std::erase_if(p.threads, [&](const auto& t) { return !std::ranges::binary_search(*threads, t.first); });
    for (const int tid : *threads) look_at_thread(w, p.threads, std::to_string(pid), tid, &p.cpu_ns);
}

void usage::look_at_pipe(watched& w) {
    if (!w.run) return;
    w.seen.threads.assign({w.reader});
    if (const auto now = w.run->now()) w.seen.threads.insert(w.seen.threads.end(), now->threads.begin(), now->threads.end());
    for (const int tid : w.seen.threads) look_at_thread(w, w.threads, std::to_string(os_.getpid()), tid, nullptr);
}

/// Who has a watched process for a parent is watched, as long as he lives. Those that have ended, or whose number is another's, are forgotten.
void usage::find_descendants() {
    const auto all = sys::all_processes(os_);
    if (!all) return;
    std::map<int, sys::task_stat> now;
    for (const int pid : *all) {
        if (auto s = sys::stat_of(os_, pid)) now[pid] = std::move(*s);
    }
    for (auto& [number, w] : jobs_) {
        if (w.processes.empty()) continue;
        std::erase_if(w.processes, [&](const auto& one) {
            const auto it = now.find(one.first);
            return !one.second.first && (it == now.end() || it->second.over() || it->second.start != one.second.start);
        });
        for (bool more = true; more;) {
            more = false;
            for (const auto& [pid, s] : now) {
                if (s.over() || w.processes.contains(pid) || !w.processes.contains(s.parent)) continue;
                w.processes[pid] = {.start = s.start};
                more = true;
            }
        }
    }
}

void usage::look_at_memory() {
    for (auto& [number, w] : jobs_) {
        if (w.what.home.empty()) continue;
        std::optional<std::uint64_t> sum;
        for (const auto& [pid, p] : w.processes) {
            if (const auto text = sys::read_file(os_, sys::paths::of_process(std::to_string(pid), "numa_maps")); text && !text->empty()) sum = sum.value_or(0) + bytes_outside(*text, w.what.home);
        }
        if (sum) w.seen.remote_peak = std::max(w.seen.remote_peak.value_or(0), *sum);
    }
}

/// From now on nobody looks for so many times as long as this look took, nor for `at_least` nanoseconds.
std::uint64_t usage::after(std::uint64_t from, std::uint64_t parts, std::uint64_t at_least) const {
    const std::uint64_t now = os_.now();
    return now + std::max((now - from) * parts, at_least);
}

void usage::look() {
    const lock_guard guard(mutex_);
    const bool processes = std::ranges::any_of(jobs_, [](const auto& one) { return !one.second.processes.empty(); });
    std::uint64_t from = os_.now();
    if (processes && from >= next_family_) {
        find_descendants();
        next_family_ = after(from, share, 0);
        from = os_.now();
    }
    if (from >= next_) {
        for (auto& [number, w] : jobs_) {
            for (auto& [pid, p] : w.processes) look_at(w, pid, p);
            look_at_pipe(w);
        }
        next_ = after(from, share, 0);
        from = os_.now();
    }
    if (processes && from >= next_memory_) {
        look_at_memory();
        next_memory_ = after(from, memory_share, memory_at_least_ns);
    }
}

usage::figures usage::of(std::size_t job) const {
    const lock_guard guard(mutex_);
    return jobs_.at(job).seen;
}

std::optional<std::uint64_t> usage::in_flight(std::size_t job) const {
    const lock_guard guard(mutex_);
    const auto now = jobs_.at(job).run ? jobs_.at(job).run->now() : std::nullopt;
    return now ? std::optional(now->blocks) : std::nullopt;
}

}  // namespace cohort::group::detail
