// SPDX-License-Identifier: Apache-2.0
// The C interface of coresched. Nothing is decided here.
#include <memory>
#include <sstream>
#include <string>

#include <cohort/coresched/control.hpp>
#include <cohort/coresched/executor.hpp>
#include <cohort/kapi/c/cohort.h>
#include <cohort/kapi/detail/c_call.hpp>
#include <cohort/kapi/detail/c_tenant.hpp>
#include <cohort/machine/topology.hpp>

using namespace cohort;
using namespace cohort::kapi;

struct cohort_executor {
    std::unique_ptr<coresched::executor> body;
};

namespace {

/// The verbs of an executor, or of the running kernel.
coresched::verbs& verbs_of(cohort_executor* on) {
    static coresched::control kernel(sys::real());
    return on ? static_cast<coresched::verbs&>(*on->body) : kernel;
}

result<coresched::scope> read_scope(int scope) {
    if (scope >= COHORT_SCOPE_THREAD && scope <= COHORT_SCOPE_PROCESS_GROUP) return static_cast<coresched::scope>(scope);
    return fail(EINVAL, "cohort_scope " + std::to_string(scope), "choose whom", "there are COHORT_SCOPE_THREAD, COHORT_SCOPE_PROCESS and COHORT_SCOPE_PROCESS_GROUP");
}

int done(const result<void>& r) { return r ? 0 : failed(r.error()); }

/// One of the verbs that reach many.
int reach(const char* act, cohort_executor* on, int id, int scope, result<void> (coresched::verbs::*verb)(int, coresched::scope)) {
    return entry("coresched", act, [&] {
        const auto whom = read_scope(scope);
        return whom ? done((verbs_of(on).*verb)(id, *whom)) : failed(whom.error());
    });
}

result<std::vector<cpumask>> read_cores(const char* text) {
    std::vector<cpumask> out;
    if (!text) {
        const auto here = machine::load("live", sys::real());
        if (!here) return std::unexpected(here.error());
        return coresched::cores_of(*here);
    }
    std::istringstream in(text);
    for (std::string word; in >> word;) {
        const auto core = cpumask::parse_list(word);
        if (!core) return std::unexpected(core.error());
        out.push_back(*core);
    }
    return out;
}

}  // namespace

extern "C" {

int cohort_core_facility(char* why, size_t size) {
    return entry("coresched", "look", [&] {
        const coresched::availability here = coresched::facility(sys::real());
        write_text(here.there() ? std::string() : here.why, why, size);
        return here.there() ? 0 : failed(error{here.code, "kernel", "core scheduling", here.why});
    });
}

int cohort_core_get(cohort_executor* on, int id, uint64_t* out) {
    return entry("coresched", "get", [&] {
        if (!out) return failed(EINVAL, "coresched", "get", "no place for the result");
        const auto value = verbs_of(on).get(id);
        if (!value) return failed(value.error());
        *out = *value;
        return 0;
    });
}

int cohort_core_create(cohort_executor* on, int id, int scope) { return reach("create", on, id, scope, &coresched::verbs::create); }
int cohort_core_share_to(cohort_executor* on, int id, int scope) { return reach("share_to", on, id, scope, &coresched::verbs::share_to); }
int cohort_core_clear(cohort_executor* on, int id, int scope) { return reach("clear", on, id, scope, &coresched::verbs::clear); }
int cohort_core_share_from(cohort_executor* on, int id) {
    return entry("coresched", "share_from", [&] { return done(verbs_of(on).share_from(id)); });
}
void cohort_core_safepoint(void) { coresched::safepoint(); }

int cohort_executor_alloc(const cohort_executor_options* options, cohort_executor** out) {
    return entry("executor", "alloc", [&] {
        const auto o = read_options(options);
        if (!o) return failed(EINVAL, "cohort_executor_options", "read", bad_size);
        if (!out) return failed(EINVAL, "executor", "alloc", "no place for the result");
        auto cores = read_cores(o->cores);
        if (!cores) return failed(cores.error());
        coresched::executor_options inner{.cores = std::move(*cores), .source = o->cores ? "declared" : "live", .hold = o->hold != 0};
        if (o->slice_ns) inner.slice_ns = o->slice_ns;
        auto made = coresched::executor::create(std::move(inner));
        if (!made) return failed(made.error());
        *out = new cohort_executor{std::move(*made)};
        return 0;
    });
}

void cohort_executor_free(cohort_executor* e) { delete e; }

int cohort_executor_stats_get(cohort_executor* e, cohort_executor_stats* out) {
    return entry("executor", "stats_get", [&] {
        if (!e || !out || out->struct_size != sizeof *out) return failed(EINVAL, "cohort_executor_stats", "read", bad_size);
        const coresched::executor_report r = e->body->report();
        *out = {.struct_size = sizeof *out, .overlap_ns = r.overlap_ns, .stretches = r.stretches, .turns = r.turns, .forced_idle_ns = 0, .changing_ns = r.changing_ns,
                .longest_wait_ns = r.longest_wait_ns, .astray = r.astray};
        for (const auto& c : r.cpus) out->forced_idle_ns += c.figures.forced_idle_ns;
        return 0;
    });
}

int cohort_tenant_alloc(cohort_executor* e, const char* name, cohort_tenant** out) {
    return entry("tenant", "alloc", [&] {
        if (!e || !out) return failed(EINVAL, "tenant", "alloc", "no executor, or no place for the result");
        auto made = e->body->add({.name = name ? name : "tenant"});
        if (!made) return failed(made.error());
        *out = new cohort_tenant{std::move(*made)};
        return 0;
    });
}

void cohort_tenant_free(cohort_tenant* t) { delete t; }
int cohort_tenant_id(const cohort_tenant* t) { return t->gate->id(); }

}  // extern "C"
