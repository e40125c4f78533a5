// SPDX-License-Identifier: Apache-2.0
/// What an engine is made of, and what the files of this folder do to it.
#pragma once

#include <cstdint>
#include <queue>
#include <tuple>
#include <vector>

#include <cohort/coresched/detail/tree.hpp>
#include <cohort/coresched/engine.hpp>

namespace cohort::coresched::detail {

constexpr std::uint32_t none = ~std::uint32_t{0};
constexpr int weight_shift = 10;          // weights of entities are finer than tasks': a group's part of one CPU may be small

/// What competes in a fair queue: a task, or a group's part of one CPU. Kernel: struct sched_entity.
struct entity {
    tree_links links;
    std::int64_t vruntime = 0;            // ns at weight 1024
    std::int64_t deadline = 0;            // virtual: when its slice is used up
    std::int64_t lag = 0;                 // what it was owed when it left; while it runs: the deadline up to which it is not preempted
    std::int64_t weight = std::int64_t{1024} << weight_shift;
    std::uint64_t executed = 0;           // ns on a CPU
    std::uint64_t began_at = 0;           // executed when it was last put there
    std::uint32_t in = none;              // the queue that it competes in
    std::uint32_t own = none;             // a group's: the queue of its members
    task_id task = idle;                  // a task's
    bool queued = false;
    bool delayed = false;                 // its task sleeps (its group is empty), but it had more than its share and stays until the others have caught up
    bool placed = false;                  // it has run before: `lag` means something
    bool relative = false;                // it moves: `deadline` counts from vruntime
    double active = 0;                    // the part of the time that it was queued, which forgets half of what was in 32.8 ms
    std::uint64_t active_at = 0;          // active is counted up to here
};

/// Kernel: struct cfs_rq.
struct fair_queue {
    int cpu = 0;
    group_id group = 0;
    std::uint32_t owner = none;           // the entity of the group; the root's has none
    std::uint32_t tree = none;            // of entities; not of curr
    std::uint32_t curr = none;
    std::uint32_t count = 0;              // entities, curr and the delayed ones included
    std::int64_t load = 0;                // their weights
    std::int64_t zero = 0;                // the weighted mean of vruntimes when it was last asked for
    std::int64_t sum = 0, weight = 0;     // over the tree: (vruntime - zero) * weight, and weights; without the finer bits
    std::int64_t least = 0;               // of vruntimes; never goes back (6.1)
    std::int64_t base = 0;                // what vruntimes of siblings are compared by
    std::uint64_t base_seq = 0;           // forced-idle period in which base was taken
    double average = 0;                   // of load, which forgets half of what was in 32.8 ms
    double told = 0;                      // what of it the group knows
    std::uint64_t averaged_at = 0, told_at = 0;
};

struct group {
    std::string name;
    group_id parent = 0;
    int weight = 1024, depth = 0;
    double average = 0;                   // of loads on all CPUs
    std::vector<std::uint32_t> queues;    // by CPU; none: not yet used there
};

struct task {
    task_options o;
    std::uint32_t self = none;            // its entity
    bool queued = false;                  // runnable: in a queue of cpu
    bool gone = false;
    bool throttled = false;               // deadline class: its budget is used up until `renewed_at`
    bool wanted = false;                  // while throttled: it would be runnable
    int cpu = 0;                          // where it is queued, or was last
    std::uint32_t place = 0;              // in the queue's list of tasks
    std::uint64_t runtime = 0;
    std::uint64_t began_at = 0;           // runtime when it was last put on a CPU
    std::uint64_t slice_began = 0;        // round robin: runtime when its turn began
    std::uint64_t due = 0;                // deadline class
    std::int64_t budget = 0;
    std::uint64_t budget_at = 0;          // runtime up to which it is charged
    std::uint64_t stolen_at = ~std::uint64_t{0};  // once in an instant: two forced-idle CPUs would hand it to and fro
    std::uint32_t occupation = 0;         // siblings that ran something when it was last picked
    std::uint64_t forced_idle = 0, switches = 0;
};

struct tagged {
    cookie tag;
    task_id id;
};

/// Kernel: struct rq, as far as core scheduling and its classes look at it.
struct queue {
    int cpu = 0;
    std::uint32_t core = 0;
    bool online = true;
    task_id curr = idle;
    std::uint32_t root = none;             // of its fair queues
    std::vector<task_id> tasks;            // what is runnable, in no order
    std::vector<task_id> real_time;        // the higher first; equal priorities in the order of their turns
    std::vector<task_id> deadline;         // in no order
    std::vector<tagged> by_cookie;         // of each cookie the one that goes before first, as it was when it came. Kernel: core_tree
    std::uint64_t exec_since = 0;          // curr's vruntime counts up to here
    bool must_choose = false;              // a reschedule is due
    bool due = false;                      // a tick has asked for one
    bool picked = false;                   // a sibling has picked for this CPU
    task_id pick = idle;
    std::uint64_t sched_seq = 0;           // the pick that this CPU follows
    bool forced = false;                   // idle, and not for want of work
    cookie hindered = no_cookie;           // while forced: of the task that would have run
    std::uint32_t idle_occupation = 0;
    cpu_figures figures;

    std::size_t runnable() const { return tasks.size(); }
};

/// Who has had how much of a core, under policy gang.
struct core_turn {
    cookie tag;
    std::int64_t had;
};

/// What siblings share. Kernel: the fields of one sibling's rq, the leader's.
struct core {
    std::vector<int> cpus;               // ascending
    int leader = 0;                      // goes to the next online sibling when it leaves
    std::uint64_t task_seq = 0;          // queueing here changes it
    std::uint64_t pick_seq = 0;          // task_seq at the last core-wide pick
    cookie tag = no_cookie;              // of what runs
    std::uint32_t forced = 0;            // CPUs that are forced idle
    std::uint32_t occupied = 0;          // CPUs that were given a task
    std::uint64_t forced_seq = 0;        // counts periods of forced idleness
    std::uint64_t since = 0;             // accounts are settled up to here
    std::uint64_t picked_at = 0;         // when it last chose
    std::uint32_t picks_now = 0;         // core-wide picks in that instant
    cookie turn = no_cookie;             // gang: whose the core is
    std::uint64_t turn_began = 0;        // gang
    std::vector<core_turn> turns;             // gang
    std::uint64_t turns_at = 0;          // gang: they are settled up to here
};

using timer = std::tuple<std::uint64_t, task_id>;

struct state {
    engine_options o;
    std::vector<task> tasks;
    std::vector<entity> entities;
    std::vector<fair_queue> fair;
    std::vector<group> groups;           // 0: the root
    std::vector<queue> cpus;             // by number
    std::vector<core> cores;
    std::vector<int> domain;             // by CPU: its package, for the order of stealing
    std::vector<std::vector<int>> near;  // by CPU: the others from the nearest on; made when first asked for
    cpumask possible, online;
    cpumask free;                        // online CPUs that have nothing to do
    cookie_table cookies;
    std::uint64_t now = 0;
    std::uint64_t slice = 0;             // of fair tasks
    std::uint64_t stamp = 0;             // order of insertion into trees
    std::vector<int> choosing;           // CPUs that must choose, first come first
    std::priority_queue<timer, std::vector<timer>, std::greater<>> timers;
    std::map<std::pair<cookie, cookie>, std::uint64_t> forced_by;
    std::vector<task_id> first;          // of a core-wide pick
    std::uint64_t picks = 0, steals = 0;

    bool core_wide() const { return o.rules.cookies_count && cookies.enabled(); }
    bool eevdf() const { return o.fair == fair_class::eevdf; }
    cookie tag_of(task_id t) const { return t == idle ? no_cookie : tasks[t].o.tag; }
    core& core_of(const queue& q) { return cores[q.core]; }
    queue& queue_of(int cpu) { return cpus[static_cast<std::size_t>(cpu)]; }
    const queue& queue_of(int cpu) const { return cpus[static_cast<std::size_t>(cpu)]; }
};

inline bool is_fair(const task& t) { return t.o.how == scheduling::fair; }
inline bool is_real_time(const task& t) { return t.o.how == scheduling::fifo || t.o.how == scheduling::round_robin; }

// entity.cpp: one level of the hierarchy

inline std::int64_t plain(std::int64_t weight) { return std::max<std::int64_t>(2, weight >> weight_shift); }
/// Real time as the entity's virtual time.
inline std::int64_t virtual_of(std::int64_t ns, const entity& e) { return e.weight == (std::int64_t{1024} << weight_shift) ? ns : ns * (std::int64_t{1024} << weight_shift) / e.weight; }
std::int64_t lag_of(state& s, fair_queue& f, const entity& e);
/// The weighted mean of vruntimes; takes it as the new zero.
std::int64_t mean(state& s, fair_queue& f);
bool eligible(const state& s, const fair_queue& f, std::int64_t vruntime);
void into_tree(state& s, fair_queue& f, std::uint32_t e);
void out_of_tree(state& s, fair_queue& f, std::uint32_t e);
/// Gives an entity that joins its place among the others.
void place(state& s, fair_queue& f, std::uint32_t e);
/// The level's choice; f.count > 0.
std::uint32_t pick_entity(state& s, fair_queue& f);
/// It has run so long: true when its slice is used up.
bool charge(state& s, fair_queue& f, std::uint32_t e, std::int64_t ns);
/// True when what runs has used its slice up, and others are owed more.
bool overdue(const state& s, const fair_queue& f);
void set_weight(state& s, std::uint32_t e, std::int64_t weight);
void update_least(state& s, fair_queue& f);

// load.cpp: what a group weighs on one CPU

/// Averages of e and of the queue that it competes in, up to now.
void update_load(state& s, std::uint32_t e);
/// Sets the weight of the group's entity, e.own's owner, to its part.
void update_group(state& s, std::uint32_t e);

// fair.cpp: the fair class on one CPU

/// The group's queue on a CPU, made when first asked for.
std::uint32_t fair_queue_of(state& s, group_id g, int cpu);
/// curr's time, up to now.
void update_curr(state& s, queue& q);
void enqueue_fair(state& s, queue& q, task& t);
/// sleeps: it may stay for a while, delayed.
void dequeue_fair(state& s, queue& q, task& t, bool sleeps);
/// A task that sleeps and is still queued: it is not any more.
void end_delay(state& s, task& t);
task_id pick_fair(state& s, queue& q);
/// The task's entities are no longer, or from now on, the current ones.
void put_fair(state& s, task& t);
void set_fair(state& s, task& t);
/// Should curr make way for t, which woke up?
bool preempts_fair(state& s, queue& q, const task& t);
void tick_fair(state& s, queue& q);
/// Takes the base that vruntimes are compared by anew, from e up; see goes_before.
void refresh_base(state& s, const core& c, std::uint32_t e, bool in_forced_idle);
bool fair_goes_before(state& s, const task& a, const task& b, bool in_forced_idle);

// classes.cpp: real time and deadlines

void update_budget(state& s, queue& q);
void renew_budget(state& s, task& t);
/// Those whose time has come have a budget again.
void expire_timers(state& s);
task_id pick_deadline(const state& s, const queue& q);
void tick_real_time(state& s, queue& q);

// pick.cpp

/// The class's own choice for a CPU, cookies aside.
task_id pick_own(state& s, queue& q);
/// a runs rather than b, on siblings. in_forced_idle: it continues.
bool goes_before(state& s, task_id a, task_id b, bool in_forced_idle);
/// The CPU chooses: its sibling's pick for it, or a core-wide pick. Then it runs that.
void choose(state& s, queue& q);
void must_choose(state& s, queue& q);

// gang.cpp

/// Which cookie has the core now: the one whose turn it is. best: the best first choice, any class.
task_id gang_choice(state& s, core& c, task_id best);
/// The queue's task of this cookie that has had least.
task_id gang_member(state& s, const queue& q, cookie tag);

// account.cpp

/// Charges what has passed on the core since the last time.
void account(state& s, core& c);

// queue.cpp

void enqueue(state& s, queue& q, task_id t);
void dequeue(state& s, task_id t, bool sleeps);
void move(state& s, task_id t, queue& to);
/// Its cookie has changed.
void retag(state& s, task_id t, cookie from);
/// The first of this cookie; idle: none.
task_id find(const queue& q, cookie tag);
void note_free(state& s, const queue& q);

// balance.cpp

/// Where a task that wakes up goes.
int cpu_for(state& s, task_id t);
/// A forced-idle CPU takes a task of the core's cookie from elsewhere.
void steal(state& s, queue& to);
/// A CPU without work takes some.
void pull(state& s, queue& to);

}  // namespace cohort::coresched::detail
