// SPDX-License-Identifier: Apache-2.0
// The C interface of padata: handles, option structures and error codes around the C++ classes. Nothing is decided here.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include <cohort/kapi/c/cohort.h>
#include <cohort/kapi/detail/c_call.hpp>
#include <cohort/kapi/detail/c_tenant.hpp>
#include <cohort/padata/control.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/multithreaded.hpp>
#include <cohort/padata/shell.hpp>

using namespace cohort;
using namespace cohort::kapi;

#ifdef COHORT_PROJECT_VERSION
static_assert(COHORT_VERSION_NUMBER == COHORT_PROJECT_VERSION, "cohort.h and CMakeLists.txt disagree about the version");
#endif

struct cohort_padata {
    std::unique_ptr<padata::instance> inst;
};

struct cohort_control {
    std::unique_ptr<padata::control> control;
};

struct cohort_shell {
    padata::shell shell;
};

/// The asynchronous form: parallel() hands itself out as the handle, and whoever holds it finishes the job.
struct cohort_job final : padata::job {
    explicit cohort_job(const cohort_job_options& o) : options(o) { bytes = o.bytes; }
    void parallel() override { options.parallel(this, options.arg); }
    void serial() override {
        const std::unique_ptr<cohort_job> self(this);
        options.serial(options.arg, info);
    }
    const cohort_job_options options;
};

namespace {

result<std::optional<cpumask>> read_mask(const char* list) {
    if (!list) return std::nullopt;
    auto mask = cpumask::parse_list(list);
    if (!mask) return std::unexpected(mask.error());
    return *mask;
}

result<padata::mask_kind> read_kind(int which) {
    if (which == COHORT_MASK_PARALLEL) return padata::mask_kind::parallel;
    if (which == COHORT_MASK_SERIAL) return padata::mask_kind::serial;
    return fail(EINVAL, "cohort_mask " + std::to_string(which), "choose a mask", "there are COHORT_MASK_PARALLEL and COHORT_MASK_SERIAL");
}

/// The simple form: finished as soon as parallel() has returned.
struct simple_job final : padata::job {
    simple_job(void (*p)(void*), void (*s)(void*, int), void* a) : run(p), deliver(s), arg(a) {}
    void parallel() override {
        run(arg);
        padata::do_serial(*this);
    }
    void serial() override {
        const std::unique_ptr<simple_job> self(this);
        deliver(arg, info);
    }
    void (*run)(void*);
    void (*deliver)(void*, int);
    void* arg;
};

template <class Job>
int start(cohort_shell* s, std::unique_ptr<Job> job, int cb_cpu) {
    if (auto done = s->shell.do_parallel(*job, cb_cpu); !done) return failed(done.error());
    (void)job.release();  // serial() frees it; it may be gone already
    return 0;
}

}  // namespace

extern "C" {

const char* cohort_version(void) {
#define COHORT_TEXT_OF(x) #x
#define COHORT_TEXT(x) COHORT_TEXT_OF(x)
    return COHORT_TEXT(COHORT_VERSION_MAJOR) "." COHORT_TEXT(COHORT_VERSION_MINOR) "." COHORT_TEXT(COHORT_VERSION_PATCH);
}
int cohort_version_number(void) { return COHORT_VERSION_NUMBER; }
const char* cohort_last_error(void) { return last_error.c_str(); }

int cohort_padata_alloc(const cohort_padata_options* options, cohort_padata** out) {
    return entry("padata", "alloc", [&] {
        const auto o = read_options(options);
        if (!o) return failed(EINVAL, "cohort_padata_options", "read", bad_size);
        if (!out) return failed(EINVAL, "padata", "alloc", "no place for the result");
        padata::instance_options inner;
        if (o->name) inner.name = o->name;
        auto parallel = read_mask(o->parallel_cpus), serial = read_mask(o->serial_cpus);
        if (!parallel) return failed(parallel.error());
        if (!serial) return failed(serial.error());
        inner.parallel = *parallel;
        inner.serial = *serial;
        inner.max_workers = o->max_workers;
        inner.own_threads = !o->no_threads;
        if (o->tenant) inner.gate = o->tenant->gate.get();
        auto made = padata::instance::create(std::move(inner));
        if (!made) return failed(made.error());
        *out = new cohort_padata{std::move(*made)};
        return 0;
    });
}

void cohort_padata_free(cohort_padata* p) { delete p; }

int cohort_padata_set_cpumask(cohort_padata* p, int which, const char* list) {
    return entry("padata", "set_cpumask", [&] {
        const auto kind = read_kind(which);
        if (!kind) return failed(kind.error());
        if (!list) return failed(EINVAL, "padata", "set_cpumask", "no list");
        const auto mask = cpumask::parse_list(list);
        if (!mask) return failed(mask.error());
        if (auto done = p->inst->set_cpumask(*kind, *mask); !done) return failed(done.error());
        return 0;
    });
}

int cohort_padata_cpumask(cohort_padata* p, int which, char* text, size_t size) {
    return entry("padata", "cpumask", [&] {
        const auto kind = read_kind(which);
        if (!kind) return failed(kind.error());
        return write_text(p->inst->usable_mask(*kind).list(), text, size);
    });
}

int cohort_padata_user_cpumask(cohort_padata* p, int which, char* text, size_t size) {
    return entry("padata", "user_cpumask", [&] {
        const auto kind = read_kind(which);
        if (!kind) return failed(kind.error());
        return write_text(p->inst->user_mask(*kind).list(), text, size);
    });
}

int cohort_padata_stopped(cohort_padata* p, char* why, size_t size) {
    return entry("padata", "stopped", [&] { return write_text(p->inst->why_stopped(), why, size) > 0 ? 1 : 0; });
}

int cohort_control_alloc(cohort_padata* p, const char* directory, cohort_control** out) {
    return entry("control", "alloc", [&] {
        if (!p || !out) return failed(EINVAL, "control", "alloc", p ? "no place for the result" : "no padata instance");
        auto made = padata::control::create(*p->inst, {.directory = directory ? directory : ""});
        if (!made) return failed(made.error());
        *out = new cohort_control{std::move(*made)};
        return 0;
    });
}

void cohort_control_free(cohort_control* c) { delete c; }

const char* cohort_control_directory(const cohort_control* c) { return c->control->directory().c_str(); }

int cohort_padata_poll(cohort_padata* p) { return p->inst->poll() ? 1 : 0; }

int cohort_shell_alloc(cohort_padata* p, const cohort_shell_options* options, cohort_shell** out) {
    return entry("shell", "alloc", [&] {
        const auto o = read_options(options);
        if (!o) return failed(EINVAL, "cohort_shell_options", "read", bad_size);
        if (!p || !out) return failed(EINVAL, "shell", "alloc", p ? "no place for the result" : "no padata instance");
        padata::shell_options inner;
        if (o->window) inner.window = o->window;
        inner.window_bytes = o->window_bytes;
        switch (o->when_full) {
        case COHORT_FULL_HELP: inner.when_full = padata::full_policy::help; break;
        case COHORT_FULL_BLOCK: inner.when_full = padata::full_policy::block; break;
        case COHORT_FULL_HELP_ALL: inner.when_full = padata::full_policy::help_all; break;
        case COHORT_FULL_EAGAIN: inner.when_full = padata::full_policy::eagain; break;
        default: return failed(EINVAL, "shell", "alloc", "when_full is none of COHORT_FULL_HELP, COHORT_FULL_HELP_ALL, COHORT_FULL_BLOCK, COHORT_FULL_EAGAIN");
        }
        inner.inline_jobs = !o->no_inline;
        auto made = padata::shell::create(*p->inst, inner);
        if (!made) return failed(made.error());
        *out = new cohort_shell{std::move(*made)};
        return 0;
    });
}

void cohort_shell_free(cohort_shell* s) { delete s; }

int cohort_shell_submit(cohort_shell* s, void (*parallel)(void*), void (*serial)(void*, int), void* arg) {
    return entry("shell", "submit", [&] {
        if (!parallel || !serial) return failed(EINVAL, "shell", "submit", "a callback is missing");
        return start(s, std::make_unique<simple_job>(parallel, serial, arg), padata::any_cpu);
    });
}

int cohort_shell_submit_job(cohort_shell* s, const cohort_job_options* options) {
    return entry("shell", "submit", [&] {
        const auto o = read_options(options);
        if (!o) return failed(EINVAL, "cohort_job_options", "read", bad_size);
        if (!o->parallel || !o->serial) return failed(EINVAL, "shell", "submit", "a callback is missing");
        if (o->on_cpu && o->cb_cpu < 0) return failed(EINVAL, "shell", "submit", "cb_cpu is negative");
        return start(s, std::make_unique<cohort_job>(*o), o->on_cpu ? o->cb_cpu : padata::any_cpu);
    });
}

void cohort_job_done(cohort_job* job, int info) {
    job->info = info;
    padata::do_serial(*job);
}

int cohort_shell_drain(cohort_shell* s) {
    return entry("shell", "drain", [&] {
        if (auto done = s->shell.drain(); !done) return failed(done.error());
        return 0;
    });
}

void cohort_shell_cancel(cohort_shell* s) { s->shell.cancel(); }

int cohort_shell_stats_get(cohort_shell* s, cohort_shell_stats* out) {
    return entry("shell", "stats", [&] {
        if (!out || out->struct_size < sizeof(size_t) || out->struct_size > sizeof *out) return failed(EINVAL, "cohort_shell_stats", "read", bad_size);
        const auto now = s->shell.stats();
        const cohort_shell_stats all{out->struct_size, now.submitted, now.delivered, now.ran_inline, now.handovers, now.waits, now.failed, now.batches, now.job_ns};
        std::memcpy(out, &all, out->struct_size);
        return 0;
    });
}

int cohort_padata_do_multithreaded(cohort_padata* p, const cohort_mt_job* options) {
    return entry("padata", "do_multithreaded", [&] {
        const auto o = read_options(options);
        if (!o || !options) return failed(EINVAL, "cohort_mt_job", "read", bad_size);
        padata::mt_job job;
        if (o->run) job.run = [&o](size_t b, size_t e) { return o->run(o->arg, b, e); };
        if (o->undo) job.undo = [&o](size_t b, size_t e) { o->undo(o->arg, b, e); };
        job.start = o->start;
        job.size = o->size;
        job.align = o->align;
        job.min_chunk = o->min_chunk;
        job.max_chunk = o->max_chunk;
        job.max_threads = o->max_threads;
        job.numa_aware = o->numa_aware != 0;
        if (auto done = padata::do_multithreaded(*p->inst, job); !done) return failed(done.error());
        return 0;
    });
}

}  // extern "C"
