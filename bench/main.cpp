// SPDX-License-Identifier: Apache-2.0
/// cohort_bench [--rounds N] [--scale F] [--only NAME]: the rooms beside their peers; one line of JSON per variant on stdout. `make bench` runs it.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support.hpp"

int main(int argc, char** argv) {
    if (argc == 3 && !std::strcmp(argv[1], "--possible-cpus-child")) return cohort::bench::possible_cpus_child(std::atof(argv[2]));
    if (argc > 1 && !std::strcmp(argv[1], "--flow-stage")) return cohort::bench::flow_stage_child(argc - 2, argv + 2);
    cohort::bench::settings s;
    for (int i = 1; i < argc; i += 2) {
        const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (value && !std::strcmp(argv[i], "--rounds")) s.rounds = std::atoi(value);
        else if (value && !std::strcmp(argv[i], "--scale")) s.scale = std::atof(value);
        else if (value && !std::strcmp(argv[i], "--only")) s.only = value;
        else {
            std::fprintf(stderr, "usage: cohort_bench [--rounds N] [--scale F] [--only NAME]\n");
            return 2;
        }
    }
    if (s.rounds < 1 || !(s.scale > 0)) {
        std::fprintf(stderr, "cohort_bench: --rounds and --scale must be positive\n");
        return 2;
    }
    s.cpus = cohort::bench::allowed_cpus();
    if (s.cpus.empty()) return 5;
    s.steps_per_us = cohort::bench::calibrate();
    std::fprintf(stderr, "%zu CPUs, %u multiplications in a microsecond, %d rounds\n", s.cpus.size(), s.steps_per_us, s.rounds);
    cohort::bench::run_ordered(s);
    cohort::bench::run_shells_and_masks(s);
    cohort::bench::run_multithreaded(s);
    cohort::bench::run_esp(s);
    cohort::bench::run_percpu_add(s);
    cohort::bench::run_percpu_alloc(s);
    cohort::bench::run_percpu_rwsem(s);
    cohort::bench::run_percpu_memory(s);
    cohort::bench::run_cpuset_plan(s);
    cohort::bench::run_cpuset(s);
    cohort::bench::run_sharepool(s);
    cohort::bench::run_sharepool_broker(s);
    cohort::bench::run_flow(s);
    cohort::bench::run_coresched_executor(s);
    cohort::bench::run_coresched(s);
    return 0;
}
