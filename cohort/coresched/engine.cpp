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

/// Kernel: 0.75 ms times 1 + log2 of the number of CPUs, of which 8 count.
std::uint64_t kernel_slice(int cpus) { return 750'000 * static_cast<std::uint64_t>(std::bit_width(static_cast<unsigned>(std::clamp(cpus, 1, 8)))); }

constexpr std::uint64_t round_robin_ns = 100'000'000;

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
    for (std::size_t i = 0; i < s.cpus.size(); ++i) {
        s.cpus[i].cpu = static_cast<int>(i);
        s.cpus[i].online = false;
    }
    for (std::size_t i = 0; i < t.cores.size(); ++i) {
        core c;
        c.cpus = t.cores[i].cpus;
        for (const int cpu : c.cpus) {
            s.queue_of(cpu).core = static_cast<std::uint32_t>(i);
            s.queue_of(cpu).online = !s.o.rules.one_thread_a_core || cpu == c.cpus.front();
            if (s.queue_of(cpu).online) s.online.set(cpu);
            s.domain[static_cast<std::size_t>(cpu)] = t.cpus[static_cast<std::size_t>(cpu)].package;
        }
        s.cores.push_back(std::move(c));
    }
    s.slice = s.o.slice_ns ? s.o.slice_ns : kernel_slice(s.online.weight());
}
engine::~engine() = default;
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;

cookie_table& engine::cookies() { return s_->cookies; }

// ---- tasks

task_id engine::add(task_options o) {
    state& s = *s_;
    COHORT_CHECK(o.weight >= 1 && o.weight <= 88'761, "a task's weight is 1 to 88761");
    COHORT_CHECK(o.how == scheduling::fair || (o.priority >= 1 && o.priority <= 99), "a real-time task's priority is 1 to 99");
    o.cpus = usable_of(s, o.cpus);
    COHORT_CHECK(!o.cpus.empty(), "a task has no CPU of the machine");
    s.cookies.get(o.tag);
    task t;
    t.cpu = o.cpus.first();
    t.o = std::move(o);
    s.tasks.push_back(std::move(t));
    return static_cast<task_id>(s.tasks.size() - 1);
}

void engine::wake(task_id id) {
    state& s = *s_;
    task& t = s.tasks.at(id);
    if (t.queued || t.gone) return;
    enqueue(s, s.queue_of(cpu_for(s, id)), id);
}

void engine::block(task_id id) {
    if (s_->tasks.at(id).queued) dequeue(*s_, id);
}

void engine::exit(task_id id) {
    state& s = *s_;
    if (s.tasks.at(id).gone) return;
    block(id);
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
    if (t.queued) {
        ++s.core_of(q).task_seq;
        must_choose(s, q);
    }
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
    } else {
        s.online.clear(cpu);
        q.curr = idle;
        std::vector<task_id> here = q.real_time;
        here.insert(here.end(), q.fair.begin(), q.fair.end());
        for (const task_id id : here) move(s, id, s.queue_of(cpu_for(s, id)));
        q.online = q.forced = q.picked = q.must_choose = false;
    }
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
    state& s = *s_;
    for (queue& q : s.cpus) {
        if (!q.online || q.curr == idle) continue;
        core& c = s.core_of(q);
        account(s, c);
        update_curr(s, q);
        task& t = s.tasks[q.curr];
        const std::uint64_t ran = t.runtime - t.began_at;
        // A forced-idle sibling gets its turn after half a slice where this CPU has nobody else to turn to.
        if (is_fair(t) && c.forced > 0 && q.fair.size() == 1 && 2 * ran > s.slice) must_choose(s, q);
        if (t.o.how != scheduling::round_robin || t.runtime - t.slice_began < round_robin_ns) continue;
        t.slice_began = t.runtime;
        std::erase(q.real_time, q.curr);  // behind those of its priority
        q.real_time.push_back(q.curr);
        must_choose(s, q);
    }
    if (std::ranges::none_of(s.cpus, [](const queue& q) { return q.curr != idle && q.runnable() > 1; })) return;
    for (queue& q : s.cpus) {
        if (q.online && q.curr == idle && q.runnable() == 0) pull(s, q);
    }
}

void engine::settle() {
    state& s = *s_;
    for (std::size_t i = 0; i < s.choosing.size(); ++i) {
        queue& q = s.queue_of(s.choosing[i]);
        if (q.must_choose && q.online) choose(s, q);
        COHORT_CHECK(i < 1'000'000, "CPUs do not agree on what to run");
    }
    s.choosing.clear();
}

// ---- looking

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
            for (const auto* list : {&q.fair, &q.real_time}) {
                for (const task_id id : *list) {
                    if (!s.tasks[id].queued || s.tasks[id].cpu != cpu) return "task \"" + s.tasks[id].o.name + "\" is in a queue that it is not in";
                }
            }
        }
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
