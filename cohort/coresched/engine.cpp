// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/engine.hpp>

#include <algorithm>
#include <bit>

#include <cohort/base/check.hpp>
#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched {

using detail::core;
using detail::queue;
using detail::state;
using detail::task;

namespace {

/// Kernel: so much times 1 + log2 of the number of CPUs, of which 8 count.
std::uint64_t kernel_slice(fair_class which, int cpus) {
    return (which == fair_class::eevdf ? 700'000u : 750'000u) * static_cast<std::uint64_t>(std::bit_width(static_cast<unsigned>(std::clamp(cpus, 1, 8))));
}

/// Where a CPU is not used (nosmt), its core's first one stands for it.
cpumask usable_of(const state& s, const cpumask& asked) {
    cpumask out = asked.empty() ? s.possible : asked & s.possible;
    if (!s.o.rules.one_thread_a_core) return out;
    cpumask first;
    for (const int c : out) first.set(s.cores[s.queue_of(c).core].cpus.front());
    return first;
}

void settle_accounts(state& s) {
    for (core& c : s.cores) account(s, c);
}

/// What is here goes elsewhere.
void leave_cpu(state& s, queue& q) {
    if (q.curr != idle && is_fair(s.tasks[q.curr])) put_fair(s, s.tasks[q.curr]);
    q.curr = idle;
    for (task& t : s.tasks) {
        if (t.cpu == q.cpu && !t.queued) end_delay(s, t);  // rare, and all tasks are few
    }
    while (!q.tasks.empty()) move(s, q.tasks.back(), s.queue_of(cpu_for(s, q.tasks.back())));
    q.online = q.forced = q.picked = q.must_choose = q.due = false;
}

/// What siblings share is the core's own here, so that nothing is copied; what was forced idle is counted anew at the next pick.
void hand_over(state& s, core& c) {
    c.forced = static_cast<std::uint32_t>(std::ranges::count_if(c.cpus, [&](int cpu) { return s.queue_of(cpu).forced; }));
    if (s.queue_of(c.leader).online) return;
    const auto next = std::ranges::find_if(c.cpus, [&](int cpu) { return s.queue_of(cpu).online; });
    if (next != c.cpus.end()) c.leader = *next;
}

/// Do the queue's parts agree?
std::string broken_queue(const state& s, const queue& q) {
    std::size_t with_cookie = 0;
    for (const task_id id : q.tasks) {
        const task& t = s.tasks[id];
        if (!t.queued || t.cpu != q.cpu || q.tasks[t.place] != id) return "task \"" + t.o.name + "\" is in a queue that it is not in";
        with_cookie += t.o.tag != no_cookie || s.o.rules.search_untagged;
        if (is_fair(t) && !s.entities[t.self].queued) return "task \"" + t.o.name + "\" is not in its fair queue";
    }
    if (with_cookie != q.by_cookie.size()) return std::to_string(q.by_cookie.size()) + " tasks are listed by cookie, there are " + std::to_string(with_cookie);
    for (std::size_t i = 0; i < q.by_cookie.size(); ++i) {
        if (q.by_cookie[i].tag != s.tag_of(q.by_cookie[i].id)) return "a task is listed under a cookie that it does not have";
        if (i > 0 && q.by_cookie[i].tag < q.by_cookie[i - 1].tag) return "the list by cookie is out of order";
    }
    const bool free = q.online && q.curr == idle && q.tasks.empty();
    return s.free.test(q.cpu) == free ? "" : "it has nothing to do or not, and the mask says otherwise";
}

/// Core scheduling went on or off: every CPU looks anew.
void flip(state& s, bool before) {
    if (s.core_wide() == before) return;
    settle_accounts(s);
    for (core& c : s.cores) {
        c.tag = no_cookie;
        c.forced = 0;
        ++c.task_seq;
        for (const int cpu : c.cpus) {
            s.queue_of(cpu).forced = s.queue_of(cpu).picked = false;
            must_choose(s, s.queue_of(cpu));
        }
    }
}

}  // namespace

engine::engine(const machine::topology& t, engine_options o) : s_(std::make_unique<state>()) {
    state& s = *s_;
    s.o = std::move(o);
    s.possible = t.online;
    s.cpus.resize(static_cast<std::size_t>(t.online.last()) + 1);
    s.domain.resize(s.cpus.size());
    s.groups.push_back({.name = "root", .queues = {}});
    for (std::size_t i = 0; i < s.cpus.size(); ++i) {
        s.cpus[i].cpu = static_cast<int>(i);
        s.cpus[i].online = false;
        s.cpus[i].root = fair_queue_of(s, 0, static_cast<int>(i));
    }
    for (std::size_t i = 0; i < t.cores.size(); ++i) {
        core c;
        c.cpus = t.cores[i].cpus;
        for (const int cpu : c.cpus) {
            s.queue_of(cpu).core = static_cast<std::uint32_t>(i);
            s.queue_of(cpu).online = !s.o.rules.one_thread_a_core || cpu == c.cpus.front();
            if (s.queue_of(cpu).online) s.online.set(cpu);
            s.domain[static_cast<std::size_t>(cpu)] = t.cpus[static_cast<std::size_t>(cpu)].package;
            note_free(s, s.queue_of(cpu));
        }
        c.leader = c.cpus.front();
        s.cores.push_back(std::move(c));
    }
    s.slice = s.o.slice_ns ? s.o.slice_ns : kernel_slice(s.o.fair, s.online.weight());
}
engine::~engine() = default;
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;

cookie_table& engine::cookies() { return s_->cookies; }

group_id engine::add_group(std::string name, group_id parent, int weight) {
    state& s = *s_;
    COHORT_CHECK(parent < s.groups.size() && weight >= 2 && weight <= 262'144, "a group's parent is there, its weight is 2 to 262144");
    s.groups.push_back({.name = std::move(name), .parent = parent, .weight = weight, .depth = s.groups[parent].depth + 1, .queues = {}});
    return static_cast<group_id>(s.groups.size() - 1);
}

// ---- tasks

task_id engine::add(task_options o) {
    state& s = *s_;
    COHORT_CHECK(o.weight >= 1 && o.weight <= 88'761, "a task's weight is 1 to 88761");
    COHORT_CHECK(o.group < s.groups.size(), "a task's group is there");
    const bool real_time = o.how == scheduling::fifo || o.how == scheduling::round_robin;
    COHORT_CHECK(!real_time || (o.priority >= 1 && o.priority <= 99), "a real-time task's priority is 1 to 99");
    COHORT_CHECK(o.how != scheduling::deadline || (o.runtime_ns > 0 && o.runtime_ns <= o.deadline_ns && o.deadline_ns <= o.period_ns), "runtime <= deadline <= period");
    o.cpus = usable_of(s, o.cpus);
    COHORT_CHECK(!o.cpus.empty(), "a task has no CPU of the machine");
    s.cookies.get(o.tag);
    task t;
    t.cpu = o.cpus.first();
    t.o = std::move(o);
    t.self = static_cast<std::uint32_t>(s.entities.size());
    detail::entity e;
    e.task = static_cast<task_id>(s.tasks.size());
    e.weight = static_cast<std::int64_t>(t.o.weight) << detail::weight_shift;
    s.entities.push_back(e);
    s.tasks.push_back(std::move(t));
    return e.task;
}

void engine::wake(task_id id) {
    state& s = *s_;
    task& t = s.tasks.at(id);
    if (t.queued || t.gone) return;
    if (t.throttled) {
        t.wanted = true;
        return;
    }
    queue& last = s.queue_of(t.cpu);
    // It has not left its CPU yet: that turns to something else first.
    if (last.curr == id) detail::choose(s, last);
    enqueue(s, s.entities[t.self].delayed ? last : s.queue_of(cpu_for(s, id)), id);
}

void engine::block(task_id id) {
    task& t = s_->tasks.at(id);
    t.wanted = false;
    if (t.queued) dequeue(*s_, id, true);
}

void engine::exit(task_id id) {
    state& s = *s_;
    if (s.tasks.at(id).gone) return;
    block(id);
    update_curr(s, s.queue_of(s.tasks[id].cpu));
    end_delay(s, s.tasks[id]);
    s.tasks[id].gone = true;
    set_cookie(id, no_cookie);
}

void engine::set_cookie(task_id id, cookie c) {
    state& s = *s_;
    task& t = s.tasks.at(id);
    const bool before = s.core_wide();
    queue& q = s.queue_of(t.cpu);
    account(s, s.core_of(q));
    s.cookies.get(c);
    const cookie old = std::exchange(t.o.tag, c);
    if (t.queued) retag(s, id, old);
    s.cookies.put(old);
    flip(s, before);
}

task_id engine::fork(task_id parent, std::string name) {
    task_options o = s_->tasks.at(parent).o;
    o.name = std::move(name);
    const task_id child = add(std::move(o));
    s_->tasks[child].cpu = s_->tasks[parent].cpu;
    return child;
}

bool engine::set_online(int cpu, bool on) {
    state& s = *s_;
    COHORT_CHECK(s.possible.test(cpu), "a CPU that the machine does not have");
    queue& q = s.queue_of(cpu);
    core& c = s.core_of(q);
    if (q.online == on) return true;
    if (!on && s.online.weight() == 1) return false;
    account(s, c);
    update_curr(s, q);
    if (on) {
        q.online = true;
        q.exec_since = s.now;
        s.online.set(cpu);
        if (!s.queue_of(c.leader).online) c.leader = cpu;
    } else {
        s.online.clear(cpu);
        leave_cpu(s, q);
        hand_over(s, c);
    }
    note_free(s, q);
    ++c.task_seq;
    for (const int sibling : c.cpus) must_choose(s, s.queue_of(sibling));
    return true;
}

// ---- time

std::uint64_t engine::now() const { return s_->now; }

void engine::advance(std::uint64_t ns) {
    COHORT_CHECK(s_->choosing.empty(), "time passes while CPUs have to choose: settle first");
    s_->now += ns;
}

void engine::tick() {
    for (const int cpu : s_->possible) {
        if (tick(cpu)) choose(cpu);
    }
}

bool engine::tick(int cpu) {
    state& s = *s_;
    queue& q = s.queue_of(cpu);
    if (!q.online) return false;
    if (q.curr == idle) {
        if (q.runnable() == 0) pull(s, q);
        return false;
    }
    const bool told = q.must_choose;
    core& c = s.core_of(q);
    account(s, c);
    update_curr(s, q);
    const task& t = s.tasks[q.curr];
    if (is_fair(t)) tick_fair(s, q);
    else if (t.o.how == scheduling::deadline) update_budget(s, q);
    else tick_real_time(s, q);
    if (s.o.rules.whole_turns && s.core_wide() && s.now - c.turn_began >= s.slice) must_choose(s, q);
    if (!q.must_choose) return false;
    // Told to before, or what it runs has ended (a budget): then at once.
    if (told || !t.queued) return true;
    q.must_choose = false;
    s.choosing.pop_back();
    return q.due = true;
}

void engine::choose(int cpu) {
    queue& q = s_->queue_of(cpu);
    if (q.online && (q.due || q.must_choose)) detail::choose(*s_, q);
}

void engine::settle() {
    state& s = *s_;
    expire_timers(s);
    for (std::size_t i = 0; i < s.choosing.size(); ++i) {
        queue& q = s.queue_of(s.choosing[i]);
        if (q.must_choose && q.online) detail::choose(s, q);
        COHORT_CHECK(i < 1'000'000, "CPUs do not agree on what to run");
    }
    s.choosing.clear();
}

std::uint64_t engine::next_timer() const { return s_->timers.empty() ? ~std::uint64_t{0} : std::get<0>(s_->timers.top()); }

// ---- looking

int engine::leader_of(int cpu) const { return s_->cores[s_->queue_of(cpu).core].leader; }
task_id engine::running(int cpu) const { return s_->queue_of(cpu).curr; }
bool engine::online(int cpu) const { return s_->queue_of(cpu).online; }
bool engine::forced_idle(int cpu) const { return s_->queue_of(cpu).forced; }
cookie engine::cookie_of(task_id t) const { return s_->tasks.at(t).o.tag; }
int engine::cpu_of(task_id t) const { return s_->tasks.at(t).cpu; }
bool engine::runnable(task_id t) const { return s_->tasks.at(t).queued; }
std::size_t engine::tasks() const { return s_->tasks.size(); }
const std::string& engine::name_of(task_id t) const { return s_->tasks.at(t).o.name; }
std::uint64_t engine::picks() const { return s_->picks; }
std::uint64_t engine::steals() const { return s_->steals; }

task_figures engine::figures(task_id id) const {
    settle_accounts(*s_);
    const task& t = s_->tasks.at(id);
    return {t.runtime, t.forced_idle, t.switches};
}
cpu_figures engine::figures_of_cpu(int cpu) const {
    settle_accounts(*s_);
    return s_->queue_of(cpu).figures;
}
const std::map<std::pair<cookie, cookie>, std::uint64_t>& engine::who_forced_whom() const {
    settle_accounts(*s_);
    return s_->forced_by;
}

std::string engine::broken() const {
    const state& s = *s_;
    for (const core& c : s.cores) {
        std::uint32_t forced = 0;
        bool work = false, busy = false;
        for (const int cpu : c.cpus) {
            const queue& q = s.queue_of(cpu);
            const std::string name = "CPU " + std::to_string(cpu);
            if (!q.online && (q.curr != idle || q.runnable() > 0)) return name + " is offline and has tasks";
            work = work || q.runnable() > 0;
            busy = busy || q.curr != idle;
            if (q.curr != idle && !s.tasks[q.curr].queued) return name + " runs a task that sleeps";
            if (q.curr != idle && s.core_wide() && s.tag_of(q.curr) != c.tag) return name + " runs a task whose cookie is not the core's";
            if (q.forced != (q.online && s.core_wide() && q.curr == idle && q.runnable() > 0)) return name + ": forced idle or not, and the queue says otherwise";
            forced += q.forced;
            if (const std::string wrong = broken_queue(s, q); !wrong.empty()) return name + ": " + wrong;
        }
        if (busy && !s.queue_of(c.leader).online) return "the leader of a core is offline";
        if (work && !busy) return "the core of CPU " + std::to_string(c.cpus.front()) + " is idle and has work";
        if (s.core_wide() && forced != c.forced) return "the core of CPU " + std::to_string(c.cpus.front()) + " counts " + std::to_string(c.forced) + " forced-idle CPUs, there are " + std::to_string(forced);
    }
    std::map<cookie, std::size_t> holders;
    for (const task& t : s.tasks) {
        if (t.o.tag != no_cookie) ++holders[t.o.tag];
    }
    for (const auto& [c, n] : holders) {
        if (s.cookies.references(c) < n) return "cookie " + std::to_string(c) + " has fewer references than holders";
    }
    std::uint64_t charged = 0, forced = 0;
    settle_accounts(*s_);
    for (const task& t : s.tasks) charged += t.forced_idle;
    for (const queue& q : s.cpus) forced += q.figures.forced_idle_ns;
    if (charged != forced) return "charged " + std::to_string(charged) + " ns of forced idleness, there were " + std::to_string(forced);
    return "";
}

}  // namespace cohort::coresched
