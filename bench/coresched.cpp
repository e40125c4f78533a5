// SPDX-License-Identifier: Apache-2.0
// The core-wide pick in memory: what a pick costs, over CPUs and tasks. Every task is a hog with one of a few cookies; a tick makes most CPUs choose.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include <cohort/coresched/engine.hpp>
#include <cohort/sys/os.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

class crowd {
public:
    crowd(int cpus, int tasks) : engine_(must(machine::load("synthetic:pack:1 core:" + std::to_string(cpus / 2) + " pu:2", sys::real()))) {
        std::mt19937 random(1);
        std::vector<coresched::cookie> cookies{coresched::no_cookie};
        for (int i = 0; i < 4; ++i) cookies.push_back(engine_.cookies().create());
        for (int i = 0; i < tasks; ++i) {
            const int weight = i % 3 ? 1024 : static_cast<int>(100 + random() % 3000);
            engine_.wake(engine_.add({.tag = cookies[random() % cookies.size()], .cpus = {i % cpus}, .weight = weight}));
        }
        engine_.settle();
    }
    /// At least n picks.
    void run(std::uint32_t n) {
        for (const std::uint64_t until = engine_.picks() + n; engine_.picks() < until;) {
            engine_.advance(4'000'000);
            engine_.tick();
            engine_.settle();
        }
        if (const std::string wrong = engine_.broken(); !wrong.empty()) std::fprintf(stderr, "coresched/picks: %s\n", wrong.c_str()), std::exit(1);
    }

private:
    coresched::engine engine_;
};

variant of(const std::string& name, const std::string& side, int cpus, int tasks) {
    return {name, side, "", [c = std::make_shared<crowd>(cpus, tasks)](std::uint32_t n) { c->run(n); }};
}

}  // namespace

void run_coresched(const settings& s) {
    if (std::string("coresched/picks").find(s.only) != std::string::npos) {
        std::vector<variant> all{of("cohort, 8 CPUs, 40 tasks", "ours", 8, 40)};
        for (const int tasks : {16, 400, 4'000, 10'000}) all.push_back(of("cohort, 8 CPUs, " + std::to_string(tasks) + " tasks", "shown", 8, tasks));
        for (const int cpus : {2, 64, 256}) all.push_back(of("cohort, " + std::to_string(cpus) + " CPUs, " + std::to_string(5 * cpus) + " tasks", "shown", cpus, 5 * cpus));
        measure_loops(s, "coresched/picks", "ns", 1e9, 0.2, std::move(all));
    }
    if (std::string("coresched/picks_1024").find(s.only) != std::string::npos) measure_loops(s, "coresched/picks_1024", "ns", 1e9, 0.2, {of("cohort, 1,024 CPUs, 10,000 tasks", "ours", 1024, 10'000)});
}

}  // namespace cohort::bench
