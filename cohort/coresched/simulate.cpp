// SPDX-License-Identifier: Apache-2.0
// Time goes from event to event: ticks, ends of work, wake-ups, what the scenario says. Between two of them nothing changes.
#include <algorithm>
#include <cmath>
#include <map>
#include <queue>
#include <random>

#include <cohort/base/check.hpp>
#include <cohort/base/histogram.hpp>
#include <cohort/coresched/scenario.hpp>

namespace cohort::coresched {
namespace {

constexpr std::uint64_t never = ~std::uint64_t{0};
/// A tick is late by up to so much, each sibling's by its own; the CPU chooses a moment after it has accounted. Shares are much the same from 1 to 50 us; without, equals stay in step.
constexpr std::uint64_t tick_late_ns = 10'000, choice_late_ns = 2'000;

std::unexpected<error> bad_task(const std::string& name, std::string act, std::string reason) { return fail(EINVAL, "task \"" + name + "\"", std::move(act), std::move(reason)); }

/// The course of one task: what it still has to do, and what it waited.
struct course {
    task_spec spec;
    task_id id = idle;
    std::uint64_t left = never;      // ns of work until it sleeps
    double credit = 0;               // work done that is no whole nanosecond
    std::uint64_t work = 0;
    std::size_t partner = 0;
    std::uint64_t runnable_since = never;
    histogram waits = {};
};

struct event {
    std::uint64_t at = 0, order = 0;
    enum class kind { tick, choice, wake, script } what = kind::tick;
    std::size_t which = 0;           // the siblings of one place in their cores; a task; a line of the script
    bool operator>(const event& o) const { return std::tie(at, order) > std::tie(o.at, o.order); }
};

class run {
public:
    run(const scenario& s, const machine::topology& t, const engine_options& o) : scenario_(s), topology_(t), options_(o), engine_(t, o) {}

    result<void> prepare();
    outcome go();

private:
    result<void> check_events() const;
    result<void> add(const group_spec& spec);
    result<std::size_t> add(const task_spec& spec);
    std::size_t enrol(course c);
    void at(std::uint64_t when, event::kind what, std::size_t which) { events_.push({when, ++order_, what, which}); }
    void wake(std::size_t i);
    void pass(std::uint64_t until);
    std::uint64_t next_end() const;
    void end_of_work(std::size_t i);
    void happen(const event& e);
    void tick(const event& e);
    std::uint64_t lateness(std::size_t place);
    void script(const event_spec& e);
    void look_at_waits();
    void record();
    double speed_on(int cpu) const;
    outcome result_of();

    const scenario& scenario_;
    const machine::topology& topology_;
    const engine_options options_;
    engine engine_;
    std::vector<course> courses_;
    std::map<std::string, std::size_t, std::less<>> by_name_;
    std::map<std::string, group_id, std::less<>> groups_;
    double one_busy_ = 0, more_busy_ = 0;       // ns of cores
    std::map<std::uint64_t, cookie> cookies_;   // by tag; the scenario holds a reference to each
    std::map<cookie, std::uint64_t> tags_;
    std::vector<std::size_t> course_of_;        // by task_id
    std::priority_queue<event, std::vector<event>, std::greater<>> events_;
    std::uint64_t order_ = 0, next_tag_ = 0;
    std::vector<std::vector<int>> places_;      // CPUs, by their place among the siblings of their core
    std::mt19937_64 late_;
    std::vector<task_id> ran_;                  // by CPU
    std::vector<segment> open_;                 // by CPU: what is there now, begun at from_ns; to_ns 0: nothing
    std::vector<segment> timeline_;
};

result<std::size_t> run::add(const task_spec& spec) {
    if (spec.name.empty() || by_name_.contains(spec.name)) return bad_task(spec.name, "add", spec.name.empty() ? "it has no name" : "there are two of this name");
    cpumask cpus = spec.cpus.empty() ? topology_.online : spec.cpus;
    if (!cpus.subset_of(topology_.online)) return bad_task(spec.name, "place on CPUs " + cpus.list(), "the machine has " + topology_.online.list());
    if (spec.weight < 1 || spec.weight > 88'761) return bad_task(spec.name, "give weight " + std::to_string(spec.weight), "it is 1 to 88761");
    const bool by_deadline = spec.how == scheduling::deadline, real_time = spec.how == scheduling::fifo || spec.how == scheduling::round_robin;
    if (by_deadline && (spec.runtime_us == 0 || spec.runtime_us > spec.deadline_us || spec.deadline_us > spec.period_us)) {
        return bad_task(spec.name, "give a deadline", "it has to be runtime_us <= deadline_us <= period_us, and not 0");
    }
    const auto group = groups_.find(spec.group);
    if (group == groups_.end()) return bad_task(spec.name, "put into group \"" + spec.group + "\"", "there is none of this name");
    if (real_time && (spec.priority < 1 || spec.priority > 99)) return bad_task(spec.name, "give priority " + std::to_string(spec.priority), "it is 1 to 99");
    if (spec.kind != behaviour::hog && spec.run_us == 0) return bad_task(spec.name, "run", "run_us is 0: only a hog computes all the time");
    if (spec.tag != 0 && !cookies_.contains(spec.tag)) {
        cookies_[spec.tag] = engine_.cookies().create();
        tags_[cookies_[spec.tag]] = spec.tag;
    }
    course c{.spec = spec};
    c.id = engine_.add({.name = spec.name, .tag = spec.tag ? cookies_[spec.tag] : no_cookie, .cpus = cpus, .how = spec.how, .weight = spec.weight, .priority = spec.priority,
                        .runtime_ns = spec.runtime_us * 1000, .deadline_ns = spec.deadline_us * 1000, .period_ns = spec.period_us * 1000, .group = group->second});
    return enrol(std::move(c));
}

result<void> run::add(const group_spec& spec) {
    const auto bad = [&](std::string reason) { return fail(EINVAL, "group \"" + spec.name + "\"", "add", std::move(reason)); };
    const auto slash = spec.name.rfind('/');
    const std::string above = slash == std::string::npos ? "" : spec.name.substr(0, slash);
    const auto parent = groups_.find(above);
    if (parent == groups_.end()) return bad("there is no group \"" + above + "\" before it");
    if (spec.name.empty() || spec.name.back() == '/' || groups_.contains(spec.name)) return bad(groups_.contains(spec.name) && !spec.name.empty() ? "there are two of this name" : "it has no name");
    if (spec.weight < 2 || spec.weight > 262'144) return bad("its weight is " + std::to_string(spec.weight) + ", it must be 2 to 262144");
    groups_[spec.name] = engine_.add_group(spec.name, parent->second, spec.weight);
    return {};
}

/// Its place among the courses.
std::size_t run::enrol(course c) {
    if (c.spec.kind != behaviour::hog) c.left = c.spec.run_us * 1000;
    by_name_[c.spec.name] = courses_.size();
    course_of_.resize(c.id + 1);
    course_of_[c.id] = courses_.size();
    courses_.push_back(std::move(c));
    return courses_.size() - 1;
}

result<void> run::check_events() const {
    std::map<std::string, bool, std::less<>> there;
    for (const course& c : courses_) there[c.spec.name] = true;
    for (const event_spec& e : scenario_.events) {
        const std::string place = "event at " + std::to_string(e.at_us) + " us";
        if (e.what == change::offline || e.what == change::online) {
            if (!topology_.online.test(e.cpu)) return fail(EINVAL, place, "take CPU " + std::to_string(e.cpu) + " on- or offline", "the machine has " + topology_.online.list());
            continue;
        }
        if (!there.contains(e.task)) return fail(EINVAL, place, "act on task \"" + e.task + "\"", "there is none of this name");
        if (e.what == change::fork) {
            if (e.target.empty() || there.contains(e.target)) return fail(EINVAL, place, "fork \"" + e.target + "\"", e.target.empty() ? "the child has no name" : "there is one of this name");
            there[e.target] = true;
        } else if ((e.what == change::share_to || e.what == change::share_from) && !there.contains(e.target)) {
            return fail(EINVAL, place, "share with task \"" + e.target + "\"", "there is none of this name");
        }
    }
    return {};
}

result<void> run::prepare() {
    std::size_t siblings = 1;
    for (const auto& c : topology_.cores) siblings = std::max(siblings, c.cpus.size());
    if (!(scenario_.smt_yield >= 1) || scenario_.smt_yield > static_cast<double>(siblings)) {
        return fail(EINVAL, "scenario", "take an smt_yield of " + std::to_string(scenario_.smt_yield), "it is 1 to the number of siblings, " + std::to_string(siblings));
    }
    groups_[""] = 0;
    for (const group_spec& g : scenario_.groups) {
        if (auto added = add(g); !added) return added;
    }
    for (const task_spec& t : scenario_.tasks) {
        next_tag_ = std::max(next_tag_, t.tag);
        if (auto added = add(t); !added) return std::unexpected(added.error());
    }
    for (course& c : courses_) {
        if (c.spec.kind != behaviour::pingpong) continue;
        const auto it = by_name_.find(c.spec.with);
        if (it == by_name_.end() || courses_[it->second].spec.kind != behaviour::pingpong || &courses_[it->second] == &c) {
            return bad_task(c.spec.name, "find its partner \"" + c.spec.with + "\"", "there is no other pingpong task of this name");
        }
        c.partner = it->second;
    }
    if (auto r = check_events(); !r) return r;
    std::mt19937_64 random(scenario_.seed);
    for (std::size_t i = 0; i < courses_.size(); ++i) {
        const course& c = courses_[i];
        // Of a pair one begins.
        if (c.spec.kind == behaviour::pingpong && c.partner < i) continue;
        at(scenario_.seed == 0 ? 0 : random() % 1'000'000, event::kind::wake, i);
    }
    for (std::size_t i = 0; i < scenario_.events.size(); ++i) at(scenario_.events[i].at_us * 1000, event::kind::script, i);
    for (const auto& c : topology_.cores) {
        places_.resize(std::max(places_.size(), c.cpus.size()));
        for (std::size_t i = 0; i < c.cpus.size(); ++i) places_[i].push_back(c.cpus[i]);
    }
    late_.seed(scenario_.tick_seed);
    for (std::size_t i = 0; i < places_.size(); ++i) at(options_.tick_ns + lateness(i), event::kind::tick, i);
    return {};
}

/// What one CPU of a core does in a nanosecond while k of its m siblings are busy: they share 1 + (yield - 1) * (k - 1) / (m - 1).
double run::speed_on(int cpu) const {
    const auto& siblings = topology_.cores[static_cast<std::size_t>(topology_.cpus[static_cast<std::size_t>(cpu)].core)].cpus;
    double busy = 0;
    for (const int c : siblings) busy += engine_.running(c) != idle;
    if (busy <= 1) return 1;
    return (1 + (scenario_.smt_yield - 1) * (busy - 1) / static_cast<double>(siblings.size() - 1)) / busy;
}

void run::wake(std::size_t i) {
    course& c = courses_[i];
    if (c.runnable_since == never) c.runnable_since = engine_.now();
    engine_.wake(c.id);
}

/// When the first of those that run has done its work; never: none ends.
std::uint64_t run::next_end() const {
    std::uint64_t first = never;
    for (const int cpu : topology_.online) {
        const task_id t = engine_.running(cpu);
        if (t == idle) continue;
        const course& c = courses_[course_of_[t]];
        if (c.left == never) continue;
        const double wall = (static_cast<double>(c.left) - c.credit) / speed_on(cpu);
        first = std::min(first, engine_.now() + std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(wall))));
    }
    return first;
}

/// Time passes, and work is done.
void run::pass(std::uint64_t until) {
    const std::uint64_t passed = until - engine_.now();
    if (passed == 0) return;
    for (const auto& core : topology_.cores) {
        const auto busy = static_cast<double>(std::ranges::count_if(core.cpus, [&](int cpu) { return engine_.running(cpu) != idle; }));
        if (busy == 0) continue;
        one_busy_ += static_cast<double>(passed);
        if (busy > 1) more_busy_ += static_cast<double>(passed) * (busy - 1) / static_cast<double>(core.cpus.size() - 1);
    }
    for (const int cpu : topology_.online) {
        const task_id t = engine_.running(cpu);
        if (t == idle) continue;
        course& c = courses_[course_of_[t]];
        const double done = static_cast<double>(passed) * speed_on(cpu) + c.credit;
        const auto whole = static_cast<std::uint64_t>(done);
        c.credit = done - static_cast<double>(whole);
        c.work += whole;
        if (c.left != never) c.left -= std::min(c.left, whole);
    }
    engine_.advance(passed);
}

void run::end_of_work(std::size_t i) {
    course& c = courses_[i];
    c.left = c.spec.run_us * 1000;
    c.credit = 0;
    if (c.spec.kind == behaviour::periodic) {
        if (c.spec.sleep_us == 0) return;
        engine_.block(c.id);
        at(engine_.now() + c.spec.sleep_us * 1000, event::kind::wake, i);
        return;
    }
    wake(c.partner);
    engine_.block(c.id);
}

void run::script(const event_spec& e) {
    if (e.what == change::offline || e.what == change::online) {
        (void)engine_.set_online(e.cpu, e.what == change::online);
        return;
    }
    const std::size_t actor = by_name_.find(e.task)->second;
    const task_id who = courses_[actor].id;
    switch (e.what) {
        case change::create: {
            const cookie made = engine_.cookies().create();
            tags_[made] = ++next_tag_;
            engine_.set_cookie(who, made);
            engine_.cookies().put(made);
            break;
        }
        case change::share_to: engine_.set_cookie(courses_[by_name_.find(e.target)->second].id, engine_.cookie_of(who)); break;
        case change::share_from: engine_.set_cookie(who, engine_.cookie_of(courses_[by_name_.find(e.target)->second].id)); break;
        case change::clear: engine_.set_cookie(who, no_cookie); break;
        case change::exit: engine_.exit(who); break;
        case change::fork: {
            course child{.spec = courses_[actor].spec};
            child.spec.name = e.target;
            if (child.spec.kind == behaviour::pingpong) child.spec.kind = behaviour::periodic;  // its parent keeps the partner
            child.id = engine_.fork(who, e.target);
            wake(enrol(std::move(child)));
            break;
        }
        default: break;
    }
}

std::uint64_t run::lateness(std::size_t place) {
    if (scenario_.ticks == tick_order::any) return late_() % tick_late_ns;
    return tick_late_ns / places_.size() * (scenario_.ticks == tick_order::ascending ? place : places_.size() - 1 - place);
}

void run::tick(const event& e) {
    at((e.at / options_.tick_ns + 1) * options_.tick_ns + lateness(e.which), event::kind::tick, e.which);
    bool due = false;
    for (const int cpu : places_[e.which]) due |= engine_.tick(cpu);
    if (due) at(e.at + choice_late_ns / 2 + late_() % choice_late_ns, event::kind::choice, e.which);
}

void run::happen(const event& e) {
    switch (e.what) {
        case event::kind::tick: tick(e); break;
        case event::kind::choice:
            for (const int cpu : places_[e.which]) engine_.choose(cpu);
            break;
        case event::kind::wake: wake(e.which); break;
        case event::kind::script: script(scenario_.events[e.which]); break;
    }
}

outcome run::go() {
    const std::uint64_t end = scenario_.duration_ms * 1'000'000;
    while (engine_.now() < end) {
        engine_.settle();
        look_at_waits();
        if (scenario_.timeline) record();
        pass(std::max(engine_.now(), std::min({end, events_.top().at, next_end(), engine_.next_timer()})));
        for (const int cpu : topology_.online) {
            const task_id t = engine_.running(cpu);
            if (t != idle && courses_[course_of_[t]].left == 0) end_of_work(course_of_[t]);
        }
        while (events_.top().at == engine_.now()) {
            const event e = events_.top();
            events_.pop();
            happen(e);
        }
    }
    engine_.settle();
    if (scenario_.timeline) record();
    return result_of();
}

/// Whoever ran and does not, though it could, waits from now on; whoever runs has waited.
void run::look_at_waits() {
    ran_.resize(topology_.cpus.size(), idle);
    for (const int cpu : topology_.online) {
        const task_id t = engine_.running(cpu), before = std::exchange(ran_[static_cast<std::size_t>(cpu)], t);
        if (before == t) continue;
        if (before != idle && engine_.runnable(before) && engine_.running(engine_.cpu_of(before)) != before) courses_[course_of_[before]].runnable_since = engine_.now();
    }
    for (const task_id t : ran_) {
        if (t == idle) continue;
        course& c = courses_[course_of_[t]];
        if (const auto since = std::exchange(c.runnable_since, never); since != never) c.waits.add(engine_.now() - since);
    }
}

/// Ends what has changed on each CPU, and begins anew; at the end of the run everything ends.
void run::record() {
    const std::uint64_t now = engine_.now();
    const bool last = now >= scenario_.duration_ms * 1'000'000;
    open_.resize(topology_.cpus.size());
    for (const int cpu : topology_.online) {
        segment& s = open_[static_cast<std::size_t>(cpu)];
        const task_id t = engine_.running(cpu);
        const bool forced = engine_.forced_idle(cpu);
        segment next{.cpu = cpu, .from_ns = now, .to_ns = t != idle || forced ? 1u : 0u, .task = t != idle ? course_of_[t] : 0, .tag = 0, .forced_idle = forced};
        if (t != idle) next.tag = tags_[engine_.cookie_of(t)];
        if (!last && s.to_ns == next.to_ns && s.task == next.task && s.tag == next.tag && s.forced_idle == next.forced_idle) continue;
        if (s.to_ns != 0 && s.from_ns < now) {
            s.to_ns = now;
            timeline_.push_back(s);
        }
        s = next;
    }
}

outcome run::result_of() {
    outcome out{.policy = options_.rules.name, .duration_ns = engine_.now(), .tasks = {}, .cpus = {}, .who_forced_whom = {}, .timeline = std::move(timeline_)};
    const auto duration = static_cast<double>(out.duration_ns);
    double sum = 0, squares = 0, n = 0;
    std::uint64_t work = 0;
    for (const course& c : courses_) {
        const task_figures f = engine_.figures(c.id);
        out.tasks.push_back({c.spec.name, f.runtime_ns, f.forced_idle_ns, f.switches, static_cast<double>(f.runtime_ns) / duration, c.work, c.waits.total(), c.waits.percentile(50),
                             c.waits.percentile(99)});
        work += c.work;
        out.switches += f.switches;
        if (c.spec.kind != behaviour::hog || c.spec.how != scheduling::fair) continue;
        const double part = static_cast<double>(f.runtime_ns) / c.spec.weight;
        sum += part, squares += part * part, n += 1;
    }
    for (const int cpu : topology_.online) {
        const cpu_figures f = engine_.figures_of_cpu(cpu);
        out.cpus.push_back({cpu, f.busy_ns, f.idle_ns, f.forced_idle_ns});
        out.forced_idle_ns += f.forced_idle_ns;
    }
    for (const auto& [pair, ns] : engine_.who_forced_whom()) out.who_forced_whom.push_back({tags_[pair.first], tags_[pair.second], ns});
    out.throughput = static_cast<double>(work) / duration;
    out.one_busy_s = one_busy_ / 1e9;
    out.more_busy_s = more_busy_ / 1e9;
    if (squares > 0) out.jain = sum * sum / (n * squares);
    out.picks = engine_.picks();
    out.steals = engine_.steals();
    return out;
}

}  // namespace

std::optional<double> break_even(const outcome& o, const outcome& other) {
    const double wanted = other.throughput * static_cast<double>(other.duration_ns) / 1e9 - o.one_busy_s;
    if (wanted <= 1e-9) return 1;
    if (o.more_busy_s <= 1e-9) return std::nullopt;
    return 1 + wanted / o.more_busy_s;
}

result<outcome> simulate(const scenario& s, const machine::topology& t, const engine_options& o) {
    run r(s, t, o);
    if (auto ready = r.prepare(); !ready) return std::unexpected(ready.error());
    return r.go();
}

}  // namespace cohort::coresched
