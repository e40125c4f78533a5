// SPDX-License-Identifier: Apache-2.0
#include <cohort/kapi/cpuset.h>

#include <atomic>

#include <cohort/cpuset/live.hpp>
#include <cohort/sys/os.hpp>

#undef current  // a macro of the header's; no word of its own is safe from it

namespace {

using namespace cohort;
using cpuset::shared_model;

thread_local task_struct* me = nullptr;

std::atomic<shared_model*> everybodys{nullptr};  // [atomic: set under making, released; acquired by all]
mutex making;

/// This machine: its tree where one is mounted and can be read, else its CPUs with a root alone.
std::unique_ptr<shared_model> this_machine() {
    sys::os& os = sys::real();
    if (auto live = cpuset::read_live(os)) {
        if (auto l = cpuset::load(live->what)) return shared_model::create(std::move(l->model)).value();
    }
    return shared_model::create(cpuset::model(machine::load("live", os).value())).value();
}

/// As published; what the root has for a task that is not known.
shared_model::masks masks_of(const task_struct* task) {
    const shared_model& all = kapi::cpusets();
    if (task) {
        if (auto m = all.task_masks(task->comm)) return *m;
    }
    return all.set_masks(".").value();
}

}  // namespace

namespace cohort::kapi {

cpuset::shared_model& cpusets() {
    // acquire: the machine as it was made. Pairs with [release: made] below.
    if (shared_model* there = everybodys.load(std::memory_order_acquire)) return *there;
    const lock_guard hold(making);
    if (!everybodys.load(std::memory_order_relaxed)) {  // relaxed: only changed under `making`
        everybodys.store(this_machine().release(), std::memory_order_release);  // release: made. Pairs with the acquire above
    }
    return *everybodys.load(std::memory_order_relaxed);  // relaxed: as before
}

void use_cpusets(std::unique_ptr<cpuset::shared_model> machine) {
    const lock_guard hold(making);
    delete everybodys.exchange(machine.release(), std::memory_order_acq_rel);  // acq_rel: made; pairs with the acquire in cpusets()
}

}  // namespace cohort::kapi

void set_current(task_struct* task) { me = task; }
task_struct* get_current() { return me; }

bool cpusets_enabled() { return kapi::cpusets().any_set(); }

void cpuset_cpus_allowed(task_struct* task, cpumask* mask) { *mask = masks_of(task).cpus; }
nodemask_t cpuset_mems_allowed(task_struct* task) { return masks_of(task).mems; }
nodemask_t cpuset_current_mems() { return masks_of(me).mems; }

bool cpuset_cpu_is_isolated(int cpu) { return kapi::cpusets().isolated().test(cpu); }

bool cpuset_nodemask_valid_mems_allowed(const nodemask_t* nodes) { return nodes->intersects(masks_of(me).mems); }

bool cpuset_node_allowed(int node, gfp_t gfp) {
    if (!me || masks_of(me).mems.test(node)) return true;
    if (gfp & __GFP_HARDWALL) return false;
    const auto wall = kapi::cpusets().hardwall_mems(me->comm);
    return !wall || wall->test(node);
}

bool cpuset_mems_allowed_intersects(const task_struct* a, const task_struct* b) { return masks_of(a).mems.intersects(masks_of(b).mems); }

bool current_cpuset_is_being_rebound() { return me && kapi::cpusets().being_rebound(me->comm); }

void cpuset_memory_pressure_bump() {
    if (me) kapi::cpusets().perform({.what = cpuset::verb::pressure, .task = me->comm, .number = 1});
}

unsigned int read_mems_allowed_begin() { return me ? kapi::cpusets().mems_begin(me->comm) : 0; }
bool read_mems_allowed_retry(unsigned int seq) { return me && kapi::cpusets().mems_changed(me->comm, seq); }

void cpuset_lock() { kapi::cpusets().lock(); }
void cpuset_unlock() { kapi::cpusets().unlock(); }
void cpuset_read_lock() { kapi::cpusets().lock_shared(); }
void cpuset_read_unlock() { kapi::cpusets().unlock_shared(); }

void rebuild_sched_domains() { kapi::cpusets().rebuild_domains(); }
