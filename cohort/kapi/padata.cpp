// SPDX-License-Identifier: Apache-2.0
#include <cohort/kapi/padata.h>

#include <algorithm>
#include <memory>
#include <new>

#include <cohort/base/check.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/multithreaded.hpp>
#include <cohort/padata/shell.hpp>

using namespace cohort;

struct padata_instance {
    std::unique_ptr<padata::instance> inst;
};

struct padata_shell {
    padata::shell shell;
};

namespace {

/// What stands in padata_priv::engine while the job flies.
class flying final : public padata::job {
public:
    explicit flying(padata_priv* p) : priv_(p) {}
    static flying* of(padata_priv* p) { return std::launder(reinterpret_cast<flying*>(p->engine)); }

    void parallel() override {
        priv_->seq_nr = static_cast<unsigned>(seq());
        priv_->cb_cpu = cb_cpu();
        priv_->parallel(priv_);
    }
    void serial() override {
        padata_priv* p = priv_;
        if (info != 0) p->info = info;
        this->~flying();  // serial() may free the job, or submit it anew
        p->serial(p);
    }

private:
    padata_priv* priv_;
};
static_assert(sizeof(flying) <= sizeof(padata_priv::engine) && alignof(flying) <= alignof(padata_priv));

constexpr std::uint32_t window = 4096;

template <class T>
T* null_with(int code) {
    errno = code;
    return nullptr;
}

/// Helpers for padata_do_multithreaded; null where there are no threads.
padata::instance* everybodys() {
    static const std::unique_ptr<padata::instance> it = [] {
        auto made = padata::instance::create({.name = "padata_mt"});
        return made ? std::move(*made) : nullptr;
    }();
    return it.get();
}

}  // namespace

padata_instance* padata_alloc(const char* name) try {
    auto made = padata::instance::create({.name = name});
    if (!made) return null_with<padata_instance>(made.error().code);
    return new padata_instance{std::move(*made)};
} catch (const std::bad_alloc&) {
    return null_with<padata_instance>(ENOMEM);
}

void padata_free(padata_instance* pinst) { delete pinst; }

padata_shell* padata_alloc_shell(padata_instance* pinst) try {
    // Callbacks never run in the submitter: kernel code may hold a lock there that serial() takes.
    auto made = padata::shell::create(*pinst->inst, {.window = window, .when_full = padata::full_policy::block, .inline_jobs = false});
    if (!made) return null_with<padata_shell>(made.error().code);
    return new padata_shell{std::move(*made)};
} catch (const std::bad_alloc&) {
    return null_with<padata_shell>(ENOMEM);
}

void padata_free_shell(padata_shell* ps) { delete ps; }

int padata_do_parallel(padata_shell* ps, padata_priv* padata, int* cb_cpu) {
    if (*cb_cpu < 0) return -EINVAL;
    auto* job = ::new (padata->engine) flying(padata);
    padata->info = 0;
    int cpu = *cb_cpu;
    auto accepted = ps->shell.do_parallel(*job, cpu);
    if (!accepted) {
        job->~flying();
        return -accepted.error().code;
    }
    *cb_cpu = cpu;
    return 0;
}

void padata_do_serial(padata_priv* padata) {
    flying* job = flying::of(padata);
    job->info = padata->info;
    padata::do_serial(*job);
}

int padata_set_cpumask(padata_instance* pinst, int cpumask_type, cpumask_var_t mask) try {
    if (cpumask_type != PADATA_CPU_SERIAL && cpumask_type != PADATA_CPU_PARALLEL) return -EINVAL;
    const auto kind = cpumask_type == PADATA_CPU_PARALLEL ? padata::mask_kind::parallel : padata::mask_kind::serial;
    const auto done = pinst->inst->set_cpumask(kind, *mask);
    return done ? 0 : -done.error().code;
} catch (const std::bad_alloc&) {
    return -ENOMEM;
}

void padata_do_multithreaded(padata_mt_job* job) {
    if (job->size == 0) return;
    padata::mt_job all;
    all.run = [job](std::size_t begin, std::size_t end) {
        job->thread_fn(begin, end, job->fn_arg);
        return 0;
    };
    all.start = job->start;
    all.size = job->size;
    all.align = job->align;
    all.min_chunk = job->min_chunk;
    all.max_threads = std::max(job->max_threads, 1);
    all.numa_aware = job->numa_aware;
    padata::instance* helpers = all.max_threads > 1 ? everybodys() : nullptr;
    if (!helpers) return job->thread_fn(job->start, job->start + job->size, job->fn_arg);
    const auto done = padata::do_multithreaded(*helpers, all);
    COHORT_CHECK(done, "padata_do_multithreaded: start + size is beyond the largest number");
}
