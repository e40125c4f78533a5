// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

int main(int argc, char** argv) {
    using namespace cohort::cli;
    registry all;
    add_up(all);
    add_plan(all);
    add_pipe(all);
    add_doctor(all);
    add_topology(all);
    add_cpuset_simulate(all);
    add_padata(all);
    add_padata_demo(all);
    add_percpu_bench(all);
    add_percpu_stat(all);
    add_percpu_demo(all);
    return all.main(argc, argv);
}
