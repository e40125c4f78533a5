// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <cohort/stream/flow.hpp>

#include "command.hpp"

int main(int argc, char** argv) {
    using namespace cohort::cli;
    // What `cohort up` starts three times for a flow; no command of a person's.
    if (argc > 1 && argv[1] == std::string("flow-stage")) return cohort::stream::flow_stage(std::vector<std::string>(argv + 2, argv + argc), cohort::sys::real());
    // The process that `cohort up --detach` leaves is this program again; for a person there is no such command either.
    std::vector<std::string> words(argv + 1, argv + argc);
    const bool owner = argc > 1 && words[0] == "up-owner";
    static char up[] = "up";
    if (owner) argv[1] = up;
    registry all;
    add_up(all, words, owner);
    add_down(all);
    add_status(all);
    add_run(all);
    add_top(all);
    add_plan(all);
    add_pipe(all);
    add_doctor(all);
    add_topology(all);
    all.noun("cpuset", "CPUs and memory nodes of control groups: what a write will do, and why");
    add_cpuset_show(all);
    add_cpuset_change(all);
    add_cpuset_explain(all);
    add_cpuset_lint(all);
    add_cpuset_plan(all);
    add_cpuset_snapshot(all);
    add_cpuset_watch(all);
    add_cpuset_simulate(all);
    add_cpuset_what_if(all);
    all.noun("coresched", "Who may share a core's hyperthreads, and what that costs");
    add_coresched_control(all);
    add_coresched_ls(all);
    add_coresched_exec(all);
    add_coresched_simulate(all);
    add_coresched_check(all);
    all.noun("padata", "Parallel jobs in order: running instances and their CPU masks");
    add_padata(all);
    add_padata_demo(all);
    all.noun("percpu", "Memory per CPU: figures of this machine, statistics of a program");
    add_percpu_bench(all);
    add_percpu_stat(all);
    add_percpu_demo(all);
    all.noun("pool", "Memory that groups of processes share at one address; served by cohortd");
    add_pool_create(all);
    add_pool_ls(all);
    add_pool_join(all);
    add_pool_top(all);
    return all.main(argc, argv);
}
