// SPDX-License-Identifier: Apache-2.0
/// A part of a running plan that comes up and ends by itself (difference.hpp: components): the cookies, pools and payers of its cohorts, made before its jobs and gone after them.
///
///     auto one = part::create(part_of(plan, cohorts), {os, kernel, broker});
///     (*one)->cookies().take("web");
///     (*one)->stop();                                   // its jobs hear it; they are waited for by whoever started them
///
/// Kernel: none.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>

#include <cohort/account/charged.hpp>
#include <cohort/account/table.hpp>
#include <cohort/group/detail/cookies.hpp>
#include <cohort/group/detail/pools.hpp>
#include <cohort/group/run.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {

/// A resource. Synchronization: constant after create(), save stop(), which any thread may call.
class part {
public:
    struct means {
        sys::os& os;
        coresched::verbs& kernel;            ///< of cookies
        std::weak_ptr<pool_host>& broker;    ///< of pools: all parts have the same one
    };
    /// Errors: those of cookies::create and pools::create; EMFILE.
    static result<std::unique_ptr<part>> create(plan what, const means& with);
    part(const part&) = delete;
    part& operator=(const part&) = delete;

    const plan& what() const { return plan_; }
    const cohort_plan& cohort(std::string_view name) const { return *cohorts_.at(name); }
    detail::cookies& cookies() const { return *cookies_; }
    detail::pools& pools() { return pools_; }
    account::group payer(std::string_view cohort) const { return payers_.at(cohort); }

    void stop();
    bool stopping() const { return stop_.stop_requested(); }
    std::stop_token stop_token() const { return stop_.get_token(); }
    /// Of a part with jobs: hung up once stop is requested, however many poll it.
    int stop_fd() const { return stop_read_.get(); }

private:
    explicit part(plan what) : plan_(std::move(what)), accounts_(static_cast<int>(plan_.cohorts.size()) + 1) {}
    account::group add_payer(const cohort_plan& c);

    const plan plan_;                                         // [const after init]
    std::map<std::string_view, const cohort_plan*> cohorts_;  // [const after create]
    std::unique_ptr<detail::cookies> cookies_;                // [const after create]
    detail::pools pools_;                                     // [const after create]
    account::local_table accounts_;                           // [const after create] what cohorts hold of memory
    std::map<std::string_view, account::group> payers_;       // [const after create] by cohort
    std::stop_source stop_;
    sys::owned_fd stop_read_, stop_write_;
    struct closing {
        sys::owned_fd& end;
        void operator()() const { (void)end.close(); }
    };
    std::optional<std::stop_callback<closing>> hang_up_;      // [const after create] last: it is done before its descriptor goes
};

}  // namespace cohort::group::detail
