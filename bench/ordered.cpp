// SPDX-License-Identifier: Apache-2.0
/// padata's ordered streams beside oneTBB's pipeline, OpenMP's ordered loop and one thread.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/shell.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

/// An intrusive job, used again and again: nothing is allocated while the stream runs. What travels in it is what travels in the peers' items: eight
/// bytes; the load and the sink are the run's.
struct alignas(64) item final : padata::job {
    struct shared {
        const load* l;
        sink* out;
    };
    const shared* run = nullptr;
    std::uint32_t number = 0, value = 0;

    void parallel() override {
        value = run->l->result(number);
        padata::do_serial(*this);
    }
    void serial() override { run->out->take(number, value); }
};

struct stream {
    stream(const settings& s, int workers) : window(1024), items(std::make_unique<item[]>(std::size_t{2} * window)) {
        padata::instance_options options{.name = "bench"};
        cpumask mask;
        for (const int c : s.cpus) mask.set(c);
        if (workers == 1) mask = {s.cpus[0]};
        options.parallel = options.serial = mask;
        inst = must(padata::instance::create(std::move(options)));
        shell = std::make_unique<padata::shell>(must(padata::shell::create(*inst, {.window = window})));
    }

    void run_intrusive(const load& l, std::uint32_t n) {
        sink out;
        const item::shared run{&l, &out};
        for (std::uint32_t i = 0; i < n; ++i) {
            // At most `window` jobs fly once do_parallel has returned, so the job of 2 * window submissions ago is through.
            item& j = items[i % (2 * window)];
            j.run = &run;
            j.number = i;
            must(shell->do_parallel(j));
        }
        must(shell->drain());
        check(out, l, n, "cohort intrusive");
    }

    void run_lambda(const load& l, std::uint32_t n) {
        sink out;
        struct cell {
            std::uint32_t value;
        };
        const auto cells = std::make_unique<cell[]>(std::size_t{2} * window);
        for (std::uint32_t i = 0; i < n; ++i) {
            cell* c = &cells[i % (2 * window)];
            must(shell->submit([c, i, &l] { c->value = l.result(i); }, [c, i, &out] { out.take(i, c->value); }));
        }
        must(shell->drain());
        check(out, l, n, "cohort lambda");
    }

    std::uint32_t window;
    std::unique_ptr<item[]> items;
    std::unique_ptr<padata::instance> inst;
    std::unique_ptr<padata::shell> shell;  // declared last: gone first
};

void run_load(const settings& s, const std::string& name, load l, std::uint32_t n) {
    if (name.find(s.only) == std::string::npos) return;
    // Threads are made while this one may run on every CPU: a thread inherits its maker's mask.
    pin_to(s.cpus);
    auto all = own_variants(s, l);
    for (auto& v : tbb_variants(s, l, l.rare_steps != 0)) all.push_back(std::move(v));
    for (auto& v : openmp_variants(s, l)) all.push_back(std::move(v));
    all.push_back({"one thread", "single", "one thread", [l](std::uint32_t units) {
                       sink out;
                       for (std::uint32_t i = 0; i < units; ++i) out.take(i, l.result(i));
                       check(out, l, units, "one thread");
                   }});
    measure(s, name, "ns", 1e9, n, std::move(all));
}

}  // namespace

std::vector<variant> own_variants(const settings& s, load l) {
    const auto shared = std::make_shared<stream>(s, 0);
    std::vector<variant> all;
    all.push_back({"cohort, intrusive jobs", "ours", "", [=](std::uint32_t n) { shared->run_intrusive(l, n); }});
    all.push_back({"cohort, lambdas", "shown", "cohort, lambdas", [=](std::uint32_t n) { shared->run_lambda(l, n); }});
    if (l.steps == 0) {
        const auto alone = std::make_shared<stream>(s, 1);
        all.push_back({"cohort, one CPU", "shown", "cohort, one CPU", [=](std::uint32_t n) { alone->run_intrusive(l, n); }});
    }
    return all;
}

void run_ordered(const settings& s) {
    run_load(s, "padata/ordered/empty", {}, 2'000'000);
    run_load(s, "padata/ordered/1us", {.steps = s.steps_per_us}, 100'000);
    run_load(s, "padata/ordered/skew", {.steps = s.steps_per_us, .rare_steps = 64 * s.steps_per_us}, 51'200);
}

}  // namespace cohort::bench
