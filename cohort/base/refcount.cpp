// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/refcount.hpp>

#include <cstdio>

namespace cohort {
namespace {

void print_once(refcount_fault kind, const void* count) {
    static std::atomic<bool> told[3];
    const auto at = static_cast<int>(kind);
    if (told[at].exchange(true)) return;
    static constexpr const char* words[] = {"overflow", "reference taken from zero", "reference given back twice"};
    std::fprintf(stderr, "cohort: refcount at %p: %s; it stays saturated and its object is not freed\n", count, words[at]);
}

std::atomic<refcount_reporter> reporter{print_once};  // [atomic: set_refcount_reporter; seq_cst]

}  // namespace

refcount_reporter set_refcount_reporter(refcount_reporter r) { return reporter.exchange(r ? r : print_once); }

void refcount::fault(refcount_fault kind) {
    // Far from both ends: as many threads as there can be between their step and this store cannot carry it back to zero.
    count_.store(saturated, std::memory_order_relaxed);
    reporter.load()(kind, this);
}

}  // namespace cohort
