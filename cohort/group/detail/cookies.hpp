// SPDX-License-Identifier: Apache-2.0
/// The cookies of a run, as the plan says: tenants of an executor, or threads that hold a cookie of the kernel's while the run lasts.
///
///     auto held = cookies::create(plan, kernel);              // nothing, where no cohort has a cookie
///     context.gate = held->gate_of("web");                    // null: its pipes pass none
///     if (auto r = held->take("web"); !r) return r;           // this thread, and what it starts from here on, has web's cookie
///     report.executor = held->report();
///
/// Kernel: prctl(PR_SCHED_CORE): a cookie lives as long as a thread has it, and children inherit it.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <cohort/coresched/executor.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Synchronization: any thread may call, between create() and the end of all that passes the gates.
class cookies {
public:
    /// Errors: those of the kernel for a cookie that the plan says it keeps; those of executor::create. Both must outlive it.
    static result<std::unique_ptr<cookies>> create(const plan& p, coresched::verbs& kernel);
    ~cookies();
    cookies(const cookies&) = delete;
    cookies& operator=(const cookies&) = delete;

    work::gate* gate_of(const std::string& cohort) const;
    /// Nothing for a cohort whose cookie the kernel does not keep. Errors: the kernel's.
    result<void> take(const std::string& cohort);
    /// Nothing where no pipe passes a gate. A tenant is named as its cohort.
    std::optional<coresched::executor_report> report() const;

private:
    struct holder {
        std::atomic<int> tid{0};         // [atomic: its thread writes, once it has the cookie or has not; publishes made]
        std::atomic<bool> end{false};    // [atomic: the owner tells]
        result<void> made{};
        std::thread thread;
    };
    cookies(const plan& p, coresched::verbs& kernel) : plan_(p), kernel_(kernel) {}
    result<void> hold(const std::string& cookie);
    result<void> add_tenants();

    const plan& plan_;                                                     // [const after init]
    coresched::verbs& kernel_;                                             // [const after init]
    std::unique_ptr<coresched::executor> executor_;                        // [const after create]
    std::map<std::string, std::unique_ptr<coresched::tenant>> tenants_;    // [const after create] by cohort
    std::map<std::string, holder> holders_;                                // [const after create] by cookie
};

}  // namespace cohort::group::detail
