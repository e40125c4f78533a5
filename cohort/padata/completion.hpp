// SPDX-License-Identifier: Apache-2.0
/// The right to complete a job, as a value: parallel() takes it, hands it to whoever does the work, and returns.
///
///     struct request : padata::job {
///         void parallel() override {
///             device.start(bytes, [done = padata::take(*this)](int error) mutable { done.finish(error); });   // any thread, any time later
///         }
///         void serial() override { reply(info); }
///     };
///     stream.submit([&](padata::completion done) { pool.push(std::move(done)); }, [](const padata::job& j) { reply(j.info); });
///
/// Kernel: padata_do_serial from an asynchronous callback (crypto/pcrypt.c, pcrypt_aead_done, v6.12). Difference: a job whose handle is lost does not hold
/// its stream up for ever, it completes as failed.
#pragma once

#include <cerrno>
#include <utility>

#include <cohort/padata/job.hpp>

namespace cohort::padata {

/// Move-only. Owns the completion of at most one job; that job's serial() does not run before the handle is finished or dropped.
/// Synchronization: a value; what happened before finish() or the drop happens before serial().
class [[nodiscard]] completion {
public:
    /// What a job gets as info when its handle was dropped. error() stays null, which tells it from a parallel() that threw.
    static constexpr int dropped = -EIO;

    completion() = default;
    completion(completion&& other) noexcept : job_(std::exchange(other.job_, nullptr)) {}
    completion& operator=(completion&& other) noexcept {
        if (this != &other) {
            drop();
            job_ = std::exchange(other.job_, nullptr);
        }
        return *this;
    }
    /// Completes the job as failed, if it is still owned: as finish(dropped).
    ~completion() { drop(); }

    /// The job's parallel work is done; `info` is for its serial(). May run serial() of this and following jobs before it returns, as do_serial. The handle is
    /// empty afterwards. A second finish() is a caller's bug: COHORT_CHECK. Cost: as do_serial.
    void finish(int info = 0);
    /// Does it own a job?
    explicit operator bool() const { return job_ != nullptr; }
    /// The job; it stays in place until the handle is finished. Not of an empty handle.
    job& operator*() const { return *job_; }
    job* operator->() const { return job_; }

private:
    friend completion take(job& j);
    explicit completion(job& j) : job_(&j) {}
    void drop() {
        if (job_) finish(dropped);
    }
    job* job_ = nullptr;
};

/// Inside parallel() of j, on the thread that runs it, at most once: COHORT_CHECK otherwise, as for do_serial(j) after it. What parallel() throws while the
/// handle is still alive elsewhere no longer belongs to the job: drain() answers it.
completion take(job& j);

}  // namespace cohort::padata
