// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/part.hpp>

namespace cohort::group::detail {

result<std::unique_ptr<part>> part::create(plan what, const means& with) {
    std::unique_ptr<part> out(new part(std::move(what)));
    for (const cohort_plan& c : out->plan_.cohorts) out->cohorts_[c.name] = &c;
    for (const cohort_plan& c : out->plan_.cohorts) (void)out->add_payer(c);
    if (!out->plan_.jobs.empty()) {
        auto ends = with.os.pipe();
        if (!ends) return std::unexpected(ends.error());
        out->stop_read_ = sys::owned_fd(with.os, ends->read);
        out->stop_write_ = sys::owned_fd(with.os, ends->write);
        out->hang_up_.emplace(out->stop_.get_token(), closing{out->stop_write_});
    }
    auto cookies = detail::cookies::create(out->plan_, with.kernel);
    if (!cookies) return std::unexpected(cookies.error());
    out->cookies_ = std::move(*cookies);
    auto pools = detail::pools::create(out->plan_, with.os, with.broker);
    if (!pools) return std::unexpected(pools.error());
    out->pools_ = std::move(*pools);
    return out;
}

/// Its group of the accounts, within that of the cohort it is inside of.
account::group part::add_payer(const cohort_plan& c) {
    if (const auto it = payers_.find(c.name); it != payers_.end()) return it->second;
    const account::group above = c.inside.empty() ? accounts_->root() : add_payer(*cohorts_.at(c.inside));
    // Names are labels of 31 bytes at most there.
    return payers_[c.name] = accounts_->create(above, c.name.substr(0, 31), c.memory > 0 ? c.memory : account::unlimited).value();
}

void part::stop() { stop_.request_stop(); }

}  // namespace cohort::group::detail
