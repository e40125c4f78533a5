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
    if (options.weight < 1 || options.weight > work::runnable::most_weight) {
        return fail(EINVAL, inst.internals().object(), "create a shell with weight " + std::to_string(options.weight),
                    "a weight is 1 to " + std::to_string(work::runnable::most_weight));
    }
    options.window = std::bit_ceil(options.window);
    return shell(std::make_unique<detail::shell_core>(inst.internals(), options));
}

result<void> shell::do_parallel(job& j, int& cb_cpu) {
    if (!core_) [[unlikely]] return fail(ESHUTDOWN, "padata shell", "do_parallel", "the shell was moved from");
    return core_->do_parallel(j, cb_cpu);
}

bool shell::poll() { return core_ && core_->poll(); }
result<void> shell::drain() { return core_ ? core_->drain() : result<void>{}; }
std::exception_ptr shell::exception() const { return core_ ? core_->exception() : nullptr; }
void shell::cancel() { if (core_) core_->cancel(); }
shell_stats shell::stats() const { return core_ ? core_->stats() : shell_stats{}; }

namespace {

/// The frame in which this thread runs parallel() of j, if it does.
detail::frame* running(const job& j) {
    detail::frame* f = detail::frame::top;
    return f && f->current == &j ? f : nullptr;
}

void complete(job& j) {
    if (detail::frame* f = running(j)) {
        COHORT_CHECK(!f->done, "a job is completed twice");
        f->done = true;  // parallel() still runs: whoever called it finishes the job when it returns
        return;
    }
    detail::job_access::shell(j)->complete(j);
}

}  // namespace

void do_serial(job& j) {
    const detail::frame* f = running(j);
    COHORT_CHECK(!f || !f->taken, "do_serial is called for a job whose completion was taken");
    complete(j);
}

completion take(job& j) {
    detail::frame* f = running(j);
    COHORT_CHECK(f && !f->done && !f->taken, "a completion is taken once, inside parallel() of its job");
    f->taken = true;
    return completion(j);
}

void completion::finish(int info) {
    COHORT_CHECK(job_, "a completion is finished that owns no job");
    job& j = *std::exchange(job_, nullptr);
    j.info = info;
    complete(j);
}

executor* by_polling() {
    struct nobody final : executor {
        void post(turn&) override {}  // a shell lists itself with its instance instead
    };
    static nobody mark;
    return &mark;
}

bool job::stop_requested() const { return shell_->cancelled_before() > seq_; }

}  // namespace cohort::padata
