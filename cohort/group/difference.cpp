// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/difference.hpp>

#include <algorithm>
#include <map>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/group/detail/facts.hpp>

namespace cohort::group {
namespace {

/// Sets of things that are joined two by two.
class joined {
public:
    explicit joined(std::size_t n) : up_(n) { std::iota(up_.begin(), up_.end(), std::size_t{0}); }
    std::size_t root(std::size_t i) {
        while (up_[i] != i) i = up_[i] = up_[up_[i]];
        return i;
    }
    void join(std::size_t a, std::size_t b) {
        a = root(a), b = root(b);
        up_[std::max(a, b)] = std::min(a, b);  // the root is the first of its set
    }

private:
    std::vector<std::size_t> up_;
};

bool has(const std::vector<std::string>& names, std::string_view name) { return std::ranges::find(names, name) != names.end(); }

/// Whether a step makes or changes a set of one of these cohorts.
bool touches(const step& s, const std::vector<std::string>& cohorts) {
    if (s.kind != step::form::change_cpuset) return false;
    const std::string path = "/" + s.change.path + "/";
    return std::ranges::any_of(cohorts, [&](const std::string& c) { return path.find("/cohort-" + c + "/") != std::string::npos; });
}

/// Steps that leave something behind; of the others, checks belong to what begins.
bool stays(const step& s) { return s.kind == step::form::claim_name || s.kind == step::form::make_directory || s.kind == step::form::change_cpuset; }

bool is_check(const step& s) { return s.kind == step::form::check_command || s.kind == step::form::check_input || s.kind == step::form::check_output; }

std::vector<std::string> jobs_of(const plan& p, const std::string& cohort) {
    std::vector<std::string> out;
    for (const job_plan& j : p.jobs) {
        if (j.spec.cohort == cohort) out.push_back(j.spec.name);
    }
    return out;
}

/// Which of these cohorts differ in what is said of them, and in what.
std::map<std::string, std::vector<std::string>> differing(const plan& now, const plan& next, const std::vector<std::string>& cohorts) {
    std::map<std::string, std::vector<std::string>> out;
    for (const std::string& name : cohorts) {
        auto why = detail::differing_facts(detail::facts_of(now, name), detail::facts_of(next, name));
        if (!why.empty()) out[name] = std::move(why);
    }
    return out;
}

/// What becomes of a component of the next plan, cohort by cohort.
void judge(const plan& now, const plan& next, const std::vector<std::string>& together, const std::vector<std::vector<std::string>>& before, bool sets_anew, std::map<std::string, difference::cohort>& out) {
    using enum difference::fate;
    const auto was = [&](const std::string& c) { return std::ranges::any_of(now.cohorts, [&](const cohort_plan& o) { return o.name == c; }); };
    std::vector<std::string> common;
    std::ranges::copy_if(together, std::back_inserter(common), was);
    auto why = differing(now, next, common);
    const auto has_set = [&](const cohort_plan& c) { return has(together, c.name) && c.keep.by == keeping::form::kernel; };
    const bool moved = sets_anew && (std::ranges::any_of(now.cohorts, has_set) || std::ranges::any_of(next.cohorts, has_set));
    const bool same = why.empty() && !moved && std::ranges::find(before, together) != before.end();
    for (const std::string& c : together) {
        difference::cohort& mine = out[c] = {.name = c, .what = same ? kept : was(c) ? replaced : begun, .why = {}, .jobs = jobs_of(next, c)};
        if (mine.what != replaced) continue;
        mine.why = why[c];
        if (mine.why.empty()) mine.why.push_back(moved ? "sets are made anew together" : why.empty() || common.size() < 2 ? "other cohorts hang together with it" : "it hangs together with cohorts that differ");
    }
}

}  // namespace

std::vector<std::vector<std::string>> components(const plan& p) {
    std::map<std::string_view, std::size_t> number;
    for (std::size_t i = 0; i < p.cohorts.size(); ++i) number[p.cohorts[i].name] = i;
    joined all(p.cohorts.size());
    std::map<std::string_view, std::size_t> of_cookie;
    std::optional<std::size_t> at_gate;
    for (std::size_t i = 0; i < p.cohorts.size(); ++i) {
        const cohort_plan& c = p.cohorts[i];
        if (!c.inside.empty()) all.join(i, number.at(c.inside));
        if (!c.pool.of.empty()) all.join(i, number.at(c.pool.of));
        if (!c.cookie.name.empty()) all.join(i, of_cookie.emplace(c.cookie.name, i).first->second);
        if (c.cookie.passes_gate) all.join(i, at_gate ? *at_gate : *(at_gate = i));
    }
    std::map<std::string_view, std::size_t> home;  // of jobs
    for (const job_plan& j : p.jobs) home[j.spec.name] = number.at(j.spec.cohort);
    for (const job_plan& j : p.jobs) {
        for (const std::string& before : j.spec.after) all.join(home.at(j.spec.name), home.at(before));
        if (p.stop_on_failure) all.join(home.at(j.spec.name), home.at(p.jobs.front().spec.name));
    }
    std::vector<std::vector<std::string>> out;
    std::map<std::size_t, std::size_t> place;
    for (std::size_t i = 0; i < p.cohorts.size(); ++i) {
        const auto [it, fresh] = place.emplace(all.root(i), out.size());
        if (fresh) out.emplace_back();
        out[it->second].push_back(p.cohorts[i].name);
    }
    return out;
}

plan part_of(const plan& p, const std::vector<std::string>& cohorts) {
    plan out;
    out.file = p.file, out.machine = p.machine, out.workdir = p.workdir, out.stop_on_failure = p.stop_on_failure, out.cores_declared = p.cores_declared;
    std::ranges::copy_if(p.cohorts, std::back_inserter(out.cohorts), [&](const cohort_plan& c) { return has(cohorts, c.name); });
    std::ranges::copy_if(p.jobs, std::back_inserter(out.jobs), [&](const job_plan& j) { return has(cohorts, j.spec.cohort); });
    return out;
}

bool difference::nothing() const {
    return std::ranges::all_of(cohorts, [](const cohort& c) { return c.what == fate::kept; }) && undo.empty() && steps.empty();
}

std::vector<std::string> difference::kept() const {
    std::vector<std::string> out;
    for (const cohort& c : cohorts) {
        if (c.what == fate::kept) out.push_back(c.name);
    }
    return out;
}

const char* fate_word(difference::fate f) {
    constexpr const char* words[] = {"goes on", "begins", "begins anew", "ends"};
    return words[static_cast<int>(f)];
}

difference difference_of(const plan& now, const plan& next, bool sets_anew) {
    difference out;
    auto before = components(now);
    // Lists are compared in one order: another order in the file is no difference.
    for (auto& c : before) std::ranges::sort(c);
    std::map<std::string, difference::cohort> fates;
    for (std::vector<std::string>& together : components(next)) {
        std::ranges::sort(together);
        judge(now, next, together, before, sets_anew, fates);
    }
    std::vector<std::string> anew;  // their sets go and come
    for (const cohort_plan& c : next.cohorts) {
        out.cohorts.push_back(fates.at(c.name));
        if (out.cohorts.back().what != difference::fate::kept) anew.push_back(c.name);
    }
    for (const cohort_plan& c : now.cohorts) {
        if (fates.contains(c.name)) continue;
        out.cohorts.push_back({.name = c.name, .what = difference::fate::ended, .why = {}, .jobs = jobs_of(now, c.name)});
        anew.push_back(c.name);
    }
    std::vector<std::string> begin;  // as the objects of checks
    for (const job_plan& j : next.jobs) {
        if (has(anew, j.spec.cohort)) begin.push_back("job \"" + j.spec.name + "\"");
    }
    const auto both = [&](const step& s, const plan& other) { return std::ranges::find(other.steps, s) != other.steps.end() && !touches(s, anew); };
    for (const step& s : now.steps) {
        if (stays(s) && !both(s, next)) out.undo.insert(out.undo.begin(), s);
    }
    for (const step& s : next.steps) {
        if (stays(s) ? !both(s, now) : is_check(s) && has(begin, s.object)) out.steps.push_back(s);
    }
    return out;
}

difference reversed(difference d) {
    std::swap(d.undo, d.steps);
    std::erase_if(d.undo, is_check);
    std::ranges::reverse(d.undo), std::ranges::reverse(d.steps);
    for (difference::cohort& c : d.cohorts) {
        if (c.what == difference::fate::begun) c.what = difference::fate::ended;
        else if (c.what == difference::fate::ended) c.what = difference::fate::begun;
    }
    return d;
}

std::string difference_text(const difference& d) {
    if (d.nothing()) return "nothing differs from what is up\n";
    std::string out;
    for (const difference::cohort& c : d.cohorts) {
        std::string why;
        for (const std::string& w : c.why) why += (why.empty() ? ": " : "; ") + w;
        out += fmt::format("cohort \"{}\" {}{}\n", c.name, fate_word(c.what), why);
        for (const std::string& j : c.jobs) out += fmt::format("  job \"{}\" {}\n", j, fate_word(c.what));
    }
    for (const step& s : d.undo) {
        if (const std::string text = s.undo_text(); !text.empty()) out += fmt::format("  undo  {}: {}\n", s.object, text);
    }
    for (const step& s : d.steps) out += fmt::format("  do    {}\n", s.text());
    return out;
}

nlohmann::ordered_json difference_json(const difference& d) {
    constexpr const char* words[] = {"kept", "begun", "replaced", "ended"};
    nlohmann::ordered_json out{{"nothing", d.nothing()}, {"cohorts", nlohmann::ordered_json::array()}, {"undo", nlohmann::ordered_json::array()}, {"steps", nlohmann::ordered_json::array()}};
    for (const difference::cohort& c : d.cohorts) out["cohorts"].push_back({{"name", c.name}, {"fate", words[static_cast<int>(c.what)]}, {"why", c.why}, {"jobs", c.jobs}});
    for (const step& s : d.undo) {
        if (const std::string text = s.undo_text(); !text.empty()) out["undo"].push_back({{"object", s.object}, {"text", text}});
    }
    for (const step& s : d.steps) out["steps"].push_back({{"object", s.object}, {"text", s.text()}});
    return out;
}

}  // namespace cohort::group
