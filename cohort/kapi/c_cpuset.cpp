// SPDX-License-Identifier: Apache-2.0
// The C interface of cpuset. Nothing is decided here.
#include <memory>
#include <string>

#include <cohort/cpuset/shared_model.hpp>
#include <cohort/kapi/c/cohort.h>
#include <cohort/kapi/detail/c_call.hpp>

using namespace cohort;
using namespace cohort::kapi;

struct cohort_cpuset {
    std::unique_ptr<cpuset::shared_model> model;
};

extern "C" {

int cohort_cpuset_alloc(const char* machine, const char* kernel, int v1, cohort_cpuset** out) {
    return entry("cpuset", "make a model", [&] {
        if (!out) return failed(EINVAL, "cpuset", "make a model", "no place for the result");
        const auto profile = cpuset::parse_kernel(kernel ? kernel : "6.12");
        if (!profile) return failed(profile.error());
        const auto topology = machine::load(machine ? machine : "live", sys::real());
        if (!topology) return failed(topology.error());
        auto made = cpuset::shared_model::create(cpuset::model(*topology, {.profile = *profile, .v1 = v1 != 0}));
        if (!made) return failed(made.error());
        *out = new cohort_cpuset{std::move(*made)};
        return 0;
    });
}

void cohort_cpuset_free(cohort_cpuset* c) { delete c; }

int cohort_cpuset_perform(cohort_cpuset* c, const char* command, char* text, size_t size) {
    return entry("cpuset", "perform", [&] {
        if (!c || !command) return failed(EINVAL, "cpuset", "perform", "no model, or no command");
        const auto op = cpuset::parse_operation(command);
        if (!op) return failed(EBADMSG, "cpuset", "perform", ("column " + std::to_string(op.error().column) + ": " + op.error().why).c_str());
        const cpuset::answer a = c->model->perform(*op);
        if (!a.ok()) return failed(error{a.code, cpuset::to_line(*op), "perform", a.why});
        std::string value = a.value;
        for (const std::string& item : a.list) value += (value.empty() ? "" : " ") + item;
        return write_text(value, text, size);
    });
}

}  // extern "C"
