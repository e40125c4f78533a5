// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/plan.hpp>

#include <algorithm>
#include <deque>
#include <set>

#include <cohort/cpuset/detail/errands.hpp>
#include <cohort/cpuset/detail/safety.hpp>
#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset {
namespace {

using detail::detour;
using detail::errand;
using detail::group;

constexpr std::size_t most_nodes = 120, most_detours = 24, most_states = 40'000;

using detail::first_word;
using detail::partition_file;
using detail::plain;

/// The operations that make a removed set again, as it was.
std::vector<operation> rebuild(model& m, const group& g) {
    const std::string path = detail::path_of(g);
    std::vector<operation> out{{.what = verb::mkdir, .path = path}};
    if (g.hands_on && !m.state().v1) out.push_back({.what = verb::controller, .path = path, .on = true});
    const auto file = [&](const std::string& name) {
        const answer a = m.perform({.what = verb::read, .path = path, .file = name});
        if (a.ok() && !a.value.empty() && a.value != "member") out.push_back({.what = verb::write, .path = path, .file = name, .text = first_word(a.value)});
    };
    for (const char* name : {"cpuset.cpus", "cpuset.mems", "cpuset.cpus.exclusive", partition_file}) file(name);
    if (!m.state().v1) return out;
    for (const std::string& name : m.files(path)) {
        if (name.find("cpuset.cpus") == std::string::npos && name.find("mems") == std::string::npos && name.find("effective") == std::string::npos && name != "cpuset.memory_pressure") file(name);
    }
    return out;
}

/// A way that has been gone so far. `sure` is the state after all steps; `ahead` is where the next is tried, and like `sure` in between.
struct way {
    model sure, ahead;
    std::vector<errand> pending;
    std::vector<plan_step> steps;

    way fork() const { return {sure.clone(), sure.clone(), pending, steps}; }
    bool done() const { return std::ranges::all_of(pending, &errand::on_the_way); }
};

class planner {
public:
    planner(const model& m, const machine::topology& machine, const target& t) : start_(m), machine_(machine), target_(t), safety_(m.state()) {}

    plan make() {
        detail::errands asked = detail::errands_of(start_.state(), target_);
        plan out;
        out.refusals = std::move(asked.refusals);
        if (!out.refusals.empty()) return out;
        way best{start_.clone(), start_.clone(), std::move(asked.list), {}};
        go(best);
        if (!best.done()) {
            if (auto found = search(best)) best = std::move(*found);
        }
        for (const errand& e : best.pending) {
            if (!e.on_the_way) out.refusals.push_back(to_line(e.op) + ": " + e.fault);
        }
        if (out.refusals.empty()) verify(best, out);
        out.steps = std::move(best.steps);
        roll_back(best.sure.clone(), out);
        out.states = states_;
        return out;
    }

private:
    std::vector<operation> undo_of(way& w, const operation& op) {
        switch (op.what) {
            case verb::mkdir: return {{.what = verb::rmdir, .path = op.path}};
            case verb::rmdir: {
                const group* g = detail::find(w.sure.state(), op.path);
                return g ? rebuild(w.sure, *g) : std::vector<operation>{};
            }
            case verb::controller: return {{.what = verb::controller, .path = op.path, .on = !op.on}};
            case verb::attach: return {{.what = verb::attach, .path = plain(w.sure.perform({.what = verb::task, .task = op.task}).path), .task = op.task}};
            default: break;
        }
        std::string old = w.sure.perform({.what = verb::read, .path = op.path, .file = op.file}).value;
        if (op.file == partition_file) old = first_word(old);
        return {{.what = verb::write, .path = op.path, .file = op.file, .text = std::move(old)}};
    }

    /// Performs the operation if nothing speaks against it; else says what.
    std::string step(way& w, const operation& op, const std::string& note) {
        ++states_;
        plan_step made{.what = op, .expect = {}, .undo = undo_of(w, op), .note = note};
        const operation read{.what = verb::read, .path = op.path, .file = op.file};
        if (op.what == verb::write && w.sure.perform(read).value == op.text) return {};
        const answer a = w.ahead.perform(op);
        if (!a.ok()) return errno_name(a.code) + ": " + a.why;
        if (op.what == verb::write) made.expect = w.ahead.perform(read).value;
        std::string fault = a.hazard;
        if (fault.empty()) {
            const bool reads_another = op.file == partition_file && made.expect != op.text;
            fault = reads_another ? "it would read \"" + made.expect + "\"" : safety_.fault(w.ahead.state());
        }
        if (!fault.empty()) {
            w.ahead = w.sure.clone();
            return fault;
        }
        w.sure.perform(op);
        w.steps.push_back(std::move(made));
        return {};
    }

    /// Does what can be done, rank by rank, again as long as something could. When the last word on a file has been said, what was for the way there falls away.
    void go(way& w) {
        for (bool moved = true; moved && !w.done();) {
            moved = false;
            std::set<std::string> said;
            std::vector<errand> waiting;
            for (errand& e : w.pending) {
                e.fault = states_ < most_states ? step(w, e.op, e.note) : "the search was ended after " + std::to_string(most_states) + " states";
                if (!e.fault.empty()) {
                    waiting.push_back(std::move(e));
                    continue;
                }
                moved = true;
                if (!e.on_the_way) said.insert(e.key());
            }
            std::erase_if(waiting, [&](const errand& e) { return e.on_the_way && said.contains(e.key()); });
            w.pending = std::move(waiting);
        }
    }

    /// Breadth first over detours, so that few are taken.
    std::optional<way> search(const way& stuck) {
        std::deque<way> open;
        open.push_back(stuck.fork());
        for (std::size_t nodes = 0; !open.empty() && nodes < most_nodes && states_ < most_states;) {
            const way from = std::move(open.front());
            open.pop_front();
            for (const detour& d : detail::detours_of(from.sure.state(), target_, from.pending, most_detours)) {
                if (++nodes >= most_nodes) break;
                way w = from.fork();
                if (!take(w, d)) continue;
                go(w);
                if (w.done()) return w;
                open.push_back(std::move(w));
            }
        }
        return std::nullopt;
    }
    bool take(way& w, const detour& d) {
        for (const operation& op : d.give_up) {
            if (!step(w, op, "given up for a time, so that others can be moved").empty()) return false;
        }
        for (const errand& e : d.bring_back) {
            const bool waits = std::ranges::any_of(w.pending, [&](const errand& p) { return !p.on_the_way && p.key() == e.key(); });
            if (!waits) w.pending.push_back(e);
        }
        detail::sort(w.pending);
        return true;
    }

    void expect(way& w, plan& out, const std::string& path, const std::string& file, const std::optional<std::string>& wanted) {
        if (!wanted) return;
        const answer a = w.sure.perform({.what = verb::read, .path = path, .file = file});
        if (a.value != *wanted) out.refusals.push_back("set \"" + path + "\": " + file + " would read \"" + (a.ok() ? a.value : a.why) + "\", not \"" + *wanted + "\"");
    }
    void verify(way& w, plan& out) {
        const auto list = [](const auto& mask) { return mask ? std::optional(mask->list()) : std::nullopt; };
        for (const target_set& s : target_.sets) {
            expect(w, out, s.path, "cpuset.cpus", list(s.cpus));
            expect(w, out, s.path, "cpuset.mems", list(s.mems));
            expect(w, out, s.path, "cpuset.cpus.exclusive", list(s.exclusive));
            expect(w, out, s.path, partition_file, s.partition);
        }
    }

    void roll_back(model m, plan& out) {
        for (auto s = out.steps.rbegin(); s != out.steps.rend(); ++s) {
            for (const operation& op : s->undo) {
                ++states_;
                const answer a = m.perform(op);
                if (!a.ok()) out.roll_back_faults.push_back(to_line(op) + ": " + errno_name(a.code) + ": " + a.why);
                else if (std::string fault = a.hazard.empty() ? safety_.fault(m.state()) : a.hazard; !fault.empty()) out.roll_back_faults.push_back(to_line(op) + ": " + fault);
            }
        }
        model before = start_.clone();
        out.not_restored = compare(take_of(before), take_of(m));
    }
    snapshot take_of(model& m) const { return cpuset::take(m, machine_); }

    const model& start_;
    const machine::topology& machine_;
    const target& target_;
    detail::safety safety_;
    std::size_t states_ = 0;
};

}  // namespace

plan make_plan(const model& m, const machine::topology& machine, const target& t) { return planner(m, machine, t).make(); }

}  // namespace cohort::cpuset
