// SPDX-License-Identifier: Apache-2.0
/// The state of a model, and what the files of this folder do to it. Functions that answer a `verdict` change nothing when it is a refusal.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/cpuset/detail/pressure.hpp>
#include <cohort/cpuset/model.hpp>
#include <cohort/cpuset/partition.hpp>

namespace cohort::cpuset::detail {

/// What a write may change of a set: copied, changed, validated, and only then put back.
struct request {
    cpumask cpus;        ///< cpuset.cpus
    cpumask exclusive;   ///< cpuset.cpus.exclusive
    cpumask granted;     ///< cpuset.cpus.exclusive.effective
    nodemask mems;       ///< cpuset.mems
    bool cpu_exclusive = false, mem_exclusive = false;
    bool lists_exclusive = false;  ///< `exclusive` is not empty, without reading it

    /// The CPUs that a partition of this set asks for.
    const cpumask& wanted() const { return exclusive.empty() ? cpus : exclusive; }
    bool wants_nothing() const { return cpus.empty() && exclusive.empty(); }
};

struct group;

/// What a group knows, apart from its family: copied as it is when a world is copied.
struct group_data {
    std::string name;
    std::set<std::string, std::less<>> tasks;  // its own
    std::size_t tasks_below = 0;               // in the whole subtree, itself included
    bool hands_on = false;                     // cpuset in cgroup.subtree_control
    bool has_cpuset = false;
    const group* owner = nullptr;              // the delegated group whose user created this one; null: root's
    bool delegated = false;

    request own;
    cpumask effective_cpus;
    nodemask effective_mems;
    nodemask old_mems;                         // where the pages of its tasks are
    partition_state state = partition_state::member;
    partition_reason reason = partition_reason::none;
    cpumask handed_down;                       // 6.1: CPUs of the partitions below
    bool follows_parent = true;                // 6.1: none of its own are left, it runs on its parent's
    bool remote = false;                       // takes its CPUs from the root; one that a sibling's list made invalid keeps the mark
    bool balance = true;                       // sched_load_balance

    bool hardwall = false, migrate = false, spread_page = false, spread_slab = false, clone_children = false;  // version 1
    int relax = -1;
    pressure_meter pressure;
};

/// A cgroup, and its cpuset where the parent hands the controller on. Ownership: a group owns its children.
struct group : group_data {
    group* parent = nullptr;
    group *first = nullptr, *last = nullptr, *next = nullptr, *before = nullptr;  // children and siblings, in the order of creation
    std::map<std::string, std::unique_ptr<group>, std::less<>> children;

    bool is_root() const { return !parent; }
    bool valid() const { return is_valid(state); }
    bool invalid() const { return is_invalid(state); }
    bool local() const { return valid() && !remote; }
};

struct task {
    std::string name;
    group* at = nullptr;
    cpumask cpus;                      // what the scheduler uses
    std::optional<cpumask> asked = {}; // sched_setaffinity, unfiltered
    nodemask mems;
    memory_policy policy = {};
    std::optional<memory_policy> vma = {};
    const group* owner = nullptr;      // as group::owner
};

struct verdict {
    int code = 0;
    std::string why = {};
    bool refused() const { return code != 0; }
};

/// The state of the machine, apart from groups and tasks.
struct world_data {
    kernel profile = kernel::v6_12;
    bool v1 = false;
    cpumask possible, active, boot_isolated;
    nodemask possible_nodes, memory_nodes;
    int cpu_ids = 1, node_ids = 64;    // bits in the lists of files
    int relax_max = 1;

    cpumask sub_cpus;                  // CPUs that partitions have taken from the root
    cpumask isolated;                  // of them, those of isolated ones
    std::vector<cpumask> domains;      // as the scheduler has them
    bool domains_due = false;          // this operation makes them anew
    bool hollow_domain = false;        // of those made last, the kernel's list has one without a CPU
    bool at_risk = false;              // in this operation domains were made with such a list before or after
    cpumask at_work;                   // the mask that a walk is computing; see propagate.cpp
    bool pressure_on = false, suspended = false;
    std::int64_t now = 0;              // seconds

    cpumask starter_cpus;              // of whoever starts tasks in the root

    const rules& kernel_rules() const { return rules_of(profile); }
};

struct world : world_data {
    std::unique_ptr<group> root;
    std::map<std::string, task, std::less<>> tasks;
    std::vector<trace_step>* trace = nullptr;  // where steps of a hotplug go, if anywhere; a copy has none
    const group* user = nullptr;       // commands are given by the user that this group is delegated to; null: root

    bool admin() const { return !user; }
};

// copy.cpp
std::unique_ptr<world> copy(const world& w);
/// Only those of the sets directly below the root, with all below them, for which keep() answers true, and their tasks. The others are as if they had never been made, save that the
/// CPUs which they have taken from the root stay taken.
std::unique_ptr<world> copy_part(const world& w, const std::function<bool(const group&)>& keep);

// tree.cpp
group* find(world& w, std::string_view path);
inline const group* find(const world& w, std::string_view path) { return find(const_cast<world&>(w), path); }
std::string path_of(const group& g);
/// The next cpuset in pre-order below `top`, `top` being the first; null at the end. skip: nothing below `at`.
group* next_cpuset(group* at, const group* top, bool skip = false);
/// The next child of the same parent that has a cpuset.
group* next_child(group* at);
group* first_child(const group& g);
/// The set that governs g: itself, or the nearest above that has one.
group& cpuset_of(group& g);
verdict make_group(world& w, std::string_view path);
verdict remove_group(world& w, std::string_view path);
verdict set_controller(world& w, std::string_view path, bool on);
verdict bind(world& w, bool to_v2);
/// A cpuset begins to be, as its parent's child.
void bring_online(world& w, group& g);
verdict may_write(const world& w, const group& g);
verdict no_such_group(std::string_view path);

// request.cpp
result<cpumask> read_cpus(const world& w, std::string_view text);
verdict write_cpus(world& w, group& g, std::string_view text);
verdict write_exclusive(world& w, group& g, std::string_view text);

// validate.cpp
verdict validate(const world& w, const group& g, const request& trial);
/// Is a task of g, or of a set below that does not belong to a partition of its own, there? without: a child that is not counted.
bool populated(const world& w, const group& g, const group* without = nullptr);
/// Would a populated partition be left without an active CPU if `g` had `cpus`? Kernel: tasks_nocpu_error.
bool starves(const world& w, const group& parent, const group& g, const cpumask& cpus);

// partition_write.cpp
verdict write_partition(world& w, group& g, std::string_view text);
void become(world& w, group& g, partition_state wanted);
/// CPU exclusivity of a partition; false: a sibling is in the way.
bool set_exclusive_flag(world& w, group& g, bool on);
/// A set that is no partition keeps what is a member's.
void reset_to_member(group& g);
/// Load balancing follows the state; domains are made anew when the set is a partition or has been one in state `before`.
void follow_balance(world& w, group& g, partition_state before);
/// What a partition of g would be granted now.
struct grant {
    cpumask cpus;
    bool claimed = false;  ///< a sibling's claim had to be left out
};
/// by_write: `asked` is a list being written, which siblings' claims bind even if it is an exclusive one.
grant grant_for(const world& w, const group& g, const request& asked, bool by_write = false);
bool conflicts_with_housekeeping(const world& w, partition_state s, const cpumask& cpus);

// local.cpp
partition_reason enable_local(world& w, group& g, partition_state wanted);
void disable_local(world& w, group& g);
/// The reason is the caller's to record.
void invalidate_local(world& w, group& g);
/// new_cpus: a write of them; null: the parent or the machine has changed.
void update_local(world& w, group& g, const cpumask* new_cpus);
/// CPUs leave `from` (the root: and are counted as partitions') for a partition in state s; and come back.
void take_cpus(world& w, group& from, partition_state s, const cpumask& cpus);
void give_back(world& w, group& to, partition_state s, const cpumask& cpus);

// remote.cpp
partition_reason enable_remote(world& w, group& g, partition_state wanted);
void disable_remote(world& w, group& g);
/// exclusive: the list that is being written; null: another one.
void update_remote(world& w, group& g, const cpumask& cpus, const cpumask* exclusive = nullptr);

// handed_down.cpp: partitions of 6.1
void write_cpus_6_1(world& w, group& g, const cpumask& list, bool overlaps);
void become_6_1(world& w, group& g, partition_state wanted);
/// CPUs have come or gone. Returns what the set has now, which may be nothing.
cpumask meet_machine_6_1(world& w, group& g);

// propagate.cpp
void propagate(world& w, group& top, bool force);
/// Siblings of `changed` whose CPUs follow the parent's; changed may be null.
void propagate_siblings(world& w, group& parent, const group* changed);
/// The effective CPUs of the partition g; children that no longer fit become invalid.
cpumask partition_cpus(world& w, group& g);
cpumask member_cpus(const group& g);

// mems.cpp
verdict write_mems(world& w, group& g, std::string_view text);
void propagate_mems(world& w, group& top);

// tasks.cpp
void update_tasks(world& w, group& g);
void update_task_mems(world& w, group& g);
/// The tasks of g, which has just got its cpuset, come from the next set's above.
void receive_tasks(world& w, group& g);
/// The tasks of g, which has just lost its cpuset, are the next set's above. moved: CPUs have come with them.
void adopt_tasks(world& w, group& g, bool moved);
/// CPUs that a task of g may ask for.
cpumask allowed_cpus(const world& w, const group& g);
nodemask allowed_mems(const world& w, const group& g);
verdict attach(world& w, std::string_view path, const std::string& name);
verdict fork(world& w, const std::string& name, const std::string& child);
verdict exit(world& w, const std::string& name);
verdict set_affinity(world& w, const std::string& name, const cpumask& cpus);
verdict set_policy(world& w, const std::string& name, const memory_policy& p, bool vma);
answer show_task(const world& w, const std::string& name);
answer list_tasks(world& w, std::string_view path);
/// Moves without asking; CPUs, nodes and policies follow.
void move_task(world& w, task& t, group& to);

// domains.cpp
/// Sched domains, sorted by their first CPU. They follow the sets when an operation says that they are due; one that forgets to leaves the old ones.
std::vector<cpumask> sched_domains(const world& w);
void make_domains(world& w);
/// What `at_risk` says. Seen in the lab: when domains are next made anew, 6.1 and 6.12 look for the first CPU of the domain that has none; so it is when the partition
/// that took the CPUs gives some back, becomes a member, or is removed.
inline constexpr const char* risk_text =
    "the root is left with CPUs isolated since boot alone, a sched domain without a CPU: the next write that makes domains anew crashes the kernel (6.1 and 6.12), even one that takes this back";

// hotplug.cpp
verdict set_cpu_online(world& w, std::int64_t cpu, bool on);
verdict set_node_online(world& w, std::int64_t node, bool on);

// files.cpp
answer read_file(world& w, std::string_view path, std::string_view file);
verdict write_file(world& w, std::string_view path, std::string_view file, std::string_view text);
std::vector<std::string> files_of(const world& w, const group& g);

// v1_files.cpp
verdict write_flag(world& w, group& g, std::string_view file, std::string_view text);
verdict write_relax(world& w, group& g, std::string_view text);

// invariants.cpp
std::string broken(const world& w);

}  // namespace cohort::cpuset::detail
