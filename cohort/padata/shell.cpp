// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/shell.hpp>

#include <bit>

#include <cohort/base/check.hpp>
#include <cohort/padata/detail/shell_core.hpp>

namespace cohort::padata {

shell::shell(std::unique_ptr<detail::shell_core> core) : core_(std::move(core)) {}
shell::shell(shell&&) noexcept = default;
shell& shell::operator=(shell&&) noexcept = default;
shell::~shell() = default;

result<shell> shell::create(instance& inst, shell_options options) {
    constexpr std::uint32_t most = 1u << 20;
    if (options.window < 1 || options.window > most) {
        return fail(EINVAL, inst.internals().object(), "create a shell with window " + std::to_string(options.window), "the window is 1 to " + std::to_string(most) + " jobs");
    }
    options.window = std::bit_ceil(options.window);
    return shell(std::make_unique<detail::shell_core>(inst.internals(), options));
}

result<void> shell::do_parallel(job& j, int& cb_cpu) {
    if (!core_) [[unlikely]] return fail(ESHUTDOWN, "padata shell", "do_parallel", "the shell was moved from");
    return core_->do_parallel(j, cb_cpu);
}

result<void> shell::drain() { return core_ ? core_->drain() : result<void>{}; }
std::exception_ptr shell::exception() const { return core_ ? core_->exception() : nullptr; }
void shell::cancel() { if (core_) core_->cancel(); }
shell_stats shell::stats() const { return core_ ? core_->stats() : shell_stats{}; }

void do_serial(job& j) {
    detail::frame* f = detail::frame::top;
    if (f && f->current == &j) {
        COHORT_CHECK(!f->done, "do_serial is called twice for one job");
        f->done = true;  // parallel() still runs: whoever called it finishes the job when it returns
        return;
    }
    detail::job_access::shell(j)->complete(j);
}

bool job::stop_requested() const { return shell_->cancelled_before() > seq_; }

}  // namespace cohort::padata
