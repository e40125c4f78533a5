// SPDX-License-Identifier: Apache-2.0
/// Runnables and mail for the tests of this room.
///
///     testing::jobs j([](work::context& ctx) { ... });
///     j.add(3, *set);                                         // three batches of one job
///     testing::wait_until([&] { return j.done() == 3; });
///     set->retire(j);
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <utility>

#include <cohort/sys/thread.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::work::testing {

/// False, and a failed test, after two minutes.
inline bool wait_until(const std::function<bool()>& holds, const char* what = "") {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline) {
            ADD_FAILURE() << "waited two minutes in vain " << what;
            return false;
        }
        sys::yield_thread();
    }
    return true;
}

/// A source of as many jobs as were added; a batch is one job.
class jobs final : public runnable {
public:
    explicit jobs(std::function<void(context&)> body = [](context&) {}, std::function<void(context&)> on_claim = nullptr)
        : body_(std::move(body)), on_claim_(std::move(on_claim)) {}

    void add(int n, worker_set& set, lender by = {}) {
        left_.fetch_add(n);
        set.publish(*this, by);
    }
    void add_silently(int n) { left_.fetch_add(n); }
    int done() const { return done_.load(); }

    bool run(context& ctx) override {
        int n = left_.load();
        while (n > 0 && !left_.compare_exchange_weak(n, n - 1)) {
        }
        if (n <= 0) return false;
        if (on_claim_) on_claim_(ctx);
        ctx.found(*this);
        body_(ctx);
        done_.fetch_add(1);
        return true;
    }
    bool ready() const noexcept override { return left_.load() > 0; }

private:
    std::function<void(context&)> body_, on_claim_;  // [const after init]
    std::atomic<int> left_{0}, done_{0};
};

class letter final : public mail {
public:
    explicit letter(std::function<void(context&)> body = [](context&) {}) : body_(std::move(body)) {}
    int delivered() const { return delivered_.load(); }
    void deliver(context& ctx) override {
        body_(ctx);
        delivered_.fetch_add(1);
    }

private:
    std::function<void(context&)> body_;  // [const after init]
    std::atomic<int> delivered_{0};
};

}  // namespace cohort::work::testing
