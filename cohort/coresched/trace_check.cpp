// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/trace_check.hpp>

#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched {
namespace {

constexpr std::size_t most_violations = 1000;

/// The trace, event by event, in the engine's own terms: its accounts are what is reported.
class replay {
public:
    replay(const std::map<int, cookie>& cookies, const machine::topology& machine, const trace_options& o) : o_(o), tags_(cookies) {
        state_.cpus.resize(static_cast<std::size_t>(std::max(machine.possible.last(), 0)) + 1);
        core_of_.assign(state_.cpus.size(), none);
        waiting_.resize(state_.cpus.size());
        for (const auto& c : machine.cores) {
            detail::core made;
            made.cpus = c.cpus;
            for (int cpu : c.cpus) {
                core_of_[static_cast<std::size_t>(cpu)] = state_.cores.size();
                state_.queue_of(cpu).cpu = cpu;
            }
            state_.cores.push_back(std::move(made));
        }
    }

    result<trace_report> run(const trace_text& trace) {
        const std::uint64_t began = trace.events.empty() ? 0 : trace.events.front().at_ns, ended = trace.events.empty() ? 0 : trace.events.back().at_ns;
        for (detail::core& c : state_.cores) c.since = began;
        for (const trace_event& e : trace.events) {
            if (e.what != trace_kind::fork && e.what != trace_kind::exit && e.what != trace_kind::set_cookie && !has(e.cpu)) {
                return fail(EINVAL, "trace", "check", "it has CPU " + std::to_string(e.cpu) + ", which the machine does not have");
            }
            state_.now = e.at_ns;
            happen(e);
        }
        for (std::size_t c = 0; c < state_.cores.size(); ++c) {
            settle(c);
            overlaps(c, true);
        }
        out_.duration_ns = ended - began;
        return report();
    }

private:
    static constexpr std::size_t none = ~std::size_t{0};

    bool has(int cpu) const { return cpu >= 0 && static_cast<std::size_t>(cpu) < core_of_.size() && core_of_[static_cast<std::size_t>(cpu)] != none; }
    cookie tag_of(int pid) const {
        const auto it = tags_.find(pid);
        return it == tags_.end() ? no_cookie : it->second;
    }
    /// The engine's number of a process. The idle loop has none.
    task_id task(int pid, const std::string& name) {
        if (pid == 0) return idle;
        const auto [it, fresh] = numbers_.try_emplace(pid, static_cast<task_id>(pids_.size()));
        if (fresh) {
            pids_.push_back(pid);
            names_.emplace_back();
            state_.tasks.emplace_back();
        }
        if (!name.empty()) names_[it->second] = name;
        return it->second;
    }

    void settle(std::size_t c) { detail::account(state_, state_.cores[c]); }

    void happen(const trace_event& e) {
        switch (e.what) {
            case trace_kind::change_task: {
                const std::size_t c = core_of_[static_cast<std::size_t>(e.cpu)];
                settle(c);
                (void)task(e.pid, e.name);
                state_.queue_of(e.cpu).curr = task(e.other, e.other_name);
                forget(e.other);
                if (e.runnable && e.pid != 0 && e.pid != e.other) wait_on(e.pid, e.cpu);
                look_again(c);
                break;
            }
            case trace_kind::wake:
                (void)task(e.pid, e.name);
                if (!runs(e.pid)) wait_on(e.pid, e.cpu);
                break;
            case trace_kind::migrate:
                if (place_.contains(e.pid)) wait_on(e.pid, e.cpu);
                break;
            case trace_kind::fork:
                (void)task(e.other, e.other_name);
                tags_[e.other] = tag_of(e.pid);
                break;
            case trace_kind::exit: forget(e.pid); break;
            case trace_kind::set_cookie:
                for (std::size_t c = 0; c < state_.cores.size(); ++c) settle(c);
                tags_[e.pid] = e.tag;
                for (std::size_t c = 0; c < state_.cores.size(); ++c) look_again(c);
                break;
        }
    }

    bool runs(int pid) const {
        const auto it = numbers_.find(pid);
        return it != numbers_.end() && std::ranges::any_of(state_.cpus, [&](const detail::queue& q) { return q.curr == it->second; });
    }
    void forget(int pid) {
        const auto it = place_.find(pid);
        if (it == place_.end()) return;
        const std::size_t c = core_of_[static_cast<std::size_t>(it->second)];
        settle(c);
        std::erase(waiting_[static_cast<std::size_t>(it->second)], pid);
        place_.erase(it);
        look_again(c);
    }
    void wait_on(int pid, int cpu) {
        forget(pid);
        const std::size_t c = core_of_[static_cast<std::size_t>(cpu)];
        settle(c);
        waiting_[static_cast<std::size_t>(cpu)].push_back(pid);
        place_[pid] = cpu;
        look_again(c);
    }

    /// Who is kept from running on this core, from now on; and who runs beside whom.
    void look_again(std::size_t number) {
        detail::core& c = state_.cores[number];
        bool busy = false;
        for (int cpu : c.cpus) {
            const task_id curr = state_.queue_of(cpu).curr;
            if (curr == idle || busy) continue;
            busy = true;
            c.tag = tag_of(pids_[curr]);
        }
        for (int cpu : c.cpus) {
            detail::queue& q = state_.queue_of(cpu);
            const auto& all = waiting_[static_cast<std::size_t>(cpu)];
            const auto kept = std::ranges::find_if(all, [&](int pid) { return tag_of(pid) != c.tag; });
            q.forced = busy && q.curr == idle && kept != all.end();
            if (q.forced) q.hindered = tag_of(*kept);
        }
        overlaps(number, false);
    }
    /// Pairs of CPUs of a core that run unequal cookies: those that begin and those that have ended.
    void overlaps(std::size_t number, bool end_all) {
        const auto& cpus = state_.cores[number].cpus;
        for (std::size_t i = 0; i < cpus.size(); ++i) {
            for (std::size_t k = i + 1; k < cpus.size(); ++k) pair(cpus[i], cpus[k], end_all);
        }
    }
    void pair(int a, int b, bool end_all) {
        const task_id x = state_.queue_of(a).curr, y = state_.queue_of(b).curr;
        const bool together = !end_all && x != idle && y != idle && tag_of(pids_[x]) != tag_of(pids_[y]);
        const auto it = open_.find({a, b});
        trace_violation now{.from_ns = state_.now, .cpu = a, .other_cpu = b};
        if (together) {
            now.task = pids_[x], now.tag = tag_of(pids_[x]);
            now.other_task = pids_[y], now.other_tag = tag_of(pids_[y]);
            if (it != open_.end() && it->second.task == now.task && it->second.other_task == now.other_task && it->second.tag == now.tag && it->second.other_tag == now.other_tag) return;
        }
        if (it != open_.end()) {
            close(it->second);
            open_.erase(it);
        }
        if (together) open_[{a, b}] = now;
    }
    void close(trace_violation v) {
        v.to_ns = state_.now;
        const std::uint64_t long_ns = v.to_ns - v.from_ns;
        if (long_ns == 0) return;
        out_.longest_ns = std::max(out_.longest_ns, long_ns);
        if (long_ns <= o_.window_ns) {
            ++out_.window_count;
            out_.window_ns += long_ns;
            return;
        }
        ++out_.violation_count;
        out_.violation_ns += long_ns;
        if (out_.violations.size() < most_violations) out_.violations.push_back(v);
    }

    trace_report report() {
        for (const auto& [pid, number] : numbers_) {
            const detail::task& t = state_.tasks[number];
            out_.tasks.push_back({.pid = pid, .name = names_[number], .tag = tag_of(pid), .runtime_ns = t.runtime, .forced_idle_ns = t.forced_idle});
        }
        for (std::size_t cpu = 0; cpu < state_.cpus.size(); ++cpu) {
            if (core_of_[cpu] == none) continue;
            const cpu_figures& f = state_.cpus[cpu].figures;
            out_.cpus.push_back({.cpu = static_cast<int>(cpu), .busy_ns = f.busy_ns, .idle_ns = f.idle_ns, .forced_idle_ns = f.forced_idle_ns});
            out_.total.busy_ns += f.busy_ns;
            out_.total.forced_idle_ns += f.forced_idle_ns;
        }
        out_.who_forced_whom = state_.forced_by;
        return std::move(out_);
    }

    const trace_options o_;
    std::map<int, cookie> tags_;                        // by pid
    detail::state state_;
    std::vector<std::size_t> core_of_;                  // by CPU
    std::map<int, task_id> numbers_;                    // by pid
    std::vector<int> pids_;                             // by number
    std::vector<std::string> names_;
    std::vector<std::vector<int>> waiting_;             // by CPU: who could run and does not
    std::map<int, int> place_;                          // of those: pid -> CPU
    std::map<std::pair<int, int>, trace_violation> open_;
    trace_report out_;
};

}  // namespace

result<trace_report> check_trace(const trace_text& trace, const std::map<int, cookie>& cookies, const machine::topology& machine, const trace_options& o) {
    return replay(cookies, machine, o).run(trace);
}

}  // namespace cohort::coresched
